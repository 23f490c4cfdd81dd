"""One process that answers for every pod and node: the socket's own address says who was asked.

:8000 is vLLM in that pod; on a node :9400 is dcgm-exporter, :9401 Fallow's agent, :9100 node-exporter, :28282 Kepler.
:8080 is the gateway.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import time

from aiohttp import web

from fallow.domain.workloads import ServiceKey
from fallow.twin.agent_metrics import agent_metrics
from fallow.twin.completions import Asked, BadRequest, answer, error_answer, read_asked
from fallow.twin.dcgm_metrics import ENERGY_FIELDS, PROFILING_FIELDS, dcgm_metrics
from fallow.twin.exposition import CONTENT_TYPE, Page
from fallow.twin.faults import DcgmFault, Faults, HostFault, VllmFault
from fallow.twin.host_metrics import kepler_metrics, rapl_metrics
from fallow.twin.physics.engine import Engine
from fallow.twin.physics.requests import FinishReason, Request
from fallow.twin.pods import EngineFacts, NodeFacts
from fallow.twin.simulated import SimulatedPod
from fallow.twin.ticks import Ticks
from fallow.twin.vllm_metrics import vllm_metrics
from fallow.twin.world import World

VLLM_VERSION = "0.32.0"
# A scraper gives up long before; then the connection is closed under it.
HANG_SECONDS = 600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Ports:
    """Where to listen. `gateway_hosts` narrows the gateway to its own address."""

    hosts: tuple[str, ...] = ("0.0.0.0",)  # noqa: S104 -- all of 198.18.0.0/15, inside a namespace without a route out
    vllm: int = 8000
    dcgm: int = 9400
    gateway: int = 8080
    gateway_hosts: tuple[str, ...] = ()
    agent: int = 9401
    rapl: int = 9100
    kepler: int = 28282


@dataclass(slots=True)
class Endpoints:
    """What the handlers share."""

    world: World
    ticks: Ticks
    faults: Faults
    hostname_label: str = "Hostname"
    runners: list[web.AppRunner] = field(default_factory=list)

    async def start(self, ports: Ports) -> None:
        gateway_hosts = ports.gateway_hosts or ports.hosts
        for app, hosts, port in (
            (self._vllm_app(), ports.hosts, ports.vllm),
            (self._dcgm_app(), ports.hosts, ports.dcgm),
            (self._gateway_app(), gateway_hosts, ports.gateway),
            (self._node_app(self._agent_metrics), ports.hosts, ports.agent),
            (self._node_app(self._rapl_metrics), ports.hosts, ports.rapl),
            (self._node_app(self._kepler_metrics), ports.hosts, ports.kepler),
        ):
            await self.listen(app, hosts, port)

    async def listen(self, app: web.Application, hosts: tuple[str, ...], port: int) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await runner.setup()
        self.runners.append(runner)
        for host in hosts:
            await web.TCPSite(runner, host, port).start()

    async def stop(self) -> None:
        for runner in self.runners:
            await runner.cleanup()
        self.runners.clear()

    def _vllm_app(self) -> web.Application:
        app = web.Application(client_max_size=8 * 2**20)
        app.add_routes(
            [
                web.get("/metrics", self._for_pod(self._vllm_metrics)),
                web.get("/health", self._for_pod(_empty)),
                web.get("/ping", self._for_pod(_empty)),
                web.get("/version", self._for_pod(_version)),
                web.get("/v1/models", self._for_pod(_models)),
                web.get("/load", self._for_pod(_load)),
                web.post("/v1/completions", self._for_pod(self._complete)),
                web.post("/v1/chat/completions", self._for_pod(self._chat)),
                web.post("/sleep", self._for_pod(_sleep)),
                web.post("/wake_up", self._for_pod(self._wake)),
                web.get("/is_sleeping", self._for_pod(_is_sleeping)),
            ]
        )
        return app

    def _dcgm_app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/metrics", self._dcgm_metrics), web.get("/health", self._dcgm_health)])
        return app

    def _node_app(self, metrics: Handler) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/metrics", metrics)])
        return app

    def _gateway_app(self) -> web.Application:
        app = web.Application(client_max_size=8 * 2**20)
        app.add_routes(
            [
                web.get("/metrics", self._gateway_metrics),
                web.get("/health", _plain_ok),
                web.post("/{namespace}/{service}/v1/completions", self._through_gateway),
                web.post("/{namespace}/{service}/v1/chat/completions", self._through_gateway),
            ]
        )
        return app

    def _for_pod(self, handler: Callable[[web.Request, SimulatedPod], Awaitable[web.StreamResponse]]) -> Handler:
        """Finds the pod whose address was asked; without an open port the connection ends at once."""

        async def handle(request: web.Request) -> web.StreamResponse:
            pod = self.world.fleet.pod_at(own_address(request))
            fault = None if pod is None else self.faults.of_pod(pod.facts.ref.namespace, pod.facts.ref.name)
            if pod is None or not pod.listening or fault is VllmFault.DOWN:
                return hang_up(request)
            if fault is VllmFault.HANG:
                await asyncio.sleep(HANG_SECONDS)
                return hang_up(request)
            return await handler(request, pod)

        return handle

    def _asked_node(self, request: web.Request) -> NodeFacts | None:
        address, fleet = own_address(request), self.world.fleet
        node = next((node for node in fleet.nodes.values() if node.address == address), None)
        return None if node is None or fleet.hosts[node.name].dark else node

    def _metered_node(self, request: web.Request) -> NodeFacts | None:
        """The node whose dcgm-exporter was asked and is up."""
        node = self._asked_node(request)
        return None if node is None or self.faults.of_node(node.name) is DcgmFault.DOWN else node

    async def _vllm_metrics(self, _: web.Request, pod: SimulatedPod) -> web.Response:
        facts, engine = _running(pod)
        fault = self.faults.of_pod(pod.facts.ref.namespace, pod.facts.ref.name)
        started = pod.ready_at or self.world.started
        text = vllm_metrics(facts, engine, started=started, broken_gauges=fault is VllmFault.NAN)
        if fault is VllmFault.FROZEN:
            text = self.faults.frozen(f"pod {pod.facts.ref} {pod.facts.uid}", text)
        return metrics_answer(text)

    async def _dcgm_metrics(self, request: web.Request) -> web.Response:
        node = self._metered_node(request)
        if node is None:
            return hang_up(request)
        fault = self.faults.of_node(node.name)
        text = dcgm_page(self.world, node, fault, hostname_label=self.hostname_label)
        if fault is DcgmFault.FROZEN:
            text = self.faults.frozen(f"node {node.name} {node.uid}", text)
        return metrics_answer(text)

    async def _dcgm_health(self, request: web.Request) -> web.Response:
        return hang_up(request) if self._metered_node(request) is None else web.Response(text="OK")

    async def _agent_metrics(self, request: web.Request) -> web.Response:
        node = self._asked_node(request)
        if node is None:
            return hang_up(request)
        return metrics_answer(agent_metrics(self.world.fleet.gpus_of(node.name)))

    async def _rapl_metrics(self, request: web.Request) -> web.Response:
        node = self._asked_node(request)
        return hang_up(request) if node is None or not node.host_meter.rapl else self._of_host(request, node, "rapl")

    async def _kepler_metrics(self, request: web.Request) -> web.Response:
        node = self._asked_node(request)
        if node is None or not node.host_meter.kepler:
            return hang_up(request)
        return self._of_host(request, node, "kepler")

    def _of_host(self, request: web.Request, node: NodeFacts, meter: str) -> web.Response:
        fault, host = self.faults.of_host(node.name), self.world.fleet.hosts[node.name]
        if fault is HostFault.DOWN:
            return hang_up(request)
        broken = fault is HostFault.NAN
        text = rapl_metrics(host, broken=broken) if meter == "rapl" else kepler_metrics(host, node.name, broken=broken)
        if fault is HostFault.FROZEN:
            text = self.faults.frozen(f"{meter} {node.name} {node.uid}", text)
        return metrics_answer(text)

    async def _gateway_metrics(self, _: web.Request) -> web.Response:
        gateways = sorted(self.world.gateways.items())
        page = Page(self.world.started)
        labels = {key: (("namespace", key.namespace), ("service", key.name)) for key, _ in gateways}
        page.gauge(
            "gateway_requests_waiting",
            "Requests held because no engine of the service is ready.",
            [(labels[key], gateway.waiting) for key, gateway in gateways],
        )
        page.counter(
            "gateway_requests",
            "Requests that arrived for the service.",
            [(labels[key], len(gateway.arrivals)) for key, gateway in gateways],
        )
        page.counter(
            "gateway_requests_failed",
            "Requests that ended without an answer.",
            [(labels[key], gateway.failed) for key, gateway in gateways],
        )
        return metrics_answer(page.text())

    async def _complete(self, incoming: web.Request, pod: SimulatedPod) -> web.StreamResponse:
        return await self._ask_pod(incoming, pod, chat=False)

    async def _chat(self, incoming: web.Request, pod: SimulatedPod) -> web.StreamResponse:
        return await self._ask_pod(incoming, pod, chat=True)

    async def _ask_pod(self, incoming: web.Request, pod: SimulatedPod, *, chat: bool) -> web.StreamResponse:
        facts, engine = _running(pod)
        try:
            asked = await read_asked(incoming, chat=chat, models=(facts.served_name,))
        except BadRequest as error:
            return error_answer(str(error), error.status)
        if not engine.fits(asked.prompt_tokens, 1):
            length = engine.limits.max_model_len
            return error_answer(f"This model's maximum context length is {length} tokens.", 400)
        request = _simulated(asked)
        self.world.ask_pod(pod, request)
        return await self._follow(incoming, asked, request)

    async def _through_gateway(self, incoming: web.Request) -> web.StreamResponse:
        key = ServiceKey(incoming.match_info["namespace"], incoming.match_info["service"])
        if key not in self.world.gateways:
            return error_answer(f"No service {key} here.", 404)
        try:
            asked = await read_asked(incoming, chat=incoming.path.endswith("/chat/completions"), models=())
        except BadRequest as error:
            return error_answer(str(error), error.status)
        request = _simulated(asked)
        self.world.ask_service(key, request)
        return await self._follow(incoming, asked, request)

    async def _follow(self, incoming: web.Request, asked: Asked, request: Request) -> web.StreamResponse:
        return await answer(
            incoming,
            asked,
            request,
            ticks=self.ticks,
            generated=self.world.generated,
            abort=self.world.abort,
        )

    async def _wake(self, request: web.Request, pod: SimulatedPod) -> web.Response:
        """Answers once the engine is awake, as vLLM does. Tags without kv_cache leave it asleep."""
        facts, engine = _running(pod)
        if not facts.sleep_mode:
            return web.Response(status=404)
        tags = request.query.getall("tags", [])
        if tags and "kv_cache" not in tags:
            return web.json_response({"status": "sleeping", "tags": tags})
        engine.wake()
        while engine.asleep:
            await self.ticks.next()
        return web.json_response({"status": "awake", "tags": tags or None})


def dcgm_page(world: World, node: NodeFacts, fault: DcgmFault | None, *, hostname_label: str = "Hostname") -> str:
    """What the node's dcgm-exporter writes under a fault; DOWN and FROZEN are its server's business."""
    left_out = {DcgmFault.NO_ENERGY: ENERGY_FIELDS, DcgmFault.NO_PROFILING: PROFILING_FIELDS}
    return dcgm_metrics(
        world.fleet.gpus_of(node.name),
        hostname_label=hostname_label,
        exporter=node.exporter,
        broken=fault is DcgmFault.NAN,
        pod_labels=fault is not DcgmFault.NO_POD_LABELS,
        without=left_out.get(fault, ()) if fault else (),
    )


def own_address(request: web.Request) -> str:
    """The address the client connected to."""
    name = request.get_extra_info("sockname")
    return str(name[0]) if name else ""


def hang_up(request: web.Request) -> web.Response:
    """The nearest to a refused connection that a listening socket can do: a reset without an answer."""
    if request.transport is not None:
        endpoint = request.transport.get_extra_info("socket")
        if endpoint is not None:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        request.transport.abort()
    return web.Response(status=503)


def metrics_answer(text: str) -> web.Response:
    return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})


def _running(pod: SimulatedPod) -> tuple[EngineFacts, Engine]:
    if pod.facts.engine is None or pod.engine is None:
        raise web.HTTPServiceUnavailable
    return pod.facts.engine, pod.engine


def _simulated(asked: Asked) -> Request:
    return Request(time(), asked.prompt_tokens, asked.max_tokens, ends_with=FinishReason.LENGTH)


async def _plain_ok(_: web.Request) -> web.Response:
    return web.Response(text="OK")


async def _empty(_: web.Request, __: SimulatedPod) -> web.Response:
    return web.Response()


async def _version(_: web.Request, __: SimulatedPod) -> web.Response:
    return web.json_response({"version": VLLM_VERSION})


async def _models(_: web.Request, pod: SimulatedPod) -> web.Response:
    facts, engine = _running(pod)
    model = {
        "id": facts.served_name,
        "object": "model",
        "created": int(pod.ready_at or 0),
        "owned_by": "vllm",
        "root": facts.model,
        "parent": None,
        "max_model_len": engine.limits.max_model_len,
    }
    return web.json_response({"object": "list", "data": [model]})


async def _load(_: web.Request, pod: SimulatedPod) -> web.Response:
    return web.json_response({"server_load": _running(pod)[1].in_flight})


async def _sleep(request: web.Request, pod: SimulatedPod) -> web.Response:
    facts, engine = _running(pod)
    if not facts.sleep_mode:
        return web.Response(status=404)
    level = request.query.get("level", "1")
    if level not in {"0", "1", "2"}:
        return error_answer(f"level must be 0, 1 or 2, got {level!r}.", 400)
    engine.sleep(int(level))
    return web.json_response({"status": "sleeping", "level": int(level)})


async def _is_sleeping(_: web.Request, pod: SimulatedPod) -> web.Response:
    return web.json_response({"is_sleeping": _running(pod)[1].asleep})
