"""The estimate step's view of each service: demand, quiet, draw, J/token, latency, intensity."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.budgets import BudgetUse
from fallow.domain.estimates import Estimates, ServiceEstimate
from fallow.domain.figures import Missing
from fallow.domain.learned import Learned, Phases, Placement, VariantEnergy
from fallow.domain.ledger import Ledger, Span
from fallow.domain.policies import GuardRules
from fallow.domain.profiles import Difference, LearnedProfile, Profile, ProfileKey
from fallow.domain.readings import Histogram
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Pod, Snapshot
from fallow.domain.units import Joules, Seconds, Watts
from fallow.domain.workloads import Service, ServiceKey
from fallow.domain.zones import ZoneReading
from fallow.footprint.attribution import own_gpus
from fallow.footprint.draw import Draws, draws
from fallow.footprint.hardware import idle_ceiling
from fallow.footprint.profiles import differences, learned_profiles
from fallow.footprint.savings import rebound
from fallow.footprint.variants import service_phases, variant_energies
from fallow.footprint.zones import zone_of
from fallow.planner.budgets import budget_uses, budgeted, capping
from fallow.planner.demand import demand_at_least, demand_of, outside_waiting, serving_pods
from fallow.planner.latency import quantiles
from fallow.planner.quiet import idle_evidence
from fallow.planner.replica_watts import replica_watts
from fallow.planner.rooflines import rooflines
from fallow.planner.selection import nodes_of, policy_for
from fallow.planner.tallies import tallies

NOT_TOLD = Missing(Reason.NOT_TOLD, "nobody is told of it")
NOT_DRAWN = Draws(services={}, unallocated={}, cluster=NOT_TOLD)


@dataclass(frozen=True, slots=True)
class Taught:
    """What was learned by profile: the same as long as `learned`, the `services` and the `declared` profiles are."""

    learned: Mapping[Placement, Learned] = field(default_factory=dict)
    services: Mapping[ServiceKey, Service] = field(default_factory=dict)
    declared: tuple[Profile, ...] = ()
    profiles: Mapping[ProfileKey, LearnedProfile] = field(default_factory=dict)
    differences: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)

    def still(self, learned: Mapping[Placement, Learned], cluster: ClusterView) -> bool:
        same = learned is self.learned and cluster.services is self.services
        return same and cluster.profiles is self.declared


@dataclass(frozen=True, slots=True)
class Concluded:
    """What the books say, and nothing else does: the same as long as they are. `booked` is by service, in all."""

    ledger: Ledger | None = None
    told: Ledger | None = None
    booked: Mapping[ServiceKey, Joules] = field(default_factory=dict)
    energies: Mapping[ServiceKey, Mapping[str, VariantEnergy]] = field(default_factory=dict)
    phases: Mapping[ServiceKey, Mapping[Span, Phases | Missing]] = field(default_factory=dict)
    rebounds: Mapping[ServiceKey, float | Missing] = field(default_factory=dict)
    taught: Taught = field(default_factory=Taught)


def conclude(ledger: Ledger | None, told: Ledger | None = None, taught: Taught | None = None) -> Concluded:
    """Phases are those of the books that are `told` beside them."""
    if ledger is None:
        return Concluded()
    energies = variant_energies(ledger)
    return Concluded(
        ledger=ledger,
        told=told,
        booked=_booked(ledger),
        energies=energies,
        phases=service_phases(told, energies) if told else {},
        rebounds={key: rebound(one.demand) for key, one in ledger.counterfactuals.items()},
        taught=taught or Taught(),
    )


def teach(ledger: Ledger | None, cluster: ClusterView, before: Taught) -> Taught:
    """What was learned, by profile; reckoned anew only where something of it changed."""
    learned = ledger.learned if ledger is not None else {}
    if before.still(learned, cluster):
        return before
    profiles = learned_profiles(learned, cluster.services)
    return Taught(
        learned=learned,
        services=cluster.services,
        declared=cluster.profiles,
        profiles=profiles,
        differences={
            profile.name: differences(profile, known)
            for profile in cluster.profiles
            if (known := profiles.get(profile.key)) is not None
        },
    )


def estimate(snapshot: Snapshot, books: Concluded, *, told: bool = True) -> Estimates:
    """Estimate every service of the snapshot; pure. Nothing is decided by watts and joules per token of the moment, and
    precisions alone by what work is bound by: where nobody is `told` of them they are left out.
    """
    draw = draws(snapshot) if told else NOT_DRAWN
    none_yet = None if books.ledger is None else Joules(0)
    budgets = budget_uses(snapshot, books.ledger)
    ttft, itl = _p95s(snapshot)
    return Estimates(
        services={
            key: _service(
                snapshot,
                service,
                watts=draw.services.get(key, Watts(0)) if told else NOT_TOLD,
                booked=books.booked.get(key, none_yet),
                books=books,
                p95s=(ttft[key], itl[key]),
                told=told,
            )
            for key, service in snapshot.cluster.services.items()
        },
        ledger=books.ledger,
        cluster_watts=draw.cluster,
        unallocated=draw.unallocated,
        energies=books.energies,
        phases=books.phases,
        rebounds=books.rebounds,
        budgets=budgets,
        replica_watts=_capped(snapshot, books.ledger, budgets),
        profiles=books.taught.profiles,
        differences=books.taught.differences,
    )


def _capped(
    snapshot: Snapshot, ledger: Ledger | None, budgets: Mapping[str, tuple[BudgetUse, ...]]
) -> Mapping[ServiceKey, Watts | Missing]:
    """Of the services whose replicas a budget caps now; nobody else's are asked for."""
    if ledger is None or not any(capping(used) for used in budgets.values()):
        return {}
    return {
        service.key: replica_watts(snapshot, service, ledger, policy.guards.metrics_max_age)
        for name, (policy, services) in budgeted(snapshot.cluster).items()
        if capping(budgets[name])
        for service in services
    }


def _service(
    snapshot: Snapshot,
    service: Service,
    *,
    watts: Watts | Missing,
    booked: Joules | None,
    books: Concluded,
    p95s: tuple[Seconds | Missing, Seconds | Missing],
    told: bool,
) -> ServiceEstimate:
    policy = policy_for(service, snapshot.cluster.policies)
    max_age = (policy.guards if policy else GuardRules()).metrics_max_age
    demand = demand_of(snapshot, service, max_age)
    zone = _zone(snapshot, service)
    bound = told or (policy is not None and policy.precision is not None)
    return ServiceEstimate(
        key=service.key,
        demand=demand,
        evidence=idle_evidence(snapshot, service, demand, max_age=max_age, idle_ceiling=idle_ceiling),
        watts=watts,
        joules_per_token=_joules_per_token(snapshot, service) if told else NOT_TOLD,
        ttft_p95=p95s[0],
        itl_p95=p95s[1],
        intensity=zone.intensity if zone else Missing(Reason.NO_ZONE, "no GridZone covers the service's nodes"),
        zone=zone.zone.name if zone else "",
        waiting_outside=outside_waiting(snapshot, service, max_age),
        booked=booked,
        at_least=demand_at_least(snapshot, service, max_age) if isinstance(demand, Missing) else None,
        energies=books.energies.get(service.key, {}),
        profiles=books.taught.profiles,
        rooflines=rooflines(snapshot, service) if bound else {},
        tallies=tallies(snapshot, service, policy),
    )


def _booked(ledger: Ledger) -> Mapping[ServiceKey, Joules]:
    found: dict[ServiceKey, Joules] = {}
    for line, book in ledger.books.items():
        if line.service is not None:
            found[line.service] = found.get(line.service, Joules(0)) + book.total.account.energy.best
    return found


Latencies = Mapping[ServiceKey, Seconds | Missing]


def _p95s(snapshot: Snapshot) -> tuple[Latencies, Latencies]:
    """TTFT and ITL over the window's requests; a pod that was there at its start and not read then is left out."""
    if snapshot.earlier is None:
        none = dict.fromkeys(snapshot.cluster.services, Missing(Reason.NO_HISTORY, "first readings since start"))
        return none, none
    first: dict[ServiceKey, list[tuple[Histogram | None, Histogram | None]]] = {}
    between: dict[ServiceKey, list[tuple[Histogram | None, Histogram | None]]] = {}
    read, read_before, since = snapshot.readings.engines, snapshot.earlier.engines, snapshot.earlier.at
    for key, service in snapshot.cluster.services.items():
        first[key], between[key] = [], []
        for pod in serving_pods(snapshot, service):
            now, before = read.get(pod.ref), read_before.get(pod.ref)
            began = pod.started if pod.started is not None else pod.created
            if now is not None and (before is not None or began > since):
                first[key].append((before.ttft if before else None, now.ttft))
                between[key].append((before.itl if before else None, now.itl))
    return quantiles(first, 0.95), quantiles(between, 0.95)


def _zone(snapshot: Snapshot, service: Service) -> ZoneReading | None:
    """The zone under the service's pods; a service without pods is priced by the zone of the first GPU node."""
    nodes = nodes_of(snapshot.cluster, snapshot.pods_of(service.key))
    under = next((zone for node in nodes if (zone := zone_of(node, snapshot.zones)) is not None), None)
    if under is not None or not snapshot.zones:
        return under
    others = sorted(snapshot.cluster.nodes.values(), key=lambda node: node.name)
    return next((zone for node in others if (zone := zone_of(node, snapshot.zones)) is not None), None)


def _joules_per_token(snapshot: Snapshot, service: Service) -> float | Missing:
    """GPU energy over generated tokens since the window's start, over the pods that were there all along."""
    if snapshot.earlier is None:
        return Missing(Reason.NO_HISTORY, "first readings since start")
    joules, tokens = 0.0, 0.0
    for pod in serving_pods(snapshot, service):
        now, before = snapshot.readings.engines.get(pod.ref), snapshot.earlier.engines.get(pod.ref)
        if now is None or before is None or now.generated_tokens < before.generated_tokens:
            continue
        used = _energy_between(snapshot, pod)
        if isinstance(used, Missing):
            return used
        joules += used
        tokens += now.generated_tokens - before.generated_tokens
    if tokens <= 0:
        return Missing(Reason.NO_WORK, "no token was generated in the window")
    return joules / tokens


def _energy_between(snapshot: Snapshot, pod: Pod) -> float | Missing:
    earlier = snapshot.earlier.gpus if snapshot.earlier else {}
    held = own_gpus(snapshot, pod)
    joules = 0.0
    for gpu in held:
        before = earlier.get(gpu.uuid)
        if isinstance(gpu.counter, Missing):
            return gpu.counter
        if before is None or isinstance(before.counter, Missing) or before.counter.joules > gpu.counter.joules:
            return Missing(Reason.NO_HISTORY, f"GPU {gpu.uuid} has no earlier counter")
        joules += (gpu.counter.joules - before.counter.joules).value
    return joules if held else Missing(Reason.NO_SERIES, f"no GPU series names pod {pod.ref} as its only holder")
