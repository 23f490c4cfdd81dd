"""The same small world shown to each metric source in its own way: scraped by Prometheus, served by pods, or said."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from fallow.adapters.metrics.direct import DirectSource, ScrapeLimits
from fallow.adapters.metrics.prometheus import PrometheusSource
from fallow.domain.figures import Missing
from fallow.domain.readings import Operations, PodRef, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.ports import EngineTarget, MetricSource, ReadScope
from tests.adapters.metrics.pages import Engine, Gpu, engine_page, gpu_page
from tests.adapters.metrics.prometheus_server import PrometheusServer
from tests.adapters.metrics.trouble import Trouble, answer_with
from tests.support.metrics import FakeMetricSource

NOW = Instant(1_800_000_000.0)
SCRAPED = Instant(NOW - 7.0)
TIMEOUT = Seconds(0.5)
# where no answer comes in time anyway
SHORT_TIMEOUT = Seconds(0.1)
POD = PodRef("llm", "chat-0")
OTHER = PodRef("llm", "chat-1")
QUEUE = "gateway_queue_size"


@dataclass
class World:
    """An engine page may be given as text. A pod or node in `down` exists and cannot be scraped."""

    engines: Mapping[PodRef, tuple[Engine, ...] | str] = field(default_factory=dict)
    nodes: Mapping[str, tuple[Gpu, ...] | str] = field(default_factory=dict)
    queue: tuple[tuple[str, float], ...] = ()
    down: set[PodRef | str] = field(default_factory=set)
    wake_metrics: frozenset[str] = frozenset()

    def engine_text(self, pod: PodRef) -> str:
        page = self.engines[pod]
        return page if isinstance(page, str) else engine_page(*page)

    def gpu_text(self, node: str) -> str:
        page = self.nodes[node]
        return page if isinstance(page, str) else gpu_page(*page)

    def queue_text(self) -> str:
        lines = [f'{QUEUE}{{inference_pool="{pool}"}} {value}\n' for pool, value in self.queue]
        return f"# TYPE {QUEUE} gauge\n" + "".join(lines)

    def scope(self, address_of: Callable[[PodRef | str], str], port: int) -> ReadScope:
        return ReadScope(
            engines=tuple(EngineTarget(pod, address_of(pod), port) for pod in self.engines),
            nodes={node: address_of(node) for node in self.nodes},
            waiting_metrics=self.wake_metrics,
        )


class Rig(Protocol):
    @property
    def source(self) -> MetricSource: ...

    async def read(self, world: World) -> Readings: ...

    def meet(self, trouble: Trouble | None) -> None:
        """Everything that is asked from now on answers like this."""


class PrometheusRig:
    def __init__(self, source: PrometheusSource, server: PrometheusServer) -> None:
        self.source = source
        self.server = server

    @classmethod
    async def start(cls, stack: AsyncExitStack, waits: Seconds = TIMEOUT) -> PrometheusRig:
        server = PrometheusServer()
        port = await serve(stack, server.handle, ("127.0.0.1",))
        server.url = f"http://127.0.0.1:{port}"
        source = PrometheusSource(server.url, timeout=waits)
        stack.push_async_callback(source.close)
        return cls(source, server)

    async def read(self, world: World) -> Readings:
        return await self.source.read(NOW, self.scrape(world))

    def scrape(self, world: World) -> ReadScope:
        self.server.series.clear()
        for number, pod in enumerate(world.engines):
            if pod not in world.down:
                target = {
                    "job": "vllm",
                    "instance": f"10.0.0.{number}:8000",
                    "namespace": pod.namespace,
                    "pod": pod.name,
                }
                self.server.scrape(world.engine_text(pod), target, SCRAPED)
        for number, node in enumerate(world.nodes):
            if node not in world.down:
                target = {"job": "dcgm-exporter", "instance": f"10.1.0.{number}:9400", "node": node}
                self.server.scrape(world.gpu_text(node), target, SCRAPED, honor_labels=True)
        self.server.scrape(world.queue_text(), {"job": "gateway", "instance": "10.2.0.1:80"}, SCRAPED)
        pods, nodes = list(world.engines), list(world.nodes)
        return world.scope(
            lambda key: f"10.0.0.{pods.index(key)}" if isinstance(key, PodRef) else f"10.1.0.{nodes.index(key)}", 8000
        )

    def meet(self, trouble: Trouble | None) -> None:
        self.server.trouble = trouble


class DirectRig:
    """Each pod and node has a loopback address of its own, all with one port."""

    ADDRESSES = tuple(f"127.0.0.{number}" for number in range(2, 12))

    def __init__(self, source: DirectSource, port: int) -> None:
        self.source = source
        self.port = port
        self.pages: dict[str, str] = {}
        self.trouble: Trouble | None = None
        self.trouble_at: dict[str, Trouble] = {}

    @classmethod
    async def start(cls, stack: AsyncExitStack, limits: ScrapeLimits | None = None) -> DirectRig:
        rigs: list[DirectRig] = []

        async def handle(request: web.Request) -> web.StreamResponse:
            return await rigs[0].handle(request)

        port = await serve(stack, handle, ("127.0.0.1", *cls.ADDRESSES))
        source = DirectSource(
            limits or ScrapeLimits(timeout=TIMEOUT, deadline=Seconds(5), max_bytes=200_000),
            exporter_port=port,
            gateways=(f"http://127.0.0.1:{port}/metrics",),
        )
        stack.push_async_callback(source.close)
        rigs.append(cls(source, port))
        return rigs[0]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        trouble = self.trouble_at.get(address, self.trouble)
        if trouble is not None:
            return await answer_with(trouble, request)
        if address not in self.pages:
            return web.Response(status=404)
        return web.Response(text=self.pages[address])

    async def read(self, world: World) -> Readings:
        return await self.source.read(NOW, self.show(world))

    def show(self, world: World) -> ReadScope:
        keys: list[PodRef | str] = [*world.engines, *world.nodes]
        address_of = dict(zip(keys, self.ADDRESSES, strict=False))
        self.pages = {address_of[pod]: world.engine_text(pod) for pod in world.engines}
        self.pages |= {address_of[node]: world.gpu_text(node) for node in world.nodes}
        self.pages["127.0.0.1"] = world.queue_text()
        self.trouble_at = {address_of[key]: Trouble.STATUS_503 for key in world.down}
        return world.scope(address_of.__getitem__, self.port)

    def meet(self, trouble: Trouble | None) -> None:
        self.trouble = trouble


class FakeRig:
    def __init__(self) -> None:
        self.source = FakeMetricSource()

    async def read(self, world: World) -> Readings:
        return await self.source.read(NOW, self.say(world))

    def say(self, world: World) -> ReadScope:
        for pod, engines in world.engines.items():
            if pod in world.down:
                self.source.pod_faults[pod] = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")
            elif not isinstance(engines, str):
                self._serve(pod, engines)
        for node, gpus in world.nodes.items():
            if node not in world.down and not isinstance(gpus, str):
                for gpu in gpus:
                    self.source.run_gpu(
                        gpu.uuid,
                        node=node,
                        watts=gpu.watts or 0,
                        joules=(gpu.millijoules or 0) / 1000,
                        active=gpu.active or 0,
                        holder=PodRef(*gpu.holder) if gpu.holder else None,
                        model=gpu.model,
                    )
        self.source.waiting = []
        for pool, value in world.queue:
            self.source.hold_requests(QUEUE, {"inference_pool": pool}, value)
        return world.scope(str, 8000)

    def _serve(self, pod: PodRef, engines: tuple[Engine, ...]) -> None:
        if not all(math.isfinite(engine.running) for engine in engines):
            self.source.pod_faults[pod] = Missing(Reason.NOT_A_NUMBER, "vllm:num_requests_running is nan")
            return
        self.source.serve(
            pod,
            running=sum(e.running for e in engines),
            waiting=sum(e.waiting for e in engines),
            kv_usage=max(e.kv for e in engines),
            prompt_tokens=sum(e.prompt for e in engines),
            generated_tokens=sum(e.generated for e in engines),
            requests=sum(e.finished + e.aborted for e in engines),
            failed=sum(e.aborted for e in engines),
            asleep=all(e.awake == 0 for e in engines),
            model_name=engines[0].model,
            operations=Operations(
                sum(e.flops for e in engines) / len(engines), sum(e.read + e.wrote for e in engines) / len(engines)
            ),
        )

    def meet(self, trouble: Trouble | None) -> None:
        if trouble is None:
            self.source.recover()
        else:
            self.source.fail()


async def serve(
    stack: AsyncExitStack,
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    addresses: tuple[str, ...],
) -> int:
    """One server at several loopback addresses with the same free port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    first = web.TCPSite(runner, addresses[0], 0)
    await first.start()
    port = int(runner.addresses[0][1])
    for address in addresses[1:]:
        await web.TCPSite(runner, address, port).start()
    return port
