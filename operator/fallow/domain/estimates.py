"""What a cycle concludes from its snapshot before it decides: demand, draw, quiet, latency, per service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.budgets import BudgetUse
from fallow.domain.figures import Missing
from fallow.domain.learned import Phases, VariantEnergy
from fallow.domain.ledger import Ledger, Span
from fallow.domain.profiles import Difference, LearnedProfile, ProfileKey
from fallow.domain.rooflines import Roofline
from fallow.domain.snapshots import DemandPoint
from fallow.domain.units import Joules, Seconds, Watts
from fallow.domain.workloads import IdleState, ServiceKey
from fallow.domain.zones import Intensity


@dataclass(frozen=True, slots=True)
class IdleEvidence:
    """The three signals in words and their verdict. `missing` names what could not be read."""

    state: IdleState
    requests: str
    gpu_activity: str
    watts: str
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests that ready replicas of a variant ended; of these those that `failed`, None where that is not counted.
    `late` by objective (TTFT, ITL): those above it, and of how many.
    """

    requests: float
    failed: float | None
    late: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceEstimate:
    """One service now. `watts` is the draw of the GPUs it holds, `joules_per_token` over the recent window.

    `booked` is the energy on its books since they were opened; None before the ledger was read.
    `at_least` is the load of the pods that could be read, while `demand` is Missing for those that could not.
    `energies` are what was learned of its variants, `profiles` of all services together. `rooflines` say by what the
    work of each of its variants is bound. `tallies` are of the two variants of a switch by steps: of the new one since
    its replicas began, of the old one over the recent window.
    """

    key: ServiceKey
    demand: DemandPoint | Missing
    evidence: IdleEvidence
    watts: Watts | Missing
    joules_per_token: float | Missing
    ttft_p95: Seconds | Missing
    itl_p95: Seconds | Missing
    intensity: Intensity | Missing
    zone: str = ""
    waiting_outside: float | Missing = 0.0
    booked: Joules | None = None
    at_least: DemandPoint | None = None
    energies: Mapping[str, VariantEnergy] = field(default_factory=dict)
    profiles: Mapping[ProfileKey, LearnedProfile] = field(default_factory=dict)
    rooflines: Mapping[str, Roofline | Missing] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimates:
    """`energies` are by service and variant, `phases` by service and period. `rebounds` are the growth of demand since
    each service's baseline, as a share. `unallocated` is what GPUs draw that nobody holds, by zone, where there are
    any. `budgets` are by policy, and `replica_watts` what a replica draws at the facility, of services whose replicas
    a budget caps. `profiles` are what was learned by what profiles are of, `differences` where declared ones are
    contradicted, by name.
    """

    services: Mapping[ServiceKey, ServiceEstimate] = field(default_factory=dict)
    ledger: Ledger | None = None
    cluster_watts: Watts | Missing = Watts(0)
    unallocated: Mapping[str, Watts | Missing] = field(default_factory=dict)
    energies: Mapping[ServiceKey, Mapping[str, VariantEnergy]] = field(default_factory=dict)
    phases: Mapping[ServiceKey, Mapping[Span, Phases | Missing]] = field(default_factory=dict)
    rebounds: Mapping[ServiceKey, float | Missing] = field(default_factory=dict)
    budgets: Mapping[str, tuple[BudgetUse, ...]] = field(default_factory=dict)
    replica_watts: Mapping[ServiceKey, Watts | Missing] = field(default_factory=dict)
    profiles: Mapping[ProfileKey, LearnedProfile] = field(default_factory=dict)
    differences: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)
