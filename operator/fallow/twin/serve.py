"""Puts the twin together and runs it beside a cluster: watch, tick, answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from fallow.twin.control import Control
from fallow.twin.faults import Faults
from fallow.twin.kubernetes import connect, follow
from fallow.twin.manifests import PodReader
from fallow.twin.scenario import Scenario, read_scenario
from fallow.twin.server import Endpoints, Ports
from fallow.twin.ticks import Ticks
from fallow.twin.world import World

log = logging.getLogger(__name__)

CONTROL_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Settings:
    """`kubeconfig` None takes the default one; `hostname_label` is that of the imitated dcgm-exporter version."""

    kubeconfig: Path | None = None
    scenario: Path | None = None
    control_port: int = 9901
    ports: Ports = field(default_factory=Ports)
    hostname_label: str = "Hostname"


async def run(settings: Settings, *, on_ready: Callable[[World], None] | None = None) -> None:
    """Until cancelled. `on_ready` is called once every port answers."""
    scenario = Scenario() if settings.scenario is None else read_scenario(settings.scenario)
    world, control = build(scenario, started=time(), folder=(settings.scenario or Path()).parent)
    ticks = Ticks()
    endpoints = Endpoints(world, ticks, control.faults, hostname_label=settings.hostname_label)
    client = await connect(settings.kubeconfig)
    try:
        await endpoints.start(settings.ports)
        await endpoints.listen(control.app(), (CONTROL_HOST,), settings.control_port)
        if on_ready is not None:
            on_ready(world)
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(client, world, PodReader(scenario.prefix_hit_share)))
            group.create_task(tick(world, ticks, scenario.tick_seconds))
    finally:
        await endpoints.stop()
        await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


def build(scenario: Scenario, *, started: float, folder: Path) -> tuple[World, Control]:
    """The world of a scenario, its traffic beginning now, and what controls it."""
    world = World(started=started, sample_seconds=scenario.sample_seconds)
    control = Control(world, Faults(), folder)
    for service in scenario.services:
        world.set_traffic(service.key, service.traffic.begin())
        control.traffic[service.key] = service.traffic.spec
    return world, control


async def tick(world: World, ticks: Ticks, seconds: float) -> None:
    """Keeps the world at the wall clock's time; a clock that steps back is waited out."""
    while True:
        await asyncio.sleep(seconds)
        world.advance(time())
        ticks.ring()
