"""What budgets ask of services as they are used up, from what the books say of them and what replicas draw now.

A step of `onBurn` is active while its share of the budget is used. What is not known asks for nothing, and keeps what
it asked for before where beginning and ending it cost something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor

from fallow.domain.budgets import BudgetUse
from fallow.domain.estimates import Estimates, ServiceEstimate
from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy, Resource
from fallow.domain.ledger import Ledger
from fallow.domain.policies import Policy
from fallow.domain.snapshots import ClusterView, Snapshot
from fallow.domain.units import JOULES_PER_KWH, Watts
from fallow.domain.workloads import Service, ServiceKey
from fallow.domain.zones import IntensityKind
from fallow.footprint.budgets import uses
from fallow.planner.selection import governed

# keeps a whole number from being missed by rounding
_EDGE = 1e-9


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The replicas that a budget pays for, and the words for it."""

    replicas: float
    words: str

    def grows_to(self, least: int) -> int:
        """More replicas than this are not added; `least` are paid for whatever the budget."""
        return max(floor(self.replicas + _EDGE), least)

    def shrinks_to(self, least: int) -> int:
        """More than this go. Between the two lies a whole replica, so that what just goes on is left as it is."""
        return max(ceil(self.replicas - _EDGE), least)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a policy's budgets ask of one of its services: the remedies that are `active` and those of which it is not
    known (`unknown`), each with the words of its budget.
    """

    active: Mapping[Remedy, str] = field(default_factory=dict)
    unknown: Mapping[Remedy, str] = field(default_factory=dict)
    ceiling: Ceiling | None = None


NOTHING = Asked()


def budgeted(cluster: ClusterView) -> Mapping[str, tuple[Policy, Sequence[Service]]]:
    """Policies that have budgets, by name, each with the services that it governs."""
    return governed(cluster, lambda policy: bool(policy.budgets))


def budget_uses(snapshot: Snapshot, ledger: Ledger | None) -> Mapping[str, tuple[BudgetUse, ...]]:
    """By policy; a policy without budgets is not among them."""
    return {
        name: tuple(uses(policy, services, ledger, snapshot.at))
        for name, (policy, services) in budgeted(snapshot.cluster).items()
    }


def capping(used: Iterable[BudgetUse]) -> tuple[BudgetUse, ...]:
    """Those that cap replicas now."""
    return tuple(use for use in used if any(Remedy.CAP_REPLICAS in step.do for step in use.active))


def asks(snapshot: Snapshot, estimates: Estimates) -> Mapping[ServiceKey, Asked]:
    """By service; one that nothing is asked of is not among them."""
    found: dict[ServiceKey, Asked] = {}
    for name, (_, services) in budgeted(snapshot.cluster).items():
        used = estimates.budgets.get(name, ())
        active = _first((remedy, use.words) for use in used for step in use.active for remedy in step.do)
        unknown = _first(
            (remedy, use.words)
            for use in used
            if isinstance(use.used, Missing)
            for step in use.steps
            for remedy in step.do
        )
        if active or unknown:
            ceilings = _ceilings(snapshot, estimates, capping(used), services)
            doubtful = {remedy: words for remedy, words in unknown.items() if remedy not in active}
            found |= {service.key: Asked(active, doubtful, ceilings.get(service.key)) for service in services}
    return found


def _first(pairs: Iterable[tuple[Remedy, str]]) -> Mapping[Remedy, str]:
    found: dict[Remedy, str] = {}
    for remedy, words in pairs:
        found.setdefault(remedy, words)
    return found


def _ceilings(
    snapshot: Snapshot, estimates: Estimates, used: Iterable[BudgetUse], services: Sequence[Service]
) -> Mapping[ServiceKey, Ceiling]:
    """The tightest of each service."""
    found: dict[ServiceKey, Ceiling] = {}
    for use in used:
        for key, ceiling in _paid(snapshot, estimates, use, services).items():
            if key not in found or ceiling.replicas < found[key].replicas:
                found[key] = ceiling
    return found


def _paid(
    snapshot: Snapshot, estimates: Estimates, use: BudgetUse, services: Sequence[Service]
) -> Mapping[ServiceKey, Ceiling]:
    """R7: what is left, over the time that is left, shared by what each draws now, over what a replica draws.

    n replicas at w watts have n w / sum(n w) of what is allowed, which pays for n times allowed / drawn. Services of
    which it is not known what they draw are left out, and not capped; those at zero draw nothing.
    """
    if use.left <= 0:
        return {service.key: Ceiling(0.0, use.words) for service in services}
    replicas = {service.key: _drawing(snapshot, service.key) for service in services}
    each = {
        key: rate
        for key, count in replicas.items()
        if count and (rate := _rate(estimates, key, use.resource)) is not None
    }
    drawn = sum(replicas[key] * rate for key, rate in each.items())
    if drawn <= 0:
        return {}
    allowed = use.left / use.seconds_left
    return {
        key: Ceiling(
            (paid := replicas[key] * allowed / drawn),
            f"{use.words}; what is left pays for {paid:.3g} replicas at {_watts(estimates, key):.0f} W each to its end",
        )
        for key in each
    }


def _drawing(snapshot: Snapshot, key: ServiceKey) -> int:
    """Replicas that hold their GPUs, and are to stay."""
    return sum(1 for pod in snapshot.pods_of(key) if pod.scheduled and not pod.deleting)


def _rate(estimates: Estimates, key: ServiceKey, resource: Resource) -> float | None:
    """What a replica uses in a second, in grams or joules; None where that is not known."""
    watts = estimates.replica_watts.get(key)
    if not isinstance(watts, Watts):
        return None
    if resource is Resource.ENERGY:
        return watts.value
    grams = _grams_per_joule(estimates.services[key])
    return None if grams is None else watts.value * grams


def _grams_per_joule(estimate: ServiceEstimate) -> float | None:
    """By the present average intensity, as the books price it."""
    intensity = estimate.intensity
    if isinstance(intensity, Missing) or intensity.kind is not IntensityKind.AVERAGE:
        return None
    return intensity.grams.best.value / JOULES_PER_KWH


def _watts(estimates: Estimates, key: ServiceKey) -> float:
    watts = estimates.replica_watts.get(key)
    return watts.value if isinstance(watts, Watts) else 0.0
