"""Replicas in the place of those on nodes that are being emptied: the new ones are ready before the old ones go.

Levers know nothing of it: they look at the replicas that are needed, and these come beside. Which of them go then is
as ever, where replicas become fewer.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from fallow.domain.estimates import ServiceEstimate
from fallow.domain.plans import Decision, ServicePlan
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.planner.guards import doubt
from fallow.planner.remembering import reduced

NAME = "Nodes"


def moved(snapshot: Snapshot, plan: ServicePlan, estimate: ServiceEstimate, nodes: Collection[str]) -> ServicePlan:
    """With as many replicas more as are on these nodes, until as many as are needed are ready elsewhere.

    Nothing of it changes together with anything else, nor while signals are missing or the plan has failed; and never
    are there more than maxReplicas.
    """
    before, needed = plan.memory.moving, plan.replicas.get(plan.serving, 0)
    stays = plan.decision is not None or plan.fault is not None or doubt(estimate) is not None
    beside = before if needed and stays else _beside(snapshot, plan, needed, nodes)
    if not beside and not before:
        return plan
    plan = replace(
        plan,
        memory=replace(plan.memory, moving=beside),
        replicas=_more(plan.replicas, plan.serving, beside),
        proposed=_more(plan.proposed, plan.serving, beside),
    )
    told = _told(snapshot, plan, (before, beside), nodes)
    if beside == before:
        return replace(plan, standing=told) if plan.standing.reason is Reason.STEADY else plan
    memory = replace(plan.memory, changed_at=snapshot.at)
    if not before and plan.policy is not None:
        memory = reduced(memory, plan.policy, snapshot.at)
    return replace(plan, memory=memory, decision=plan.decision or told, standing=told)


def _more(replicas: Mapping[str, int], variant: str, count: int) -> Mapping[str, int]:
    return {**replicas, variant: replicas.get(variant, 0) + count}


def _beside(snapshot: Snapshot, plan: ServicePlan, needed: int, nodes: Collection[str]) -> int:
    if not nodes or not needed or plan.memory.switching_to is not None:
        return 0
    pods = [pod for pod in snapshot.pods_of(plan.key) if pod.variant == plan.serving and not pod.deleting]
    on = sum(1 for pod in pods if pod.node in nodes)
    elsewhere = sum(1 for pod in pods if pod.ready and pod.node not in nodes)
    if elsewhere >= needed:
        return 0
    most = snapshot.cluster.services[plan.key].scaling.max_replicas
    return max(min(on, most - needed), 0)


def _told(snapshot: Snapshot, plan: ServicePlan, moving: tuple[int, int], nodes: Collection[str]) -> Decision:
    """Of replicas that were `moving` before, and are now."""
    before, beside = moving
    on = sorted({pod.node for pod in snapshot.pods_of(plan.key) if pod.node in nodes and not pod.deleting})
    if beside:
        action, words = "Move", f"{beside} replicas come in the place of those on {', '.join(on)}, to empty it"
    elif on:
        action, words = "MoveDone", f"{before} replicas are ready elsewhere; those on {', '.join(on)} drain"
    else:
        action, words = "MoveStop", f"{before} replicas are not needed beside the others any more"
    return Decision(
        at=snapshot.at,
        action=action,
        lever=NAME,
        reason=Reason.EMPTIES_NODE,
        message=words,
        policy="" if plan.policy is None else plan.policy.name,
    )
