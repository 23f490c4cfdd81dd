"""The twin as vLLM, dcgm-exporter and gateway, asked at each pod's and node's own address."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from fallow.domain.readings import PodRef
from fallow.twin.host import HostMeter
from fallow.twin.physics.engine import EngineState
from fallow.twin.physics.requests import FinishReason
from fallow.twin.pods import PodPhase
from tests.adapters.twin.rig import NOBODY, OTHER_POD, POD, Rig, until
from tests.support.twin import CHAT, a_pod

ASK = {"model": "chat", "prompt": "What does land need that has borne much?", "max_tokens": 20}
CHAT_ASK = {"model": "chat", "messages": [{"role": "user", "content": "Rest?"}], "max_tokens": 12}


async def test_each_address_answers_for_its_own_pod(rig: Rig) -> None:
    first, second = await rig.text(rig.vllm("/metrics")), await rig.text(rig.vllm("/metrics", OTHER_POD))
    assert 'vllm:num_requests_running{engine="0",model_name="chat"} 0.0' in first
    assert 'model_name="other"' in second


@pytest.mark.parametrize("path", ["/health", "/ping"])
async def test_health_is_an_empty_200(rig: Rig, path: str) -> None:
    assert await rig.text(rig.vllm(path)) == ""


async def test_models_version_and_load_are_told(rig: Rig) -> None:
    models = await rig.json(rig.vllm("/v1/models"))
    assert models["data"][0]["id"] == "chat"
    assert await rig.json(rig.vllm("/version")) == {"version": "0.32.0"}
    assert await rig.json(rig.vllm("/load")) == {"server_load": 0}


async def test_an_address_without_a_listening_pod_resets_the_connection(rig: Rig) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.vllm("/metrics", NOBODY))
    rig.world.remove_pod(PodRef("demo", "chat-0"))
    rig.world.put_pod(a_pod(phase=PodPhase.LOADING, uid="next", address=POD))
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.vllm("/health"))


async def test_a_completion_enters_the_engine_and_comes_back(rig: Rig) -> None:
    status, answer = await rig.post(rig.vllm("/v1/completions"), ASK)
    assert status == 200
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert len(answer["choices"][0]["text"].split()) == 20
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
    text = await rig.text(rig.vllm("/metrics"))
    assert 'vllm:generation_tokens_total{engine="0",model_name="chat"} 20.0\n' in text
    assert 'vllm:request_success_total{engine="0",finished_reason="length",model_name="chat"} 1.0\n' in text


async def test_a_chat_completion_has_a_message(rig: Rig) -> None:
    status, answer = await rig.post(rig.vllm("/v1/chat/completions"), CHAT_ASK)
    assert (status, answer["object"]) == (200, "chat.completion")
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 12


@pytest.mark.parametrize(("path", "ask"), [("/v1/completions", ASK), ("/v1/chat/completions", CHAT_ASK)])
async def test_a_stream_comes_in_pieces_and_ends_as_openai_does(rig: Rig, path: str, ask: dict[str, Any]) -> None:
    ask = ask | {"stream": True, "max_tokens": 60, "stream_options": {"include_usage": True}}
    async with rig.client.post(rig.vllm(path), json=ask) as answer:
        assert answer.content_type == "text/event-stream"
        events = [line.decode().strip().removeprefix("data: ") async for line in answer.content if line.strip()]
    *chunks, usage, end = events
    pieces = [json.loads(chunk)["choices"][0] for chunk in chunks]
    words = "".join(piece.get("text") or piece.get("delta", {}).get("content", "") for piece in pieces).split()
    assert end == "[DONE]"
    assert len(words) == 60
    assert len(pieces) > 1
    assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1]["finish_reason"] == "length"
    assert json.loads(usage)["usage"]["completion_tokens"] == 60


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (ASK | {"model": "elsewhere"}, 404, "The model `elsewhere` does not exist."),
        (ASK | {"max_tokens": 0}, 400, "max_tokens must be at least 1"),
        ({"model": "chat"}, 400, "prompt must be a text or a list"),
        (ASK | {"prompt": "a" * 200_000}, 400, "maximum context length is 32768 tokens"),
        ([], 400, "the body must be a JSON object"),
    ],
)
async def test_a_wrong_request_is_refused_as_vllm_does(rig: Rig, body: Any, status: int, message: str) -> None:
    got, answer = await rig.post(rig.vllm("/v1/completions"), body)
    assert got == status
    assert message in answer["error"]["message"]


async def test_a_client_that_leaves_aborts_its_request(rig: Rig) -> None:
    engine = rig.world.fleet.pods[PodRef("demo", "chat-0")].engine
    assert engine is not None
    async with rig.client.post(rig.vllm("/v1/completions"), json=ASK | {"stream": True, "max_tokens": 9000}) as answer:
        await answer.content.readline()
        assert engine.running == 1
        answer.close()
    await until(lambda: engine.running == 0)
    assert engine.counters.finished[FinishReason.ABORT] == 1


async def test_sleep_and_wake_are_seen_in_the_metrics(rig: Rig) -> None:
    assert await rig.post(rig.vllm("/sleep?level=1")) == (200, {"status": "sleeping", "level": 1})
    assert await rig.json(rig.vllm("/is_sleeping")) == {"is_sleeping": True}
    text = await rig.text(rig.vllm("/metrics"))
    assert 'vllm:engine_sleep_state{engine="0",model_name="chat",sleep_state="weights_offloaded"} 1.0' in text
    assert await rig.text(rig.vllm("/health")) == ""
    partly = await rig.post(rig.vllm("/wake_up?tags=weights"))
    assert partly == (200, {"status": "sleeping", "tags": ["weights"]})
    engine = rig.world.fleet.pods[PodRef("demo", "chat-0")].engine
    assert engine is not None
    waking = asyncio.create_task(rig.post(rig.vllm("/wake_up")))
    await until(lambda: engine.state is EngineState.WAKING)
    rig.world.advance(rig.world.now + 10)
    status, answer = await waking
    assert (status, answer["status"]) == (200, "awake")
    assert await rig.json(rig.vllm("/is_sleeping")) == {"is_sleeping": False}


async def test_sleep_is_not_there_without_the_mode(rig: Rig) -> None:
    assert (await rig.post(rig.vllm("/sleep", OTHER_POD)))[0] == 404
    assert (await rig.post(rig.vllm("/wake_up", OTHER_POD)))[0] == 404


async def test_a_level_that_does_not_exist_is_refused(rig: Rig) -> None:
    status, answer = await rig.post(rig.vllm("/sleep?level=7"))
    assert (status, answer["error"]["message"]) == (400, "level must be 0, 1 or 2, got '7'.")


async def test_each_node_answers_for_its_gpus(rig: Rig) -> None:
    text = await rig.text(rig.dcgm("/metrics"))
    power = [line for line in text.splitlines() if line.startswith("DCGM_FI_DEV_POWER_USAGE{")]
    assert len(power) == 8
    assert 'namespace="demo",pod="chat-0"' in power[0]
    assert await rig.text(rig.dcgm("/health")) == "OK"
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.dcgm("/metrics", POD))


async def test_a_node_shows_its_cpu_and_memory_as_its_meter_does(rig: Rig) -> None:
    text = await rig.text(rig.on_node(rig.ports.rapl))
    assert 'node_rapl_package_joules_total{index="1",path="/sys/class/powercap/intel-rapl:1"}' in text
    assert 'node_rapl_dram_joules_total{index="0",path="/sys/class/powercap/intel-rapl:0:0"}' in text
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.on_node(rig.ports.kepler))
    rig.world.put_node(replace(rig.world.fleet.nodes["gpu-1"], host_meter=HostMeter.KEPLER))
    kepler = await rig.text(rig.on_node(rig.ports.kepler))
    assert (
        'kepler_node_cpu_joules_total{node_name="gpu-1",path="/sys/class/powercap/intel-rapl:0",zone="dram"}' in kepler
    )
    with pytest.raises(aiohttp.ClientConnectionError):
        await rig.text(rig.on_node(rig.ports.rapl))


async def test_the_node_agent_names_who_holds_each_gpu(rig: Rig) -> None:
    gpu = rig.world.fleet.gpus_of("gpu-1")[0]
    holder = (
        f'fallow_agent_gpu_holder{{GPU_I_ID="",UUID="{gpu.uuid}",container="main",namespace="demo",pod="chat-0"}} 1'
    )
    assert holder in await rig.text(rig.on_node(rig.ports.agent))


async def test_the_gateway_holds_requests_and_counts_them(rig: Rig) -> None:
    for name in ("chat-0", "chat-1"):
        rig.world.remove_pod(PodRef("demo", name))
    asking = asyncio.create_task(rig.post(rig.gateway("/demo/chat/v1/completions"), ASK))
    await until(lambda: rig.world.gateways[CHAT].waiting > 0)
    held = await rig.text(rig.gateway("/metrics"))
    rig.world.put_pod(a_pod(uid="next", address=POD))
    status, answer = await asking
    assert 'gateway_requests_waiting{namespace="demo",service="chat"} 1.0\n' in held
    assert "# TYPE gateway_requests_waiting gauge\n" in held
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 20
    assert 'gateway_requests_waiting{namespace="demo",service="chat"} 0.0\n' in await rig.text(rig.gateway("/metrics"))


async def test_the_gateway_knows_its_services(rig: Rig) -> None:
    status, answer = await rig.post(rig.gateway("/demo/nothing/v1/completions"), ASK)
    assert (status, answer["error"]["message"]) == (404, "No service demo/nothing here.")
