"""Which nodes are emptied by moving the replicas on them, so that they can be removed, which no longer, and why others
are not.

A node that is cordoned takes nothing new; `moving` then has its replicas replaced elsewhere. What is not known, who
waits for a GPU, and anything that goes wrong leaves nodes as they are, or gives them back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

from fallow.domain.plans import Cordon, CordonNode, Kept, ServicePlan
from fallow.domain.policies import ConsolidationRules, Mode
from fallow.domain.snapshots import Node, Snapshot
from fallow.domain.units import Instant, Joules, Seconds, Watts, energy
from fallow.domain.workloads import ServiceKey
from fallow.planner.context import STARTING_LIMIT, Context
from fallow.planner.occupancy import Occupancy
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
# After one was given up, nodes of its GPU type are let be for so long.
TRIED_AGAIN = Seconds(3600)
# Nodes that are looked at closely in one cycle, the emptiest first.
LOOKED_AT = 8
# Reasons that a policy is told at once.
TOLD = 3
PINNED = "an annotation tells autoscalers of nodes not to remove it"
REFUSED = (
    "the API server refuses to cordon it, and an Event says why; the chart gives the right by consolidation.cordon"
)

Contexts = Callable[[ServiceKey], Context]


def emptied(
    snapshot: Snapshot, plans: Mapping[ServiceKey, ServicePlan], contexts: Contexts, *, told: bool = True
) -> tuple[tuple[CordonNode, ...], Kept]:
    """Those that are to be emptied no longer; where there are none, the next one that is to be. Where that is none
    either and somebody is `told` of it, why.
    """
    asking = [
        (one, rules) for one in snapshot.cluster.policies if (rules := one.consolidation) and rules.at_once.is_any
    ]
    shut = {policy.name: why for policy, rules in asking if (why := _shut(policy.mode, rules, snapshot.at))}
    movers = {policy.name: rules for policy, rules in asking if policy.name not in shut}
    under_way = [node for node in snapshot.cluster.nodes.values() if node.emptying is not None]
    kept = Kept({name: (f"no node is emptied: {why}",) for name, why in shut.items()})
    if not movers and not under_way:
        return (), kept
    search = _Search(Occupancy.of(snapshot, plans, movers), cache(contexts), under_way)
    ended = tuple(one for node in under_way if (one := search.ended(node)) is not None)
    if ended or not movers:
        return ended, kept
    looked = search.looked()
    begun = looked[-1][0] if looked and not looked[-1][1] else None
    refusal = snapshot.refusal
    nodes = () if begun is None or (refusal and refusal.stands(snapshot.at)) else (search.begun(begun),)
    if not told or (begun is not None and refusal is None):
        return nodes, kept
    if begun is not None:
        # that it is tried anew now and then is no reason to tell something else meanwhile
        looked = [*looked[:-1], (begun, REFUSED)]
    return nodes, search.kept(looked, kept.policies)


def _shut(mode: Mode, rules: ConsolidationRules, now: Instant) -> str:
    """Why a policy that asks for it moves nothing now."""
    if mode is not Mode.ENFORCE:
        return f"the policy's mode is {mode}, and only Enforce moves replicas"
    return "" if rules.is_on(now) else "none of consolidation.windows is open"


@dataclass(frozen=True, slots=True)
class _Search:
    """Through the nodes as they are occupied, while these are `under_way`."""

    there: Occupancy
    contexts: Contexts
    under_way: Sequence[Node]

    @property
    def _now(self) -> Instant:
        return self.there.snapshot.at

    def ended(self, node: Node) -> CordonNode | None:
        """Whether one takes pods again, and why."""
        there = self.there
        pods, lasts = there.on(node), self._now - (node.emptying or self._now)
        if not node.cordoned:
            return self._to(node, Cordon.KEEP, "somebody has it take pods again")
        if not there.movers:
            return self._to(node, Cordon.FREE, "no policy moves replicas now")
        if there.waits is not None:
            return self._to(node, Cordon.KEEP if pods else Cordon.FREE, f"{there.waits} waits for a GPU")
        if not pods:
            removed = lasts <= REMOVED_BY or there.held[node.name]
            return None if removed else self._to(node, Cordon.FREE, f"nobody removed it in {lasts / 60:.0f} minutes")
        why = there.fixed(node)
        homeless = next((there.unplaced[key] for key in there.services(node) if key in there.unplaced), None)
        if not why and homeless is not None:
            why = f"{homeless} finds no room"
        if not why and lasts > MOVED_BY:
            why = f"its replicas did not move in {lasts / 60:.0f} minutes"
        return self._to(node, Cordon.KEEP, why) if why else None

    def looked(self) -> Sequence[tuple[Node, str]]:
        """The emptiest nodes whose replicas may move, and what speaks against it now; where nothing does it ends."""
        found: list[tuple[Node, str]] = []
        for node in self._candidates() if self.there.waits is None else ():
            found.append((node, self._against(node)))
            if not found[-1][1]:
                break
        return found

    def begun(self, node: Node) -> CordonNode:
        moves = Counter(str(pod.service) for pod in self.there.on(node))
        words = " and ".join(f"{count} of {name}" for name, count in sorted(moves.items()))
        watts, takes = self._worth(node)
        message = (
            f"{self.there.held[node.name]} of its {node.places} GPUs are in use, and others have room for them: {words}"
            f" move; it draws {watts.value:.0f} W without them and moving takes {takes.value / 1e3:.0f} kJ"
        )
        return self._to(node, Cordon.EMPTY, message)

    def kept(self, looked: Iterable[tuple[Node, str]], before: Mapping[str, tuple[str, ...]]) -> Kept:
        """Why none is begun: by policy each reason once, beside what was told `before`; of each service by one node."""
        policies, services = {name: dict[str, str]() for name in self.there.movers}, dict[ServiceKey, str]()
        for node, why in chain(looked, self._others({node.name for node, _ in looked})):
            words = f"{node.name} is not emptied: {why}"
            for key, name in self.there.moved(node).items():
                policies[name].setdefault(why, words)
                services.setdefault(key, words)
        told = {name: tuple(found.values())[:TOLD] for name, found in policies.items() if found}
        return Kept({**before, **told}, services)

    def _candidates(self) -> Sequence[Node]:
        """The emptiest first."""
        spare, there = self._spare(), self.there
        found = (
            node
            for node in there.whole
            if node.gpu_product not in spare and not node.pinned and not there.unsettled(node) and not there.fixed(node)
        )
        return sorted(found, key=self._order)[:LOOKED_AT]

    def _order(self, node: Node) -> tuple[int, str]:
        return self.there.held[node.name], node.name

    def _spare(self) -> Mapping[str, str]:
        """GPU types of which a node is empty already, which is removed first, or was given up lately; and which. One
        that nobody is to remove does not count.
        """
        found = dict[str, str]()
        for node in self.there.whole:
            if node.pinned:
                continue
            if not self.there.held[node.name]:
                found[node.gpu_product] = f"{node.name}, of the same GPU type, is empty already and goes first"
            elif node.kept_since is not None and self._now - node.kept_since <= TRIED_AGAIN:
                found.setdefault(
                    node.gpu_product, f"{node.name}, of the same GPU type, was given up within the last hour"
                )
        return found

    def _others(self, looked: Collection[str]) -> Iterator[tuple[Node, str]]:
        """Nodes that hold replicas of policies that move them and are no candidates, and why; those first that are
        nearest to it.
        """
        spare, whole = self._spare(), {node.name for node in self.there.whole}
        found: list[tuple[int, Node, str]] = []
        for node in self.there.snapshot.cluster.nodes.values():
            if node.name in looked or node.emptying is not None or not self.there.moved(node):
                continue
            stays = PINNED if node.pinned else self.there.fixed(node) or self.there.unsettled(node)
            if self.there.waits is not None:
                found.append((0, node, f"{self.there.waits} waits for a GPU"))
            elif node.name not in whole:
                found.append((3, node, _unfit(node)))
            elif stays:
                found.append((2, node, stays))
            elif node.gpu_product in spare:
                found.append((1, node, spare[node.gpu_product]))
        for _, node, why in sorted(found, key=lambda one: (one[0], self._order(one[1]))):
            yield node, why

    def _against(self, node: Node) -> str:
        """Why a node whose replicas may move is not emptied now: others are, there is no room for them, something of
        their services speaks against it, or it is not worth what it takes.
        """
        why = self._awaits(node) or self.there.crowded(node)
        if why:
            return why
        for key in self.there.services(node):
            if why := self.there.bound(node, self.contexts(key)):
                return why
        closing = [left for one in self._rules(node) if (left := one.closes_in(self._now)) is not None]
        watts, takes = self._worth(node)
        ahead = min(AHEAD, *closing, AHEAD)
        if energy(watts, Seconds(max(ahead - REMOVED_AFTER, 0.0))) > takes:
            return ""
        until = "an hour" if ahead >= AHEAD else "what is left of the window"
        return f"what it draws without them, {watts.value:.0f} W, does not pay for moving its replicas in {until}"

    def _awaits(self, node: Node) -> str:
        cluster = self.there.snapshot.cluster
        total = sum(1 for one in cluster.nodes.values() if one.gpus and one.gpu_product)
        if len(self.under_way) < min(one.at_once.of(total) for one in self._rules(node)):
            return ""
        return f"{self.under_way[0].name} is being emptied, and consolidation.maxUnavailableNodes lets no other"

    def _rules(self, node: Node) -> Sequence[ConsolidationRules]:
        return [self.there.movers[name] for name in self.there.moved(node).values()]

    def _worth(self, node: Node) -> tuple[Watts, Joules]:
        """What it draws without its replicas, and what it takes to move them."""
        takes = Joules(0)
        for pod in self.there.on(node):
            if pod.service is not None:
                takes = takes + takes_to_move(self.there.snapshot, pod, self.contexts(pod.service))
        return idle_watts(self.there.snapshot, node), takes

    def _to(self, node: Node, cordon: Cordon, message: str) -> CordonNode:
        plans = (self.there.plans.get(key) for key in self.there.services(node))
        known = [plan.policy.name for plan in plans if plan is not None and plan.policy is not None]
        policy, *_ = [*known, *self.there.movers, ""]
        return CordonNode(node.name, cordon, self._now, policy, message)


def _unfit(node: Node) -> str:
    """Why a node gives nobody whole GPUs."""
    if not node.ready:
        return "it is not ready"
    return "somebody else cordoned it" if node.cordoned else "its GPUs are used in turns or in parts"
