"""What Prometheus still knows of an outage: each past time is read as if it were now, with the samples of then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fallow.domain.figures import Missing
from fallow.domain.readings import EnergyCounter, PodRef, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules
from fallow.ports import ReadScope
from tests.adapters.metrics.pages import Engine, Gpu, engine_page, gpu_page
from tests.adapters.metrics.rigs import NOW, POD, PrometheusRig
from tests.adapters.metrics.trouble import Trouble

DCGM = {"job": "dcgm", "instance": "10.1.0.1:9400"}
VLLM = {"job": "vllm", "instance": "10.0.0.1:8000", "namespace": POD.namespace, "pod": POD.name}
TIMES = [Instant(NOW - 3600 + 60 * minute) for minute in range(4)]


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PrometheusRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        yield await PrometheusRig.start(stack)


async def past(rig: PrometheusRig, times: list[Instant] = TIMES) -> list[Readings]:
    found = await rig.source.history(times, ReadScope())
    assert not isinstance(found, Missing)
    return list(found)


async def test_each_time_has_the_samples_of_then_with_their_own_age(rig: PrometheusRig) -> None:
    for number, time in enumerate(TIMES):
        rig.server.scrape(gpu_page(Gpu(millijoules=1000 * number)), DCGM, time - 7, honor_labels=True)

    found = await past(rig)

    assert [readings.at for readings in found] == TIMES
    assert [readings.gpus["GPU-1"].counter for readings in found] == [
        EnergyCounter(Joules(number), Instant(time - 7)) for number, time in enumerate(TIMES)
    ]


async def test_a_pod_that_came_and_went_is_named_while_it_was_there(rig: PrometheusRig) -> None:
    holders = (None, ("llm", "chat-0"), None, None)
    for holder, time in zip(holders, TIMES, strict=True):
        rig.server.scrape(gpu_page(Gpu(holder=holder)), DCGM, time - 7, honor_labels=True)
    rig.server.scrape(engine_page(Engine(generated=90)), VLLM, TIMES[1] - 5)

    found = await past(rig)

    assert [readings.gpus["GPU-1"].holder for readings in found] == [None, PodRef("llm", "chat-0"), None, None]
    assert found[1].engines[POD].generated_tokens == 90
    assert POD not in found[0].engines
    assert found[1].engines[POD].ttft is None


async def test_a_time_of_which_nothing_is_known_is_empty_and_no_fault(rig: PrometheusRig) -> None:
    rig.server.scrape(gpu_page(Gpu()), DCGM, TIMES[-1], honor_labels=True)

    assert [bool(readings.gpus) for readings in await past(rig)] == [False, False, False, True]


async def test_what_was_read_before_the_source_failed_is_not_lost(rig: PrometheusRig) -> None:
    rig.server.scrape(gpu_page(Gpu()), DCGM, TIMES[0], honor_labels=True)
    rig.server.fails_after = 5

    assert [readings.at for readings in await past(rig)] == TIMES[:1]


async def test_a_source_that_fails_at_once_says_why(rig: PrometheusRig) -> None:
    rig.meet(Trouble.STATUS_422)

    found = await rig.source.history(TIMES, ReadScope())

    assert isinstance(found, Missing)
    assert found.reason is Reason.BAD_ANSWER


async def test_four_queries_are_asked_for_each_time(rig: PrometheusRig) -> None:
    await past(rig)

    assert len(rig.server.asked) == 4 * len(TIMES)
    assert sorted({float(time) for time in rig.server.times}) == pytest.approx(TIMES, abs=1e-3)


async def test_a_slow_source_is_asked_for_a_few_times_only(rig: PrometheusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.source, "_timeout", -1.0)

    assert [readings.at for readings in await past(rig)] == TIMES[:1]
