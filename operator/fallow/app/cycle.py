"""One cycle for the whole cluster: observe, estimate, decide, act, report.

Only observing, acting and reporting touch the world; a cycle that fails leaves every service as it is.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.openings import Openings
from fallow.app.refusals import Refusals
from fallow.app.scope import scope_of
from fallow.app.spells import Spells
from fallow.app.watch import Watch
from fallow.app.zones import Zones
from fallow.domain.autoscalers import Autoscaler
from fallow.domain.estimates import Estimates
from fallow.domain.plans import Change, Outcome, Plan, RunVariant, ServiceChange, SetFloor, SideChange
from fallow.domain.policies import GuardRules
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import Snapshot, Workload
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from fallow.planner.changes import changes, takes_away
from fallow.planner.decide import decide
from fallow.planner.declared import Declared, declared
from fallow.planner.estimate import Concluded, conclude, estimate, teach
from fallow.planner.limiting import gpu_limits
from fallow.planner.selection import policy_for
from fallow.planner.shielding import shields
from fallow.ports import CarbonSource, Cluster, MetricSource, PueSource, Reporter

log = logging.getLogger(__name__)
A = TypeVar("A")
B = TypeVar("B")

# How long a cycle begins to write shields; with an API server that hardly answers the rest waits for the next one.
SHIELDING_SECONDS = Seconds(20)


@dataclass(frozen=True, slots=True)
class Sources:
    cluster: Cluster
    metrics: MetricSource
    carbon: CarbonSource
    pue: PueSource | None = None


class Cycle:
    """Runs the five steps. `clock` gives Unix seconds; `writes` limits API writes in flight."""

    def __init__(
        self,
        sources: Sources,
        bookkeeper: Bookkeeper,
        reporters: Sequence[Reporter],
        *,
        window: Seconds,
        writes: int = 8,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._bookkeeper = bookkeeper
        self._reporters = tuple(reporters)
        self._watch = Watch(window)
        self._zones = Zones(sources.carbon, sources.pue)
        self._spells = Spells()
        self._openings = Openings()
        self._refusals = Refusals()
        self._declared = Declared()
        self._concluded = Concluded()
        self._writes = writes
        self._tidied: dict[str, str] = {}
        self._clock = clock

    async def run(self) -> CycleReport:
        started = self._now()
        snapshot = await self.observe(started)
        snapshot, estimates = await self.estimate(snapshot)
        plan = decide(snapshot, estimates, told=bool(self._reporters))
        for service in plan.services.values():
            if service.fault is not None:
                log.error("%s cannot be planned and stays as it is", service.key, exc_info=service.fault)
        outcomes = await self.act(snapshot, plan)
        return await self.report(snapshot, estimates, plan, outcomes)

    async def observe(self, now: Instant) -> Snapshot:
        view = self._openings.seen(self._watch.recall(self._sources.cluster.view()), now)
        zones = await self._zones.read(now, view.zones)
        readings = await self._sources.metrics.read(now, scope_of(view))
        known = self._declared = declared(view, self._declared)
        return Snapshot(
            at=self._now(),
            cluster=view,
            readings=readings,
            zones=zones,
            spells=self._spells.note(now, zones),
            time_zones=known.time_zones,
            time_zone=known.time_zone,
            history=self._watch.history,
            previous=self._watch.previous,
            earlier=self._watch.earlier(now),
            targets=known.targets,
            habits=self._watch.habits,
            refusal=self._refusals.cordons,
        )

    async def estimate(self, snapshot: Snapshot) -> tuple[Snapshot, Estimates]:
        ledger = await self._bookkeeper.book(snapshot)
        told = self._bookkeeper.told
        known = self._concluded
        taught = teach(ledger, snapshot.cluster, known.taught)
        if ledger is not known.ledger or told is not known.told or taught is not known.taught:
            self._concluded = conclude(ledger, told, taught)
        estimates = estimate(snapshot, self._concluded, told=bool(self._reporters))
        return self._watch.remember(snapshot, estimates), estimates

    async def act(self, snapshot: Snapshot, plan: Plan) -> tuple[Outcome, ...]:
        due: list[Change] = [change for service in plan.services.values() for change in changes(snapshot, service)]
        refused = snapshot.refusal is not None and snapshot.refusal.stands(snapshot.at)
        due += (*shields(snapshot, plan), *(() if refused else plan.nodes))
        until = Instant(self._now() + SHIELDING_SECONDS)
        outcomes = await self._each(lambda change: self._apply(snapshot, change, until), due)
        self._refusals.note(outcomes, snapshot.at)
        await self._tidy(snapshot.cluster.leftovers)
        for error in await self._sources.cluster.limit(gpu_limits(snapshot, plan), self._now()):
            log.warning("%s", error)
        return outcomes

    async def report(
        self, snapshot: Snapshot, estimates: Estimates, plan: Plan, outcomes: tuple[Outcome, ...]
    ) -> CycleReport:
        told = CycleReport(
            snapshot=snapshot,
            estimates=estimates,
            plan=_as_carried_out(snapshot, plan, outcomes),
            outcomes=outcomes,
            ledger=self._bookkeeper.told,
            took=Seconds(self._now() - snapshot.readings.at),
            queries=self._sources.metrics.queries,
        )
        self._watch.keep(snapshot, told.plan)
        for reporter in self._reporters:
            try:
                await reporter.report(told)
            except Exception:
                log.exception("reporter %s failed; it is asked again next cycle", type(reporter).__name__)
        return told

    def _now(self) -> Instant:
        return Instant(self._clock())

    async def _each(self, write: Callable[[A], Awaitable[B]], things: Sequence[A]) -> tuple[B, ...]:
        """In their order, so many at once. Most find that nothing differs and are not worth a task each."""
        found: dict[int, B] = {}
        left = iter(enumerate(things))

        async def share() -> None:
            for place, thing in left:
                found[place] = await write(thing)

        await asyncio.gather(*(share() for _ in range(min(self._writes, len(things)))))
        return tuple(found[place] for place in range(len(things)))

    async def _apply(self, snapshot: Snapshot, change: Change, until: Instant) -> Outcome:
        if isinstance(change, SideChange):
            late = self._now() > until
            return Outcome(change, wrote=False) if late else await self._sources.cluster.apply(change)
        if refusal := self._recheck(snapshot, change):
            return Outcome(change, wrote=False, error=refusal)
        return await self._sources.cluster.apply(change)

    async def _tidy(self, leftovers: Sequence[Autoscaler]) -> None:
        """What no service claims goes back to its owner; what became of it is told when it is new."""
        told = await self._each(self._hand_back, leftovers)
        now = {f"{scaler} in {scaler.namespace}": words for scaler, words in zip(leftovers, told, strict=True)}
        for name, words in now.items():
            if self._tidied.get(name) != words:
                log.info("no service claims what %s scales: %s", name, words)
        self._tidied = now

    async def _hand_back(self, scaler: Autoscaler) -> str:
        if scaler not in self._sources.cluster.view().leftovers:
            return "its owner was quicker"
        error = await self._sources.cluster.hand_back(scaler)
        return error or f"its minimum is its owner's own again, {scaler.owners}"

    def _recheck(self, snapshot: Snapshot, change: ServiceChange) -> str:
        """Look once more just before writing: the object as decided on, and young readings where less is asked."""
        service, view = change.service, self._sources.cluster.view()
        latest = view.services.get(service.key)
        if latest is None or latest.uid != service.uid:
            return f"{service.key} is gone"
        if latest.generation != service.generation:
            return f"{service.key} changed while it was being decided on; it is decided on anew next cycle"
        if isinstance(change, RunVariant | SetFloor):
            now = _scalers(view.workloads_by_service.get(service.key, ()), change.variant)
            if now != _scalers(snapshot.workloads_of(service.key), change.variant):
                return f"{service.key}: who owns its replicas changed meanwhile; it is decided on anew next cycle"
        if takes_away(snapshot, change):
            age, policy = self._now() - snapshot.at, policy_for(service, snapshot.cluster.policies)
            if age > (policy.guards if policy else GuardRules()).metrics_max_age:
                return f"{service.key}: the readings behind this decision are {age:.0f} s old by now"
        return ""


def _scalers(workloads: Iterable[Workload], variant: str) -> set[tuple[str, str]]:
    return {(scaler.kind, scaler.name) for one in workloads if one.variant == variant for scaler in one.scalers}


def _as_carried_out(snapshot: Snapshot, plan: Plan, outcomes: tuple[Outcome, ...]) -> Plan:
    """A decision whose write failed did not happen: the old memory stays and the error is told instead.

    Where nothing was decided, what was observed is remembered all the same.
    """
    failed: dict[ServiceKey, str] = {
        o.key: o.error for o in outcomes if o.error and not isinstance(o.change, SideChange)
    }
    if not failed:
        return plan
    services = dict(plan.services)
    for key, error in failed.items():
        told = services[key]
        acted = told.decision is not None and not told.decision.proposal
        memory = snapshot.cluster.memory_of(key) if acted else told.memory
        standing = replace(told.standing, action="Hold", reason=Reason.WRITE_FAILED, message=error, proposal=False)
        services[key] = replace(told, decision=None, standing=standing, memory=memory)
    return replace(plan, services=services)
