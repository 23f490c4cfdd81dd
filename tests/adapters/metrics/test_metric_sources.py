"""What every metric source promises: Prometheus, direct scrape and the fake of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fallow.domain.figures import Missing
from fallow.domain.readings import ActivitySource, EnergyCounter, Operations, PodRef, Power
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules, Watts
from fallow.ports import ReadScope
from tests.adapters.metrics.pages import Engine, Gpu
from tests.adapters.metrics.rigs import NOW, OTHER, POD, QUEUE, SCRAPED, DirectRig, FakeRig, PrometheusRig, Rig, World
from tests.adapters.metrics.trouble import Trouble


@pytest.fixture(params=["prometheus", "direct", "fake"])
async def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        if request.param == "prometheus":
            yield await PrometheusRig.start(stack)
        elif request.param == "direct":
            yield await DirectRig.start(stack)
        else:
            yield FakeRig()


async def test_an_engine_is_read_with_its_load_and_counters(rig: Rig) -> None:
    engine = Engine(running=3, waiting=4, kv=0.25, prompt=900, generated=700, finished=9, aborted=2)

    reading = (await rig.read(World(engines={POD: (engine,)}))).engines[POD]

    assert (reading.running, reading.waiting, reading.kv_usage) == (3, 4, 0.25)
    assert (reading.prompt_tokens, reading.generated_tokens, reading.requests) == (900, 700, 11)
    assert reading.model_name == "chat"
    assert not reading.asleep


async def test_a_sample_is_young_and_not_from_the_future(rig: Rig) -> None:
    readings = await rig.read(World(engines={POD: (Engine(),)}, nodes={"node-a": (Gpu(),)}))

    assert readings.at == NOW
    assert 0 <= abs(NOW - readings.engines[POD].at) < 60
    power = readings.gpus["GPU-1"].power
    assert isinstance(power, Power)
    assert abs(NOW - power.at) < 60


async def test_an_engine_that_sleeps_is_read_as_asleep(rig: Rig) -> None:
    readings = await rig.read(World(engines={POD: (Engine(awake=0),), OTHER: (Engine(awake=1),)}))

    assert readings.engines[POD].asleep
    assert not readings.engines[OTHER].asleep


async def test_data_parallel_engines_of_a_pod_are_summed_and_the_fullest_cache_counts(rig: Rig) -> None:
    pod = (Engine(running=3, kv=0.9, generated=10, rank="0"), Engine(running=5, kv=0.2, generated=20, rank="1"))

    reading = (await rig.read(World(engines={POD: pod}))).engines[POD]

    assert (reading.running, reading.generated_tokens, reading.kv_usage) == (8, 30, 0.9)


async def test_what_an_engine_reckons_to_have_computed_is_that_of_one_gpu(rig: Rig) -> None:
    pod = (Engine(flops=6e12, read=2e11, wrote=1e11, rank="0"), Engine(flops=2e12, read=1e11, wrote=0, rank="1"))

    reading = (await rig.read(World(engines={POD: pod}))).engines[POD]

    assert reading.operations == Operations(flops=4e12, bytes=2e11)


async def test_a_pod_that_cannot_be_scraped_is_absent_with_a_fault_and_its_neighbour_is_read(rig: Rig) -> None:
    readings = await rig.read(World(engines={POD: (Engine(),), OTHER: (Engine(),)}, down={POD}))

    assert set(readings.engines) == {OTHER}
    assert set(readings.pod_faults) == {POD}
    assert readings.engine_fault is None


async def test_a_load_that_is_no_number_is_a_fault_and_never_zero(rig: Rig) -> None:
    readings = await rig.read(World(engines={POD: (Engine(running=float("nan")),)}))

    assert POD not in readings.engines
    assert "NotANumber" in str(readings.pod_faults[POD])


async def test_nothing_asked_gives_nothing_and_no_fault(rig: Rig) -> None:
    readings = await rig.read(World())

    assert not readings.engines
    assert not readings.gpus
    assert not readings.waiting
    assert readings.engine_fault is readings.gpu_fault is readings.waiting_fault is None


async def test_a_gpu_is_read_in_watts_joules_and_a_share_with_its_node_and_holder(rig: Rig) -> None:
    gpu = Gpu(watts=312.5, millijoules=98_765_000, active=0.25, holder=("llm", "chat-0"))

    reading = (await rig.read(World(nodes={"node-a": (gpu,)}))).gpus["GPU-1"]

    assert not isinstance(reading.power, Missing)
    assert reading.power.watts == Watts(312.5)
    assert not isinstance(reading.counter, Missing)
    assert reading.counter.joules == Joules(98_765)
    assert not isinstance(reading.activity, Missing)
    assert (reading.activity.ratio, reading.activity.source) == (0.25, ActivitySource.ENGINE_ACTIVE)
    assert (reading.node, reading.holder) == ("node-a", PodRef("llm", "chat-0"))
    assert reading.model_name == "NVIDIA H100 80GB HBM3"


async def test_a_gpu_that_no_pod_holds_has_no_holder(rig: Rig) -> None:
    readings = await rig.read(World(nodes={"node-a": (Gpu(holder=None),)}))

    assert readings.gpus["GPU-1"].holder is None


async def test_a_node_without_its_exporter_is_named_and_the_others_are_read(rig: Rig) -> None:
    nodes = {"node-a": (Gpu("GPU-1", host="node-a"),), "node-b": (Gpu("GPU-2", host="node-b"),)}

    readings = await rig.read(World(nodes=nodes, down={"node-b"}))

    assert set(readings.gpus) == {"GPU-1"}
    assert readings.gpu_fault is not None
    assert "node-b" in readings.gpu_fault.detail
    assert "node-a" not in readings.gpu_fault.detail


async def test_a_metric_of_waiting_requests_is_read_with_its_labels(rig: Rig) -> None:
    world = World(queue=(("chat", 3), ("code", 0)), wake_metrics=frozenset({QUEUE}))

    readings = await rig.read(world)

    found = {(series.metric, series.labels["inference_pool"]): series.value for series in readings.waiting}
    assert found == {(QUEUE, "chat"): 3, (QUEUE, "code"): 0}
    assert readings.waiting_fault is None


async def test_a_metric_of_waiting_requests_is_read_only_when_asked_for(rig: Rig) -> None:
    readings = await rig.read(World(queue=(("chat", 3),)))

    assert readings.waiting == ()
    assert readings.waiting_fault is None


async def test_a_metric_of_waiting_requests_that_nobody_exports_is_absent(rig: Rig) -> None:
    readings = await rig.read(World(wake_metrics=frozenset({"nobody_exports_this"})))

    assert readings.waiting == ()
    assert readings.waiting_fault is None


async def test_an_outage_empties_every_family_with_a_reason_and_ends_by_itself(rig: Rig) -> None:
    world = World(
        engines={POD: (Engine(running=2),)},
        nodes={"node-a": (Gpu(),)},
        queue=(("chat", 3),),
        wake_metrics=frozenset({QUEUE}),
    )
    rig.meet(Trouble.STATUS_503)

    dark = await rig.read(world)
    rig.meet(None)
    light = await rig.read(world)

    assert not dark.engines
    assert not dark.gpus
    assert not dark.waiting
    assert dark.pod_faults.get(POD) or dark.engine_fault
    assert dark.gpu_fault
    assert dark.waiting_fault
    assert light.engines[POD].running == 2
    assert set(light.gpus) == {"GPU-1"}
    assert len(light.waiting) == 1
    assert light.engine_fault is light.gpu_fault is light.waiting_fault is None
    assert not light.pod_faults


async def test_the_requests_of_the_last_read_are_counted(rig: Rig) -> None:
    await rig.read(World(engines={POD: (Engine(),)}, nodes={"node-a": (Gpu(),)}))

    assert 0 < rig.source.queries <= 25


async def test_closing_twice_is_harmless(rig: Rig) -> None:
    await rig.read(World(engines={POD: (Engine(),)}))

    await rig.source.close()
    await rig.source.close()


async def test_a_source_knows_the_past_or_says_that_it_keeps_none(rig: Rig) -> None:
    await rig.read(World(nodes={"node-a": (Gpu(millijoules=5000),)}))

    past = await rig.source.history([NOW], ReadScope())

    if isinstance(past, Missing):
        assert past.reason is Reason.NO_HISTORY
    else:
        (readings,) = past
        assert readings.at == NOW
        assert readings.gpus["GPU-1"].counter == EnergyCounter(Joules(5), SCRAPED)


async def test_an_outage_is_an_outage_of_the_past_too(rig: Rig) -> None:
    rig.meet(Trouble.STATUS_503)

    assert isinstance(await rig.source.history([NOW], ReadScope()), Missing)
