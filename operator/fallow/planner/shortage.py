"""Where GPUs are short: who may ask for how many replicas, and what to tell those who get fewer than they want.

A replica that has waited for longer than `guards.gpusShortAfter` with no room for it shows that nobody brings nodes.
Until then everybody may ask, so that an autoscaler of nodes hears of it; from then on the GPUs that are there are
shared (planner/sharing.py), and only the first in line keeps a replica waiting. Nodes' taints and other resources are
not known here: where a free GPU seems to be there nothing is short, whatever waits.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fallow.domain.estimates import Estimates
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import GuardRules
from fallow.domain.snapshots import ClusterView, Node, Pod, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Service, ServiceKey
from fallow.planner import guards
from fallow.planner.context import Share
from fallow.planner.inventory import held_gpus, whole_nodes
from fallow.planner.sharing import Claim, dealt

# What was short stays so for this many times as long as it takes to tell: the replica that waits next has to grow old.
REMEMBERED = 2


@dataclass(frozen=True, slots=True)
class Room:
    """The nodes that are shared, GPUs that are `there` by product, and those of each node that nobody has once what is
    deleted is gone.
    """

    nodes: Mapping[str, Node]
    there: Mapping[str, int]
    free: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, cluster: ClusterView) -> Room:
        held = held_gpus(pod for pod in cluster.pods.values() if not pod.deleting)
        nodes, there, free = whole_nodes(cluster), Counter[str](), defaultdict(list)
        for node in nodes:
            there[node.gpu_product] += node.places
            free[node.gpu_product].append(max(node.places - held[node.name], 0))
        return cls({node.name: node for node in nodes}, there, free)

    def products(self, snapshot: Snapshot, service: Service, variant: str) -> tuple[str, ...]:
        """Those that a variant may run on; of an adopted Deployment that does not say, those that it runs on."""
        declared = (service.variant(variant) or service.reference).products
        if service.target is not None and not declared:
            on = {self.nodes[pod.node].gpu_product for pod in snapshot.pods_of(service.key) if pod.node in self.nodes}
            return tuple(product for product in self.there if product in on or not on)
        return tuple(product for product in self.there if not declared or product in declared)


@dataclass(frozen=True, slots=True)
class Seat:
    """A claim, with the replicas `outside` of the nodes that are shared; `held`: whether Fallow sets their number."""

    claim: Claim
    outside: int
    held: bool


def shares(
    snapshot: Snapshot, estimates: Estimates, plans: Mapping[ServiceKey, ServicePlan]
) -> Mapping[ServiceKey, Share]:
    """Of each service that gets fewer than it wants; none where nothing has waited for long."""
    old, recalled = tuple(_old(snapshot, plans)), tuple(_recalled(snapshot, plans))
    if not old and not recalled:
        return {}
    room = Room.of(snapshot.cluster)
    short = _short(snapshot, room, old, recalled)
    if not short:
        return {}
    seats = tuple(_seats(snapshot, estimates, plans, room, short))
    given = dealt(room.free, [seat.claim for seat in seats])
    return _told(seats, given, room, short)


def _old(snapshot: Snapshot, plans: Mapping[ServiceKey, ServicePlan]) -> Iterator[Pod]:
    """Replicas that have waited for their GPUs for long."""
    for pod in snapshot.cluster.pods.values():
        if pod.scheduled or pod.deleting or not pod.gpus or pod.service is None or pod.service not in plans:
            continue
        if snapshot.at - pod.created >= _patience(plans[pod.service]):
            yield pod


def _recalled(snapshot: Snapshot, plans: Mapping[ServiceKey, ServicePlan]) -> Iterator[tuple[ServicePlan, Instant]]:
    """Services whose GPUs were short lately, and when."""
    for plan in plans.values():
        at = plan.memory.short_at
        if at is not None and 0 <= snapshot.at - at <= REMEMBERED * _patience(plan):
            yield plan, at


def _patience(plan: ServicePlan) -> Seconds:
    return (plan.policy.guards if plan.policy is not None else GuardRules()).gpus_short_after


def _short(
    snapshot: Snapshot, room: Room, old: Sequence[Pod], recalled: Sequence[tuple[ServicePlan, Instant]]
) -> Mapping[str, Instant]:
    """Products that are short, and when that was last seen."""
    found: dict[str, Instant] = {}
    for plan, at in recalled:
        for product in room.products(snapshot, snapshot.cluster.services[plan.key], plan.serving):
            found[product] = max(found.get(product, at), at)
    left = {product: Counter(sizes) for product, sizes in room.free.items()}
    for pod in sorted(old, key=lambda pod: (pod.created, pod.ref)):
        if pod.service is not None:
            products = room.products(snapshot, snapshot.cluster.services[pod.service], pod.variant or "")
            if not any(_fits(left[product], pod.gpus) for product in products):
                found |= dict.fromkeys(products, snapshot.at)
    return found


def _fits(holes: Counter[int], gpus: int) -> bool:
    """Takes the smallest hole that is large enough, if there is one."""
    size = min((size for size, number in holes.items() if number > 0 and size >= gpus), default=None)
    if size is None:
        return False
    holes[size] -= 1
    holes[size - gpus] += 1
    return True


def _seats(
    snapshot: Snapshot,
    estimates: Estimates,
    plans: Mapping[ServiceKey, ServicePlan],
    room: Room,
    short: Mapping[str, Instant],
) -> Iterator[Seat]:
    """What is left out keeps what it has: a switch under way, a fault, what is paused, parts of GPUs."""
    for key, plan in plans.items():
        service = snapshot.cluster.services[key]
        asked = plan.asked.get(plan.serving, 0)
        if service.paused or plan.memory.switching_to is not None or plan.fault is not None or not asked:
            continue
        pods = [pod for pod in snapshot.pods_of(key) if pod.variant == plan.serving and not pod.deleting]
        variant = service.variant(plan.serving) or service.reference
        gpus = max((pod.gpus for pod in pods), default=variant.gpus)
        products = room.products(snapshot, service, plan.serving)
        if not gpus or not products or any(pod.instances or pod.copies for pod in pods):
            continue
        on = [room.nodes[pod.node].gpu_product for pod in pods if pod.node in room.nodes]
        outside = sum(1 for pod in pods if pod.scheduled) - len(on)
        held = plan.policy is not None and plan.policy.scales and plan.serving not in plan.scalers
        gives = held and guards.doubt(estimates.services[key]) is None and len(set(on)) == 1
        claim = Claim(
            key=key,
            gpus=gpus,
            products=products,
            wanted=max(asked - outside, 0),
            runs=len(on),
            floor=max(_floor(service, plan) - outside, 0),
            priority=service.priority,
            gives=on[0] if gives else None,
            takes=short.keys() >= set(products),
        )
        yield Seat(claim, outside, held)


def _floor(service: Service, plan: ServicePlan) -> int:
    asked = service.requested if plan.memory.request_at is not None else None
    return max(min(max(service.scaling.min_replicas, asked or 0), service.scaling.max_replicas), 1)


def _told(
    seats: Sequence[Seat],
    given: Mapping[ServiceKey, int],
    room: Room,
    short: Mapping[str, Instant],
) -> Mapping[ServiceKey, Share]:
    """The first in line on each product asks for one more, which an autoscaler of nodes sees waiting."""
    line = [seat for seat in seats if seat.claim.takes and seat.claim.wanted > seat.claim.runs]
    line.sort(key=lambda seat: _turn(seat.claim, given[seat.claim.key]))
    first: set[ServiceKey] = set()
    waits: set[str] = set()
    for seat in line:
        if waits.isdisjoint(seat.claim.products):
            first.add(seat.claim.key)
            waits |= set(seat.claim.products)
    before = dict(_before(seats))
    found: dict[ServiceKey, Share] = {}
    for seat in seats:
        one, has = seat.claim, given[seat.claim.key]
        if one.takes and has < one.wanted:
            found[one.key] = Share(
                replicas=max(has + (one.key in first), one.floor) + seat.outside if seat.held else None,
                given=has + seat.outside,
                wanted=one.wanted + seat.outside,
                there=sum(room.there[product] for product in one.products),
                products=one.products,
                before=before[one.key],
                at=min(short[product] for product in one.products),
            )
    return found


def _turn(one: Claim, has: int) -> tuple[int, bool, float, ServiceKey]:
    """Who has room already goes before equals who have none."""
    return -one.priority, has <= one.runs, has / one.wanted, one.key


def _before(seats: Sequence[Seat]) -> Iterator[tuple[ServiceKey, str]]:
    """Who goes before each, or how many it shares with."""
    alike: dict[tuple[str, ...], list[Claim]] = defaultdict(list)
    for seat in seats:
        alike[seat.claim.products].append(seat.claim)
    for products, claims in alike.items():
        rivals = [one for others, found in alike.items() if not set(others).isdisjoint(products) for one in found]
        first = max(rivals, key=lambda one: (one.priority, one.wanted * one.gpus))
        number = Counter(one.priority for one in rivals)
        for one in claims:
            if first.priority > one.priority:
                yield one.key, f"{first.key} of priority {first.priority} goes before"
            else:
                yield one.key, f"shared with {number[one.priority] - 1} others of its priority"
