"""A flapping condition uses up its own allowance of Events, never the one of decisions."""

from fallow.adapters.reports.events import BURST, EventReporter
from tests.adapters.reports.scenes import FRESH, GROW, READY, Sink, report, stale


async def test_a_decision_is_told_after_a_signal_flapped_for_minutes() -> None:
    sink = Sink()
    reporter = EventReporter(sink)
    for _ in range(int(BURST)):
        await reporter.report(report(conditions=(READY, FRESH)))
        await reporter.report(report(conditions=(READY, stale())))
    flaps = [body for body in sink.sent if body["action"] == "MetricsFresh"]
    assert len(flaps) == BURST
    await reporter.report(report(decision=GROW))
    assert sink.sent[-1]["action"] == "ScaleUp"
