"""Runs a fleet through a demand: `Simulation` moves it, `run` puts a controller at the wheel."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from math import ceil, inf

import numpy as np

from fallow.twin.simulation.demand import Array, Demand, Load
from fallow.twin.simulation.engines import Engines, Pools
from fallow.twin.simulation.faults import strike
from fallow.twin.simulation.fleet import Fleet
from fallow.twin.simulation.grid import Grid
from fallow.twin.simulation.pools import places_of
from fallow.twin.simulation.record import Recorder, Run
from fallow.twin.simulation.result import Decided, Outcome
from fallow.twin.simulation.setup import Setup
from fallow.twin.simulation.sight import Controller, Sight
from fallow.twin.simulation.sleeping import Sleepers

# Seconds of demand that are drawn at once.
DRAWN = 600
# Pods come and go at multiples of so many seconds; their starts take minutes and vary by a third.
GRAIN = 5
Progress = Callable[[int], None]


class Simulation:
    """A fleet under a demand at `now`, in whole seconds since the start. Pods come and go between seconds."""

    def __init__(self, setup: Setup, demand: Demand, grid: Grid, run: Run) -> None:
        self.setup, self.demand, self.grid, self.run = setup, demand, grid, run
        places = places_of(setup)
        tables = [
            setup.services[one.service].variants[one.variant].tables[setup.nodes[one.kind].product] for one in places
        ]
        self.engines = Engines(
            Pools(
                tables,
                np.array([one.service for one in places]),
                demand.spread,
                np.array([one.ttft for one in setup.services]),
                np.array([one.itl for one in setup.services]),
            )
        )
        self.fleet = Fleet(setup, self.engines, seed=run.seed)
        self._sleepers = Sleepers(self.fleet)
        self.recorder = Recorder(setup, grid, self.engines, self.fleet)
        self.now = 0
        self._faults = deque(sorted(setup.faults, key=lambda fault: fault.at))
        self._load: Load | None = None
        self.in_flight: list[Array] = []
        self.fleet.begin()

    @property
    def ended(self) -> bool:
        return self.now >= self.demand.seconds

    def advance(self, until: int) -> None:
        """Up to `until`, or the end of the demand."""
        until = min(until, self.demand.seconds)
        while self.now < until:
            self.fleet.settle(self.now)
            while self._faults and self._faults[0].at <= self.now:
                strike(self.fleet, self._faults.popleft(), float(self.now))
            load = self._drawn()
            self._sleepers.settle(self.now, load)
            sample = (self.now // self.run.sample + 1) * self.run.sample
            due = inf if self.fleet.next_at == inf else max(ceil(self.fleet.next_at / GRAIN) * GRAIN, self.now + 1)
            fault = max(ceil(self._faults[0].at), self.now + 1) if self._faults else inf
            stop = int(
                min(
                    until,
                    load.start + load.arrivals.shape[1],
                    sample,
                    due,
                    fault,
                    self._sleepers.next_at(self.now, load),
                )
            )
            self.fleet.share_out()
            some = slice(self.now - load.start, stop - load.start)
            flight = self.engines.advance(load.arrivals[:, some], load.prompt[:, some], load.output[:, some])
            self.recorder.stretch(stop - self.now, flight)
            self.in_flight.append(flight)
            self.now = stop
            self._sleepers.watch(stop, load, flight)
            if stop in {sample, self.demand.seconds}:
                self.recorder.take(stop)
        self.fleet.settle(self.now)

    def ask(self, service: int, variant: int, replicas: int, why: Decided | None = None) -> None:
        """Ask for replicas of a variant; a change is noted, in the words of `why` where it has some."""
        names = [one.name for one in self.setup.services[service].variants]
        before = dict(zip(names, self.fleet.asked[service], strict=True))
        if before[names[variant]] == replicas:
            return
        self.fleet.ask(service, variant, replicas, float(self.now))
        after = {**before, names[variant]: replicas}
        if why is None:
            action = "ScaleUp" if replicas > before[names[variant]] else "ScaleDown"
            why = Decided(float(self.now), self.setup.services[service].key, action, before, after)
        self.recorder.decisions.append(why)

    def _drawn(self) -> Load:
        if self._load is None or self.now >= self._load.start + self._load.arrivals.shape[1]:
            self._load = self.demand.block(self.now, min(self.now + DRAWN, self.demand.seconds))
        return self._load


class Watcher:
    """Makes the sights: gauges of now, and differences since it last looked."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._before = self._sums()

    def sight(self) -> Sight:
        simulation, engines = self._simulation, self._simulation.engines
        fleet, services = simulation.fleet, len(simulation.setup.services)
        sums = self._sums()
        grew = [now - before for now, before in zip(sums, self._before, strict=True)]
        self._before = sums
        serving = engines.by_service(engines.ready[: engines.pools])
        ready = serving + fleet.asleep
        flight = np.concatenate(simulation.in_flight) if simulation.in_flight else np.zeros((0, services))
        simulation.in_flight = []
        grams = {zone: series.at(simulation.now) for zone, series in simulation.grid.items()}
        usage = engines.kv_usage * engines.ready[: engines.pools]
        return Sight(
            at=float(simulation.now),
            asked=np.array([sum(asked) for asked in fleet.asked]),
            ready=ready.astype(np.int64),
            running=engines.by_service(engines.in_work[: engines.pools]),
            waiting=np.where(serving > 0, engines.waiting, 0.0),
            held=np.where(serving > 0, 0.0, engines.waiting),
            in_flight=flight,
            arrived=grew[0],
            finished=grew[1],
            prompt_tokens=grew[2],
            generated_tokens=grew[3],
            kv_usage=engines.by_service(usage) / np.maximum(ready, 1.0),
            ttft=grew[4],
            itl=grew[5],
            grams=np.array([grams[zone] for zone in simulation.recorder.zones]),
        )

    def _sums(self) -> list[Array]:
        engines = self._simulation.engines
        totals, after = engines.after.totals, engines.after
        return [
            engines.arrived.copy(),
            engines.by_service(totals.done),
            engines.by_service(totals.prompt),
            engines.by_service(totals.generated),
            after.first_tokens.copy(),
            after.mean_gaps.copy(),
        ]


def run(
    setup: Setup,
    demand: Demand,
    grid: Grid,
    controller: Controller,
    told: Run,
    progress: Progress | None = None,
) -> Outcome:
    """The whole demand under one controller, which asks for replicas of each service's reference variant."""
    started = time.perf_counter()
    simulation = Simulation(setup, demand, grid, told)
    watcher = Watcher(simulation)
    while True:
        wanted = controller.desired(watcher.sight())
        for service in np.flatnonzero(wanted != simulation.fleet.asked_of_reference):
            simulation.ask(int(service), 0, int(wanted[service]))
        if simulation.ended:
            return simulation.recorder.outcome(simulation.run, took=time.perf_counter() - started)
        simulation.advance(simulation.now + controller.period)
        if progress is not None:
            progress(simulation.now)
