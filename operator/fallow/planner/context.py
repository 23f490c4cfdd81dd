"""What a lever may look at for one service, and what it may answer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from zoneinfo import ZoneInfo

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.calendars import day_of
from fallow.domain.estimates import ServiceEstimate
from fallow.domain.habits import Habits
from fallow.domain.plans import Veto
from fallow.domain.policies import Policy
from fallow.domain.profiles import Profile
from fallow.domain.readings import ClockRange
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Node, Pod, Workload
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.workloads import GivenUp, Service, ServiceKey, ServiceMemory, Variant
from fallow.planner.budgets import NOTHING, Asked
from fallow.planner.capacity import Capacity
from fallow.planner.caps import Cap
from fallow.planner.inventory import Free
from fallow.planner.weighing import Sites, Spared, Weighing

# A replica that is not ready after this time has no room or does not work; starts take minutes.
STARTING_LIMIT = Seconds(1800)


@dataclass(frozen=True, slots=True)
class Share:
    """One service's of GPUs that were short `at` that time: replicas that it may ask for (None: as many as it likes),
    those it is `given` of those `wanted`, GPUs that are `there` of its `products`, and who goes `before`.
    """

    replicas: int | None
    given: int
    wanted: int
    there: int
    products: tuple[str, ...]
    before: str
    at: Instant

    @property
    def words(self) -> str:
        where = f"the {self.there} GPUs there ({', '.join(self.products)})"
        return f"GPUs are short: of {self.wanted} replicas {self.given} have room on {where}; {self.before}"


@dataclass(frozen=True, slots=True)
class Around:
    """What goes on around one service: what budgets ask of it (`budget`), a power cap leaves to it (`cap`) and what it
    is given of GPUs that are short (`share`), services that have engines being replaced (`rolling`), and those of each
    policy whose replicas come or go (`changing`). `free` GPUs are looked for where a policy matches hardware, and the
    `sites` where GPUs are, there, where an objective is not energy, and for tiers among several zones. `fault`: what
    kept it from being known.
    """

    budget: Asked = NOTHING
    cap: Cap | None = None
    rolling: frozenset[ServiceKey] = frozenset()
    changing: Mapping[str, frozenset[ServiceKey]] = field(default_factory=dict)
    free: Free = field(default_factory=Free)
    share: Share | None = None
    sites: Sites = field(default_factory=dict)
    fault: Exception | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """One service at one instant. `current` are the replicas asked for now, by variant, pending ones included; where an
    autoscaler of others adds to them, its minimum.

    `history` is by time. `follows`: an autoscaler's minimum may be another than its owner's.
    `throttled`: its engines let their clocks fall while idle. `step_tokens` by variant, where Fallow limits them.
    `nodes` are those of its pods, `clocks` of the GPUs of the ready ones, where their policy lowers them and an agent
    sets that of each. `weighing`: by what its choices are compared.
    """

    now: Instant
    service: Service
    policy: Policy
    estimate: ServiceEstimate
    memory: ServiceMemory
    serving: Variant
    current: Mapping[str, int]
    workloads: Mapping[str, Workload]
    pods: tuple[Pod, ...]
    history: tuple[DemandPoint, ...]
    profiles: tuple[Profile, ...]
    product: str | None
    capacity: Mapping[str, Capacity]
    habits: Habits
    floor: int
    ceiling: int
    follows: bool = True
    throttled: bool = False
    step_tokens: Mapping[str, int] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    clocks: tuple[ClockRange, ...] = ()
    weighing: Weighing = field(default_factory=Weighing)
    around: Around = field(default_factory=Around)

    @property
    def cap(self) -> Cap | None:
        return self.around.cap

    @property
    def budget(self) -> Asked:
        return self.around.budget

    @property
    def changing(self) -> frozenset[ServiceKey]:
        """Services of the same policy, where that limits how many change at one time."""
        return self.around.changing.get(self.policy.name, frozenset())

    def lately(self, length: float) -> tuple[DemandPoint, ...]:
        """Its history of the last so many seconds."""
        return self.history[bisect_left(self.history, self.now - length, key=attrgetter("at")) :]

    @property
    def today(self) -> str:
        return day_of(self.now, ZoneInfo(self.policy.time_zone))

    @property
    def peers(self) -> tuple[Variant, ...]:
        """The reference and those as good: of no less quality, in a precision that may serve for it, on any GPUs."""
        one = self.service.reference
        good = self.policy.as_good(one.precision.upper())
        return tuple(v for v in self.service.variants if v.precision.upper() in good and v.quality >= one.quality)

    @property
    def reference(self) -> Variant:
        """The reference, or the variant as good as it that serves in its place where the policy lets it."""
        matched = self.policy.hardware is not None and self.serving in self.peers
        return self.serving if matched else self.service.reference

    @property
    def replicas(self) -> int:
        return self.current.get(self.serving.name, 0)

    @property
    def replaced(self) -> int:
        """Replicas that went in a switch by steps, as far as ready ones of the new variant stand in for them."""
        before, to = self.memory.before, self.memory.switching_to
        if before is None or to is None or to not in self.capacity:
            return 0
        return min(self.stand_in(to, self.ready(to)), max(before - self.replicas, 0))

    @property
    def carrying(self) -> int:
        """Replicas of the variant that serves, with those that others stand in for."""
        return self.replicas + self.replaced

    def stand_in(self, variant: str, count: int) -> int:
        """Replicas of the variant that serves in whose place so many of another carry as much; for each one at most: a
        larger one proves itself first.
        """
        each = self.capacity[variant].concurrency / self.capacity[self.serving.name].concurrency
        return int(count * min(each, 1.0) + 1e-9)

    @property
    def beside(self) -> int:
        """Ready replicas of the variant that is being switched to: they serve already."""
        return self.ready(self.memory.switching_to) if self.memory.switching_to else 0

    @property
    def scalers(self) -> Mapping[str, Autoscaler]:
        """The autoscalers of others that own the replicas of a variant, alone."""
        return {name: scaler for name, one in self.workloads.items() if (scaler := one.scaler) is not None}

    @property
    def scaler(self) -> Autoscaler | None:
        """The one that adds to the replicas of the variant that serves."""
        return self.scalers.get(self.serving.name)

    def asked(self, variant: str) -> int:
        """Replicas asked for by whomever: those above an autoscaler's minimum too."""
        workload = self.workloads.get(variant)
        return max(self.current.get(variant, 0), 0 if workload is None else workload.replicas)

    @property
    def is_exceeded(self) -> bool:
        """Whether an autoscaler runs more than its minimum: less of that saves nothing then."""
        return any(self.asked(name) > self.current[name] for name in self.scalers)

    def ready(self, variant: str) -> int:
        return sum(1 for pod in self.pods if pod.variant == variant and pod.ready and not pod.deleting)

    @property
    def strays(self) -> Mapping[str, int]:
        """Replicas of variants that neither serve nor are being switched to, or are in the spec no longer."""
        target = self.service.variant(self.memory.switching_to) if self.memory.switching_to else None
        wanted = {self.serving.name, target.name if target else None}
        return {variant: count for variant, count in self.current.items() if count > 0 and variant not in wanted}

    @property
    def pending(self) -> int:
        """Replicas asked for and on their way, strays left aside; what takes too long is not on its way any more."""
        return sum(self._starting(name, self.asked(name)) for name in self.current if name not in self.strays)

    def _starting(self, variant: str, count: int) -> int:
        pods = [pod for pod in self.pods if pod.variant == variant and not pod.deleting]
        short = min(self.policy.guards.gpus_short_after, STARTING_LIMIT)
        begun = [
            (pod.started or pod.created, STARTING_LIMIT if pod.scheduled else short) for pod in pods if not pod.ready
        ]
        stuck = sum(1 for at, limit in begun if self.now - at > limit)
        changed = self.memory.changed_at
        if changed is not None and self.now - changed > STARTING_LIMIT:
            stuck += max(0, count - len(pods))
        return max(0, count - self.ready(variant) - stuck)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a lever wants and why. `replicas` None: it wants nothing, and `message` says why not. `spared`: what it
    saves by place, if not all of it is where the service is. A variant that is to serve instead is to have `goal`
    replicas; by steps where `before` says how many served until then. `given_up`: the one that is not to serve now.
    """

    lever: str
    reason: Reason
    message: str
    replicas: Mapping[str, int] | None = None
    saves: Watts | None = None
    serving: str | None = None
    switching_to: str | None = None
    goal: int | None = None
    before: int | None = None
    given_up: GivenUp | None = None
    resting: bool | None = None
    throttled: bool | None = None
    step_tokens: Mapping[str, int] | None = None
    vetoes: tuple[Veto, ...] = field(default=())
    spared: tuple[Spared, ...] = ()
