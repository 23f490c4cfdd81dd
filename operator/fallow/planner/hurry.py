"""Between two cycles: who cannot wait for the next one, by queues alone. That less would do is never looked for.

A service that rests while requests wait for it, and one of which so much is wanted that its lever would act at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from fallow.domain.plans import Plan
from fallow.domain.policies import Policy
from fallow.domain.readings import Queues
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Pod
from fallow.domain.workloads import Service, ServiceKey, ServiceMemory
from fallow.planner.autoscaled import rivals
from fallow.planner.capacity import profile_for, replica_capacity
from fallow.planner.clocks import is_crowded
from fallow.planner.demand import held_back
from fallow.planner.levers import precision
from fallow.planner.levers.replicas import PANIC
from fallow.planner.selection import policy_for, product_of, serving_of

# Why a service gets no more however much it needs, for longer than a cycle.
NO_MORE = frozenset(
    {
        Reason.BUDGET_BURN,
        Reason.POWER_CAP,
        Reason.GPUS_SHORT,
        Reason.LEFT_TO_AUTOSCALER,
        Reason.OVERRULED,
        Reason.PAUSED,
    }
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the last plan: services that are given no more (`stuck`), and those whose clocks are `slowed`."""

    stuck: frozenset[ServiceKey] = frozenset()
    slowed: frozenset[ServiceKey] = frozenset()


NOTHING = Standing()


def may_need_more(cluster: ClusterView, last: Standing = NOTHING) -> tuple[Pod, ...]:
    """The ready pods of services whose replicas may grow by Fallow's own doing, or whose clocks may go up."""
    return tuple(
        pod
        for key, service in cluster.services.items()
        if key in last.slowed or (key not in last.stuck and _growing_by(cluster, service) is not None)
        for pod in cluster.serving.get(key, ())
    )


def standing(plan: Plan) -> Standing:
    """Stuck are services that a budget, a power cap, a lack of GPUs or an autoscaler's owner gives no more."""
    services = plan.services.items()
    return Standing(
        stuck=frozenset(
            key
            for key, one in services
            # which variant serves says nothing of how many
            if one.standing.lever != precision.NAME
            and not NO_MORE.isdisjoint((one.standing.reason, *(veto.reason for veto in one.vetoes)))
        ),
        slowed=frozenset(key for key, one in services if one.is_slowed),
    )


def waited_for(cluster: ClusterView) -> bool:
    """Whether a request may wait at the door of a service that rests."""
    return any(
        memory.resting and (service := cluster.services.get(key)) is not None and service.scaling.wake is not None
        for key, memory in cluster.memories.items()
    )


def hurried(
    cluster: ClusterView,
    queues: Queues,
    last: Standing = NOTHING,
    lately: frozenset[ServiceKey] = frozenset(),
) -> Mapping[ServiceKey, str]:
    """Who cannot wait for the next cycle, and why. Who was hurried for `lately` can."""
    found: dict[ServiceKey, str] = {}
    for key, service in cluster.services.items():
        if service.paused or service.requested == 0 or key in lately:
            continue
        memory = cluster.memory_of(key)
        why = _wakes(service, memory, queues)
        if why is None and (key in last.slowed or key not in last.stuck):
            why = _overrun(cluster, service, memory, queues, slowed=key in last.slowed)
        if why is not None:
            found[key] = why
    return found


def _wakes(service: Service, memory: ServiceMemory, queues: Queues) -> str | None:
    wake = service.scaling.wake
    if wake is None or not memory.resting:
        return None
    held = held_back(queues, wake)
    return f"{held:.0f} requests wait for it while it rests" if held > 0 else None


def _overrun(
    cluster: ClusterView, service: Service, memory: ServiceMemory, queues: Queues, *, slowed: bool
) -> str | None:
    """By much where replicas may grow, and by little where clocks may go up, which takes no start."""
    policy = policy_for(service, cluster.policies) if slowed else _growing_by(cluster, service)
    pods = cluster.serving.get(service.key, ())
    seen = [queue for pod in pods if (queue := queues.engines.get(pod.ref)) is not None]
    if policy is None or not seen:
        return None
    serving = serving_of(cluster, service, memory)
    profile = profile_for(serving, cluster.profiles, product_of(cluster, service))
    capacity = replica_capacity(service, serving, profile, policy.scaling.headroom)
    in_flight, asked = sum(queue.running + queue.waiting for queue in seen), _asked(cluster, service.key)
    if slowed and is_crowded(in_flight, len(seen), capacity):
        return f"{in_flight:.0f} requests in flight on {len(seen)} replicas whose clocks are lowered"
    needed = ceil(in_flight / capacity.concurrency)
    if needed < PANIC * asked:
        return None
    return f"{in_flight:.0f} requests in flight need {needed} replicas where {asked} are asked for"


def _growing_by(cluster: ClusterView, service: Service) -> Policy | None:
    """The policy that may give it more replicas now."""
    workloads = cluster.workloads_by_service.get(service.key, ())
    ceilings = (scaler.maximum for one in workloads for scaler in one.scalers)
    ceiling = min([service.scaling.max_replicas, *ceilings])
    if service.paused or rivals(workloads) is not None or not 0 < _asked(cluster, service.key) < ceiling:
        return None
    policy = policy_for(service, cluster.policies)
    return policy if policy is not None and policy.scales else None


def _asked(cluster: ClusterView, key: ServiceKey) -> int:
    return sum(workload.replicas for workload in cluster.workloads_by_service.get(key, ()))
