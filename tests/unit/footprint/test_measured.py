"""Measured windows: energy and work of the same time, only where both were counted, and never twice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from fallow.domain.learned import Opening
from fallow.domain.readings import ClockRange
from fallow.domain.snapshots import Node, Pod, Snapshot
from fallow.domain.units import Hertz, Seconds
from fallow.footprint.measured import LONGEST, Window, observed
from tests.support.metered import engine, gpu, node, pod, snapshot, turn

CYCLE = 15.0


@dataclass(frozen=True)
class Sight:
    """What one cycle sees of one replica: its counter of joules and of generated tokens, and how old they are."""

    at: float
    joules: float | None
    tokens: float
    pods: tuple[Pod, ...] = (pod("chat-1"),)
    gpu_age: float = 0.0
    engine_age: float = 0.0
    cached: float | None = 0.0
    iterations: float | None = 0.0
    nodes: tuple[Node, ...] = (node(),)
    clock: float | None = None


def at_clock(share: float | None) -> ClockRange | None:
    return None if share is None else ClockRange(Hertz(share * 1.98e9), Hertz(345e6), Hertz(1.98e9))


def seen(sight: Sight, before: Snapshot | None) -> Snapshot:
    reading = replace(
        engine(sight.at - sight.engine_age, sight.tokens, prompt=2 * sight.tokens, requests=sight.tokens / 100),
        cached_prompt_tokens=sight.cached,
        iterations=sight.iterations,
    )
    found = snapshot(
        sight.at,
        [replace(gpu(sight.at - sight.gpu_age, sight.joules, 500.0, holder="llm/chat-1"), clock=at_clock(sight.clock))],
        pods=sight.pods,
        engines={"chat-1": reading},
        nodes=sight.nodes,
    )
    return replace(found, previous=before.readings if before else None)


def watched(sights: Sequence[Sight]) -> list[Window]:
    openings: dict[str, Opening] = {}
    found: list[Window] = []
    before = None
    for sight in sights:
        before = seen(sight, before)
        windows, openings = observed(openings, before)
        found.extend(windows)
    return found


def steady(count: int, *, watts: float = 500.0, rate: float = 10.0, **more: object) -> list[Sight]:
    times = [CYCLE * index for index in range(count)]
    return [
        Sight(at, watts * at + 1, rate * at, iterations=rate * at / 4, **more)  # type: ignore[arg-type]
        for at in times
    ]


def test_a_window_holds_a_minute_of_energy_and_of_work() -> None:
    (first, second) = watched(steady(10))
    assert {first.seconds, second.seconds} == {Seconds(60)}
    assert (first.energy.value, first.generated_tokens, first.iterations) == (30_000, 600, 150)
    assert (first.prompt_tokens, first.requests) == (1200, 6)
    assert second.start == first.end
    assert first.placement.product == "NVIDIA-H100-80GB-HBM3"


def test_what_is_served_at_a_lower_clock_teaches_nothing() -> None:
    assert len(watched(steady(10, clock=1.0))) == 2
    assert watched(steady(10, clock=0.8)) == []
    sights = [replace(one, clock=0.8 if index == 3 else 1.0) for index, one in enumerate(steady(10, clock=1.0))]
    (window,) = watched(sights)
    assert (window.end - window.start, window.energy.value) == (Seconds(60), 30_000)


def test_cached_prompt_tokens_are_taken_off() -> None:
    sights = [replace(one, cached=one.tokens) for one in steady(6)]
    assert watched(sights)[0].prompt_tokens == pytest.approx(600)


@pytest.mark.parametrize("age", [0.0, 3.0, 12.0])
def test_work_is_read_off_at_the_time_of_the_gpu_s_sample(age: float) -> None:
    """Steady work, so that any age of the energy sample must give the same ratio."""
    sights = [replace(one, gpu_age=age, joules=500 * (one.at - age) + 6000) for one in steady(12)]
    for one in watched(sights):
        assert one.generated_tokens / one.seconds == pytest.approx(10)
        assert one.energy.value / one.seconds == pytest.approx(500)


def test_a_meter_that_is_renewed_every_other_cycle_ends_windows_only_when_it_is() -> None:
    sights = [replace(one, joules=500.0 * (one.at // 30 * 30) + 1) for one in steady(12)]
    windows = watched(sights)
    assert windows
    assert all(one.seconds % 30 == 0 for one in windows)
    assert all(one.energy.value / one.seconds == pytest.approx(500) for one in windows)


def test_a_minute_without_work_is_a_window_too() -> None:
    (one,) = watched(steady(6, rate=0.0))
    assert not one.works
    assert one.energy.value == 30_000


def changed(place: int, **more: object) -> list[Sight]:
    sights = steady(6)
    sights[place] = replace(sights[place], **more)  # type: ignore[arg-type]
    return sights


def restarted(reading: str) -> list[Sight]:
    sights = steady(6)
    return [*sights[:4], *(replace(one, **{reading: getattr(one, reading) / 100}) for one in sights[4:])]


@pytest.mark.parametrize(
    "sights",
    [
        changed(3, pods=(pod("chat-1", ready=False),)),
        changed(3, pods=()),
        changed(3, pods=(pod("chat-1", uid="another"),)),
        restarted("joules"),
        restarted("tokens"),
        steady(6, pods=(pod("chat-1", gpus=2),)),
        steady(6, pods=(pod("chat-1", None),)),
        [replace(one, joules=None) for one in steady(6)],
        steady(1) + [replace(one, at=one.at + LONGEST) for one in steady(3)],
    ],
    ids=[
        "not ready",
        "gone for a moment",
        "another pod",
        "the GPU's counter fell",
        "the engine restarted",
        "a GPU is missing",
        "not a service",
        "no counter",
        "too long ago",
    ],
)
def test_what_was_not_measured_throughout_is_no_window(sights: list[Sight]) -> None:
    assert watched(sights) == []


def test_a_shared_gpu_teaches_nothing_of_one_variant() -> None:
    before = seen(Sight(0, 1, 0), None)
    shared = snapshot(
        15, [gpu(15, 7500, holder="llm/chat-1", shares=[turn("llm/chat-1"), turn("llm/chat-2")])],
        pods=[pod("chat-1")], engines={"chat-1": engine(15, 10)},
    )  # fmt: skip
    assert observed({}, replace(shared, previous=before.readings)) == ((), {})


def test_an_engine_that_does_not_count_iterations_says_so() -> None:
    (one,) = watched([replace(one, iterations=None) for one in steady(6)])
    assert one.iterations is None


def test_an_opening_is_kept_while_one_cycle_is_not_read() -> None:
    sights = steady(7)
    silent = [*sights[:3], replace(sights[3], joules=sights[2].joules), *sights[4:]]
    assert len(watched(silent)) == 1


def test_the_first_cycle_opens_nothing() -> None:
    """Whether the counter has just moved is only known from the second on."""
    assert observed({}, seen(Sight(0, 1, 0), None)) == ((), {})
