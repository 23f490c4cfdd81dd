"""The control endpoint: the truth, faults that change what scrapes get, and traffic at run time."""

import aiohttp
import pytest

from fallow.domain.readings import PodRef
from fallow.twin.traces import trace_from
from tests.adapters.twin.rig import NODE, Rig, until
from tests.support.twin import CHAT

ASK = {"model": "chat", "prompt": "a", "max_tokens": 3}
RATE = {"namespace": "demo", "service": "chat", "traffic": {"seed": 3, "rate": {"constant": 50}}}


async def test_the_state_is_the_truth_of_the_physics(rig: Rig) -> None:
    await rig.post(rig.vllm("/v1/completions"), ASK)
    state = await rig.json(rig.controls("/state?ttft=5&itl=1"))
    service = next(s for s in state["services"] if s["service"] == "chat")
    assert (service["arrivals"], service["done"], service["generated_tokens"]) == (1, 1, 3)
    assert service["attainment"] == 1
    assert state["simulated"] is True
    assert len(state["gpus"]) == 8
    assert sum(gpu["joules"] for gpu in state["gpus"]) == pytest.approx(state["cluster"]["joules"])
    assert state["pods"][0]["gpus"] == [state["gpus"][0]["uuid"]]
    assert state["gpus"][0]["holder"] == "demo/chat-0"


async def test_objectives_must_be_numbers(rig: Rig) -> None:
    async with rig.client.get(rig.controls("/state?ttft=fast")) as answer:
        assert answer.status == 400


async def test_energy_that_a_scrape_shows_is_that_of_the_state(rig: Rig) -> None:
    await rig.text(rig.dcgm("/metrics"))
    before = await rig.json(rig.controls("/state"))
    text = await rig.text(rig.dcgm("/metrics"))
    after = await rig.json(rig.controls("/state"))
    line = next(line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{"))
    shown = int(line.rsplit(" ", 1)[1]) / 1000
    assert before["gpus"][0]["sampled_counter_joules"] - 0.001 <= shown <= after["gpus"][0]["counter_joules"]


@pytest.mark.parametrize("mode", ["down", "nan", "frozen", "no_pod_labels"])
async def test_faults_of_dcgm_change_what_a_scrape_gets(rig: Rig, mode: str) -> None:
    status, faults = await rig.post(rig.controls("/faults"), {"dcgm": {"node": "gpu-1", "mode": mode}})
    assert (status, faults["dcgm"]) == (200, {"gpu-1": mode})
    if mode == "down":
        with pytest.raises(aiohttp.ClientConnectionError):
            await rig.text(rig.dcgm("/metrics"))
        return
    first = await rig.text(rig.dcgm("/metrics"))
    sampled = rig.world.now
    rig.world.advance(sampled + 0.5)
    second = await rig.text(rig.dcgm("/metrics"))
    assert (first == second) == (mode in {"frozen", "nan"})
    assert ("NaN" in first) == (mode == "nan")
    assert ("pod=" in first) == (mode != "no_pod_labels")


@pytest.mark.parametrize(("mode", "absent"), [("no_energy", "TOTAL_ENERGY"), ("no_profiling", "DCGM_FI_PROF_")])
async def test_some_series_can_be_left_out(rig: Rig, mode: str, absent: str) -> None:
    assert absent in await rig.text(rig.dcgm("/metrics"))
    await rig.post(rig.controls("/faults"), {"dcgm": {"node": "gpu-1", "mode": mode}})
    text = await rig.text(rig.dcgm("/metrics"))
    assert absent not in text
    assert "DCGM_FI_DEV_POWER_USAGE" in text


@pytest.mark.parametrize("mode", ["down", "nan", "frozen"])
async def test_faults_of_a_host_meter_leave_the_gpus_alone(rig: Rig, mode: str) -> None:
    page = rig.on_node(rig.ports.rapl)
    await rig.post(rig.controls("/faults"), {"host": {"node": "*", "mode": mode}})
    assert "NaN" not in await rig.text(rig.dcgm("/metrics"))
    if mode == "down":
        with pytest.raises(aiohttp.ClientConnectionError):
            await rig.text(page)
        return
    first, sampled = await rig.text(page), rig.world.now
    rig.world.advance(sampled + 0.1)
    assert await rig.text(page) == first
    assert ("NaN" in first) == (mode == "nan")


async def test_the_account_adds_up_over_pods_that_are_gone(rig: Rig) -> None:
    await rig.post(rig.vllm("/v1/completions"), ASK)
    rig.world.remove_pod(PodRef("demo", "chat-0"))
    account = await rig.json(rig.controls("/energy"))
    gone = next(pod for pod in account["pods"] if pod["pod"] == "chat-0")
    assert (gone["present"], gone["service"], gone["served"]["generated_tokens"]) == (False, "chat", 3)
    held = sum(pod["joules"]["total"] for pod in account["pods"])
    cluster = account["cluster"]
    assert held > 0
    assert held + cluster["unheld_joules"] == pytest.approx(cluster["gpu_joules"])
    assert sum(gpu["joules"] for gpu in account["gpus"]) == pytest.approx(cluster["gpu_joules"])
    assert [node["host_joules"] for node in account["nodes"]] == [cluster["host_joules"]]


@pytest.mark.parametrize("what", ["gpu", "node", "host"])
async def test_energy_counters_start_anew_on_demand_and_the_truth_goes_on(rig: Rig, what: str) -> None:
    gpu, host = rig.world.fleet.gpus_of("gpu-1")[0], rig.world.fleet.hosts["gpu-1"]
    before, other = (gpu.joules, host.joules), (gpu.counter_joules, host.package_joules)
    who = {"gpu": gpu.uuid}.get(what, "gpu-1")
    assert await rig.post(rig.controls("/reset"), {what: who}) == (200, {"reset": {"node": 8}.get(what, 1)})
    assert (gpu.joules, host.joules) >= before
    assert (gpu.counter_joules < other[0]) == (what != "host")
    assert (host.package_joules < other[1]) == (what == "host")


@pytest.mark.parametrize("body", [{}, {"node": "elsewhere"}, {"gpu": "x", "node": "gpu-1"}, []])
async def test_a_reset_of_nothing_is_refused(rig: Rig, body: object) -> None:
    assert (await rig.post(rig.controls("/reset"), body))[0] == 400


async def test_faults_of_vllm_change_what_a_scrape_gets_until_cleared(rig: Rig) -> None:
    await rig.post(rig.controls("/faults"), {"vllm": {"pod": "demo/chat-0", "mode": "nan"}})
    assert "vllm:num_requests_running" in await rig.text(rig.vllm("/metrics"))
    assert "NaN" in await rig.text(rig.vllm("/metrics"))
    await rig.post(rig.controls("/faults"), {"vllm": {"pod": "chat-0", "mode": "down"}})
    await rig.post(rig.controls("/faults"), {"vllm": {"pod": "demo/chat-0", "mode": "none"}})
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.vllm("/metrics"))
    async with rig.client.delete(rig.controls("/faults")) as answer:
        assert await answer.json() == {"dcgm": {}, "host": {}, "vllm": {}}
    assert "NaN" not in await rig.text(rig.vllm("/metrics"))


async def test_a_hanging_engine_never_answers(rig: Rig) -> None:
    await rig.post(rig.controls("/faults"), {"vllm": {"pod": "*", "mode": "hang"}})
    with pytest.raises(TimeoutError):
        await rig.client.get(rig.vllm("/metrics"), timeout=aiohttp.ClientTimeout(total=0.2))


async def test_a_wrong_fault_is_refused_with_what_to_write(rig: Rig) -> None:
    status, answer = await rig.post(rig.controls("/faults"), {"dcgm": {"node": NODE, "mode": "slow"}})
    assert status == 400
    assert "write one of down, nan, frozen, no_pod_labels, no_energy, no_profiling, none" in answer["error"]


async def test_traffic_begins_at_run_time_is_recorded_and_stops(rig: Rig) -> None:
    status, _ = await rig.post(rig.controls("/traffic"), RATE)
    assert status == 200
    assert await rig.json(rig.controls("/traffic")) == [RATE]
    await until(lambda: len(rig.world.gateways[CHAT].arrivals) >= 10)
    assert (await rig.post(rig.controls("/traffic"), RATE | {"traffic": None}))[1] == []
    arrived = len(rig.world.gateways[CHAT].arrivals)
    rows = trace_from(await rig.text(rig.controls("/trace?namespace=demo&service=chat")))
    assert len(rows) == arrived
    assert [row.prompt for row in rows] == [row.prompt for row in rig.world.gateways[CHAT].arrivals]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"service": "chat"}, 'write {"namespace"'),
        (RATE | {"traffic": {"rate": {}}}, "traffic.rate: write constant, points or daily"),
        (RATE | {"traffic": {"trace": {"file": "gone.csv"}}}, "gone.csv: cannot be read"),
    ],
)
async def test_wrong_traffic_is_refused(rig: Rig, body: object, message: str) -> None:
    status, answer = await rig.post(rig.controls("/traffic"), body)
    assert status == 400
    assert message in answer["error"]


async def test_a_trace_of_an_unknown_service_is_refused(rig: Rig) -> None:
    async with rig.client.get(rig.controls("/trace?namespace=demo&service=gone")) as answer:
        assert answer.status == 400


async def test_incidents_happen_to_the_engine_itself(rig: Rig) -> None:
    status, shown = await rig.post(rig.controls("/faults"), {"engine": {"pod": "demo/chat-0", "mode": "hang"}})
    assert (status, shown["engine"]) == (200, {"demo/chat-0": "hang"})
    await rig.post(rig.controls("/faults"), {"engine": {"pod": "demo/chat-0", "mode": "crash"}})
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.vllm("/metrics"))
    await rig.post(rig.controls("/faults"), {"node": {"node": "gpu-1", "mode": "lost"}})
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.dcgm("/metrics"))
    async with rig.client.delete(rig.controls("/faults")) as answer:
        assert "node" not in await answer.json()
    assert "DCGM_FI_DEV_XID_ERRORS" in await rig.text(rig.dcgm("/metrics"))
    status, shown = await rig.post(rig.controls("/faults"), {"gpu": {"gpu": "GPU-none", "mode": "79"}})
    assert (status, shown["error"]) == (400, "no gpu 'GPU-none' here")
