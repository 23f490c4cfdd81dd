"""Adds up a run as it goes: impacts by service, a series of samples, and at the end the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from fallow.domain.units import Grams, Instant, Joules, Litres
from fallow.twin.simulated import Energy
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.engines import Engines
from fallow.twin.simulation.fleet import ASLEEP, HOLDS, Fleet, Life, Pod
from fallow.twin.simulation.grid import JOULES_PER_KWH, Grid, GridSeries
from fallow.twin.simulation.pools import Place
from fallow.twin.simulation.result import Decided, Outcome, Series, ServiceOutcome
from fallow.twin.simulation.setup import Setup
from fallow.twin.simulation.sight import LATENCY_BOUNDS


@dataclass(frozen=True, slots=True)
class Run:
    """What tells one run from another."""

    controller: str
    seed: int
    began: Instant
    sample: int = 60


@dataclass(slots=True)
class _Rows:
    times: list[float] = field(default_factory=list)
    arrivals: list[Array] = field(default_factory=list)
    good: list[Array] = field(default_factory=list)
    in_flight: list[Array] = field(default_factory=list)
    watts: list[Array] = field(default_factory=list)
    grams: list[Array] = field(default_factory=list)
    ready: list[Array] = field(default_factory=list)
    asked: list[Array] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool as it is booked: GPUs of a replica, their zone, and of one the price for an hour and the W of its host."""

    service: int
    variant: str
    gpus: int
    zone: str
    series: GridSeries
    price: float
    host: float

    @classmethod
    def of(cls, setup: Setup, grid: Grid, place: Place) -> _Pool:
        kind, variant = setup.nodes[place.kind], setup.services[place.service].variants[place.variant]
        series = grid[kind.zone]
        price = series.gpu_hours.get(kind.product, 0.0) / kind.copies
        return cls(place.service, variant.name, variant.gpus, kind.zone, series, price, series.host * kind.share)


class Recorder:
    """`take` a sample at its time; energy of a sample is priced by its own time."""

    def __init__(self, setup: Setup, grid: Grid, engines: Engines, fleet: Fleet) -> None:
        self._setup, self._grid, self._engines, self._fleet = setup, grid, engines, fleet
        self._names = list(dict.fromkeys(variant.name for one in setup.services for variant in one.variants))
        services = len(setup.services)
        self._rows = _Rows()
        self._at = 0
        self._joules = np.zeros(len(fleet.places))
        self._arrived = np.zeros(services)
        self._good = np.zeros(services)
        self._carbon, self._water, self._facility, self._cost = (np.zeros(services) for _ in range(4))
        self._flight = np.zeros(services)
        self._placed = np.zeros_like(fleet.placed)
        self._placed_before = self._placed.copy()
        self._pools = [_Pool.of(setup, grid, place) for place in fleet.places]
        self.decisions: list[Decided] = []
        self.zones = [_zone(setup, number) for number in range(services)]

    def stretch(self, seconds: int, in_flight: Array) -> None:
        """A stretch in which no pod came or went."""
        self._flight += in_flight.sum(axis=0)
        self._placed += self._fleet.placed * seconds

    def joules(self, now: float) -> Array:
        """Of the GPUs of each pool since the start."""
        sums, pools = self._fleet.sums, len(self._pools)
        columns = self._engines.after.totals.joules
        working = columns[:pools] + columns[pools:]
        return np.asarray(working + sums.pulling + sums.loading + sums.asleep + self._begun(now, HOLDS))

    def _begun(self, now: float, lives: frozenset[Life]) -> Array:
        """Of pods in these states, since they are in them, by pool."""
        found = np.zeros(len(self._pools))
        for pod in self._fleet.all_pods():
            if pod.life in lives:
                found[pod.pool] += self._fleet.watts_before_ready(pod) * (now - pod.since)
        return found

    def take(self, now: int) -> None:
        seconds = now - self._at
        middle = now - seconds / 2
        by_zone = {zone: series.at(middle) for zone, series in self._grid.items()}
        joules, good = self.joules(now), self._engines.by_service(self._engines.after.totals.good)
        used, held = joules - self._joules, self._placed - self._placed_before
        for pool, drew, seconds_held in zip(self._pools, used, held, strict=True):
            series, service, gpu_seconds = pool.series, pool.service, seconds_held * pool.gpus
            it = drew + pool.host * gpu_seconds
            facility = it * series.pue
            kwh = facility / JOULES_PER_KWH
            self._facility[service] += facility
            self._carbon[service] += kwh * by_zone[pool.zone]
            self._water[service] += it / JOULES_PER_KWH * series.water_on_site + kwh * series.water_at_source
            self._cost[service] += kwh * (series.price or 0.0) + gpu_seconds / 3600.0 * pool.price
        rows = self._rows
        rows.times.append(float(now))
        rows.arrivals.append((self._engines.arrived - self._arrived) / seconds)
        rows.good.append((good - self._good) / seconds)
        rows.in_flight.append(self._flight / seconds)
        rows.watts.append(self._engines.by_service(used) / seconds)
        rows.grams.append(np.array([by_zone[zone] for zone in self.zones]))
        rows.ready.append(self._replicas(lambda pod: pod.life is Life.READY))
        rows.asked.append(self._replicas(lambda pod: pod.deleting_at is None))
        self._at, self._joules, self._good = now, joules, good
        self._arrived = self._engines.arrived.copy()
        self._flight = np.zeros(len(self.zones))
        self._placed_before = self._placed.copy()

    def outcome(self, run: Run, *, took: float = 0.0, notes: tuple[str, ...] = ()) -> Outcome:
        rows, fleet = self._rows, self._fleet
        ready, asked = np.array(rows.ready), np.array(rows.asked)
        currencies = {pool.series.currency for pool in self._pools}
        on = sum(node.on_for(self._at) for node in fleet.nodes)
        by_service = self._engines.by_service
        loading = by_service(fleet.sums.loading + self._begun(self._at, HOLDS - ASLEEP))
        asleep = by_service(fleet.sums.asleep + self._begun(self._at, ASLEEP))
        fleet_joules = fleet.nobody(self._at) + float(self.joules(self._at).sum())
        return Outcome(
            controller=run.controller,
            seed=run.seed,
            began=run.began,
            seconds=self._at,
            services=tuple(
                self._service(number, float(loading[number]), float(asleep[number]))
                for number in range(len(self._setup.services))
            ),
            series=Series(
                times=np.array(rows.times),
                arrivals=np.array(rows.arrivals),
                good=np.array(rows.good),
                in_flight=np.array(rows.in_flight),
                watts=np.array(rows.watts),
                grams=np.array(rows.grams),
                ready={name: ready[:, :, index] for index, name in enumerate(self._names)},
                asked={name: asked[:, :, index] for index, name in enumerate(self._names)},
            ),
            decisions=tuple(self.decisions),
            fleet=Joules(fleet_joules),
            node_hours=on / 3600.0,
            currency=currencies.pop() if len(currencies) == 1 else "",
            took=took,
            notes=notes,
        )

    def _replicas(self, counts: Callable[[Pod], bool]) -> Array:
        found = np.zeros((len(self._setup.services), len(self._names)))
        for (service, variant), pods in self._fleet.pods.items():
            name = self._setup.services[service].variants[variant].name
            found[service, self._names.index(name)] += sum(1 for pod in pods if counts(pod))
        return found

    def _service(self, number: int, loading: float, asleep: float) -> ServiceOutcome:
        engines, fleet = self._engines, self._fleet
        totals, after = engines.after.totals, engines.after
        of = self._setup.services[number]
        done = float(engines.by_service(totals.done)[number])
        failed = float(engines.failed[number])
        requests = float(engines.arrived[number])
        idle = float(engines.by_service(totals.idle)[number])
        joules = float(engines.by_service(totals.joules)[number])
        pulling = float(engines.by_service(fleet.sums.pulling)[number])
        pools = [(pool, float(placed)) for pool, placed in zip(self._pools, self._placed, strict=True)]
        own = [(pool, placed) for pool, placed in pools if pool.service == number]
        return ServiceOutcome(
            service=of.key,
            requests=requests,
            done=done,
            failed=failed,
            unfinished=max(requests - done - failed, 0.0),
            good=float(engines.by_service(totals.good)[number]),
            prompt_tokens=float(engines.by_service(totals.prompt)[number]),
            generated_tokens=float(engines.by_service(totals.generated)[number]),
            good_tokens=float(engines.by_service(totals.good_tokens)[number]),
            phases=Energy(pulling, loading, idle + asleep, joules - idle),
            facility=Joules(float(self._facility[number])),
            carbon=Grams(float(self._carbon[number])),
            water=Litres(float(self._water[number])),
            cost=float(self._cost[number]) if _have_prices(pool.series for pool, _ in own) else None,
            replica_hours={
                variant.name: sum(placed for pool, placed in own if pool.variant == variant.name) / 3600.0
                for variant in of.variants
            },
            starts=int(fleet.sums.starts[number]),
            wakes=int(fleet.sums.wakes[number]),
            ttft_p50=quantile(after.first_tokens[number], 0.5),
            ttft_p95=quantile(after.first_tokens[number], 0.95),
            itl_p50=quantile(after.mean_gaps[number], 0.5),
            itl_p95=quantile(after.mean_gaps[number], 0.95),
        )


def quantile(counts: Array, share: float) -> float | None:
    """Seconds, linear within the bound; None without counts; the last finite bound beyond it."""
    total = float(counts.sum())
    if total <= 0:
        return None
    cumulative: Array = np.cumsum(counts)
    index = int(np.searchsorted(cumulative, share * total))
    if index >= len(LATENCY_BOUNDS) - 1:
        return float(LATENCY_BOUNDS[-2])
    before = float(cumulative[index - 1]) if index else 0.0
    low = float(LATENCY_BOUNDS[index - 1]) if index else 0.0
    part = (share * total - before) / max(float(counts[index]), 1e-12)
    return low + (float(LATENCY_BOUNDS[index]) - low) * part


def _have_prices(series: Iterable[GridSeries]) -> bool:
    """All of them, in one currency."""
    known = list(series)
    return all(one.price is not None for one in known) and len({one.currency for one in known}) == 1


def _zone(setup: Setup, service: int) -> str:
    """Of the first nodes that the service's reference may run on."""
    variant = setup.services[service].variants[0]
    return next(kind.zone for kind in setup.nodes if kind.product in variant.tables and kind.gpus >= variant.gpus)
