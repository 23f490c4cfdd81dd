"""A window read from Prometheus: exact energy, holders over time, parts and copies of GPUs, engines, and its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fallow.adapters.metrics.prometheus_api import Access
from fallow.adapters.metrics.window import PrometheusWindow, slot_length
from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import EnergyMethod, EngineSlot, GpuWindow, HoldingPod, Survey, Window, WorkloadRef
from tests.adapters.metrics.pages import Engine, Gpu, engine_page, gpu_page
from tests.adapters.metrics.range_server import RangeServer
from tests.adapters.metrics.rigs import serve
from tests.adapters.metrics.trouble import Trouble

START = 1_800_000_000.0
# ten slots of a minute, a sample every 15 s
LENGTH, SLOT, EVERY = 600, 60, 15
END = Instant(START + LENGTH)
NODE = {"job": "dcgm", "instance": "10.1.0.1:9400", "node": "node-a"}
POD = {"job": "vllm", "instance": "10.0.0.1:8000", "namespace": "llm", "pod": "chat-0"}
CHAT = PodRef("llm", "chat-0")


class Rig:
    def __init__(self, server: RangeServer, stack: AsyncExitStack) -> None:
        self.server = server
        self._stack = stack

    def gpus(self, at: float, *gpus: Gpu, target: Mapping[str, str] = NODE, honor_labels: bool = True) -> None:
        self.server.scrape(gpu_page(*gpus), target, at, honor_labels=honor_labels)

    def engine(self, at: float, engine: Engine, target: Mapping[str, str] = POD) -> None:
        self.server.scrape(engine_page(engine), target, at)

    def steady(self, *, watts: float = 300, until: float = END, **gpu: object) -> None:
        """A GPU that draws the same all the time."""
        at = START
        while at <= until:
            self.gpus(at, Gpu(watts=watts, millijoules=(at - START) * watts * 1000, **gpu))  # type: ignore[arg-type]
            at += EVERY

    async def read(self, survey: Survey | None = None, **options: object) -> Window:
        source = PrometheusWindow(self.server.url, timeout=Seconds(5), **options)  # type: ignore[arg-type]
        self._stack.push_async_callback(source.close)
        return await source.read(END, Seconds(LENGTH), survey or Survey())


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        server = RangeServer()
        port = await serve(stack, server.handle, ("127.0.0.1",))
        server.url = f"http://127.0.0.1:{port}"
        yield Rig(server, stack)


def only(window: Window) -> GpuWindow:
    (gpu,) = window.gpus
    return gpu


def joules(gpu: GpuWindow) -> float:
    return sum(slot.energy.value for slot in gpu.slots.values())


def seconds(gpu: GpuWindow) -> float:
    return sum(slot.seconds for slot in gpu.slots.values())


@pytest.mark.parametrize(
    ("window", "interval", "expected"),
    [
        (7 * 86_400, 15, 6300),
        (86_400, 30, 900),
        (3600, 15, 120),
        (600, 15, 60),
        (60, 1, 5),
        (60, 15, 60),
        (60, 60, 60),
        (3600, 60, 240),
    ],
)
def test_a_slot_is_a_hundredth_of_the_window_and_holds_some_samples(
    window: float, interval: float, expected: float
) -> None:
    assert slot_length(Seconds(window), Seconds(interval)) == expected


async def test_energy_is_the_counter_s_difference_over_the_time_of_its_samples(rig: Rig) -> None:
    rig.steady(watts=312.5)
    gpu = only(await rig.read())
    assert len(gpu.slots) == LENGTH / SLOT
    assert (joules(gpu), seconds(gpu)) == (312.5 * LENGTH, LENGTH)
    assert {slot.method for slot in gpu.slots.values()} == {EnergyMethod.COUNTER}


async def test_a_sample_that_is_older_than_its_edge_shortens_the_time_not_the_watts(rig: Rig) -> None:
    """Scrapes at odd moments: the first and the last counter that count lie before the window's edges."""
    for at in range(-7, LENGTH, EVERY):
        rig.gpus(START + at, Gpu(watts=200, millijoules=(at + 100) * 200_000))
    gpu = only(await rig.read())
    assert joules(gpu) / seconds(gpu) == pytest.approx(200)
    assert seconds(gpu) == pytest.approx(LENGTH, abs=EVERY)


async def test_a_holder_that_changes_within_a_slot_has_its_share_of_the_samples(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        held = 150 < at <= 300
        holder = ("llm", "chat-0") if held else None
        rig.gpus(START + at, Gpu(watts=100, millijoules=at * 100_000, active=0.5 if held else 0.0, holder=holder))
    gpu = only(await rig.read())
    weights = {
        number: {tenure.holder: tenure.weight for tenure in slot.tenures} for number, slot in sorted(gpu.slots.items())
    }
    assert weights[1] == {None: 1.0}
    assert weights[2] == {None: 0.5, CHAT: 0.5}
    assert weights[4] == {CHAT: 1.0}
    assert weights[5] == {None: 1.0}
    assert joules(gpu) == 100 * LENGTH
    half = {tenure.holder: (tenure.activity, tenure.time) for tenure in gpu.slots[2].tenures}
    assert half == {None: (0.0, 0.5), CHAT: (0.5, 0.5)}


async def test_a_counter_that_began_anew_is_bridged_by_power(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        since = at if at < 330 else at - 330
        rig.gpus(START + at, Gpu(watts=300, millijoules=since * 300_000))
    gpu = only(await rig.read())
    assert joules(gpu) == pytest.approx(300 * LENGTH)
    assert [number for number, slot in gpu.slots.items() if slot.method is EnergyMethod.POWER] == [5]


async def test_energy_of_a_gap_is_kept_and_nobody_is_named_for_it(rig: Rig) -> None:
    for at in [*range(0, 181, EVERY), *range(360, LENGTH + 1, EVERY)]:
        rig.gpus(START + at, Gpu(watts=300, millijoules=at * 300_000, holder=("llm", "chat-0")))
    gpu = only(await rig.read())
    assert joules(gpu) == pytest.approx(300 * LENGTH)
    assert [number for number, slot in sorted(gpu.slots.items()) if not slot.tenures] == [3, 4]


async def test_without_a_counter_power_is_integrated(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        rig.gpus(START + at, Gpu(watts=250, millijoules=None))
    gpu = only(await rig.read())
    assert {slot.method for slot in gpu.slots.values()} == {EnergyMethod.POWER}
    assert joules(gpu) == pytest.approx(250 * LENGTH)


async def test_a_meter_that_claims_kilowatts_is_not_believed(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        jump = 9e18 if at > 300 else 0
        rig.gpus(START + at, Gpu(watts=250, millijoules=at * 250_000 + jump))
    assert joules(only(await rig.read())) == pytest.approx(250 * LENGTH)


async def test_a_second_exporter_of_the_same_gpu_counts_once(rig: Rig) -> None:
    rig.steady(watts=300)
    for at in range(5, LENGTH + 1, EVERY):
        rig.gpus(START + at, Gpu(watts=300, millijoules=at * 300_000), target={**NODE, "instance": "10.1.0.1:9500"})
    gpu = only(await rig.read())
    assert joules(gpu) == pytest.approx(300 * LENGTH)
    assert all(len(slot.tenures) == 1 for slot in gpu.slots.values())


async def test_instances_of_a_gpu_share_its_one_counter_by_slices(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        common = {"watts": 300.0, "millijoules": at * 300_000.0, "util": None}
        held = Gpu(active=0.8, instance="1", holder=("llm", "chat-0"), **common)  # type: ignore[arg-type]
        rig.gpus(START + at, held, Gpu(active=0.0, instance="7", **common))  # type: ignore[arg-type]
    gpu = only(await rig.read())
    assert joules(gpu) == 300 * LENGTH
    parts = {t.part: (t.holder, t.weight, t.time, t.activity) for t in gpu.slots[3].tenures}
    assert parts == {"1g.10gb #1": (CHAT, 0.5, 1.0, pytest.approx(0.8)), "1g.10gb #7": (None, 0.5, 1.0, 0.0)}


async def test_pods_that_take_turns_share_a_gpu_equally(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        pods = [Gpu(watts=300, millijoules=at * 300_000, holder=("lab", name)) for name in "abcd"]
        copies = [gpu_page(pod).replace('pod="', f'vgpu="{number}",pod="') for number, pod in enumerate(pods)]
        for page in copies:
            rig.server.scrape(page, NODE, START + at, honor_labels=True)
    gpu = only(await rig.read())
    assert joules(gpu) == 300 * LENGTH
    told = {t.holder: (t.weight, t.time, t.in_turns) for t in gpu.slots[0].tenures}
    assert told == {PodRef("lab", name): (0.25, 1.0, True) for name in "abcd"}


async def test_labels_that_prometheus_renamed_name_the_workload(rig: Rig) -> None:
    exporter = {**NODE, "namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-x7k2p", "container": "exporter"}
    for at in range(0, LENGTH + 1, EVERY):
        page = Gpu(watts=300, millijoules=at * 300_000, holder=("llm", "chat-0"))
        rig.gpus(START + at, page, Gpu(uuid="GPU-2", millijoules=0), target=exporter, honor_labels=False)
    window = await rig.read()
    holders = {
        gpu.uuid: {tenure.holder for slot in gpu.slots.values() for tenure in slot.tenures} for gpu in window.gpus
    }
    assert holders == {"GPU-1": {CHAT}, "GPU-2": {None}}


@pytest.mark.parametrize(
    ("gpu", "activity", "source"),
    [
        pytest.param({"active": 0.4, "util": 90}, 0.4, ActivitySource.ENGINE_ACTIVE, id="profiling is preferred"),
        pytest.param({"active": None, "util": 90}, 0.9, ActivitySource.GPU_UTIL, id="utilisation in per cent"),
        pytest.param({"active": None, "util": None}, None, None, id="neither"),
    ],
)
async def test_activity_and_where_it_is_from(
    rig: Rig, gpu: dict[str, object], activity: float | None, source: ActivitySource | None
) -> None:
    rig.steady(**gpu)  # type: ignore[arg-type]
    (tenure,) = only(await rig.read()).slots[0].tenures
    assert (tenure.activity, tenure.activity_source) == (activity, source)


def served(survey_start: float = START - 1) -> Survey:
    pod = HoldingPod(CHAT, WorkloadRef("llm", "Deployment", "chat"), "node-a", 1, Instant(survey_start))
    return Survey(pods={CHAT: pod})


async def engine_of(rig: Rig, survey: Survey | None = None) -> Mapping[int, EngineSlot]:
    rig.steady()
    return (await rig.read(survey)).engines[CHAT]


async def test_an_engine_s_work_is_the_difference_of_its_counters_slot_by_slot(rig: Rig) -> None:
    for number, at in enumerate(range(0, LENGTH + 1, EVERY)):
        done = min(number, 8)
        rig.engine(
            START + at,
            Engine(
                prompt=done * 100,
                generated=done * 50,
                finished=done * 2,
                aborted=done,
                running=4 if done < 8 else 0,
                kv=0.25,
            ),
        )
    slots = await engine_of(rig)
    assert (slots[0].requests, slots[0].tokens) == (12, 600)
    assert (slots[5].requests, slots[5].tokens, slots[5].running, slots[5].busy) == (0, 0, 0, 0)
    assert slots[0].kv_usage == 0.25
    assert sum(slot.requests for slot in slots.values()) == 24


async def test_an_engine_that_restarted_counts_from_zero(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        rig.engine(START + at, Engine(finished=100 if at < 300 else 7, prompt=0, generated=0))
    assert sum(slot.requests for slot in (await engine_of(rig)).values()) == 7


@pytest.mark.parametrize(("started", "expected"), [(START + 100, 30), (START - 1, 0)])
async def test_a_pod_that_began_within_the_window_counted_from_zero(rig: Rig, started: float, expected: float) -> None:
    for at in range(120, LENGTH + 1, EVERY):
        rig.engine(START + at, Engine(finished=30, prompt=0, generated=0))
    assert sum(slot.requests for slot in (await engine_of(rig, served(started))).values()) == expected


async def test_how_long_an_engine_was_busy_is_told_apart_from_how_much(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        rig.engine(START + at, Engine(running=40 if at % 60 == 30 else 0))
    slot = (await engine_of(rig))[5]
    assert slot.running == 10
    assert slot.busy == pytest.approx(0.25, abs=0.05)


async def test_engines_of_one_pod_are_summed_and_one_that_is_scraped_twice_counts_once(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        page = engine_page(Engine(rank="0", running=3), Engine(rank="1", running=5))
        rig.server.scrape(page, POD, START + at)
        rig.server.scrape(page, {**POD, "job": "again", "instance": "10.0.0.1:8001"}, START + at)
    slot = (await engine_of(rig))[0]
    assert (slot.running, slot.engines) == (8, 2)


async def test_older_names_of_the_cache_are_read(rig: Rig) -> None:
    for at in range(0, LENGTH + 1, EVERY):
        rig.engine(START + at, Engine(kv=0.5, rename={"vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc"}))
    assert (await engine_of(rig))[0].kv_usage == 0.5


async def test_an_engine_without_labels_is_found_by_its_address(rig: Rig) -> None:
    known = served()
    pod = HoldingPod(CHAT, known.pods[CHAT].workload, "node-a", 1, Instant(0), address="10.0.0.1")
    for at in range(0, LENGTH + 1, EVERY):
        rig.engine(START + at, Engine(running=2), target={"job": "vllm", "instance": "10.0.0.1:8000"})
    assert (await engine_of(rig, Survey(pods={CHAT: pod})))[0].running == 2


@pytest.mark.parametrize("gpus", [1, 60])
async def test_the_number_of_queries_does_not_grow_with_the_cluster(rig: Rig, gpus: int) -> None:
    for at in (0, 300, 600):
        rig.gpus(START + at, *(Gpu(uuid=f"GPU-{number}", millijoules=at * 1000) for number in range(gpus)))
    assert len((await rig.read()).gpus) == gpus
    assert len(rig.server.ranges) == 17
    assert len(rig.server.asked) == 2


async def test_a_week_of_a_gpu_is_no_longer_than_a_day_of_it(rig: Rig) -> None:
    sizes = []
    for length in (86_400, 7 * 86_400):
        rig.server.sent_bytes = 0
        for at in range(0, length + 1, 6300):
            rig.gpus(END - length + at, Gpu(millijoules=at * 100))
        source = PrometheusWindow(rig.server.url)
        await source.read(END, Seconds(length), Survey())
        await source.close()
        sizes.append(rig.server.sent_bytes)
    assert sizes[1] < 1.2 * 96 * 40 + 1000
    assert sizes[0] <= sizes[1] * 1.2


async def test_matchers_and_headers_go_with_every_query(rig: Rig, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret")
    await rig.read(matchers={"cluster": "west"}, access=Access({"X-Scope-OrgID": "gpu"}, token))
    assert all('cluster="west"' in query for query in [*rig.server.ranges, *rig.server.asked])
    assert rig.server.headers
    assert all((one["X-Scope-OrgID"], one["Authorization"]) == ("gpu", "Bearer secret") for one in rig.server.headers)


async def test_a_query_that_fails_is_told_and_the_others_stand(rig: Rig) -> None:
    rig.steady()
    rig.server.trouble_with["DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"] = Trouble.STATUS_422
    window = await rig.read()
    assert joules(only(window)) == 300 * LENGTH
    (fault,) = window.faults
    assert (fault.reason, "PIPE_TENSOR" in fault.detail) == (Reason.BAD_ANSWER, True)


async def test_a_prometheus_that_does_not_answer_gives_an_empty_window_and_says_so(rig: Rig) -> None:
    rig.server.trouble = Trouble.STATUS_503
    window = await rig.read()
    assert (window.gpus, window.engines) == ((), {})
    assert [fault.reason for fault in window.faults] == [Reason.SOURCE_UNREACHABLE]


async def test_a_prometheus_without_gpu_series_says_so(rig: Rig) -> None:
    (fault,) = (await rig.read()).faults
    assert fault.reason is Reason.NO_SERIES
    assert "dcgm-exporter" in fault.detail


def test_a_label_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="label name"):
        PrometheusWindow("http://localhost:9090", matchers={"a-b": "c"})
