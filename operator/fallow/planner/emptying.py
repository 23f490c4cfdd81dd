"""Which nodes are emptied by moving the replicas on them, so that they can be removed, and which no longer.

A node that is cordoned takes nothing new; `moving` then has its replicas replaced elsewhere. What is not known, who
waits for a GPU, and anything that goes wrong leaves nodes as they are, or gives them back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fallow.domain.plans import Cordon, CordonNode, ServicePlan
from fallow.domain.policies import ConsolidationRules, Mode, Policy
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import Node, Pod, Snapshot
from fallow.domain.units import Joules, Seconds, energy
from fallow.domain.workloads import ServiceKey
from fallow.footprint.zones import zone_of
from fallow.planner import guards
from fallow.planner.context import STARTING_LIMIT, Context
from fallow.planner.inventory import held_gpus, whole_nodes
from fallow.planner.leaving import apart
from fallow.planner.removal import idle_watts, takes_to_move

# What a node that is off saves counts for so long, or until the windows close if that is sooner. A choice: shorter than
# a night, longer than a boot.
AHEAD = Seconds(3600)
# How long a node is empty before it is removed: cluster-autoscaler's --scale-down-unneeded-time.
REMOVED_AFTER = Seconds(600)
# An empty node that nobody has removed this long after it was cordoned takes pods again.
REMOVED_BY = Seconds(3600)
# Replicas that have not moved by then do not.
MOVED_BY = STARTING_LIMIT
# A replica that comes in the place of another and has no node after this time has no room.
PLACED_BY = Seconds(120)
# After one was given up, nodes of its GPU type are let be for so long.
TRIED_AGAIN = Seconds(3600)
# Nodes that are looked at closely in one cycle, the emptiest first.
LOOKED_AT = 8

Contexts = Callable[[ServiceKey], Context]


def emptied(snapshot: Snapshot, plans: Mapping[ServiceKey, ServicePlan], contexts: Contexts) -> tuple[CordonNode, ...]:
    """Those that are to be emptied no longer; where there are none, the next one that is to be."""
    movers = {policy.name: rules for policy in snapshot.cluster.policies if (rules := _rules(policy, snapshot))}
    under_way = [node for node in snapshot.cluster.nodes.values() if node.emptying is not None]
    if not movers and not under_way:
        return ()
    search = _Search.of(snapshot, plans, contexts, movers)
    ended = tuple(one for node in under_way if (one := search.ended(node)) is not None)
    if ended or not movers or search.waits is not None:
        return ended
    return tuple(islice((one for node in search.candidates() if (one := search.begun(node, len(under_way)))), 1))


def _rules(policy: Policy, snapshot: Snapshot) -> ConsolidationRules | None:
    """Of a policy that moves replicas now."""
    rules = policy.consolidation if policy.mode is Mode.ENFORCE else None
    return rules if rules is not None and rules.at_once.is_any and rules.is_on(snapshot.at) else None


@dataclass(frozen=True, slots=True)
class _Search:
    """`movers` are the policies that move replicas now, with their rules; `whole` nodes take pods and give them whole
    GPUs. `pods` with GPUs by node, those to be deleted left out; GPUs that are `held`, by these as well. `waits`: who
    has no GPUs yet and is not only to come in the place of another; `unplaced`: who is, and has had time enough.
    """

    snapshot: Snapshot
    plans: Mapping[ServiceKey, ServicePlan]
    contexts: Contexts
    movers: Mapping[str, ConsolidationRules]
    whole: Sequence[Node]
    pods: Mapping[str, Sequence[Pod]]
    held: Mapping[str, int]
    waits: PodRef | None
    unplaced: Mapping[ServiceKey, PodRef]

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        plans: Mapping[ServiceKey, ServicePlan],
        contexts: Contexts,
        movers: Mapping[str, ConsolidationRules],
    ) -> _Search:
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
        return cls(snapshot, plans, contexts, movers, whole_nodes(cluster), pods, held, waits, unplaced)

    def on(self, node: Node) -> Sequence[Pod]:
        return self.pods.get(node.name, ())

    def ended(self, node: Node) -> CordonNode | None:
        """Whether one takes pods again, and why."""
        pods, lasts = self.on(node), self.snapshot.at - (node.emptying or self.snapshot.at)
        if not node.cordoned:
            return self._to(node, Cordon.KEEP, "somebody has it take pods again")
        if not self.movers:
            return self._to(node, Cordon.FREE, "no policy moves replicas now")
        if self.waits is not None:
            return self._to(node, Cordon.KEEP if pods else Cordon.FREE, f"{self.waits} waits for a GPU")
        if not pods:
            removed = lasts <= REMOVED_BY or self.held[node.name]
            return None if removed else self._to(node, Cordon.FREE, f"nobody removed it in {lasts / 60:.0f} minutes")
        why = self._fixed(node)
        homeless = next((self.unplaced[key] for key in self._services(node) if key in self.unplaced), None)
        if not why and homeless is not None:
            why = f"{homeless} finds no room"
        if not why and lasts > MOVED_BY:
            why = f"its replicas did not move in {lasts / 60:.0f} minutes"
        return self._to(node, Cordon.KEEP, why) if why else None

    def candidates(self) -> Iterator[Node]:
        """The emptiest first; none of a GPU type of which a node is empty already, which is removed first, or was given
        up lately.
        """
        spare = {node.gpu_product for node in self.whole if not self.held[node.name] or self._is_kept(node)}
        found = [
            node
            for node in self.whole
            if node.gpu_product not in spare
            and all(pod.ready for pod in self.on(node))
            and sum(pod.gpus for pod in self.on(node)) == self.held[node.name]
            and not self._fixed(node)
        ]
        yield from sorted(found, key=lambda node: (self.held[node.name], node.name))[:LOOKED_AT]

    def begun(self, node: Node, under_way: int) -> CordonNode | None:
        """Where it may be emptied now, there is room for its replicas, and that is worth more than it takes."""
        services = self._services(node)
        total = sum(1 for one in self.snapshot.cluster.nodes.values() if one.gpus and one.gpu_product)
        rules = [self.movers[policy.name] for key in services if (policy := self.plans[key].policy) is not None]
        if under_way >= min(one.at_once.of(total) for one in rules) or not self._fits(node):
            return None
        contexts = {key: self.contexts(key) for key in services}
        if not all(self._lets(node, context) for context in contexts.values()):
            return None
        closing = [left for one in rules if (left := one.closes_in(self.snapshot.at)) is not None]
        watts, takes = idle_watts(self.snapshot, node), Joules(0)
        for pod in self.on(node):
            if pod.service is not None:
                takes = takes + takes_to_move(self.snapshot, pod, contexts[pod.service])
        if energy(watts, Seconds(max(min(AHEAD, *closing, AHEAD) - REMOVED_AFTER, 0.0))) <= takes:
            return None
        moves = Counter(str(pod.service) for pod in self.on(node))
        words = " and ".join(f"{count} of {name}" for name, count in sorted(moves.items()))
        message = (
            f"{self.held[node.name]} of its {node.places} GPUs are in use, and others have room for them: {words} move;"
            f" it draws {watts.value:.0f} W without them and moving takes {takes.value / 1e3:.0f} kJ"
        )
        return self._to(node, Cordon.EMPTY, message)

    def _to(self, node: Node, cordon: Cordon, message: str) -> CordonNode:
        known = [plan.policy for key in self._services(node) if (plan := self.plans.get(key)) is not None]
        policy, *_ = [*(one.name for one in known if one is not None), *self.movers, ""]
        return CordonNode(node.name, cordon, self.snapshot.at, policy, message)

    def _services(self, node: Node) -> Sequence[ServiceKey]:
        return sorted({pod.service for pod in self.on(node) if pod.service is not None})

    def _is_kept(self, node: Node) -> bool:
        return node.kept_since is not None and self.snapshot.at - node.kept_since <= TRIED_AGAIN

    def _fixed(self, node: Node) -> str:
        """Which of its pods cannot be moved, and why; empty where all can."""
        for pod in self.on(node):
            plan = self.plans.get(pod.service) if pod.service is not None else None
            why = "is nobody's that Fallow knows" if plan is None else self._stays(plan, pod)
            if why:
                return f"{pod.ref} {why}"
        return ""

    def _stays(self, plan: ServicePlan, pod: Pod) -> str:
        policy = plan.policy
        if policy is None or policy.name not in self.movers:
            return "is under no policy that moves replicas now"
        if self.snapshot.cluster.services[plan.key].paused or plan.fault is not None:
            return "is of a service that is left as it is"
        if pod.pinned:
            return "is not to be moved, by an annotation of its owner"
        if pod.variant != plan.serving or plan.memory.switching_to is not None:
            return "is of a service whose variants are being switched"
        if plan.scalers:
            return f"is of replicas that {next(iter(plan.scalers.values()))} sets"
        return "is under a power cap, which does not pay for two in its place" if policy.caps_power else ""

    def _fits(self, node: Node) -> bool:
        """On nodes in use of its GPU type and its zone, the largest replicas first and each where least is left over;
        with room for one more of the largest, so that the next that is needed does not wait for a node.
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
                return False
            free[hole] -= pod.gpus
        return True

    def _may_run(self, pod: Pod, node: str) -> bool:
        """By the node selector of its service's template; of an adopted Deployment that is seen when it is tried."""
        service = None if pod.service is None else self.snapshot.cluster.services[pod.service]
        selector = {} if service is None else service.template.get("spec", {}).get("nodeSelector", {})
        return selector.items() <= self.snapshot.cluster.nodes[node].labels.items()

    def _lets(self, node: Node, context: Context) -> bool:
        """Whether everything about one of its services allows its replicas to move now."""
        plan = self.plans[context.service.key]
        here = sum(1 for pod in self.on(node) if pod.service == context.service.key)
        nodes = {pod.node for pod in context.pods if pod.ready and not pod.deleting}
        lonely = len(nodes) > 1 and len(nodes) - 1 < apart(context.service)
        full = context.replicas + here > context.ceiling
        if plan.decision is not None or plan.memory.moving or lonely or full or context.budget.ceiling is not None:
            return False
        return not guards.raised(
            guards.freshness(context),
            guards.pending(context),
            guards.window(context, context.policy.scaling.down_window),
            *guards.pace(context),
            guards.objectives(context),
        )
