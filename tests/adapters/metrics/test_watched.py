"""A window of the present: the same pages looked at twice or more, directly or by way of an API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fallow.adapters.metrics.proxied import ProxiedSource
from fallow.adapters.metrics.watched import Look, look, watched
from fallow.domain.errors import Refused
from fallow.domain.readings import ActivitySource
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.windows import Window
from fallow.ports import ReadScope
from tests.adapters.metrics.pages import Engine, Gpu, engine_page, gpu_page
from tests.adapters.metrics.rigs import NOW, POD, DirectRig, World


@pytest.fixture
async def rig() -> AsyncIterator[DirectRig]:
    async with AsyncExitStack() as stack:
        yield await DirectRig.start(stack)


async def watch(rig: DirectRig, *worlds: World, every: float = 30) -> Window:
    looks: list[Look] = []
    scope = ReadScope()
    for number, world in enumerate(worlds):
        scope = rig.show(world)
        looks.append(await look(rig.source, Instant(NOW + number * every), scope, exporter_port=rig.port))
    return watched(looks, scope.nodes, "two looks")


def world(
    *, watts: float = 300, joules: float = 0, done: float = 0, running: float = 0, holder: tuple[str, str] | None = None
) -> World:
    page = Gpu(watts=watts, millijoules=joules * 1000, active=0.4, holder=holder)
    engine = Engine(running=running, finished=done, prompt=done * 10, generated=done * 20)
    return World(engines={POD: (engine,)}, nodes={"node-a": (page,)})


async def test_energy_and_work_are_differences_between_looks(rig: DirectRig) -> None:
    window = await watch(rig, world(), world(joules=9000, done=3, running=2), world(joules=18_000, done=3))
    (gpu,) = window.gpus
    assert [slot.energy.value for slot in gpu.slots.values()] == [9000, 9000]
    assert sum(slot.seconds for slot in gpu.slots.values()) == pytest.approx(60, abs=1)
    first, second = window.engines[POD].values()
    assert (first.requests, first.tokens, first.running, first.busy) == (3, 90, 2, 1)
    assert (second.worked, second.running, second.busy) == (False, 0, 0)


async def test_engines_are_looked_at_more_often_and_averaged(rig: DirectRig) -> None:
    looks = []
    for number, running in enumerate((9, 4, 0, 2)):
        scope = rig.show(world(joules=number * 3000, running=running, done=number))
        whole = number in {0, 3}
        at = Instant(NOW + number * 10)
        looks.append(await look(rig.source, at, scope, exporter_port=rig.port, whole=whole))
    window = watched(looks, scope.nodes, "four looks")
    slot = window.engines[POD][0]
    assert (slot.running, slot.requests) == (2, 3)
    assert slot.busy == pytest.approx(2 / 3)
    assert window.gpus[0].slots[0].energy.value == 9000


async def test_holders_and_activity_are_those_of_the_later_look(rig: DirectRig) -> None:
    window = await watch(rig, world(), world(joules=9000, holder=("llm", "chat-0")))
    (tenure,) = window.gpus[0].slots[0].tenures
    assert (tenure.holder, tenure.activity, tenure.activity_source) == (POD, 0.4, ActivitySource.ENGINE_ACTIVE)


async def test_pipes_are_read_where_they_are_exported(rig: DirectRig) -> None:
    pipes = 'DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{gpu="0",UUID="GPU-1",modelName="NVIDIA H100"} 0.25\n'
    pages = [gpu_page(Gpu(millijoules=at)) + pipes for at in (0, 1000)]
    window = await watch(rig, *(World(nodes={"node-a": page}) for page in pages))
    assert window.gpus[0].slots[0].tenures[0].tensor == 0.25


async def test_a_node_that_is_down_is_named_once_and_the_others_are_seen(rig: DirectRig) -> None:
    pages = [
        World(nodes={"node-a": (Gpu(millijoules=at),), "node-b": (Gpu(uuid="GPU-2"),)}, down={"node-b"})
        for at in (0, 1000)
    ]
    window = await watch(rig, *pages)
    assert [gpu.node for gpu in window.gpus] == ["node-a"]
    (fault,) = window.faults
    assert (fault.reason, "node-b" in fault.detail) == (Reason.SOURCE_UNREACHABLE, True)


async def test_a_page_without_vllm_is_no_engine(rig: DirectRig) -> None:
    pages = [
        World(engines={POD: "# a notebook's page\nup 1\n"}, nodes={"node-a": (Gpu(millijoules=at),)}) for at in (0, 9)
    ]
    assert (await watch(rig, *pages)).engines == {}


def test_one_look_is_no_window() -> None:
    with pytest.raises(ValueError, match="two looks"):
        watched([Look(NOW, (), {}, None)], {}, "one look")


async def test_by_the_api_server_each_page_has_the_path_of_its_pod_or_node() -> None:
    asked: list[str] = []

    async def fetch(path: str) -> str:
        asked.append(path)
        if "pods/chat-0" in path:
            return engine_page(Engine(running=1))
        if "node-b" in path:
            raise Refused("GET node-b: 403 nodes/proxy is forbidden")
        return gpu_page(Gpu(millijoules=len(asked) * 1000))

    places = {
        "10.0.0.1": "/api/v1/namespaces/llm/pods/chat-0",
        "10.1.0.1": "/api/v1/namespaces/gpu/pods/nvidia-dcgm-exporter-x",
        "10.1.0.2": "/api/v1/nodes/node-b",
    }
    source = ProxiedSource(fetch, places)
    scope = World(engines={POD: (Engine(),)}, nodes={"node-a": (), "node-b": ()}).scope(
        {POD: "10.0.0.1", "node-a": "10.1.0.1", "node-b": "10.1.0.2"}.__getitem__, 8000
    )
    looks = [await look(source, Instant(NOW + at), scope, exporter_port=9400) for at in (0, 30)]
    await source.close()
    window = watched(looks, scope.nodes, "proxied")
    assert set(asked) == {
        "/api/v1/namespaces/llm/pods/chat-0:8000/proxy/metrics",
        "/api/v1/namespaces/gpu/pods/nvidia-dcgm-exporter-x:9400/proxy/metrics",
        "/api/v1/nodes/node-b:9400/proxy/metrics",
    }
    assert [gpu.node for gpu in window.gpus] == ["node-a"]
    assert window.engines[POD][0].running == 1
    assert "403" in window.faults[0].detail
