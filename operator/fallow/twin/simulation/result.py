"""What a run of the fast clock gives: sums by service, a series over time, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.units import Grams, Instant, Joules, Litres
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulated import Energy
from fallow.twin.simulation.demand import Array


@dataclass(frozen=True, slots=True)
class ServiceOutcome:
    """`good` requests met both objectives; `done`, `failed` and `unfinished` add up to `requests`.

    Energy is of the GPUs that the service held, `facility` with its hosts and PUE; carbon, water and cost follow from
    `facility` by the zones of its nodes, cost with the GPUs held where these have a price. It is None where none is
    known. `good_tokens` are the output tokens of good requests. `wakes`: of engines from sleep, which begin no replica.
    """

    service: ServiceKey
    requests: float
    done: float
    failed: float
    unfinished: float
    good: float
    prompt_tokens: float
    generated_tokens: float
    good_tokens: float
    phases: Energy
    facility: Joules
    carbon: Grams
    water: Litres
    cost: float | None
    replica_hours: Mapping[str, float]
    starts: int
    wakes: int
    ttft_p50: float | None
    ttft_p95: float | None
    itl_p50: float | None
    itl_p95: float | None

    @property
    def energy(self) -> Joules:
        return Joules(self.phases.total)

    @property
    def attainment(self) -> float | None:
        """Share of ended requests within both objectives; None where none ended."""
        ended = self.done + self.failed
        return self.good / ended if ended > 0 else None

    @property
    def joules_per_good_token(self) -> float | None:
        return self.phases.total / self.good_tokens if self.good_tokens > 0 else None


@dataclass(frozen=True, slots=True)
class Series:
    """By sample and service (a row each sample): means over the sample, except what is asked for at its end.

    `times`: seconds since the start, of each sample's end. `ready`, `asked`: replicas by variant. `grams`: gCO2e/kWh.
    """

    times: Array
    arrivals: Array
    good: Array
    in_flight: Array
    watts: Array
    grams: Array
    ready: Mapping[str, Array]
    asked: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Decided:
    """A change of what is asked for, `at` seconds since the start; lever and reason are empty for baselines."""

    at: float
    service: ServiceKey
    action: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    lever: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One controller on one fleet and demand. `fleet` joules are of every GPU that was powered, held or not."""

    controller: str
    seed: int
    began: Instant
    seconds: int
    services: tuple[ServiceOutcome, ...]
    series: Series
    decisions: tuple[Decided, ...]
    fleet: Joules
    node_hours: float
    currency: str = ""
    took: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def energy(self) -> Joules:
        """Of the GPUs that services held."""
        return Joules(sum(one.phases.total for one in self.services))

    @property
    def good_tokens(self) -> float:
        return sum(one.good_tokens for one in self.services)

    @property
    def attainment(self) -> float | None:
        ended = sum(one.done + one.failed for one in self.services)
        return sum(one.good for one in self.services) / ended if ended > 0 else None
