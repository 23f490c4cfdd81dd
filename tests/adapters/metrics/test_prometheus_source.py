"""What only Prometheus brings: a constant number of queries, true sample times, targets' labels and its own errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fallow.adapters.metrics.dcgm import DcgmLabels
from fallow.adapters.metrics.prometheus import EngineLabels, PrometheusSource
from fallow.adapters.metrics.prometheus_api import Access
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules, Seconds
from fallow.ports import EngineTarget, ReadScope
from tests.adapters.metrics.pages import Engine, Gpu, engine_page, gpu_page
from tests.adapters.metrics.rigs import NOW, OTHER, POD, QUEUE, SCRAPED, TIMEOUT, PrometheusRig, World
from tests.adapters.metrics.trouble import Trouble

VLLM_TARGET = {"job": "vllm", "instance": "10.0.0.0:8000", "namespace": "llm", "pod": "chat-0"}
EXPORTER = {"namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-x7k2p", "container": "exporter"}
DCGM_TARGET = {"job": "dcgm", "instance": "10.1.0.0:9400", "node": "node-a", **EXPORTER}


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PrometheusRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        yield await PrometheusRig.start(stack)


async def read(rig: PrometheusRig, scope: ReadScope | None = None) -> Readings:
    return await rig.source.read(NOW, scope or ReadScope())


@pytest.mark.parametrize("services", [1, 200])
async def test_the_number_of_queries_is_the_same_for_one_and_for_two_hundred_services(
    rig: PrometheusRig, services: int
) -> None:
    pods = [PodRef(f"team-{number % 7}", f"chat-{number}") for number in range(services)]
    metrics = frozenset(f"queue_of_{number}" for number in range(services))
    scope = ReadScope(
        tuple(EngineTarget(pod, f"10.0.{n // 250}.{n % 250}", 8000) for n, pod in enumerate(pods)),
        {f"node-{number}": f"10.1.0.{number}" for number in range(services)},
        metrics,
    )
    for pod in pods:
        rig.server.scrape(engine_page(Engine()), {"namespace": pod.namespace, "pod": pod.name}, SCRAPED)

    readings = await read(rig, scope)

    assert len(readings.engines) == services
    assert len(rig.server.asked) == rig.source.queries == 7


async def test_all_queries_of_a_read_ask_for_the_same_moment(rig: PrometheusRig) -> None:
    await rig.read(World(engines={POD: (Engine(),)}, wake_metrics=frozenset({QUEUE})))

    assert set(rig.server.times) == {f"{NOW:.3f}"}


async def test_samples_keep_the_time_at_which_prometheus_took_them(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine(running=1)), VLLM_TARGET, NOW - 80)
    rig.server.scrape(engine_page(Engine(running=2)), VLLM_TARGET, NOW - 50)
    rig.server.scrape(gpu_page(Gpu(millijoules=7000)), DCGM_TARGET, NOW - 33.5)

    readings = await read(rig)

    assert (readings.engines[POD].running, readings.engines[POD].at) == (2, NOW - 50)
    counter = readings.gpus["GPU-1"].counter
    assert not isinstance(counter, Missing)
    assert (counter.joules, counter.at) == (Joules(7), NOW - 33.5)


async def test_the_oldest_gauge_tells_the_age_of_an_engine_s_reading(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine()), VLLM_TARGET, NOW - 60)
    rig.server.scrape(engine_page(Engine(omit=frozenset({"vllm:num_requests_waiting"}))), VLLM_TARGET, NOW - 10)

    assert (await read(rig)).engines[POD].at == NOW - 60


async def test_samples_older_than_the_window_are_absent(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine()), VLLM_TARGET, NOW - 121)
    rig.server.scrape(gpu_page(Gpu()), DCGM_TARGET, NOW - 121)

    readings = await read(rig, ReadScope((EngineTarget(POD, "10.0.0.0", 8000),), {"node-a": "10.1.0.0"}))

    assert not readings.engines
    assert not readings.gpus
    assert readings.pod_faults[POD].reason is Reason.NO_SERIES
    assert "120 s" in readings.pod_faults[POD].detail
    assert readings.gpu_fault is not None
    assert "node-a" in readings.gpu_fault.detail


async def test_an_engine_scraped_by_two_jobs_counts_once(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine(running=3, generated=70)), VLLM_TARGET, NOW - 20)
    rig.server.scrape(engine_page(Engine(running=4, generated=80)), {**VLLM_TARGET, "job": "annotated"}, NOW - 5)

    reading = (await read(rig)).engines[POD]

    assert (reading.running, reading.generated_tokens, reading.requests) == (4, 80, 5)
    assert reading.ttft is not None
    assert tuple(reading.ttft.counts) == (1, 2, 3)


async def test_engines_outside_the_scope_are_read_as_well(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine()), {**VLLM_TARGET, "pod": "foreign-0"}, SCRAPED)

    assert set((await read(rig)).engines) == {PodRef("llm", "foreign-0")}


async def test_an_engine_without_a_pod_label_is_known_by_its_address(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine(running=3)), {"job": "static", "instance": "10.0.0.9:8000"}, SCRAPED)

    readings = await read(rig, ReadScope((EngineTarget(POD, "10.0.0.9", 8000),)))

    assert readings.engines[POD].running == 3
    assert not readings.pod_faults


async def test_engine_series_that_name_no_pod_are_hinted_at(rig: PrometheusRig) -> None:
    rig.server.scrape(engine_page(Engine()), {"job": "static", "instance": "vllm.example:80"}, SCRAPED)

    readings = await read(rig, ReadScope((EngineTarget(POD, "10.0.0.9", 8000),)))

    assert not readings.engines
    assert "carry no `pod` label" in readings.pod_faults[POD].detail


# -- which pod holds a GPU

ALL = {"honoured": True, "renamed": False}


@pytest.mark.parametrize("honor_labels", ALL.values(), ids=ALL.keys())
async def test_the_holder_is_the_workload_s_pod_whatever_prometheus_does_to_labels(
    rig: PrometheusRig, honor_labels: bool
) -> None:
    page = gpu_page(Gpu("GPU-1", holder=("llm", "chat-0")), Gpu("GPU-2", holder=None))
    rig.server.scrape(page, DCGM_TARGET, SCRAPED, honor_labels=honor_labels)

    gpus = (await read(rig)).gpus

    assert gpus["GPU-1"].holder == POD
    assert gpus["GPU-2"].holder is None
    assert gpus["GPU-1"].node == "node-a"


@pytest.mark.parametrize("honor_labels", ALL.values(), ids=ALL.keys())
async def test_an_exporter_by_any_name_is_never_a_holder(rig: PrometheusRig, honor_labels: bool) -> None:
    target = {**DCGM_TARGET, "pod": "telemetry-0"}
    rig.server.scrape(gpu_page(Gpu(holder=None)), target, SCRAPED, honor_labels=honor_labels)

    assert (await read(rig)).gpus["GPU-1"].holder is None


async def test_a_target_without_pod_labels_leaves_the_workload_s(rig: PrometheusRig) -> None:
    target = {"job": "dcgm", "instance": "10.1.0.0:9400"}
    rig.server.scrape(gpu_page(Gpu(holder=("llm", "chat-0"))), target, SCRAPED)

    assert (await read(rig)).gpus["GPU-1"].holder == POD


async def test_a_gpu_whose_pod_changed_within_the_window_is_held_by_the_new_one(rig: PrometheusRig) -> None:
    for pod, millijoules, at in (("old-0", 1000, NOW - 40), ("new-0", 2000, NOW - 10)):
        rig.server.scrape(gpu_page(Gpu(millijoules=millijoules, holder=("llm", pod))), DCGM_TARGET, at)

    gpu = (await read(rig)).gpus["GPU-1"]

    assert gpu.holder == PodRef("llm", "new-0")
    assert not isinstance(gpu.counter, Missing)
    assert gpu.counter.joules == Joules(2)


async def test_a_gpu_that_was_let_go_within_the_window_has_no_holder(rig: PrometheusRig) -> None:
    rig.server.scrape(gpu_page(Gpu(holder=("llm", "old-0"))), DCGM_TARGET, NOW - 40)
    rig.server.scrape(gpu_page(Gpu(holder=None)), DCGM_TARGET, NOW - 10)

    assert (await read(rig)).gpus["GPU-1"].holder is None


async def test_a_driver_reload_within_the_window_shows_the_new_counter(rig: PrometheusRig) -> None:
    rig.server.scrape(gpu_page(Gpu(millijoules=9_000_000, holder=("llm", "a-0"))), DCGM_TARGET, NOW - 40)
    rig.server.scrape(gpu_page(Gpu(millijoules=3000, holder=None)), DCGM_TARGET, NOW - 10)

    counter = (await read(rig)).gpus["GPU-1"].counter

    assert not isinstance(counter, Missing)
    assert counter.joules == Joules(3)


async def test_of_two_exporters_of_a_gpu_always_the_same_is_read(rig: PrometheusRig) -> None:
    """Two exporters lag each other: going back and forth would make the counter seem to fall."""
    second = {**DCGM_TARGET, "instance": "10.1.0.1:9400"}
    rig.server.scrape(gpu_page(Gpu(millijoules=5000)), DCGM_TARGET, NOW - 20)
    rig.server.scrape(gpu_page(Gpu(millijoules=4000)), second, NOW - 5)

    counter = (await read(rig)).gpus["GPU-1"].counter

    assert not isinstance(counter, Missing)
    assert (counter.joules, counter.at) == (Joules(5), NOW - 20)


async def test_an_exporter_that_went_away_gives_way_to_its_successor(rig: PrometheusRig) -> None:
    rig.server.scrape(gpu_page(Gpu(millijoules=5000)), DCGM_TARGET, NOW - 90)
    rig.server.scrape(gpu_page(Gpu(millijoules=8000)), {**DCGM_TARGET, "instance": "10.1.0.1:9400"}, NOW - 5)

    counter = (await read(rig)).gpus["GPU-1"].counter

    assert not isinstance(counter, Missing)
    assert counter.joules == Joules(8)


async def test_a_gpu_without_host_and_node_labels_is_placed_by_the_exporter_s_address(rig: PrometheusRig) -> None:
    rig.server.scrape(gpu_page(Gpu(host=None)), {"job": "dcgm", "instance": "10.1.0.7:9400"}, SCRAPED)

    readings = await read(rig, ReadScope(nodes={"node-g": "10.1.0.7"}))

    assert readings.gpus["GPU-1"].node == "node-g"
    assert readings.gpu_fault is None


# -- one family's failure is not another's

FAMILIES = {
    "num_requests_running": ({"gpus"}, {"engine_fault"}),
    "time_to_first_token": ({"engines", "gpus"}, {"engine_fault"}),
    "up{": ({"engines", "gpus"}, {"gpu_fault"}),
    "TOTAL_ENERGY_CONSUMPTION": ({"engines"}, {"gpu_fault"}),
    QUEUE: ({"engines", "gpus"}, {"waiting_fault"}),
}


@pytest.mark.parametrize(("query", "found", "faults"), [(q, *f) for q, f in FAMILIES.items()], ids=FAMILIES.keys())
async def test_a_failing_query_darkens_its_own_family_only(
    rig: PrometheusRig, query: str, found: set[str], faults: set[str]
) -> None:
    rig.server.trouble_with = {query: Trouble.STATUS_422}
    world = World(
        engines={POD: (Engine(),)}, nodes={"node-a": (Gpu(holder=("llm", "chat-0")),)}, wake_metrics=frozenset({QUEUE})
    )

    readings = await rig.read(world)

    assert {family for family in ("engines", "gpus") if getattr(readings, family)} == found
    named = ("engine_fault", "gpu_fault", "waiting_fault")
    assert {name for name in named if getattr(readings, name)} == faults
    assert not readings.pod_faults
    assert all("HTTP 422" in getattr(readings, name).detail for name in faults)


async def test_a_fault_says_what_was_asked_and_what_came_back(rig: PrometheusRig) -> None:
    rig.meet(Trouble.STATUS_422)

    fault = (await read(rig)).engine_fault

    assert fault == Missing(
        Reason.BAD_ANSWER,
        f"{rig.server.url}: asked for vLLM's load and counters, got HTTP 422 b'something is wrong'",
    )


async def test_nobody_listening_is_told_without_the_query() -> None:
    source = PrometheusSource("http://user:secret@127.0.0.1:9/prefix", timeout=TIMEOUT)

    fault = (await source.read(NOW, ReadScope())).engine_fault
    await source.close()

    assert fault is not None
    assert fault.reason is Reason.SOURCE_UNREACHABLE
    assert fault.detail.startswith("http://127.0.0.1:9/prefix: asked for vLLM's load and counters, got ")
    assert "refused" in fault.detail
    assert "secret" not in fault.detail
    assert "query" not in fault.detail


async def test_a_closed_source_answers_with_faults() -> None:
    source = PrometheusSource("http://127.0.0.1:9")
    await source.close()

    readings = await source.read(NOW, ReadScope())

    assert readings.engine_fault is not None


# -- settings


async def read_with(rig: PrometheusRig, **settings: object) -> Readings:
    source = PrometheusSource(rig.server.url + "/", timeout=TIMEOUT, **settings)  # type: ignore[arg-type]
    try:
        return await source.read(NOW, ReadScope(waiting_metrics=frozenset({QUEUE})))
    finally:
        await source.close()


async def test_headers_and_the_token_of_the_moment_are_sent(rig: PrometheusRig, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    source = PrometheusSource(rig.server.url, access=Access(headers={"X-Scope-OrgID": "west"}, token_file=token))

    await source.read(NOW, ReadScope())
    token.write_text("second\n")
    await source.read(NOW, ReadScope())
    await source.close()

    sent: list[Mapping[str, str]] = rig.server.headers
    assert {headers["X-Scope-OrgID"] for headers in sent} == {"west"}
    assert [headers["Authorization"] for headers in sent] == ["Bearer first"] * 6 + ["Bearer second"] * 6


async def test_a_token_that_cannot_be_read_is_a_fault_that_names_the_file(rig: PrometheusRig, tmp_path: Path) -> None:
    readings = await read_with(rig, access=Access(token_file=tmp_path / "absent"))

    assert readings.engine_fault is not None
    assert str(tmp_path / "absent") in readings.engine_fault.detail


async def test_matchers_narrow_every_query(rig: PrometheusRig) -> None:
    for cluster, running in (("west", 3), ('ea"st', 9)):
        target = {**VLLM_TARGET, "cluster": cluster}
        rig.server.scrape(engine_page(Engine(running=running)), target, SCRAPED)

    readings = await read_with(rig, matchers={"cluster": "west"})

    assert readings.engines[POD].running == 3
    assert all('cluster="west"' in query for query in rig.server.asked)


async def test_label_names_can_be_chosen(rig: PrometheusRig) -> None:
    target = {"k8s_ns": "llm", "k8s_pod": "chat-0", "job": "otel"}
    rig.server.scrape(engine_page(Engine(running=3)), target, SCRAPED)
    rig.server.scrape(gpu_page(Gpu(host=None)), {"job": "dcgm", "machine": "node-z"}, SCRAPED)

    readings = await read_with(
        rig, engine_labels=EngineLabels("k8s_ns", "k8s_pod"), gpu_labels=DcgmLabels(node=("machine",))
    )

    assert readings.engines[POD].running == 3
    assert readings.engines[POD].ttft is not None
    assert readings.gpus["GPU-1"].node == "node-z"


async def test_a_wake_metric_s_name_is_taken_literally(rig: PrometheusRig) -> None:
    scope = ReadScope(waiting_metrics=frozenset({"queue.*", "", 'odd"name\\'}))
    rig.server.scrape("queue_size 4\n", {"job": "gateway"}, SCRAPED)

    readings = await read(rig, scope)

    assert readings.waiting == ()
    assert readings.waiting_fault is None


WRONG = {
    "no scheme": ({"url": "prometheus:9090"}, "write http://HOST:PORT"),
    "no host": ({"url": "http://"}, "write http://HOST:PORT"),
    "no time": ({"url": "http://p", "timeout": Seconds(0)}, "above zero"),
    "no window": ({"url": "http://p", "window": Seconds(-1)}, "above zero"),
    "a bad matcher": ({"url": "http://p", "matchers": {"a-b": "c"}}, "letters, digits and _"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_refused_with_what_to_write(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrometheusSource(**settings)  # type: ignore[arg-type]


async def test_one_slow_query_does_not_hold_up_the_others_beyond_the_timeout(rig: PrometheusRig) -> None:
    rig.server.trouble_with = {"DCGM_FI_DEV_POWER_USAGE": Trouble.SLOW}

    readings = await rig.read(World(engines={POD: (Engine(),), OTHER: (Engine(),)}))

    assert len(readings.engines) == 2
    assert readings.gpu_fault is not None
    assert "no whole answer within 0.5 s" in readings.gpu_fault.detail


async def test_time_is_told_by_the_argument(rig: PrometheusRig) -> None:
    later = Instant(NOW + 1000)
    rig.server.scrape(engine_page(Engine()), VLLM_TARGET, later - 5)

    assert not (await rig.source.read(NOW, ReadScope())).engines
    assert set((await rig.source.read(later, ReadScope())).engines) == {POD}
