"""The control endpoint on loopback, for tests and the demo: the truth, faults, and traffic at run time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from fallow.domain.workloads import ServiceKey
from fallow.twin.faults import FaultError, Faults
from fallow.twin.incidents import KEYS, Incidents
from fallow.twin.scenario import ScenarioError, traffic_from
from fallow.twin.state import account, describe
from fallow.twin.traces import as_csv
from fallow.twin.world import World


@dataclass(slots=True)
class Control:
    """`folder` is where trace files named by POST /traffic are looked up."""

    world: World
    faults: Faults
    folder: Path
    traffic: dict[ServiceKey, Mapping[str, Any]] = field(default_factory=dict)
    incidents: Incidents = field(init=False)

    def __post_init__(self) -> None:
        self.incidents = Incidents(self.world)

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/state", self._state),
                web.get("/energy", self._energy),
                web.post("/reset", self._reset),
                web.get("/faults", self._get_faults),
                web.post("/faults", self._post_faults),
                web.delete("/faults", self._delete_faults),
                web.get("/traffic", self._get_traffic),
                web.post("/traffic", self._post_traffic),
                web.get("/trace", self._trace),
            ]
        )
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"now": self.world.now})

    async def _state(self, request: web.Request) -> web.Response:
        try:
            objectives = {name: float(request.query[name]) for name in ("ttft", "itl") if name in request.query}
        except ValueError:
            return refused("ttft and itl are numbers of seconds")
        return web.json_response(describe(self.world, **objectives))

    async def _energy(self, _: web.Request) -> web.Response:
        return web.json_response(account(self.world))

    async def _reset(self, request: web.Request) -> web.Response:
        """{"gpu": UUID} or {"node": name}: the driver is loaded again; {"host": name}: the node was started anew."""
        try:
            body = await request.json()
        except ValueError as error:
            return refused(str(error))
        if not isinstance(body, Mapping) or len(body) != 1 or not set(body) <= {"gpu", "node", "host"}:
            return refused('write {"gpu": UUID}, {"node": name} or {"host": name}')
        ((what, who),) = body.items()
        count = self.world.reset(str(what), str(who))
        return web.json_response({"reset": count}) if count else refused(f"no {what} {who!r} here")

    async def _get_faults(self, _: web.Request) -> web.Response:
        return web.json_response(self.faults.as_json() | self.incidents.lasting())

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            if not isinstance(body, Mapping):
                raise FaultError("write a JSON object")
            shown = {family: entry for family, entry in body.items() if family not in KEYS}
            if shown or not body:
                self.faults.set(shown)
            self.incidents.set({family: entry for family, entry in body.items() if family in KEYS})
        except ValueError as error:
            return refused(str(error))
        return await self._get_faults(request)

    async def _delete_faults(self, request: web.Request) -> web.Response:
        self.faults.clear()
        self.incidents.clear()
        return await self._get_faults(request)

    async def _get_traffic(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {"namespace": key.namespace, "service": key.name, "traffic": dict(spec)}
                for key, spec in sorted(self.traffic.items())
            ]
        )

    async def _post_traffic(self, request: web.Request) -> web.Response:
        """{"namespace", "service", "traffic": as in a scenario, or null to stop}; it begins now."""
        try:
            body = await request.json()
            if not isinstance(body, Mapping) or set(body) != {"namespace", "service", "traffic"}:
                raise ScenarioError('write {"namespace": ..., "service": ..., "traffic": {...} or null}')
            key = ServiceKey(str(body["namespace"]), str(body["service"]))
            if body["traffic"] is None:
                self.world.stop_traffic(key)
                self.traffic.pop(key, None)
            else:
                spec = traffic_from(body["traffic"], folder=self.folder)
                self.world.set_traffic(key, spec.begin())
                self.traffic[key] = spec.spec
        except ValueError as error:
            return refused(str(error))
        return await self._get_traffic(request)

    async def _trace(self, request: web.Request) -> web.Response:
        """Everything that arrived for a service so far, in the twin's own trace format."""
        key = ServiceKey(request.query.get("namespace", ""), request.query.get("service", ""))
        if key not in self.world.gateways:
            return refused(f"no service {key}; ask with ?namespace=...&service=...")
        return web.Response(text=as_csv(self.world.gateways[key].arrivals), content_type="text/csv")


def refused(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)
