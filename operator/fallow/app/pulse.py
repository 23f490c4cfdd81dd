"""The fast loop: a look at queues every other second, at doors more often, which can only bring the next cycle forward.

A cycle that was hurried decides as any other does, by the same readings with the queues that were seen: they can ask
for more, or wake, and nothing else. Where engines cannot be reached, cycles come at their own time, as without it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from fallow.app.scope import targets_of, waiting_metrics
from fallow.domain.figures import Missing
from fallow.domain.readings import Queues, Readings
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.planner.hurry import NOTHING, hurried, may_need_more, standing, waited_for
from fallow.ports import EngineTarget, MetricSource, QueueSource, ReadScope

log = logging.getLogger(__name__)

# More engines are not looked at in a beat: one connection each, every other second.
MOST_ENGINES = 500
# Looks at the doors of services that rest for each look at engines: a page or two, where somebody waits for an answer.
DOORS = 8
# Seconds between two hurries for one service, in which what was asked for can show; and as long a look is of use.
REST = 5.0
# Seconds between any two hurried cycles.
BREATH = 0.3
BEAT_LIMIT_SECONDS = 10.0
SHORTEST_PAUSE = 0.1


class Pulse:
    """`interval` seconds from one look at engines to the next; `hurry` brings the next cycle forward."""

    def __init__(
        self,
        source: QueueSource,
        view: Callable[[], ClusterView],
        hurry: Callable[[], None],
        *,
        interval: float,
        leads: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._view = view
        self._hurry = hurry
        self._interval = interval
        self._leads = leads
        self._clock = clock
        self._seen: Queues | None = None
        self._hurried: dict[ServiceKey, Instant] = {}
        self._told = False
        self._last = NOTHING

    async def report(self, report: CycleReport) -> None:
        """Who gets no more anyway is not looked at until the next cycle: no hurry could follow."""
        self._last = standing(report.plan)

    def seen(self, now: Instant) -> Queues | None:
        """What made the last cycle hurry, while it is young; it is not where the clock was put back since."""
        return self._seen if self._seen is not None and abs(now - self._seen.at) <= REST else None

    async def run(self) -> None:
        for number in count():
            started = time.monotonic()
            try:
                await asyncio.wait_for(self.beat(doors_alone=number % DOORS > 0), BEAT_LIMIT_SECONDS)
            except Exception:
                log.exception("a look at queues failed; cycles come at their own time")
            await asyncio.sleep(max(self._interval / DOORS - (time.monotonic() - started), SHORTEST_PAUSE))

    async def beat(self, *, doors_alone: bool = False) -> None:
        now = Instant(self._clock())
        if not self._leads() or any(abs(now - at) < BREATH for at in self._hurried.values()):
            return
        view = self._view()
        if doors_alone and not waited_for(view):
            return
        engines, waiting = () if doors_alone else self._targets(view), waiting_metrics(view)
        if not engines and not waiting:
            return
        queues = await self._source.queues(now, engines, waiting)
        self._hurried = {key: at for key, at in self._hurried.items() if abs(now - at) < REST}
        found = hurried(view, queues, self._last, frozenset(self._hurried))
        if found:
            key, why = next(iter(found.items()))
            others = f", and {len(found) - 1} more" if len(found) > 1 else ""
            log.info("the next cycle is brought forward: %s: %s%s", key, why, others)
            self._seen = queues
            self._hurried |= dict.fromkeys(found, now)
            self._hurry()

    def _targets(self, view: ClusterView) -> Sequence[EngineTarget]:
        engines = targets_of(may_need_more(view, self._last))
        if len(engines) > MOST_ENGINES and not self._told:
            log.warning("between cycles %d of %d engines are looked at", MOST_ENGINES, len(engines))
            self._told = True
        return engines[:MOST_ENGINES]

    async def close(self) -> None:
        await self._source.close()


class WithQueues:
    """A MetricSource that adds to its readings what a pulse has seen since."""

    def __init__(self, source: MetricSource, pulse: Pulse) -> None:
        self._source = source
        self._pulse = pulse

    @property
    def queries(self) -> int:
        return self._source.queries

    async def read(self, now: Instant, scope: ReadScope) -> Readings:
        readings = await self._source.read(now, scope)
        seen = self._pulse.seen(now)
        return readings if seen is None else replace(readings, queues=seen)

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Sequence[Readings] | Missing:
        return await self._source.history(times, scope)

    async def close(self) -> None:
        await self._source.close()
