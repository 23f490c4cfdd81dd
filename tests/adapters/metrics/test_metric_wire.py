"""What the two real sources make of answers that are broken, partial, old or doubled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from fallow.adapters.metrics.direct import ScrapeLimits
from fallow.domain.figures import Missing
from fallow.domain.readings import NOT_COUNTED, Activity, ActivitySource, GpuReading, Histogram, PodRef, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds
from tests.adapters.metrics.pages import Engine, Gpu
from tests.adapters.metrics.rigs import OTHER, POD, QUEUE, SHORT_TIMEOUT, TIMEOUT, DirectRig, PrometheusRig, World
from tests.adapters.metrics.trouble import BAD_ANSWER, UNREACHABLE, Trouble

NAN, INF = float("nan"), float("inf")
WORLD = World(
    engines={POD: (Engine(),)}, nodes={"node-a": (Gpu(),)}, queue=(("chat", 1),), wake_metrics=frozenset({QUEUE})
)


@pytest.fixture(params=["prometheus", "direct"])
async def rig(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PrometheusRig | DirectRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    waits = SHORT_TIMEOUT if request.node.callspec.params.get("trouble") in {Trouble.SLOW, Trouble.TRICKLE} else TIMEOUT
    async with AsyncExitStack() as stack:
        if request.param == "prometheus":
            yield await PrometheusRig.start(stack, waits)
        else:
            yield await DirectRig.start(stack, ScrapeLimits(timeout=waits, deadline=Seconds(5), max_bytes=200_000))


def faults_of(readings: Readings) -> list[Missing | None]:
    engine = readings.pod_faults.get(POD) or readings.engine_fault
    return [engine, readings.gpu_fault, readings.waiting_fault]


def engine(name: str, value: float, **others: float) -> Engine:
    values: dict[str, Any] = {**others, name: value}
    return Engine(**values)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [*((t, Reason.SOURCE_UNREACHABLE) for t in UNREACHABLE), *((t, Reason.BAD_ANSWER) for t in BAD_ANSWER)],
)
async def test_every_trouble_becomes_a_fault_of_its_family_and_never_an_exception(
    rig: PrometheusRig | DirectRig, trouble: Trouble, reason: Reason
) -> None:
    rig.meet(trouble)

    readings = await rig.read(WORLD)

    assert not readings.engines
    assert not readings.gpus
    assert [fault.reason if fault else None for fault in faults_of(readings)] == [reason] * 3


@pytest.mark.parametrize("trouble", [Trouble.STATUS_422, Trouble.SLOW, Trouble.CUT, Trouble.HTML])
async def test_a_fault_says_where_it_looked_and_reads_the_same_each_time(
    rig: PrometheusRig | DirectRig, trouble: Trouble
) -> None:
    rig.meet(trouble)

    first, second = faults_of(await rig.read(WORLD)), faults_of(await rig.read(WORLD))

    assert all(fault is not None and "http://127.0.0." in fault.detail for fault in first)
    assert first == second


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("field", ["running", "waiting", "prompt", "generated", "finished"])
async def test_a_needed_value_that_is_no_number_leaves_the_engine_unread(
    rig: PrometheusRig | DirectRig, field: str, value: float
) -> None:
    readings = await rig.read(World(engines={POD: (engine(field, value),), OTHER: (Engine(),)}))

    assert set(readings.engines) == {OTHER}
    assert readings.pod_faults[POD].reason is Reason.NOT_A_NUMBER


@pytest.mark.parametrize("field", ["kv", "cached", "iterations"])
async def test_an_optional_value_that_is_no_number_is_none_and_named(
    rig: PrometheusRig | DirectRig, field: str
) -> None:
    readings = await rig.read(World(engines={POD: (engine(field, NAN, running=3),)}))

    reading = readings.engines[POD]
    name = {"kv": "kv_usage", "cached": "cached_prompt_tokens", "iterations": "iterations"}[field]
    assert getattr(reading, name) is None
    assert reading.running == 3
    assert readings.pod_faults[POD].reason is Reason.NOT_A_NUMBER


async def test_estimated_flops_that_are_no_number_are_missing_and_named(rig: PrometheusRig | DirectRig) -> None:
    readings = await rig.read(World(engines={POD: (engine("flops", NAN, running=3),)}))

    fault = Missing(Reason.NOT_A_NUMBER, "vllm:estimated_flops_per_gpu_total is nan")
    assert readings.engines[POD].operations == readings.pod_faults[POD] == fault


@pytest.mark.parametrize("kind", ["flops", "read_bytes", "write_bytes"])
async def test_an_engine_that_does_not_estimate_is_read_all_the_same(rig: PrometheusRig | DirectRig, kind: str) -> None:
    old = Engine(running=3, omit=frozenset({f"vllm:estimated_{kind}_per_gpu_total"}))

    readings = await rig.read(World(engines={POD: (old,)}))

    assert readings.engines[POD].operations == NOT_COUNTED
    assert not readings.pod_faults


async def test_a_waiting_value_that_is_no_number_is_left_out_and_named(rig: PrometheusRig | DirectRig) -> None:
    readings = await rig.read(World(queue=(("chat", NAN), ("code", 2)), wake_metrics=frozenset({QUEUE})))

    assert [series.labels["inference_pool"] for series in readings.waiting] == ["code"]
    assert readings.waiting_fault == Missing(Reason.NOT_A_NUMBER, f"{QUEUE} is nan")


async def test_an_engine_of_which_half_the_series_are_missing_is_not_read(rig: PrometheusRig | DirectRig) -> None:
    half = Engine(omit=frozenset({"vllm:num_requests_waiting", "vllm:generation_tokens_total"}))

    readings = await rig.read(World(engines={POD: (half,)}))

    assert not readings.engines
    assert readings.pod_faults[POD] == Missing(Reason.NO_SERIES, "vllm:num_requests_waiting is absent")


async def test_a_second_engine_without_its_load_leaves_the_whole_pod_unread(rig: PrometheusRig | DirectRig) -> None:
    pod = (Engine(rank="0"), Engine(rank="1", omit=frozenset({"vllm:num_requests_running"})))

    readings = await rig.read(World(engines={POD: pod}))

    assert not readings.engines
    assert readings.pod_faults[POD].reason is Reason.NO_SERIES


async def test_what_an_engine_does_not_export_is_none_without_a_fault(rig: PrometheusRig | DirectRig) -> None:
    bare = Engine(
        omit=frozenset(
            {
                "vllm:kv_cache_usage_perc",
                "vllm:engine_sleep_state",
                "vllm:prompt_tokens_cached_total",
                "vllm:iteration_tokens_total",
                "vllm:time_to_first_token_seconds",
                "vllm:request_time_per_output_token_seconds",
            }
        )
    )

    readings = await rig.read(World(engines={POD: (bare,)}))

    reading = readings.engines[POD]
    assert reading.kv_usage is reading.cached_prompt_tokens is reading.iterations is None
    assert reading.ttft is reading.itl is None
    assert not reading.asleep
    assert not readings.pod_faults


async def test_single_gaps_stand_in_where_a_request_s_mean_is_not_counted(rig: PrometheusRig | DirectRig) -> None:
    gaps = {"vllm:request_time_per_output_token_seconds": "vllm:inter_token_latency_seconds"}

    reading = (await rig.read(World(engines={POD: (Engine(itl=(1, 5, 9), rename=gaps),)}))).engines[POD]

    assert reading.itl == Histogram((0.1, 0.5, INF), (1, 5, 9))


async def test_names_of_older_versions_are_read_like_the_new_ones(rig: PrometheusRig | DirectRig) -> None:
    old = Engine(
        kv=0.4,
        cached=12,
        itl=(1, 5, 9),
        rename={
            "vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc",
            "vllm:prompt_tokens_cached_total": "vllm:gpu_prefix_cache_hits_total",
            "vllm:request_time_per_output_token_seconds": "vllm:time_per_output_token_seconds",
        },
    )

    reading = (await rig.read(World(engines={POD: (old,)}))).engines[POD]

    assert (reading.kv_usage, reading.cached_prompt_tokens) == (0.4, 12)
    assert reading.itl == Histogram((0.1, 0.5, INF), (1, 5, 9))


async def test_latencies_of_two_engines_are_added_by_bound(rig: PrometheusRig | DirectRig) -> None:
    pod = (Engine(rank="0", ttft=(1, 2, 3)), Engine(rank="1", ttft=(10, 20, 30)))

    reading = (await rig.read(World(engines={POD: pod}))).engines[POD]

    assert reading.ttft == Histogram((0.1, 0.5, INF), (11, 22, 33))


async def test_a_pod_that_shows_other_metrics_only_is_no_engine(rig: PrometheusRig | DirectRig) -> None:
    readings = await rig.read(World(engines={POD: "# TYPE http_requests_total counter\nhttp_requests_total 4\n"}))

    assert not readings.engines
    assert readings.pod_faults[POD].reason is Reason.NO_SERIES


async def test_an_engine_named_like_another_does_not_hide_behind_it(rig: PrometheusRig | DirectRig) -> None:
    two_models = (Engine(running=1, model="a"), Engine(running=2, model="b"))

    reading = (await rig.read(World(engines={POD: two_models}))).engines[POD]

    assert reading.running == 3


async def gpu_read(rig: PrometheusRig | DirectRig, *gpus: Gpu) -> GpuReading:
    readings = await rig.read(World(nodes={"node-a": gpus}))
    assert set(readings.gpus) == {"GPU-1"}
    return readings.gpus["GPU-1"]


async def test_copies_of_one_gpu_for_its_mig_instances_are_one_reading(rig: PrometheusRig | DirectRig) -> None:
    instances = [
        Gpu(watts=w, active=a, instance=i, holder=("llm", f"pod-{i}"))
        for w, a, i in ((299.0, 0.1, "1"), (301.0, 0.7, "2"))
    ]

    reading = await gpu_read(rig, *instances)

    assert not isinstance(reading.power, Missing)
    assert not isinstance(reading.activity, Missing)
    assert (reading.power.watts.value, reading.activity.ratio) == (301.0, 0.7)
    assert reading.holder is None


async def test_mig_instances_held_in_part_have_no_holder(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, Gpu(instance="1", holder=("llm", "small-0")), Gpu(instance="2", holder=None))

    assert reading.holder is None


async def test_mig_instances_of_one_pod_are_held_by_it(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, *(Gpu(instance=i, holder=("llm", "both-0")) for i in ("1", "2")))

    assert reading.holder == PodRef("llm", "both-0")


async def test_a_time_sliced_gpu_with_two_pods_has_no_holder(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, Gpu(holder=("llm", "a-0")), Gpu(holder=("llm", "b-0")))

    assert reading.holder is None


async def test_the_older_spelling_of_the_host_label_is_read(rig: PrometheusRig | DirectRig) -> None:
    assert (await gpu_read(rig, Gpu(host_label="Hostname"))).node == "node-a"


@pytest.mark.parametrize("host", [None, "nvidia-dcgm-exporter-x7k2p"])
async def test_without_a_usable_host_name_the_target_tells_the_node(
    rig: PrometheusRig | DirectRig, host: str | None
) -> None:
    assert (await gpu_read(rig, Gpu(host=host))).node == "node-a"


async def test_without_profiling_metrics_utilisation_is_taken_and_named(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, Gpu(active=None, util=80))

    assert isinstance(reading.activity, Activity)
    assert (reading.activity.ratio, reading.activity.source) == (0.8, ActivitySource.GPU_UTIL)


@pytest.mark.parametrize("value", [NAN, INF, -1.0, 140737488355328.0])
async def test_power_that_is_no_reading_is_missing_and_never_zero(rig: PrometheusRig | DirectRig, value: float) -> None:
    reading = await gpu_read(rig, Gpu(watts=value))

    assert isinstance(reading.power, Missing)
    assert not isinstance(reading.counter, Missing)


async def test_dcgm_s_blank_energy_is_missing(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, Gpu(millijoules=9223372036854775792))

    assert isinstance(reading.counter, Missing)


async def test_activity_that_is_no_number_does_not_fall_back_to_utilisation(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, Gpu(active=NAN, util=0))

    assert isinstance(reading.activity, Missing)
    assert reading.activity.reason is Reason.NOT_A_NUMBER


async def test_a_gpu_series_that_is_not_exported_is_missing_by_name(rig: PrometheusRig | DirectRig) -> None:
    reading = await gpu_read(rig, Gpu(watts=None, millijoules=None, active=None))

    assert isinstance(reading.power, Missing)
    assert "DCGM_FI_DEV_POWER_USAGE" in reading.power.detail
    assert isinstance(reading.counter, Missing)
