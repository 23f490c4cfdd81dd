"""What engines served in the past, minute by minute, from a Prometheus HTTP API: the traffic to replay.

Three counters, a range query a day each, whatever the number of pods; what is asked for is whole minutes.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping

from fallow.adapters.metrics import promql
from fallow.adapters.metrics.engine_window import EngineSignal
from fallow.adapters.metrics.prometheus import EngineLabels
from fallow.adapters.metrics.prometheus_api import Access, Grid, PrometheusApi, Question
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import Served

STEP = Seconds(60)
# Minutes of a day: a Prometheus answers 11,000 points a series at most.
CHUNK = 1440
AT_ONCE = 3
COUNTED = (EngineSignal.REQUESTS, EngineSignal.PROMPT, EngineSignal.GENERATED)


class PastDemand:
    """`matchers` narrow every query. Raises ValueError for an address that can be none."""

    def __init__(
        self,
        url: str,
        *,
        timeout: Seconds = Seconds(60),
        access: Access | None = None,
        matchers: Mapping[str, str] | None = None,
        labels: EngineLabels | None = None,
    ) -> None:
        promql.check_label_names(matchers or {})
        self._api = PrometheusApi(url, timeout=timeout, access=access, at_once=AT_ONCE)
        self._matchers = matchers or {}
        self._labels = labels or EngineLabels()

    async def read(self, end: Instant, length: Seconds) -> Mapping[PodRef, Mapping[int, Served]] | Missing:
        """By pod and minute since the start. Missing: a question was not answered, or nothing was served."""
        minutes = max(1, round(length / STEP))
        start = Instant(end - minutes * STEP)
        grids = [
            Grid(Instant(start + first * STEP), Instant(start + min(first + CHUNK, minutes) * STEP), STEP)
            for first in range(0, minutes, CHUNK)
        ]
        counts: dict[EngineSignal, dict[PodRef, dict[int, float]]] = {signal: defaultdict(dict) for signal in COUNTED}
        questions = [(signal, grid) for signal in COUNTED for grid in grids]
        answers = await asyncio.gather(
            *(
                self._api.ask(Question(signal.value, self._query(signal), promql.matrix_series, grid), end)
                for signal, grid in questions
            )
        )
        for (signal, _), answer in zip(questions, answers, strict=True):
            if isinstance(answer, Missing):
                return answer
            for one in answer:
                namespace, name = one.labels.get(self._labels.namespace), one.labels.get(self._labels.pod)
                if namespace and name:
                    edges = counts[signal][PodRef(namespace, name)]
                    edges.update({round((at - start) / STEP): value for at, value in one.values.items()})
        served = {pod: _served(pod, counts) for pod in counts[EngineSignal.REQUESTS]}
        if not any(served.values()):
            words = f"{self._api.shown_url}: no vLLM pod finished a request in these {length / 3600:g} hours"
            return Missing(Reason.NO_SERIES, words)
        return served

    async def close(self) -> None:
        await self._api.close()

    def _query(self, signal: EngineSignal) -> str:
        """The pod's counter at each edge: its engines and finish reasons added up, a target scraped twice once."""
        metric = promql.selector(signal.value, self._matchers)
        pod = f"{self._labels.namespace}, {self._labels.pod}"
        reason = ", finished_reason" if signal is EngineSignal.REQUESTS else ""
        once = f"max by ({pod}, engine, model_name{reason}) (last_over_time({metric}[{STEP:.0f}s]))"
        return f"sum by ({pod}) ({once})"


def _served(pod: PodRef, counts: Mapping[EngineSignal, Mapping[PodRef, Mapping[int, float]]]) -> dict[int, Served]:
    """Differences between two edges that were both seen; a counter that fell began anew at zero."""
    requests, prompt, generated = (counts[signal].get(pod, {}) for signal in COUNTED)
    found: dict[int, Served] = {}
    for edge in requests:
        if edge - 1 in requests:
            done = Served(*(_grew(edges, edge) for edges in (requests, prompt, generated)))
            if done.requests > 0:
                found[edge - 1] = done
    return found


def _grew(edges: Mapping[int, float], edge: int) -> float:
    now, before = edges.get(edge), edges.get(edge - 1)
    if now is None or before is None:
        return 0.0
    return now - before if now >= before else now
