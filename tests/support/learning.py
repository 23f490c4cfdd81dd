"""Windows of a replica to learn from: from numbers, and from the twin's engine, which knows its true energy."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fallow.domain.learned import Learned, Placement
from fallow.domain.units import Instant, Joules
from fallow.domain.workloads import ServiceKey
from fallow.footprint.measured import Window
from fallow.footprint.steps import learned_from
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.engine import Engine, EngineLimits
from fallow.twin.physics.requests import Request
from tests.support.builders import CHAT, H100
from tests.support.twin import an_engine

PLACEMENT = Placement(CHAT, "bf16", H100)


def window(
    energy: float,
    *,
    prompt: float = 0.0,
    generated: float = 0.0,
    iterations: float | None = 0.0,
    requests: float = 0.0,
    seconds: float = 60.0,
    start: float = 0.0,
    gpus: int = 1,
) -> Window:
    return Window(
        placement=PLACEMENT,
        gpus=gpus,
        start=Instant(start),
        end=Instant(start + seconds),
        energy=Joules(energy),
        prompt_tokens=prompt,
        generated_tokens=generated,
        requests=requests,
        iterations=iterations,
    )


def learned(windows: Iterable[Window], known: Learned | None = None) -> Learned:
    for one in windows:
        known = learned_from(known, one)
    assert known is not None
    return known


def placed(service: ServiceKey, variant: str, product: str = H100) -> Placement:
    return Placement(service, variant, product)


@dataclass(frozen=True)
class Traffic:
    """Requests as a Poisson process of `rate` per second that swings by `swing` (0..1) over two hours."""

    rate: float
    swing: float = 0.0
    prompt: tuple[int, int] = (300, 1500)
    output: tuple[int, int] = (50, 400)
    seed: int = 1

    def arrivals(self, seconds: float) -> list[tuple[float, int, int]]:
        chance, at = random.Random(self.seed), 0.0
        found: list[tuple[float, int, int]] = []
        while True:
            rate = self.rate * (1 + self.swing * math.sin(2 * math.pi * at / 7200))
            at += chance.expovariate(max(rate, 1e-6))
            if at >= seconds:
                return found
            found.append((at, chance.randint(*self.prompt), chance.randint(*self.output)))


def served(engines: Sequence[Engine], arrivals: Iterable[tuple[float, int, int]], until: float) -> None:
    """Requests go to the engine with the fewest in flight; then all live until the end."""
    for at, prompt, output in arrivals:
        for one in engines:
            one.advance(at)
            one.take_finished()
        idlest = min(engines, key=lambda one: one.in_flight)
        idlest.submit(Request(at, prompt, output), at)
    for one in engines:
        one.advance(until)


def engine_windows(
    traffic: Traffic,
    *,
    hours: float = 4.0,
    precision: Precision = Precision.BF16,
    cached: float = 0.0,
    model: str = "8b",
    gpus: int = 1,
) -> list[Window]:
    """Minutes of one engine of the twin under this traffic, by its own true energy."""
    engine = an_engine(model, precision, gpus=gpus, limits=EngineLimits(prefix_hit_share=cached))
    arrivals, minutes = traffic.arrivals(hours * 3600), int(hours * 60)
    found: list[Window] = []
    before, next_one = _counts(engine), 0
    for minute in range(1, minutes + 1):
        end = minute * 60.0
        first = next_one
        while next_one < len(arrivals) and arrivals[next_one][0] < end:
            next_one += 1
        served([engine], arrivals[first:next_one], end)
        now = _counts(engine)
        energy, prompt, generated, iterations, requests = (new - old for new, old in zip(now, before, strict=True))
        before = now
        found.append(
            window(
                energy,
                prompt=prompt,
                generated=generated,
                iterations=iterations,
                requests=requests,
                start=end - 60.0,
                gpus=gpus,
            )
        )
    return found


def _counts(engine: Engine) -> tuple[float, ...]:
    counters = engine.counters
    return (
        engine.joules,
        counters.prompt_tokens - counters.cached_tokens,
        counters.generated_tokens,
        counters.iterations.count,
        sum(counters.finished.values()),
    )
