"""Each service's demand and replicas as its savings are reckoned with: the same demand that Fallow scales by."""

from collections import Counter
from collections.abc import Mapping

from fallow.domain.counterfactual import BaselineRule
from fallow.domain.figures import Missing
from fallow.domain.policies import Mode, Policy
from fallow.domain.snapshots import Snapshot
from fallow.domain.workloads import Service, ServiceKey
from fallow.footprint.savings import Situation
from fallow.planner.capacity import profile_for, replica_capacity
from fallow.planner.demand import demand_of, outside_waiting
from fallow.planner.selection import policy_for, product_of


def situations(snapshot: Snapshot) -> Mapping[ServiceKey, Situation]:
    """Services with a baseline: declared by their policy, else the reference autoscaler where a policy is enforced.

    Where Fallow changes nothing, nothing is saved. What the owner paused or stopped is left out, too.
    """
    found = {}
    for key, service in snapshot.cluster.services.items():
        policy = policy_for(service, snapshot.cluster.policies)
        if policy is None or service.paused or service.requested == 0:
            continue
        rule = policy.baseline or (BaselineRule() if policy.mode is Mode.ENFORCE else None)
        if rule is not None:
            found[key] = _situation(snapshot, service, policy, rule)
    return found


def _situation(snapshot: Snapshot, service: Service, policy: Policy, rule: BaselineRule) -> Situation:
    product, profiles = product_of(snapshot.cluster, service), snapshot.cluster.profiles
    known = {variant.name: profile_for(variant, profiles, product) for variant in service.variants}
    reference = service.reference
    holding = [pod for pod in snapshot.pods_of(service.key) if pod.scheduled and pod.gpus > 0]
    memory = snapshot.cluster.memory_of(service.key)
    return Situation(
        service=service,
        rule=rule,
        in_flight=_in_flight(snapshot, service, policy),
        target=replica_capacity(service, reference, known[reference.name], policy.scaling.headroom).concurrency,
        held=Counter(pod.variant or "" for pod in holding),
        starting=sum(1 for pod in holding if not pod.ready and not pod.deleting),
        resting=memory.resting,
        throttled=any(workload.tuning.throttled for workload in snapshot.workloads_of(service.key)),
        product=product,
        profiles={name: profile for name, profile in known.items() if profile is not None},
    )


def _in_flight(snapshot: Snapshot, service: Service, policy: Policy) -> float | Missing:
    demand = demand_of(snapshot, service, policy.guards.metrics_max_age)
    outside = outside_waiting(snapshot, service, policy.guards.metrics_max_age)
    if isinstance(demand, Missing):
        return demand
    return outside if isinstance(outside, Missing) else demand.in_flight + outside
