"""The operator's own Prometheus metrics: the books, the last cycle, and counts of what was decided and written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fallow.adapters.reports.changes import DecisionWatch
from fallow.adapters.reports.families import families
from fallow.domain.plans import ClearRequest, CordonNode, Outcome, SetFloor, ShieldPod
from fallow.domain.reports import CycleReport


class MetricsReporter:
    """Holds the last report; a scrape reads it. Serve `registry` with prometheus_client.

    A replica that stands by shows that it does, and no totals: the leader shows the same books.
    """

    def __init__(self, clock: Callable[[], float] = time.time, leads: Callable[[], bool] = lambda: True) -> None:
        self.registry = CollectorRegistry()
        self._last = _LastCycle(clock, leads)
        self._watch = DecisionWatch()
        self._cycles = Counter("fallow_cycles", "Cycles that came to their end.", registry=self.registry)
        self._decisions = Counter(
            "fallow_decisions",
            "Decisions, each counted once; proposal says whether it was only recommended.",
            ("lever", "action", "reason", "proposal"),
            registry=self.registry,
        )
        self._writes = Counter(
            "fallow_workload_writes",
            "Changes of workloads sent to the API server, by what became of them.",
            ("change", "result"),
            registry=self.registry,
        )
        self.registry.register(self._last)

    async def report(self, report: CycleReport) -> None:
        self._cycles.inc()
        for _, decision in self._watch.new(report.plan):
            proposal = str(decision.proposal).lower()
            self._decisions.labels(decision.lever, decision.action, str(decision.reason), proposal).inc()
        for outcome in report.outcomes:
            if outcome.wrote or outcome.error:
                self._writes.labels(_change(outcome), "failed" if outcome.error else "done").inc()
        self._last.report = report

    def forget(self) -> None:
        """Show nothing until the next report."""
        self._last.report = None


class _LastCycle(Collector):
    def __init__(self, clock: Callable[[], float], leads: Callable[[], bool]) -> None:
        self._clock = clock
        self._leads = leads
        self.report: CycleReport | None = None

    def collect(self) -> Iterable[Metric]:
        """Nothing before the first cycle: an absent series is not a zero."""
        leader = GaugeMetricFamily("fallow_leader", "1 where this replica leads, 0 where it stands by.")
        leads = self._leads()
        leader.add_metric((), float(leads))
        yield leader
        if self.report is None or not leads:
            return
        age = GaugeMetricFamily("fallow_cycle_age_seconds", "Time since the readings of the last cycle.")
        age.add_metric((), max(self._clock() - self.report.snapshot.at, 0))
        yield age
        yield from families(self.report)


def _change(outcome: Outcome) -> str:
    if isinstance(outcome.change, ShieldPod):
        return "shield"
    if isinstance(outcome.change, CordonNode):
        return "cordon"
    if isinstance(outcome.change, SetFloor):
        return "minimum"
    return "request" if isinstance(outcome.change, ClearRequest) else "replicas"
