"""Replicas for the crests of requests that come in bursts: from their rate, how uneven they are, and their tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from operator import attrgetter

from fallow.domain.arrivals import Arrivals
from fallow.domain.snapshots import DemandPoint
from fallow.domain.units import Instant
from fallow.planner.arrivals import crest, seconds_of, share_missed
from fallow.planner.capacity import Capacity
from fallow.planner.context import Context

# Seconds over which a rate is taken at least: over fewer it is mostly chance.
LOOK = 60.0
# Seconds over which crests are taken where requests may wait.
WINDOWS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, LOOK)
# Crests within a cycle are believed to be up to so many times as high as the busiest cycle of the last half hour: those
# of Azure's coding trace of 2023 last some 7 s of the 15. A choice.
BELIEVED = 4.0


@dataclass(frozen=True, slots=True)
class Crests:
    """Of one service, to which `rate` requests per second come of late. A replica carries `each` of them; crests are
    taken over so many `seconds`, and all but a share `missed` of the requests are to meet no higher one. Where a
    request may wait for `patience` seconds, crests over any time count as what is left of them when it is over.
    `uneven`: the variance over mean of the requests in so many seconds, and in each of WINDOWS where they may wait.
    `height`: requests per second to provide for at the latest rate.
    """

    arrivals: Arrivals
    rate: float
    each: float
    seconds: float
    missed: float
    patience: float = 0.0
    uneven: tuple[float, ...] = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        windows = WINDOWS if self.patience > 0 else ()
        object.__setattr__(self, "uneven", self.arrivals.dispersions((self.seconds, *windows)))
        object.__setattr__(self, "height", self.height_at(self.rate))

    @classmethod
    def of(cls, context: Context, capacity: Capacity) -> Crests | None:
        """None where too little came yet, or no profile tells how many requests a replica carries."""
        tokens, each = context.habits.arrivals.tokens, capacity.requests_per_second
        if tokens is None or each is None or not context.habits.arrivals.is_known:
            return None
        rate = latest(context.history, context.policy.scaling.up_window)
        if rate is None:
            return None
        objectives = context.service.objectives
        return cls(
            arrivals=context.habits.arrivals,
            rate=rate,
            each=each,
            seconds=seconds_of(objectives, tokens[1]),
            patience=capacity.patience,
            missed=share_missed(objectives, context.habits.lateness),
        )

    def needed(self, rate: float, *, filled: float = 1.0) -> int:
        """Replicas, each filled to that share of what it carries."""
        return replicas(self.height_at(rate), self.each * filled)

    @property
    def now(self) -> int:
        """Replicas that the latest rate asks for."""
        return replicas(self.height, self.each)

    @property
    def words(self) -> str:
        return (
            f"{self.rate:.3g} requests/s with crests of {self.height:.3g}/s (variance {self.uneven[0]:.2g} times "
            f"the mean; {self.missed:.2g} of the requests meet higher ones), {self.each:.3g}/s a replica within "
            "objectives"
        )

    def height_at(self, rate: float) -> float:
        """Requests per second to provide for, whatever a replica carries.

        With patience D a crest of h over t seconds is served in time by c where c (t + D) is h t or more: what has
        come by its end is done within D of it (network calculus: J.-Y. Le Boudec and P. Thiran, LNCS 2050, 2001).
        However careful, nothing is provided for that is far above all that was seen: where more replicas leave as many
        late, more of them are no remedy.
        """
        soon, *others = self.uneven
        if self.patience <= 0:
            found = crest(rate, soon, self.seconds, self.missed)
        else:
            crests = [crest(rate, one, each, self.missed) for each, one in zip(WINDOWS, others, strict=True)]
            left = (one * each / (each + self.patience) for each, one in zip(WINDOWS, crests, strict=True))
            found = max(rate, *left)
        highest = self.arrivals.highest
        return found if highest <= 0 else min(found, max(BELIEVED * highest, rate))


def replicas(height: float, each: float) -> int:
    """Whole ones for so many requests per second."""
    return ceil(height / each - 1e-9)


def latest(points: Sequence[DemandPoint], window: float) -> float | None:
    """The last of `rates`, from no more points than it is the mean of; None where there is none."""
    last = next((point.at for point in reversed(points) if point.flow is not None), None)
    if last is None:
        return None
    recent = points[bisect_right(points, last - max(window, LOOK), key=attrgetter("at")) :]
    return rates(recent, window)[-1][1]


def highest(context: Context, length: float) -> float:
    """Of the rates of the last so many seconds."""
    found, since = rates(context.history, context.policy.scaling.up_window), context.now - length
    return max((rate for at, rate in found if at >= since), default=0.0)


def rates(points: Sequence[DemandPoint], window: float) -> list[tuple[Instant, float]]:
    """At each point whose requests are known: their mean rate over the window before it, at least LOOK seconds."""
    known = [(point.at, max(point.flow.came, 0.0)) for point in points if point.flow is not None]
    return trailing(known, max(window, LOOK))


def trailing(values: Sequence[tuple[Instant, float]], window: float) -> list[tuple[Instant, float]]:
    """At each time the mean of the values in the `window` before it, its own included."""
    found: list[tuple[Instant, float]] = []
    total, within, leaving = 0.0, 0, iter(values)
    oldest, left = next(leaving, (Instant(0), 0.0))
    for at, value in values:
        total, within = total + value, within + 1
        while at - oldest >= window:
            total, within = total - left, within - 1
            oldest, left = next(leaving)
        found.append((at, max(total, 0.0) / within))
    return found
