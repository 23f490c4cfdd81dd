"""Outcomes as a simulation gives them, made up: daily traffic, replicas that follow it as well as a controller can."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fallow.domain.units import Grams, Instant, Joules, Litres
from fallow.domain.workloads import ServiceKey
from fallow.twin.bounds.oracles import Bounds
from fallow.twin.simulated import Energy
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.result import Decided, Outcome, Series, ServiceOutcome

DAY = 86_400
KWH = 3.6e6
SERVICES = (ServiceKey("llm", "chat"), ServiceKey("llm", "code"), ServiceKey("batch", "digest"))
ASKED = dict.fromkeys((*SERVICES, *(ServiceKey("more", f"s{index}") for index in range(3, 30))), 0.99)


def service_outcome(key: ServiceKey = SERVICES[0], *, kwh: float = 30.0, **changes: Any) -> ServiceOutcome:
    """100,000 requests of 200 tokens, 99.5 % of them good, at 300 g/kWh, .3 a kWh and 1.8 L a kWh."""
    facility = 1.3 * kwh
    made = ServiceOutcome(
        service=key,
        requests=100_000,
        done=99_990,
        failed=0,
        unfinished=10,
        good=99_490,
        prompt_tokens=6e7,
        generated_tokens=2e7,
        good_tokens=1.99e7,
        phases=Energy(0.01 * kwh * KWH, 0.04 * kwh * KWH, 0.15 * kwh * KWH, 0.8 * kwh * KWH),
        facility=Joules(facility * KWH),
        carbon=Grams(300 * facility),
        water=Litres(1.8 * facility),
        cost=0.3 * facility,
        replica_hours={"bf16": 100.0, "fp8": 20.0},
        starts=12,
        wakes=0,
        ttft_p50=0.12,
        ttft_p95=0.4,
        itl_p50=0.018,
        itl_p95=0.03,
    )
    return replace(made, **changes)


def without_traffic(key: ServiceKey = SERVICES[2]) -> ServiceOutcome:
    nothing = dict.fromkeys(("requests", "done", "failed", "unfinished", "good"), 0.0)
    tokens = dict.fromkeys(("prompt_tokens", "generated_tokens", "good_tokens"), 0.0)
    unknown = dict.fromkeys(("ttft_p50", "ttft_p95", "itl_p50", "itl_p95"))
    return service_outcome(key, kwh=0.0, **nothing, **tokens, **unknown, replica_hours={}, starts=0)


def series(services: int, *, days: float = 1, sample: int = 600, spare: float = 1.2, varies: bool = True) -> Series:
    """Two variants; `spare`: replicas above what is needed; the grid varies by hour unless told otherwise."""
    times: Array = np.arange(sample, int(days * DAY) + 1, sample, dtype=np.float64)
    hour = times[:, None] / 3600
    size = np.linspace(20.0, 3.0, services)[None, :]
    noise = np.random.default_rng(7).gamma(8.0, 1 / 8, (len(times), services))
    arrivals = size * (0.6 - 0.5 * np.cos(2 * np.pi * (hour - 4) / 24)) * noise
    needed = np.ceil(spare * arrivals / 6.0)
    eco = np.where(hour % 24 > 17, np.ceil(needed / 2), 0.0)
    grams = 320.0 - 160.0 * np.exp(-(((hour % 24) - 13) ** 2) / 18) if varies else np.full_like(hour, 300.0)
    ready = {"bf16": needed - eco, "fp8": eco}
    return Series(
        times=times,
        arrivals=arrivals,
        good=0.995 * arrivals,
        in_flight=4 * arrivals,
        watts=needed * 130.0 + arrivals * 60.0,
        grams=np.broadcast_to(grams, arrivals.shape).copy(),
        ready=ready,
        asked={name: values.copy() for name, values in ready.items()},
    )


def decided(number: int = 0, key: ServiceKey = SERVICES[0], **changes: Any) -> Decided:
    made = Decided(
        at=900.0 * (number + 1),
        service=key,
        action="ScaleUp",
        before={"bf16": 1 + number % 4},
        after={"bf16": 2 + number % 4},
        lever="Replicas",
        reason="Load",
        message="63 requests in flight, 48 a replica by scaling.targetConcurrency",
    )
    return replace(made, **changes)


def outcome(
    controller: str = "fallow",
    *services: ServiceOutcome,
    over: Series | None = None,
    decisions: tuple[Decided, ...] = (),
    **more: Any,
) -> Outcome:
    """One service unless told which."""
    own = services or (service_outcome(),)
    over = over if over is not None else series(len(own))
    values: dict[str, Any] = {
        "seed": 7,
        "began": Instant(0),
        "seconds": int(over.times[-1]) if len(over.times) else 0,
        "fleet": Joules(1.5 * sum(one.phases.total for one in own)),
        "node_hours": 96.0,
        "currency": "EUR",
        "took": 12.0,
    }
    return Outcome(controller=controller, services=own, series=over, decisions=decisions, **(values | more))


def missed(key: ServiceKey = SERVICES[0], *, kwh: float = 30.0) -> ServiceOutcome:
    return service_outcome(key, kwh=kwh, good=90_000)


def bounds(floor: float = 15.0, integer: float = 17.0, schedule: float = 20.0) -> Bounds:
    """In kWh."""
    row = np.array([[floor, integer, schedule]]) * KWH
    return Bounds(Joules(floor * KWH), Joules(integer * KWH), Joules(schedule * KWH), row)


def a_week(count: int = 3, *controllers: str, sample: int = 600) -> list[Outcome]:
    """Several controllers on the same week; the third misses the objectives."""
    keys = [SERVICES[index] if index < len(SERVICES) else ServiceKey("more", f"s{index}") for index in range(count)]
    found = []
    for place, name in enumerate(controllers or ("fallow", "static-70", "hpa")):
        makes = missed if place == 2 else service_outcome
        services = [makes(key, kwh=(210.0 + 90 * place) / (1 + index)) for index, key in enumerate(keys)]
        over = series(count, days=7, sample=sample, spare=1.2 + 0.4 * place)
        decisions = tuple(decided(number, keys[number % count]) for number in range(60 * (place == 0)))
        found.append(outcome(name, *services, over=over, decisions=decisions))
    return found
