"""How many requests run and wait, straight from engines and gateways: a fast look between two cycles."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.adapters.metrics.direct import DirectSource, Page, ScrapeLimits, page_url
from fallow.adapters.metrics.samples import Sample
from fallow.adapters.metrics.vllm import RUNNING, WAITING, in_work
from fallow.adapters.metrics.waiting import read_waiting
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef, Queue, Queues, WaitingSeries
from fallow.domain.units import Instant, Seconds
from fallow.ports import EngineTarget

# A look that is not over when the next one is due is worth nothing.
LIMITS = ScrapeLimits(timeout=Seconds(1), deadline=Seconds(2))
NAMES = frozenset({*RUNNING.names, *WAITING.names})


class DirectQueues:
    """Implements ports.QueueSource. `gateways` are pages with metrics of waiting requests."""

    def __init__(self, gateways: Sequence[str] = (), limits: ScrapeLimits = LIMITS) -> None:
        self._source = DirectSource(limits, gateways=gateways)
        self._gateways = tuple(gateways)

    async def queues(self, now: Instant, engines: Sequence[EngineTarget], waiting: frozenset[str]) -> Queues:
        pages = [Page(page_url(one.address, one.port), NAMES, {}) for one in engines]
        gateways = [Page(url, waiting, {}) for url in self._gateways] if waiting else []
        answers = await self._source.pages(now, [*pages, *gateways])
        found: dict[PodRef, Queue] = {}
        for target, answer in zip(engines, answers, strict=False):
            queue = None if isinstance(answer, Missing) else in_work(answer)
            if queue is not None:
                found[target.pod] = queue
        return Queues(now, found, _held(answers[len(engines) :]))

    async def close(self) -> None:
        await self._source.close()


def _held(answers: Sequence[list[Sample] | Missing]) -> tuple[WaitingSeries, ...]:
    samples = [sample for answer in answers if not isinstance(answer, Missing) for sample in answer]
    return read_waiting(samples)[0]
