"""Which pods are kept from being moved while they load their model, and which no longer.

A node's autoscaler that moves a pod in the middle of its load has minutes and joules spent once more. Once the pod is
ready its node must be free again: one that is kept for ever draws power for ever.
"""

from fallow.domain.plans import Plan, ShieldPod
from fallow.domain.policies import Mode, Policy
from fallow.domain.snapshots import Pod, Shield, Snapshot
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.planner.context import STARTING_LIMIT


def shields(snapshot: Snapshot, plan: Plan) -> list[ShieldPod]:
    """Those that come off first.

    A shield is put up once in a pod's life, and comes off when the pod is ready or takes too long: also where its
    service is paused, cannot be read or is gone; and at once where its policy wants none any more.
    """
    view, found = snapshot.cluster, list[ShieldPod]()
    paused = {key for key, service in view.services.items() if service.paused}
    changeable = {(one.service, one.variant) for one in view.workloads if one.owned and one.service not in paused}
    for pod in view.pods.values():
        if pod.shield is Shield.OVER or pod.deleting or (pod.ready and pod.shield is Shield.NONE):
            continue
        told = None if pod.service is None else plan.services.get(pod.service)
        policy, loads = told.policy if told else None, _loads(pod, snapshot.at)
        if pod.shield is Shield.UP:
            if not loads or (policy is not None and not _shields(policy)):
                found.append(_change(pod, up=False))
        elif loads and policy is not None and _shields(policy) and (pod.service, pod.variant) in changeable:
            found.append(_change(pod, up=True))
    return sorted(found, key=lambda change: change.up)


def _loads(pod: Pod, now: Instant) -> bool:
    """Counted from when its node took it: to wait for a node costs nothing, and a crash does not begin it anew."""
    return not pod.ready and (pod.placed is None or now - pod.placed <= STARTING_LIMIT)


def _shields(policy: Policy) -> bool:
    return policy.mode is Mode.ENFORCE and policy.guards.startup_shield


def _change(pod: Pod, *, up: bool) -> ShieldPod:
    # a pod that has lost its label is told of by its own name
    return ShieldPod(pod.service or ServiceKey(*pod.ref), pod.ref, pod.uid, up)
