"""Energy policies as declared: what to strive for, what may be done, how far, to whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from fallow.domain.counterfactual import BaselineRule
from fallow.domain.goals import Budget, Remedy, Target
from fallow.domain.units import GramsPerKWh, Instant, Seconds, Watts
from fallow.domain.weekly import WeeklyWindow

UTC = "UTC"


class Mode(StrEnum):
    """Observe reports, Recommend also proposes, Enforce also acts."""

    OBSERVE = "Observe"
    RECOMMEND = "Recommend"
    ENFORCE = "Enforce"


class Objective(StrEnum):
    ENERGY = "Energy"
    CARBON = "Carbon"
    COST = "Cost"


class Operator(StrEnum):
    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.DOES_NOT_EXIST:
                return self.key not in labels


@dataclass(frozen=True, slots=True)
class Selector:
    """A Kubernetes label selector; an empty one matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.requirements or all(requirement.matches(labels) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class IdleRules:
    """`after`: how long a service must be quiet before it rests. `wake_within`: the wake objective.

    `throttle`: the clocks of a loaded engine may fall whenever it has nothing to do.
    """

    after: Seconds = Seconds(600)
    release: bool = True
    throttle: bool = False
    wake_within: Seconds | None = None


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Fast up, slow down: windows over which demand is taken, and the share of capacity kept free. `limits_steps`:
    engines may be started with fewer tokens in a step.
    """

    enabled: bool = True
    up_window: Seconds = Seconds(30)
    down_window: Seconds = Seconds(300)
    headroom: float = 0.2
    limits_steps: bool = False


@dataclass(frozen=True, slots=True)
class Tier:
    """Precisions allowed while the grid's intensity is above a threshold."""

    above: GramsPerKWh
    allow: frozenset[str]


@dataclass(frozen=True, slots=True)
class PrecisionRules:
    tiers: tuple[Tier, ...]
    quality_floor: float = 0.97
    require_measured_advantage: bool = True
    hysteresis: float = 0.05


@dataclass(frozen=True, slots=True)
class HardwareRules:
    """Which of a service's variants that are as good as its reference serves, by what the load takes on each.

    `hysteresis`: share of what is drawn that a switch must save. `precisions` beside the reference's own.
    """

    hysteresis: float = 0.1
    precisions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ShiftRules:
    """A new variant has these shares of its replicas one after the other before it has all; each is watched so long."""

    steps: tuple[float, ...]
    watch: Seconds = Seconds(300)


@dataclass(frozen=True, slots=True)
class PowerRules:
    """`cap`: most that the GPUs of all matched services draw together. `lowest`: no GPU is limited to less than this
    share of the most that it can be set to. `on_bind`: what may be done beside while the cap binds.
    """

    cap: Watts
    lowest: float = 0.5
    on_bind: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True)
class ClockRules:
    """SM clocks follow the load, down to the `lowest` share of the highest one."""

    lowest: float = 0.7


@dataclass(frozen=True, slots=True)
class NodeAllowance:
    """A `number` of nodes, or a `share` of them rounded up, as Karpenter rounds its budgets."""

    number: int = 0
    share: float = 0.0

    @property
    def is_any(self) -> bool:
        return self.number > 0 or self.share > 0

    def of(self, nodes: int) -> int:
        return max(self.number, ceil(self.share * nodes - 1e-9))


@dataclass(frozen=True, slots=True)
class ConsolidationRules:
    """Replicas that go leave nodes empty, in these `windows`; without one always. `at_once` nodes may be emptied by
    moving replicas that stay.
    """

    windows: tuple[WeeklyWindow, ...] = ()
    at_once: NodeAllowance = field(default_factory=NodeAllowance)

    def is_on(self, now: Instant) -> bool:
        return not self.windows or any(window.is_open(now) for window in self.windows)

    def closes_in(self, now: Instant) -> Seconds | None:
        """Until none of the windows is open that is; None without windows."""
        return max((window.closes_in(now) for window in self.windows if window.is_open(now)), default=None)


@dataclass(frozen=True, slots=True)
class GuardRules:
    """`most_at_once`: services of the policy that change at one time; `most_a_day`: reductions of one. None: any.

    `startup_shield`: pods are not moved while they load. `gpus_short_after`: how long a replica waits for its GPUs
    before they count as short.
    """

    dwell: Seconds = Seconds(300)
    max_step_per_minute: float = 2.0
    metrics_max_age: Seconds = Seconds(90)
    objective_veto: bool = True
    most_at_once: int | None = None
    most_a_day: int | None = None
    startup_shield: bool = True
    gpus_short_after: Seconds = Seconds(600)


@dataclass(frozen=True, slots=True)
class Policy:
    """`time_zone` (IANA) is the one whose midnights end days and months."""

    name: str
    mode: Mode = Mode.RECOMMEND
    priority: int = 0
    objective: Objective = Objective.ENERGY
    generation: int = 0
    namespaces: Selector = field(default_factory=Selector)
    services: Selector = field(default_factory=Selector)
    idle: IdleRules | None = None
    scaling: ScalingRules = field(default_factory=ScalingRules)
    precision: PrecisionRules | None = None
    hardware: HardwareRules | None = None
    shift: ShiftRules | None = None
    power: PowerRules | None = None
    clocks: ClockRules | None = None
    consolidation: ConsolidationRules | None = None
    guards: GuardRules = field(default_factory=GuardRules)
    targets: tuple[Target, ...] = ()
    budgets: tuple[Budget, ...] = ()
    baseline: BaselineRule | None = None
    time_zone: str = UTC
    uid: str = ""

    @property
    def caps_power(self) -> bool:
        return self.power is not None and self.mode is Mode.ENFORCE

    @property
    def scales(self) -> bool:
        """Whether replicas follow the load by Fallow's own doing."""
        return self.mode is Mode.ENFORCE and self.scaling.enabled

    def as_good(self, precision: str) -> frozenset[str]:
        """Precisions that may serve in the place of a reference of this one, where quality is no less: those of
        `hardware` beside it, but for what a tier leaves out that lets the reference itself serve.
        """
        tiers = () if self.precision is None else self.precision.tiers
        allowed = frozenset[str]() if self.hardware is None else self.hardware.precisions
        return allowed.intersection(*(tier.allow for tier in tiers if precision in tier.allow)) | {precision}
