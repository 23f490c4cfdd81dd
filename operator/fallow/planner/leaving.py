"""Which replicas go where they become fewer: those that leave nodes empty, so that the nodes can go too.

Kubernetes itself lets those go first that share a node with others of their kind, which leaves one on each node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.workloads import Service
from fallow.planner.inventory import emptying, held_gpus

# A service that always has as many replicas has them for the case that one fails: they stay on two nodes.
SPARE = 2


def leaving(snapshot: Snapshot, plan: ServicePlan, variant: str) -> tuple[PodRef, ...]:
    """The ready pods of a variant that are to go first; none where its policy does not consolidate now, or all go."""
    rules = None if plan.policy is None or plan.policy.mode is not Mode.ENFORCE else plan.policy.consolidation
    wanted = plan.replicas.get(variant, 0)
    if rules is None or wanted == 0 or not rules.is_on(snapshot.at):
        return ()
    pods = [pod for pod in snapshot.pods_of(plan.key) if pod.variant == variant and not pod.deleting]
    ready = [pod for pod in pods if pod.ready and pod.node]
    # those that are not ready go first anyway
    surplus = len(pods) - wanted - (len(pods) - len(ready))
    if surplus <= 0:
        return ()
    stay, cordoned = apart(snapshot.cluster.services[plan.key]), emptying(snapshot.cluster)
    return tuple(pod.ref for pod in _emptying(ready, snapshot.cluster.pods.values(), surplus, stay, cordoned))


def apart(service: Service) -> int:
    """On how many nodes those that stay are to be at least, if they are on so many now."""
    return 2 if service.scaling.min_replicas >= SPARE else 1


def _emptying(
    ready: list[Pod], everybody: Iterable[Pod], count: int, apart: int, cordoned: Collection[str]
) -> list[Pod]:
    """One after the other the youngest from the node with the fewest GPUs in use, and of these with the fewest of its
    own; those first on nodes that are being emptied, and those last that foreign pods hold.
    """
    holding = [pod for pod in everybody if pod.gpus and not pod.deleting]
    held, foreign = held_gpus(holding), {pod.node for pod in holding if pod.service is None}
    left = sorted(ready, key=lambda pod: (pod.ready_since or pod.created, pod.ref))
    gone: list[Pod] = []
    for _ in range(count):
        own = Counter(pod.node for pod in left)
        spared = {node for node, number in own.items() if number > 1 or len(own) > apart}
        among = (own.keys() & cordoned) or spared or own.keys()
        node = min(among, key=lambda name: (name in foreign, held[name], own[name], name))
        goes = next(pod for pod in reversed(left) if pod.node == node)
        left.remove(goes)
        gone.append(goes)
        held[node] -= goes.gpus
    return gone
