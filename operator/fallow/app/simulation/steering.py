"""The operator's own cycle at the wheel of a simulated fleet: the same observe, estimate and decide as on a cluster."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle, Sources
from fallow.domain.ledger import Ledger
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.demand import Demand
from fallow.twin.simulation.grid import Grid
from fallow.twin.simulation.ports import Books, Declared, FleetCluster, FleetMetrics, GridCarbon
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.result import Decided, Outcome
from fallow.twin.simulation.run import Progress, Simulation
from fallow.twin.simulation.setup import Setup

# The operator's own defaults (app/settings.py).
CYCLE = 15
WINDOW = Seconds(120)
# Counters lose nothing in between: the books are kept up once an hour, too seldom to learn from, which the twin's
# profiles tell as well; more often where budgets decide by them, and once a minute where what is measured does.
BOOKED_EVERY, BOOKED_FOR_BUDGETS, BOOKED_TO_LEARN = Seconds(3600), Seconds(300), Seconds(60)


class SeldomBooks(Bookkeeper):
    """Books at each turn of `every`, up to which every cycle has the books of the turn before."""

    def __init__(self, every: Seconds) -> None:
        super().__init__(Books(), every)
        self._every = every
        self._turn: float | None = None

    async def book(self, snapshot: Snapshot) -> Ledger | None:
        turn = snapshot.at // self._every
        if turn == self._turn:
            return self.ledger
        self._turn = turn
        return await super().book(snapshot)


class Steering:
    """One simulated fleet with Fallow in charge; `every` seconds a cycle."""

    def __init__(self, simulation: Simulation, declared: Declared, *, every: int = CYCLE) -> None:
        self.simulation = simulation
        self._every = every
        began = simulation.run.began
        declared = _new(declared, began)
        self._cluster = FleetCluster(simulation, declared)
        self._bookkeeper = SeldomBooks(_booked_every(declared))
        self._cycle = Cycle(
            Sources(
                cluster=self._cluster,
                metrics=FleetMetrics(simulation, declared),
                carbon=GridCarbon(simulation),
            ),
            self._bookkeeper,
            reporters=(),
            window=WINDOW,
            clock=lambda: began + simulation.now,
        )

    @property
    def books(self) -> Ledger | None:
        """As of the last turn."""
        return self._bookkeeper.ledger

    async def drive(self, progress: Progress | None = None) -> None:
        """To the end of the demand."""
        simulation = self.simulation
        while not simulation.ended:
            self._note(await self._cycle.run())
            simulation.advance(simulation.now + self._every)
            simulation.in_flight.clear()
            if progress is not None:
                progress(simulation.now)

    def _note(self, report: CycleReport) -> None:
        """Every change with the words of the decision behind it. What a cluster has to live with ends a simulation."""
        for plan in report.plan.services.values():
            if plan.fault is not None:
                raise plan.fault
        asked, self._cluster.asked = self._cluster.asked, []
        changes: dict[ServiceKey, tuple[dict[str, int], dict[str, int]]] = {}
        for key, variant, before, after in asked:
            was, now = changes.setdefault(key, ({}, {}))
            was[variant], now[variant] = before, after
        for key, (was, now) in changes.items():
            why = report.plan.services[key].standing
            self.simulation.recorder.decisions.append(
                Decided(
                    at=float(self.simulation.now),
                    service=key,
                    action=why.action,
                    before=was,
                    after=now,
                    lever=why.lever,
                    reason=str(why.reason),
                    message=why.message,
                )
            )


def _booked_every(declared: Declared) -> Seconds:
    policies = declared.policies
    if any((one.hardware is not None and one.hardware.precisions) or one.shift is not None for one in policies):
        return BOOKED_TO_LEARN
    acts = any(budget.on_burn for policy in declared.policies for budget in policy.budgets)
    return BOOKED_FOR_BUDGETS if acts else BOOKED_EVERY


def _new(declared: Declared, began: Instant) -> Declared:
    """Services as old as the simulation: what they used before nobody knows, and budgets begin with it."""
    services = [replace(service, created=began) for service in declared.services.values()]
    return Declared(services, declared.policies, declared.zones, declared.profiles)


def steered(
    setup: Setup,
    demand: Demand,
    grid: Grid,
    declared: Declared,
    *,
    told: Run,
    every: int = CYCLE,
    progress: Progress | None = None,
) -> Outcome:
    """The whole demand under Fallow with what is declared."""
    started = time.perf_counter()
    simulation = Simulation(setup, demand, grid, told)
    asyncio.run(Steering(simulation, declared, every=every).drive(progress))
    return simulation.recorder.outcome(simulation.run, took=time.perf_counter() - started)
