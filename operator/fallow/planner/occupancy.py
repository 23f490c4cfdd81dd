"""Who holds GPUs on which node, and what keeps them there: one reason each, empty where there is none.

Reasons are told cycle after cycle, so they hold no figure that changes by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fallow.domain.plans import ServicePlan
from fallow.domain.policies import ConsolidationRules
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import Node, Pod, Snapshot
from fallow.domain.units import Seconds
from fallow.domain.workloads import ServiceKey
from fallow.footprint.zones import zone_of
from fallow.planner import guards
from fallow.planner.context import Context
from fallow.planner.inventory import held_gpus, whole_nodes
from fallow.planner.leaving import apart

# A replica that comes in the place of another and has no node after this time has no room.
PLACED_BY = Seconds(120)
# What guards say of a service, in words that stay the same while they say so.
WORDS = {
    "freshness": "signals of {} are missing, as its MetricsFresh says",
    "pending": "replicas of {} are starting, or none is ready",
    "window": "the load of {} was not watched for all of scaling.downWindow yet",
    "dwell": "{} was changed within guards.dwell",
    "turn": "as many other services change as guards.maxConcurrentChanges allows beside {}",
    "churn": "{} was reduced guards.maxReductionsPerDay times today",
    "objectives": "{} misses its latency objectives, or they cannot be measured",
}


@dataclass(frozen=True, slots=True)
class Occupancy:
    """`movers` are the policies that move replicas now, with their rules; `whole` nodes take pods and give them whole
    GPUs. `pods` with GPUs by node, those to be deleted left out; GPUs that are `held`, by these as well. `waits`: who
    has no GPUs yet and is not only to come in the place of another; `unplaced`: who is, and has had time enough.
    """

    snapshot: Snapshot
    plans: Mapping[ServiceKey, ServicePlan]
    movers: Mapping[str, ConsolidationRules]
    whole: Sequence[Node]
    pods: Mapping[str, Sequence[Pod]]
    held: Mapping[str, int]
    waits: PodRef | None
    unplaced: Mapping[ServiceKey, PodRef]

    @classmethod
    def of(
        cls, snapshot: Snapshot, plans: Mapping[ServiceKey, ServicePlan], movers: Mapping[str, ConsolidationRules]
    ) -> Occupancy:
        pods = defaultdict[str, list[Pod]](list)
        waits, unplaced = None, dict[ServiceKey, PodRef]()
        for pod in snapshot.cluster.pods.values():
            if pod.deleting or not pod.gpus:
                continue
            pods[pod.node].append(pod)
            plan = None if pod.service is None else plans.get(pod.service)
            if pod.scheduled:
                continue
            if plan is None or not plan.memory.moving:
                waits = pod.ref
            elif snapshot.at - pod.created > PLACED_BY:
                unplaced[plan.key] = pod.ref
        cluster = snapshot.cluster
        held = held_gpus(cluster.pods.values())
        return cls(snapshot, plans, movers, whole_nodes(cluster), pods, held, waits, unplaced)

    def on(self, node: Node) -> Sequence[Pod]:
        return self.pods.get(node.name, ())

    def services(self, node: Node) -> Sequence[ServiceKey]:
        return sorted({pod.service for pod in self.on(node) if pod.service is not None})

    def moved(self, node: Node) -> Mapping[ServiceKey, str]:
        """Services with replicas on it that a policy moves now, and which policy."""
        plans = ((key, self.plans.get(key)) for key in self.services(node))
        named = {key: plan.policy.name for key, plan in plans if plan is not None and plan.policy is not None}
        return {key: name for key, name in named.items() if name in self.movers}

    def fixed(self, node: Node) -> str:
        """Which of its pods cannot be moved, and why."""
        for pod in self.on(node):
            plan = self.plans.get(pod.service) if pod.service is not None else None
            why = "is of no service that Fallow knows" if plan is None else self._stays(plan, pod)
            if why:
                return f"{pod.ref} {why}"
        return ""

    def _stays(self, plan: ServicePlan, pod: Pod) -> str:
        policy = plan.policy
        if policy is None or policy.name not in self.movers:
            return "is under no policy that moves replicas now"
        if self.snapshot.cluster.services[plan.key].paused:
            return "is of a service that is paused"
        if plan.fault is not None:
            return "is of a service that could not be planned"
        if pod.pinned:
            return "is not to be moved, by an annotation of its owner"
        if pod.variant != plan.serving or plan.memory.switching_to is not None:
            return "is of a service whose variants are being switched"
        if plan.scalers:
            return f"is of replicas that {next(iter(plan.scalers.values()))} sets"
        return "is under a power cap, which does not pay for two in its place" if policy.caps_power else ""

    def unsettled(self, node: Node) -> str:
        """Which of its pods is not ready, or goes."""
        starting = next((pod.ref for pod in self.on(node) if not pod.ready), None)
        if starting is not None:
            return f"{starting} is not ready"
        going = sum(pod.gpus for pod in self.on(node)) != self.held[node.name]
        return "pods that are being deleted still hold GPUs" if going else ""

    def crowded(self, node: Node) -> str:
        """Whether nodes in use of its GPU type and its zone have too little room: the largest replicas first and each
        where least is left over; with room for one more of the largest, so that the next that is needed does not wait
        for a node.
        """
        zone = zone_of(node, self.snapshot.zones)
        free = {
            one.name: one.places - self.held[one.name]
            for one in self.whole
            if one.gpu_product == node.gpu_product
            and one.name != node.name
            and zone_of(one, self.snapshot.zones) is zone
        }
        pods = sorted(self.on(node), key=lambda pod: -pod.gpus)
        for pod in (*pods, pods[0]):
            holes = (name for name, gpus in free.items() if gpus >= pod.gpus and self._may_run(pod, name))
            hole = min(holes, key=lambda name: (free[name], name), default=None)
            if hole is None:
                where = f"other nodes of {node.gpu_product} in its zone that they may run on"
                return f"there is no room for its replicas, and one more, on {where}"
            free[hole] -= pod.gpus
        return ""

    def _may_run(self, pod: Pod, node: str) -> bool:
        """By the node selector of its service's template; of an adopted Deployment that is seen when it is tried."""
        service = None if pod.service is None else self.snapshot.cluster.services[pod.service]
        selector = {} if service is None else service.template.get("spec", {}).get("nodeSelector", {})
        return selector.items() <= self.snapshot.cluster.nodes[node].labels.items()

    def bound(self, node: Node, context: Context) -> str:
        """What of one of its services does not let its replicas move now."""
        name, plan = context.service.key, self.plans[context.service.key]
        here = sum(1 for pod in self.on(node) if pod.service == name)
        nodes = {pod.node for pod in context.pods if pod.ready and not pod.deleting}
        if plan.decision is not None or plan.memory.moving:
            return f"{name} is being changed"
        if len(nodes) > 1 and len(nodes) - 1 < apart(context.service):
            return f"{name} keeps two nodes, as its scaling.minReplicas has one to spare"
        if context.replicas + here > context.ceiling:
            return f"{name} would have more than its scaling.maxReplicas while its replicas move"
        if context.budget.ceiling is not None:
            return f"a budget limits the replicas of {name}"
        vetoes = guards.raised(
            guards.freshness(context),
            guards.pending(context),
            guards.window(context, context.policy.scaling.down_window),
            *guards.pace(context),
            guards.objectives(context),
        )
        return WORDS[vetoes[0].guard].format(name) if vetoes else ""
