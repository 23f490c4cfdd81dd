"""Services whose replicas an autoscaler of others owns: what Fallow still decides, and what it leaves to that.

Fallow plans the floor: an autoscaler's minimum stands where replicas stand for other services, and it adds above it as
it sees fit. Its maximum is never lowered. See docs/decisions/autoscalers.md.
"""

from collections.abc import Iterable, Mapping

from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.plans import Veto
from fallow.domain.policies import Mode, Policy
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Workload

NAME = "Autoscaler"


def floor(workload: Workload) -> int:
    """Replicas that are asked for as Fallow plans with them: the minimum, where one autoscaler adds to it."""
    scaler = workload.scaler
    if scaler is None or workload.replicas == 0:
        return workload.replicas
    return max(scaler.minimum, 1)


def minimum(scaler: Autoscaler, count: int) -> int:
    """What to write for a floor: where its owner lets it rest, the last replica is the autoscaler's to take."""
    return 0 if scaler.owners == 0 and count <= 1 else count


def may_follow(policy: Policy) -> bool:
    """Whether a minimum may be another than its owner's: a policy scales, or proposes to."""
    return policy.scaling.enabled and policy.mode is not Mode.OBSERVE


def rivals(workloads: Iterable[Workload]) -> tuple[Workload, tuple[Autoscaler, ...]] | None:
    """The first Deployment with more than one owner of its replicas, and these."""
    return next(((one, one.scalers) for one in workloads if len(one.scalers) > 1), None)


def rivals_text(workload: Workload, scalers: Iterable[Autoscaler]) -> str:
    *others, last = (str(scaler) for scaler in scalers)
    together = "both" if len(others) == 1 else "all"
    return f"{', '.join(others)} and {last} {together} set the replicas of {workload.name}; delete all but one of them"


def fixed(scaler: Autoscaler | None) -> Veto | None:
    """Why the minimum of an autoscaler is not Fallow's to change, and what to do about it."""
    if scaler is None:
        return None
    if not scaler.seen:
        message = f"{scaler} made an HPA and is not seen itself yet; its minimum stays"
        return Veto("autoscaler", Reason.DATA_MISSING, message)
    if scaler.maker:
        message = f"{scaler} is made by {scaler.maker}, which would undo a change; its minimum stays"
        return Veto("autoscaler", Reason.LEFT_TO_AUTOSCALER, message)
    if scaler.paused:
        return Veto("autoscaler", Reason.PAUSED, f"{scaler} is paused and would not act on its minimum, which stays")
    if scaler.overruled:
        message = (
            f"the minimum of {scaler} was put back to {scaler.minimum} by somebody else and stays; to let Fallow set "
            "it, remove its annotation fallow.dev/declared-minimum (and let GitOps ignore its minimum)"
        )
        return Veto("autoscaler", Reason.OVERRULED, message)
    return None


def rested_by(workloads: Iterable[Workload]) -> Autoscaler | None:
    """The autoscaler that takes a service to zero and wakes it."""
    return next((scaler for one in workloads for scaler in one.scalers if scaler.rests), None)


def how_to_stop(scaler: Autoscaler) -> str:
    if scaler.kind is AutoscalerKind.SCALED_OBJECT:
        return 'annotate it with autoscaling.keda.sh/paused-replicas: "0"'
    return "delete it or set its minReplicas to 1"


def steps(before: Mapping[str, int], after: Mapping[str, int], scalers: Mapping[str, Autoscaler]) -> str:
    """What becomes of minimums, such as: minimum of HorizontalPodAutoscaler chat: 2 -> 4."""
    if not scalers:
        return ""
    changed = (
        f"minimum of {scaler}: {scaler.minimum} -> {minimum(scaler, after[variant])}"
        for variant, scaler in sorted(scalers.items())
        if before.get(variant) and after.get(variant) and before[variant] != after[variant]
    )
    return "; ".join(changed)
