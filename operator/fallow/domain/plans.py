"""Plans: what each service should run, why, and what stood in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.policies import Mode, Policy
from fallow.domain.readings import PodRef
from fallow.domain.reasons import Reason
from fallow.domain.tuning import PLAIN, Tuning
from fallow.domain.units import Grams, Hertz, Instant, Money, Watts
from fallow.domain.workloads import Proposed, Service, ServiceKey, ServiceMemory


def replicas_text(replicas: Mapping[str, int], scalers: Mapping[str, Autoscaler] | None = None) -> str:
    """Replicas by variant, such as bf16 1, fp8 2; where an autoscaler of others adds to them, bf16 at least 1."""
    least = {variant for variant, count in replicas.items() if count > 0 and variant in (scalers or {})}
    words = (f"{name} {'at least ' if name in least else ''}{count}" for name, count in sorted(replicas.items()))
    return ", ".join(words) or "none"


@dataclass(frozen=True, slots=True)
class Veto:
    """A guard's no, with its reason."""

    guard: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided (or, as a `proposal`, would be), by which lever and why. `saves` is watts now, if known."""

    at: Instant
    action: str
    lever: str
    reason: Reason
    message: str
    policy: str = ""
    saves: Watts | None = None
    proposal: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A standard condition without its times; `status` None reads Unknown."""

    type: str
    status: bool | None
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Pending:
    """A proposal that a person may approve or reject, and what they said; what runs `now`, and the `risk` in words,
    empty for none. What it saves in an hour, facility and GPUs that are held included; None where that is not known.
    """

    proposed: Proposed
    now: str
    risk: str
    approved: bool = False
    rejected: bool = False
    grams: Grams | None = None
    money: Money | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class GpuLimits:
    """What one GPU is held to by its node's agent; None: nothing."""

    power: Watts | None = None
    clock: Hertz | None = None


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Desired replicas by variant, the reason for a change or for none, and what to remember.

    `replicas` is what to run now; `proposed` what the policy would run if it were enforced (equal when enforced).
    `throttled`: with engines whose clocks fall while they have nothing to do. `step_tokens` of the engines by variant,
    where Fallow limits them. `power_limit` of each of its GPUs, and `clock` as a share of the highest; None: none.
    Where an autoscaler of others owns a variant's replicas (`scalers`) its number is the least that this is to run, and
    `above` are those that run above it.
    `fault` is Fallow's own, for which nothing is changed. `silences` say what can never happen, and what would let it.
    """

    key: ServiceKey
    replicas: Mapping[str, int]
    proposed: Mapping[str, int]
    serving: str
    memory: ServiceMemory
    decision: Decision | None
    standing: Decision
    vetoes: tuple[Veto, ...] = ()
    policy: Policy | None = None
    conditions: tuple[Condition, ...] = ()
    clear_request: bool = False
    fault: Exception | None = None
    pending: Pending | None = None
    silences: tuple[str, ...] = ()
    throttled: bool = False
    step_tokens: Mapping[str, int] = field(default_factory=dict)
    power_limit: Watts | None = None
    clock: float | None = None
    scalers: Mapping[str, Autoscaler] = field(default_factory=dict)
    above: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_slowed(self) -> bool:
        """Whether its clocks are lowered."""
        return self.clock is not None and self.clock < 1.0

    @property
    def mode(self) -> Mode:
        return self.policy.mode if self.policy else Mode.OBSERVE

    @property
    def asked(self) -> Mapping[str, int]:
        """Replicas by variant that are to be there, by whomever they are asked for."""
        return {variant: count + self.above.get(variant, 0) for variant, count in self.replicas.items()}

    @property
    def total(self) -> int:
        return sum(self.asked.values())

    def tuning(self, variant: str) -> Tuning:
        return Tuning(self.throttled, self.step_tokens.get(variant))


class Cordon(StrEnum):
    """EMPTY: a node takes no new pods, so that replicas on it move elsewhere. KEEP: it is not emptied after all. FREE:
    it was, and takes pods again.
    """

    EMPTY = "Empty"
    KEEP = "Keep"
    FREE = "Free"


@dataclass(frozen=True, slots=True)
class CordonNode:
    """Bring a node to this, and why; on behalf of a `policy`, empty where none asks for it any more."""

    node: str
    to: Cordon
    at: Instant
    policy: str
    message: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Why no node is emptied where policies move replicas, in sentences that stay the same while that is so: by policy
    the most telling ones, and by service of a node that it is on.
    """

    policies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    services: Mapping[ServiceKey, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """`nodes`: those that are emptied, or no longer; `kept`: why no other is."""

    at: Instant
    services: Mapping[ServiceKey, ServicePlan] = field(default_factory=dict)
    nodes: tuple[CordonNode, ...] = ()
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True, slots=True)
class RunVariant:
    """Bring a variant's Deployment (created or adopted) to a replica count; create its Service and budget too.

    Engines that are not tuned so are replaced one after the other. Where it becomes smaller the pods that are `leaving`
    go first.
    """

    service: Service
    variant: str
    replicas: int
    tuning: Tuning = PLAIN
    leaving: tuple[PodRef, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepVariant:
    """Bring a variant's Deployment to its spec in all but its replicas, whose number an autoscaler of others owns."""

    service: Service
    variant: str
    tuning: Tuning = PLAIN


@dataclass(frozen=True, slots=True)
class ClearRequest:
    """Remove spec.replicas, so that the next `kubectl scale` is a change and wakes the service."""

    service: Service


@dataclass(frozen=True, slots=True)
class SetFloor:
    """Bring the minimum of the autoscaler that owns a variant's replicas to a number; its owner's own is kept there."""

    service: Service
    variant: str
    scaler: Autoscaler
    minimum: int


@dataclass(frozen=True, slots=True)
class ShieldPod:
    """Keep autoscalers of nodes from moving a pod (`up`), or let them again. `key` is the service that it is told of,
    whether that still exists or not.
    """

    key: ServiceKey
    pod: PodRef
    uid: str
    up: bool


ServiceChange = RunVariant | KeepVariant | SetFloor | ClearRequest
# What changes nothing of what a service runs.
SideChange = ShieldPod | CordonNode
Change = ServiceChange | SideChange


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change. `error` is empty when it was applied or nothing differed; `wrote` when it was sent;
    `refused`: the API server says no to it, and will until something changes.
    """

    change: Change
    wrote: bool
    error: str = ""
    refused: bool = False

    @property
    def key(self) -> ServiceKey:
        """Of whom it is told: a service, or a policy, which has no namespace."""
        match self.change:
            case ShieldPod():
                return self.change.key
            case CordonNode():
                return ServiceKey("", self.change.policy)
        return self.change.service.key
