"""Inference services as declared: model, variants, objectives, limits; and what their status remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from fallow.domain.figures import Figure
from fallow.domain.units import Grams, Instant, Joules, Quantity, Seconds
from fallow.domain.weekly import WeeklyWindow

Q = TypeVar("Q", bound=Quantity)

# Set to 1 in an engine's environment, the clocks of its GPUs fall while it has nothing to do (NVIDIA's driver 580.105).
UNBOOSTED = "CUDA_DISABLE_PERF_BOOST"


# How long a variant that was given up is not tried again: twice as long each time in a row. A choice.
HELD, LONGEST_HELD = Seconds(3600), Seconds(86_400)


class ServiceKey(NamedTuple):
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve the model. `quality` is relative to the reference variant (the first), 0..1."""

    name: str
    model: str
    precision: str
    quality: float = 1.0
    gpus: int = 1
    products: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Mapping[str, Any], ...] = ()
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Objectives:
    ttft_p95: Seconds | None = None
    itl_p95: Seconds | None = None
    attainment: float = 0.99


@dataclass(frozen=True, slots=True)
class Wake:
    """A Prometheus metric of waiting requests; any matching sample above zero wakes the service."""

    metric: str
    selector: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule:
    """At least so many replicas while a window is open."""

    window: WeeklyWindow
    replicas: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """`opened_by`: the window of `schedules` that raised `min_replicas`; empty where none is open."""

    min_replicas: int = 1
    max_replicas: int = 1
    target_concurrency: float | None = None
    wake: Wake | None = None
    schedules: tuple[Schedule, ...] = ()
    opened_by: str = ""

    @property
    def minimum_words(self) -> str:
        """What sets the fewest replicas."""
        return f"the schedule {self.opened_by}" if self.opened_by else "scaling.minReplicas"


@dataclass(frozen=True, slots=True)
class Engine:
    """How the vLLM container runs. `resources` and `env` are Kubernetes JSON, passed through."""

    image: str
    port: int = 8000
    resources: Mapping[str, Any] = field(default_factory=dict)
    env: tuple[Mapping[str, Any], ...] = ()
    sleep_mode: bool = False
    termination_grace: Seconds = Seconds(60)
    shared_memory: str = "2Gi"


@dataclass(frozen=True, slots=True)
class Overhead:
    """What training and tuning took in all, None where it is not declared, and the tokens that share it."""

    lifetime_tokens: tuple[float, float, float]
    energy: Joules | None = None
    carbon: Grams | None = None

    @property
    def energy_per_token(self) -> Figure[Joules] | None:
        return None if self.energy is None else self._shared(self.energy)

    @property
    def carbon_per_token(self) -> Figure[Grams] | None:
        return None if self.carbon is None else self._shared(self.carbon)

    def _shared(self, amount: Q) -> Figure[Q]:
        """O1: the more tokens the less of it falls on each."""
        fewest, likely, most = self.lifetime_tokens
        return Figure(amount * (1 / most), amount * (1 / likely), amount * (1 / fewest))


@dataclass(frozen=True, slots=True)
class Service:
    """An InferenceService as declared. `target` names an adopted Deployment (None: Fallow creates its own).

    `requested` is what the /scale subresource holds: None lets Fallow decide, 0 stops, n asks for at least n.
    `approved` and `rejected` name a proposal. Under a power cap the higher `priority` keeps its power, and where
    GPUs are short it gets them.
    """

    key: ServiceKey
    uid: str
    generation: int
    model: str
    served_name: str
    variants: tuple[Variant, ...]
    objectives: Objectives
    scaling: Scaling
    engine: Engine
    created: Instant
    target: str | None = None
    requested: int | None = None
    paused: bool = False
    template: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    wake_annotation: str = ""
    approved: str = ""
    rejected: str = ""
    priority: int = 0
    overhead: Overhead | None = None

    @property
    def reference(self) -> Variant:
        return self.variants[0]

    def variant(self, name: str) -> Variant | None:
        return next((v for v in self.variants if v.name == name), None)


class IdleState(StrEnum):
    """Three signals' verdict. Unknown: a signal was never seen. Stale: it was, and is too old."""

    ACTIVE = "Active"
    STANDBY = "Standby"
    IDLE = "Idle"
    UNKNOWN = "Unknown"
    STALE = "Stale"


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposal by name: `what` would be done, and `since` when it is or was proposed."""

    id: str
    what: str
    since: Instant


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A variant that was measured to be worse while it was shifted to, or did not get ready: so many `times` in a row,
    last `at` that time.
    """

    variant: str
    at: Instant
    times: int
    why: str

    @property
    def until(self) -> Instant:
        """When it is tried again."""
        return Instant(self.at + min(HELD * 2 ** (self.times - 1), LONGEST_HELD))


@dataclass(frozen=True, slots=True)
class ServiceMemory:
    """What must outlive a restart, read from and written to the object's status.

    `quiet_since`: start of the present quiet; None while active. `changed_at`: last change of capacity by Fallow.
    `request_at`: when the present `requested` was first seen; `wake_handled`: the wake annotation already obeyed.
    `serving`: the variant that serves; `switching_to`: the one being made before it is broken; `approval`: the name of
    the proposal by which a person let that begin; `goal`: replicas that it is to have. In a switch by steps `before`
    are the replicas that served when it began, with those that the load asked for since. `given_up`: the last of these
    that was.
    `resting`: Fallow rests this service at zero replicas. `wake_started`: when the running wake began.
    `wake_booked`: the service's booked total then, known to the process that woke it; `wake_used`: what the wake took.
    `proposal`: the last one, as long as nothing was done since and no other was made. `reductions` by Fallow's own
    doing on the day `reduced_on` (YYYY-MM-DD). `short_at`: when GPUs that it wants were last seen to be short.
    `cap_since`: since when a power cap has asked for another variant than serves. These two and the goal are known to
    the process that saw them. `moving`: replicas of the serving variant that are asked for in the place of as many on
    nodes that are being emptied.
    """

    serving: str | None = None
    switching_to: str | None = None
    approval: str = ""
    resting: bool = False
    idle_state: IdleState = IdleState.UNKNOWN
    idle_state_since: Instant | None = None
    quiet_since: Instant | None = None
    changed_at: Instant | None = None
    request_seen: int | None = None
    request_at: Instant | None = None
    wake_handled: str = ""
    wake_started: Instant | None = None
    wake_took: Seconds | None = None
    wake_booked: Joules | None = None
    wake_used: Joules | None = None
    proposal: Proposed | None = None
    reductions: int = 0
    reduced_on: str = ""
    short_at: Instant | None = None
    goal: int | None = None
    before: int | None = None
    given_up: GivenUp | None = None
    cap_since: Instant | None = None
    moving: int = 0


# Of a service that nobody has looked at yet.
NO_MEMORY = ServiceMemory()
