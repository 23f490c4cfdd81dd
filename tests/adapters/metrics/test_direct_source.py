"""What only direct scraping has to mind: each page's address, time and size, and where waiting requests are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fallow.adapters.metrics.direct import DirectSource, ScrapeLimits
from fallow.adapters.metrics.queues import DirectQueues
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef, Queue, Queues
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds
from fallow.ports import EngineTarget, ReadScope
from tests.adapters.metrics.pages import Engine, Gpu, engine_page, gpu_page
from tests.adapters.metrics.rigs import NOW, OTHER, POD, QUEUE, DirectRig, World
from tests.adapters.metrics.trouble import Trouble


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def rig(stack: AsyncExitStack) -> DirectRig:
    return await DirectRig.start(stack)


async def test_each_pod_each_node_and_each_gateway_is_asked_once(rig: DirectRig) -> None:
    world = World(
        engines={POD: (Engine(),), OTHER: (Engine(),)}, nodes={"node-a": (Gpu(),)}, wake_metrics=frozenset({QUEUE})
    )

    await rig.read(world)

    assert rig.source.queries == 4


async def test_samples_have_the_time_of_the_scrape(rig: DirectRig) -> None:
    reading = (await rig.read(World(engines={POD: (Engine(),)}))).engines[POD]

    assert NOW <= reading.at < NOW + 5


async def test_a_sample_s_own_time_wins(rig: DirectRig) -> None:
    old = "\n".join(
        f"{line} {int((NOW - 600) * 1000)}" if line.startswith("vllm:num_requests_running") else line
        for line in engine_page(Engine()).splitlines()
    )

    reading = (await rig.read(World(engines={POD: old + "\n"}))).engines[POD]

    assert reading.at == NOW - 600


async def test_a_fault_names_the_page_and_what_came_back(rig: DirectRig) -> None:
    readings = await rig.read(World(engines={POD: (Engine(),)}, down={POD}))

    url = f"http://{rig.ADDRESSES[0]}:{rig.port}/metrics"
    assert readings.pod_faults[POD] == Missing(Reason.SOURCE_UNREACHABLE, f"{url}: HTTP 503")


async def test_queues_are_read_alone_and_who_does_not_answer_is_left_out(rig: DirectRig) -> None:
    world = World(
        engines={POD: (Engine(running=3, waiting=2),), OTHER: (Engine(),)},
        down={OTHER},
        queue=(("chat", 4.0),),
        wake_metrics=frozenset({QUEUE}),
    )
    scope = rig.show(world)
    source = DirectQueues((f"http://127.0.0.1:{rig.port}/metrics",))
    found = await source.queues(NOW, scope.engines, frozenset({QUEUE}))
    nobody = await source.queues(NOW, (), frozenset())
    await source.close()

    assert found.engines == {POD: Queue(3, 2)}
    assert [(one.metric, one.value) for one in found.waiting] == [(QUEUE, 4)]
    assert nobody == Queues(NOW)


async def test_nobody_listening_is_a_fault_of_that_pod() -> None:
    source = DirectSource(ScrapeLimits(timeout=Seconds(1)))

    readings = await source.read(NOW, ReadScope((EngineTarget(POD, "127.0.0.1", 9),)))
    await source.close()

    assert readings.pod_faults[POD].reason is Reason.SOURCE_UNREACHABLE
    assert "127.0.0.1:9" in readings.pod_faults[POD].detail


async def test_a_pod_without_an_address_is_not_asked(rig: DirectRig) -> None:
    readings = await rig.source.read(NOW, ReadScope((EngineTarget(POD, "", 8000),), {"node-a": ""}))

    assert rig.source.queries == 0
    assert readings.pod_faults[POD] == Missing(Reason.SOURCE_UNREACHABLE, "no address yet")
    assert readings.gpu_fault is not None


async def test_a_page_longer_than_the_limit_is_refused(rig: DirectRig) -> None:
    endless = engine_page(Engine()) + "# filler\n" * 50_000

    readings = await rig.read(World(engines={POD: endless, OTHER: (Engine(),)}))

    assert set(readings.engines) == {OTHER}
    assert "longer than 200000 bytes" in readings.pod_faults[POD].detail


@pytest.mark.parametrize(
    "page",
    [
        engine_page(Engine()) + "vllm:num_requests_running{ 4\n",
        engine_page(Engine(running=128)).removesuffix("\n"),
        engine_page(Engine()).replace('"chat"} 0', '"chat"} many', 1),
        "{}\n",
    ],
    ids=["labels not closed", "cut in the last number", "words for numbers", "JSON"],
)
async def test_a_page_broken_in_a_line_that_is_read_is_refused_whole(rig: DirectRig, page: str) -> None:
    readings = await rig.read(World(engines={POD: page}))

    assert not readings.engines
    assert readings.pod_faults[POD].reason is Reason.BAD_ANSWER


async def test_a_page_that_is_no_text_is_a_bad_answer(rig: DirectRig) -> None:
    rig.meet(Trouble.NOT_TEXT)

    assert (await rig.read(World(engines={POD: (Engine(),)}))).pod_faults[POD].reason is Reason.BAD_ANSWER


async def test_pages_that_do_not_fit_into_the_deadline_are_named_as_not_asked(stack: AsyncExitStack) -> None:
    rig = await DirectRig.start(stack, ScrapeLimits(timeout=Seconds(5), deadline=Seconds(0.3), at_once=1))
    rig.meet(Trouble.SLOW)
    pods = {PodRef("llm", f"chat-{number}"): (Engine(),) for number in range(3)}

    readings = await rig.read(World(engines=pods))

    details = [fault.detail for fault in readings.pod_faults.values()]
    assert len(details) == 3
    assert sum("not asked" in detail for detail in details) == 2
    assert rig.source.queries == 1


async def test_without_a_gateway_the_fault_says_what_to_name() -> None:
    source = DirectSource()

    readings = await source.read(NOW, ReadScope(waiting_metrics=frozenset({QUEUE})))
    await source.close()

    assert readings.waiting_fault is not None
    assert "name the gateways' metrics pages" in readings.waiting_fault.detail
    assert QUEUE in readings.waiting_fault.detail


async def test_one_gateway_that_fails_leaves_the_other_s_series(rig: DirectRig) -> None:
    rig.show(World(queue=(("chat", 2),)))
    here = f"http://127.0.0.1:{rig.port}/metrics"
    source = DirectSource(ScrapeLimits(timeout=Seconds(1)), gateways=(here, "http://u:secret@127.0.0.1:9/metrics"))

    readings = await source.read(NOW, ReadScope(waiting_metrics=frozenset({QUEUE})))
    await source.close()

    assert [series.value for series in readings.waiting] == [2]
    assert readings.waiting_fault is not None
    assert "127.0.0.1:9" in readings.waiting_fault.detail
    assert "secret" not in readings.waiting_fault.detail


async def test_a_gpu_page_without_dcgm_series_is_named(rig: DirectRig) -> None:
    readings = await rig.read(World(nodes={"node-a": "up 1\n", "node-b": gpu_page(Gpu())}))

    assert readings.gpu_fault is not None
    assert "no GPU readings from node-a: " in readings.gpu_fault.detail
    assert "no DCGM series" in readings.gpu_fault.detail


WRONG_LIMITS = ({"timeout": Seconds(0)}, {"deadline": Seconds(-1)}, {"at_once": 0}, {"max_bytes": 0})


@pytest.mark.parametrize("limits", WRONG_LIMITS, ids=lambda limits: next(iter(limits)))
def test_a_limit_of_nothing_is_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        ScrapeLimits(**limits)  # type: ignore[arg-type]


def test_a_gateway_that_is_no_url_is_refused_with_what_to_write() -> None:
    with pytest.raises(ValueError, match="write http://HOST:PORT/metrics"):
        DirectSource(gateways=("gateway:8080",))
