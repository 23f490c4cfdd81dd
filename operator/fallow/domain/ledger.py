"""The books: every joule of every GPU on exactly one line, with the marks up to which it has been booked.

Marks and amounts live in one value that is stored as one object, so a restart can neither lose nor repeat an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from fallow.domain.counterfactual import Counterfactual, Saving
from fallow.domain.figures import Figure
from fallow.domain.goals import BudgetPeriod, Resource
from fallow.domain.habits import Habits
from fallow.domain.learned import Learned, Opening, Placement
from fallow.domain.readings import HostMeter, PodRef
from fallow.domain.units import Grams, Instant, Joules, Litres, Money, Quantity, Watts
from fallow.domain.workloads import ServiceKey


class LineKind(StrEnum):
    """Service: held by a service's pod. Foreign: by another pod. Unallocated: by none. Unattributed: unknown."""

    SERVICE = "service"
    FOREIGN = "foreign"
    UNALLOCATED = "unallocated"
    UNATTRIBUTED = "unattributed"


class LineKey(NamedTuple):
    """A service has namespace, name and variant, a foreign line the pod's namespace alone, the others nothing.

    `zone` is the GridZone of the nodes, so that a zone's lines add up to the zone; empty for nodes without one.
    """

    kind: LineKind
    namespace: str = ""
    name: str = ""
    variant: str = ""
    zone: str = ""

    @property
    def service(self) -> ServiceKey | None:
        return ServiceKey(self.namespace, self.name) if self.kind is LineKind.SERVICE else None


_NO_ENERGY = Figure.exact(Joules(0))
_NO_GRAMS = Grams(0)
_NO_CARBON = Figure.exact(_NO_GRAMS)
_NO_WATER = Figure.exact(Litres(0))
_NO_MONEY = Figure.exact(Money(0))


@dataclass(frozen=True, slots=True)
class Account:
    """Amounts that only grow, but for what was avoided.

    `energy` is at the GPU, `host` the share of the rest, `facility` both with PUE.

    Four parts of `energy.best` are kept apart, what is left of it is useful: `bare`, what the GPU draws without any
    process; `parked`, what a loaded engine without work draws on top; `underfilled`, the part of the loaded baseline
    that an engine with too few requests leaves unused; `starting`, drawn before the holder was ready.
    `modelled` is the part of `energy.best` that no counter measured. On GPUs that several lines shared, `weighed` of it
    was split by the measured activity of the parts, and `apportioned` by a rule, for want of a measurement.
    Of `facility`, `unpriced` is the part for which no average intensity was known, `unwatered` that for which a water
    factor was not, `unmarketed` that without a market-based intensity, and `uncosted` that without a price: each says
    what its amount leaves out. `costs` are by currency.

    Of `energy.best`, `compared` is the part of which a baseline's energy is known; `avoided_...` is how much more that
    was, by what made the difference, negative where Fallow used more; of their sum `avoided_unpriced` has no carbon.
    """

    energy: Figure[Joules] = _NO_ENERGY
    bare: Joules = Joules(0)
    parked: Joules = Joules(0)
    underfilled: Joules = Joules(0)
    starting: Joules = Joules(0)
    modelled: Joules = Joules(0)
    host: Figure[Joules] = _NO_ENERGY
    facility: Figure[Joules] = _NO_ENERGY
    unpriced: Joules = Joules(0)
    unwatered: Joules = Joules(0)
    unmarketed: Joules = Joules(0)
    uncosted: Joules = Joules(0)
    weighed: Joules = Joules(0)
    apportioned: Joules = Joules(0)
    carbon: Figure[Grams] = _NO_CARBON
    market_carbon: Figure[Grams] = _NO_CARBON
    water: Figure[Litres] = _NO_WATER
    embodied: Figure[Grams] = _NO_CARBON
    costs: Mapping[str, Figure[Money]] = field(default_factory=dict)
    prompt_tokens: float = 0.0
    cached_prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    iterations: float = 0.0
    requests: float = 0.0
    compared: Joules = Joules(0)
    avoided_replicas: Figure[Joules] = _NO_ENERGY
    avoided_rest: Figure[Joules] = _NO_ENERGY
    avoided_precision: Figure[Joules] = _NO_ENERGY
    avoided_other: Figure[Joules] = _NO_ENERGY
    avoided_carbon: Figure[Grams] = _NO_CARBON
    avoided_unpriced: Joules = Joules(0)

    @property
    def avoided(self) -> Mapping[Saving, Figure[Joules]]:
        """By what made the difference; never subtracted from any other amount."""
        return {
            Saving.REPLICAS: self.avoided_replicas,
            Saving.REST: self.avoided_rest,
            Saving.PRECISION: self.avoided_precision,
            Saving.OTHER: self.avoided_other,
        }

    @property
    def idle(self) -> Joules:
        """Energy while no request was in work, or that no process drew: bare and parked."""
        return self.bare + self.parked

    @property
    def useful(self) -> Joules:
        """What is left of the energy; never negative."""
        spent = self.bare.value + self.parked.value + self.underfilled.value + self.starting.value
        return Joules(max(self.energy.best.value - spent, 0.0))

    def __add__(self, other: Account) -> Account:
        return Account(
            energy=self.energy + other.energy,
            bare=self.bare + other.bare,
            parked=self.parked + other.parked,
            underfilled=self.underfilled + other.underfilled,
            starting=self.starting + other.starting,
            modelled=self.modelled + other.modelled,
            host=self.host + other.host,
            facility=self.facility + other.facility,
            unpriced=self.unpriced + other.unpriced,
            unwatered=self.unwatered + other.unwatered,
            unmarketed=self.unmarketed + other.unmarketed,
            uncosted=self.uncosted + other.uncosted,
            weighed=self.weighed + other.weighed,
            apportioned=self.apportioned + other.apportioned,
            carbon=self.carbon + other.carbon,
            market_carbon=self.market_carbon + other.market_carbon,
            water=self.water + other.water,
            embodied=self.embodied + other.embodied,
            costs=_added(self.costs, other.costs),
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_prompt_tokens=self.cached_prompt_tokens + other.cached_prompt_tokens,
            generated_tokens=self.generated_tokens + other.generated_tokens,
            iterations=self.iterations + other.iterations,
            requests=self.requests + other.requests,
            compared=self.compared + other.compared,
            avoided_replicas=self.avoided_replicas + other.avoided_replicas,
            avoided_rest=self.avoided_rest + other.avoided_rest,
            avoided_precision=self.avoided_precision + other.avoided_precision,
            avoided_other=self.avoided_other + other.avoided_other,
            avoided_carbon=self.avoided_carbon + other.avoided_carbon,
            avoided_unpriced=self.avoided_unpriced + other.avoided_unpriced,
        )


def _added(one: Mapping[str, Figure[Money]], other: Mapping[str, Figure[Money]]) -> Mapping[str, Figure[Money]]:
    if not one or not other:
        return one or other
    return {currency: one.get(currency, _NO_MONEY) + other.get(currency, _NO_MONEY) for currency in {**one, **other}}


_NOTHING = Account()


@dataclass(frozen=True, slots=True)
class Period:
    """An account from `start` on."""

    start: Instant
    account: Account = _NOTHING


@dataclass(frozen=True, slots=True)
class Spent:
    """What budgets count, from `start` on: best values of the facility's energy and of operational emissions.

    `unpriced` is the part of `facility` for which no intensity was known.
    """

    start: Instant
    facility: Joules = Joules(0)
    carbon: Grams = _NO_GRAMS
    unpriced: Joules = Joules(0)

    @classmethod
    def of(cls, start: Instant, account: Account) -> Spent:
        return cls(start, account.facility.best, account.carbon.best, account.unpriced)

    def more(self, account: Account) -> Spent:
        return Spent(
            self.start,
            self.facility + account.facility.best,
            self.carbon + account.carbon.best,
            self.unpriced + account.unpriced,
        )

    def amount(self, resource: Resource) -> Quantity:
        return self.carbon if resource is Resource.CARBON else self.facility


class Span(StrEnum):
    """The periods of a book, by the calendar of its time zone. Hour, day and month have a complete one before them."""

    LAST_HOUR = "lastHour"
    THIS_HOUR = "thisHour"
    YESTERDAY = "yesterday"
    TODAY = "today"
    LAST_MONTH = "lastMonth"
    THIS_MONTH = "thisMonth"
    TOTAL = "total"


# a closed period of which no book was kept
_NEVER = Period(Instant(0))


@dataclass(frozen=True, slots=True)
class Book:
    """One line's account by calendar period and over its life. `total` never starts anew.

    A period that was opened in its middle starts there. After a change of `time_zone` all but the total start anew.
    Of the longer periods of budgets only what these count is kept; None: as stored by a Fallow that did not keep it.
    """

    total: Period
    month: Period
    day: Period
    hour: Period
    last_hour: Period
    yesterday: Period = _NEVER
    last_month: Period = _NEVER
    time_zone: str = field(default="UTC", kw_only=True)
    week: Spent | None = field(default=None, kw_only=True)
    quarter: Spent | None = field(default=None, kw_only=True)
    year: Spent | None = field(default=None, kw_only=True)

    def spent(self, period: BudgetPeriod) -> Spent | None:
        """What budgets of that period count."""
        match period:
            case BudgetPeriod.DAY:
                return Spent.of(self.day.start, self.day.account)
            case BudgetPeriod.WEEK:
                return self.week
            case BudgetPeriod.MONTH:
                return Spent.of(self.month.start, self.month.account)
            case BudgetPeriod.QUARTER:
                return self.quarter
            case BudgetPeriod.YEAR:
                return self.year

    def period(self, span: Span) -> Period:
        match span:
            case Span.LAST_HOUR:
                return self.last_hour
            case Span.THIS_HOUR:
                return self.hour
            case Span.YESTERDAY:
                return self.yesterday
            case Span.TODAY:
                return self.day
            case Span.LAST_MONTH:
                return self.last_month
            case Span.THIS_MONTH:
                return self.month
            case Span.TOTAL:
                return self.total


def together(books: Sequence[Book], span: Span) -> Period:
    """One period over several books, of which there is at least one; totals began at different times."""
    periods = [book.period(span) for book in books]
    starts = [period.start for period in periods]
    start = min(starts) if span is Span.TOTAL else max(starts)
    return Period(start, sum((period.account for period in periods), start=_NOTHING))


@dataclass(frozen=True, slots=True)
class HeldPart:
    """A part of a GPU as it was held. Holders of the same `place` have its `share` of the GPU (0 to 1) in common.

    A MIG instance is a place; a whole GPU and one that is used in turns are one place, without a name.
    """

    line: LineKey
    holder: PodRef | None = None
    place: str = ""
    share: float = 1.0
    worked: bool = False


@dataclass(frozen=True, slots=True)
class GpuMark:
    """Up to where a GPU is booked: when, at which counter (None while only power is known) and power, on which line.

    `holder` is the pod that held it then; `worked` says that this pod had work since, in a stretch not yet booked;
    `away` that its node has left or was not ready since, as when a machine is off; `left` when its holder was first
    not in the cluster any more. A GPU with several holders, or that is held in part, has `parts`; its `line` is then
    unattributed and its `holder` None.
    """

    at: Instant
    joules: Joules | None
    line: LineKey
    watts: Watts | None = None
    holder: PodRef | None = None
    node: str = ""
    worked: bool = False
    away: bool = False
    left: Instant | None = None
    parts: tuple[HeldPart, ...] = ()

    @property
    def held(self) -> tuple[HeldPart, ...]:
        """Its parts, of which a whole GPU is one."""
        return self.parts or (HeldPart(self.line, self.holder, worked=self.worked),)


@dataclass(frozen=True, slots=True)
class EngineMark:
    """Up to where an engine's counters are booked; `working` says that requests were in work then.

    `cached_prompt_tokens` and `iterations` are None where this engine does not count them.
    `line` and `pod` say whose it is, for what is read of it after it has gone; None while nothing was read.
    """

    at: Instant
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    requests: float = 0.0
    working: bool = False
    line: LineKey | None = None
    pod: PodRef | None = None
    cached_prompt_tokens: float | None = None
    iterations: float | None = None


@dataclass(frozen=True, slots=True)
class HostMark:
    """Up to where a node's energy outside its GPUs is booked by its meter, and the meter's counters then."""

    at: Instant
    counters: Mapping[str, Joules]
    meter: HostMeter


class Rest(StrEnum):
    """The two ways in which a GPU does nothing: without any process, or with a loaded engine that has no work."""

    BARE = "bare"
    LOADED = "loaded"


@dataclass(frozen=True, slots=True)
class Level:
    """Power at rest as it was measured: the mean of `samples`, older ones forgotten slowly, the first at `since`."""

    watts: Watts
    samples: int
    since: Instant


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a GPU was seen to draw at rest; None where it was never seen in that state for long enough."""

    bare: Level | None = None
    loaded: Level | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """A GPU's rest that is being watched. Not stored: after a restart it is watched anew.

    `resting_since` is None while the GPU works. A window runs from `start`, where the counter stood at `joules`.
    `windows` are the mean watts of those that are complete and not yet a sample.
    """

    rest: Rest
    resting_since: Instant | None = None
    start: Instant | None = None
    joules: Joules = Joules(0)
    windows: tuple[float, ...] = ()


class Filling(StrEnum):
    """How a time without readings was booked: from samples that the source still had, or by the counters alone."""

    READ_BACK = "ReadBack"
    COUNTERS = "Counters"


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of which nothing was read in time. By the counters alone its energy is known and its course is not."""

    start: Instant
    end: Instant
    filled: Filling


@dataclass(frozen=True, slots=True)
class Ledger:
    """`gpus` by UUID, `engines` by pod uid. `version` is the store's; a writer with an old one is refused.

    `hosts` are by node, `baselines` and `watches` by GPU, `openings` by pod uid; watches and openings are not stored.
    `habits` are not of the books, and kept with them for the next process.
    `resets` counts the intervals in which a GPU's energy counter started anew. `at` is when it was last booked on,
    `booked_until` the time of the newest sample in it.
    """

    since: Instant
    at: Instant
    gpus: Mapping[str, GpuMark] = field(default_factory=dict)
    engines: Mapping[str, EngineMark] = field(default_factory=dict)
    books: Mapping[LineKey, Book] = field(default_factory=dict)
    hosts: Mapping[str, HostMark] = field(default_factory=dict)
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    watches: Mapping[str, Watch] = field(default_factory=dict)
    learned: Mapping[Placement, Learned] = field(default_factory=dict)
    openings: Mapping[str, Opening] = field(default_factory=dict)
    counterfactuals: Mapping[ServiceKey, Counterfactual] = field(default_factory=dict)
    habits: Mapping[ServiceKey, Habits] = field(default_factory=dict)
    resets: int = 0
    gaps: tuple[Gap, ...] = ()
    version: str = ""
    books_by_service: Mapping[ServiceKey, tuple[Book, ...]] = field(init=False, repr=False, compare=False)
    booked_until: Instant = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: dict[ServiceKey, list[Book]] = {}
        for line, book in self.books.items():
            if line.service is not None:
                found.setdefault(line.service, []).append(book)
        object.__setattr__(self, "books_by_service", {key: tuple(books) for key, books in found.items()})
        newest = max((mark.at for mark in self.gpus.values()), default=self.at)
        object.__setattr__(self, "booked_until", min(newest, self.at))

    def service_books(self, key: ServiceKey) -> tuple[Book, ...]:
        """One book for each variant that ever ran."""
        return self.books_by_service.get(key, ())
