"""The fast loop: it looks, it brings a cycle forward, and it leaves the rest to the cycle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from fallow.app import pulse as pulses
from fallow.app.pulse import BREATH, REST, Pulse, WithQueues
from fallow.domain.readings import PodRef, Queue, Queues
from fallow.domain.snapshots import ClusterView
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey, ServiceMemory
from fallow.ports import EngineTarget, ReadScope
from tests.support.builders import CHAT, NOW, WAITING, WAKE, Running, Scene, held_series, service
from tests.support.metrics import FakeMetricSource

LATER = ServiceKey("llm", "later")
RESTS = ServiceMemory(serving="bf16", resting=True)


@dataclass
class Door:
    """Engines and gateways as a look finds them; `asked` remembers the looks."""

    running: float = 0.0
    held: float = 0.0
    broken: bool = False
    asked: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    closed: bool = False

    async def queues(self, now: Instant, engines: Sequence[EngineTarget], waiting: frozenset[str]) -> Queues:
        self.asked.append((len(engines), waiting))
        if self.broken:
            raise RuntimeError("no door")
        found: dict[PodRef, Queue] = {one.pod: Queue(self.running, 0.0) for one in engines}
        return Queues(now, found, (held_series(self.held, now),) if self.held else ())

    async def close(self) -> None:
        self.closed = True


@dataclass
class Bench:
    """A pulse on one service; `hurries` counts the cycles brought forward."""

    door: Door = field(default_factory=Door)
    view: ClusterView = field(default_factory=lambda: Scene(variants={"bf16": Running(2)}).cluster())
    now: float = NOW
    hurries: int = 0
    leads: bool = True

    def __post_init__(self) -> None:
        self.pulse = Pulse(
            self.door,
            lambda: self.view,
            self._hurried,
            interval=0.01,
            leads=lambda: self.leads,
            clock=lambda: self.now,
        )

    def _hurried(self) -> None:
        self.hurries += 1

    async def beat(self, after: float = 2.0) -> None:
        self.now += after
        await self.pulse.beat()


def resting() -> ClusterView:
    memory = ServiceMemory(serving="bf16", resting=True)
    return Scene(service=service(minimum=0, wake=WAKE), variants={"bf16": Running(0)}, memory=memory).cluster()


async def test_a_calm_service_is_looked_at_and_nothing_else() -> None:
    bench = Bench(Door(running=9))
    await bench.beat()
    assert (bench.door.asked, bench.hurries, bench.pulse.seen(Instant(bench.now))) == ([(2, frozenset())], 0, None)


async def test_a_storm_brings_one_cycle_forward_and_then_rests() -> None:
    bench = Bench(Door(running=30))
    for _ in range(4):
        await bench.beat(REST / 4)
    assert bench.hurries == 1
    await bench.beat(REST / 4)
    assert bench.hurries == 2
    seen = bench.pulse.seen(Instant(bench.now))
    assert seen is not None
    assert seen.at == bench.now


async def test_a_clock_put_back_neither_keeps_an_old_look_nor_ends_the_looking() -> None:
    bench = Bench(Door(running=30))
    await bench.beat()
    await bench.beat(-3600)
    assert bench.hurries == 2
    bench.now -= 3600
    assert bench.pulse.seen(Instant(bench.now)) is None


async def test_a_request_at_the_door_of_a_resting_service_brings_one_forward() -> None:
    bench = Bench(Door(held=1), view=resting())
    await bench.beat()
    assert (bench.door.asked, bench.hurries) == ([(0, frozenset({WAITING}))], 1)


async def test_between_two_looks_at_engines_only_doors_are_looked_at_and_only_while_somebody_rests() -> None:
    calm, rests = Bench(Door(running=30)), Bench(Door(held=1), view=resting())
    await calm.pulse.beat(doors_alone=True)
    await rests.pulse.beat(doors_alone=True)
    assert (calm.door.asked, rests.door.asked) == ([], [(0, frozenset({WAITING}))])
    assert rests.hurries == 1


async def test_one_service_does_not_make_another_wait_for_its_rest() -> None:
    bench = Bench(Door(running=30))
    await bench.beat()
    other = resting().services[CHAT]
    bench.view = replace(resting(), services={LATER: replace(other, key=LATER)}, memories={LATER: RESTS})
    bench.door.held = 1
    await bench.beat(BREATH / 2)
    assert bench.hurries == 1
    await bench.beat(BREATH)
    assert bench.hurries == 2


async def test_services_seen_in_one_look_share_one_hurry(caplog: pytest.LogCaptureFixture) -> None:
    view = resting()
    both = {key: replace(view.services[CHAT], key=key) for key in (CHAT, LATER)}
    bench = Bench(Door(held=1), view=replace(view, services=both, memories=dict.fromkeys(both, RESTS)))
    with caplog.at_level(logging.INFO):
        await bench.beat()
        await bench.beat(2 * BREATH)
    assert bench.hurries == 1
    assert caplog.messages == [
        "the next cycle is brought forward: llm/chat: 1 requests wait for it while it rests, and 1 more"
    ]


async def test_a_standby_and_an_empty_cluster_ask_nobody() -> None:
    standby = Bench(Door(running=30), leads=False)
    await standby.beat()
    empty = Bench(Door(running=30), view=ClusterView())
    await empty.beat()
    assert (standby.door.asked, empty.door.asked) == ([], [])


async def test_more_engines_than_it_can_look_at_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pulses, "MOST_ENGINES", 1)
    bench = Bench()
    with caplog.at_level(logging.WARNING):
        await bench.beat()
        await bench.beat()
    assert [asked for asked, _ in bench.door.asked] == [1, 1]
    assert caplog.messages == ["between cycles 1 of 2 engines are looked at"]


async def test_a_look_that_fails_does_not_end_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(Door(broken=True))
    running = asyncio.create_task(bench.pulse.run())
    while len(bench.door.asked) < 2:  # noqa: ASYNC110 - until it has looked again
        await asyncio.sleep(0.01)
    running.cancel()
    assert "a look at queues failed" in caplog.text


async def test_readings_come_with_what_was_seen_while_it_is_young() -> None:
    bench = Bench(Door(running=30))
    source = WithQueues(FakeMetricSource(), bench.pulse)
    scope = ReadScope()
    before = await source.read(Instant(bench.now), scope)
    await bench.beat()
    young = await source.read(Instant(bench.now + 1), scope)
    old = await source.read(Instant(bench.now + REST + 1), scope)
    assert (before.queues, old.queues) == (None, None)
    assert young.queues is not None
    assert replace(young, queues=None) == await FakeMetricSource().read(Instant(bench.now + 1), scope)
