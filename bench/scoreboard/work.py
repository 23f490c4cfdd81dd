"""What is served in the scoreboard: one model on one GPU type, each trace and seed a service of its own.

Services do not share anything but the nodes, of which there are enough, so that one run gives a row for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path

import numpy as np

from fallow.app.simulation.assembling import Assembled
from fallow.app.simulation.priors import profile_of
from fallow.app.simulation.running import bounds
from fallow.domain.policies import ClockRules, GuardRules, HardwareRules, IdleRules, Mode, Policy, ScalingRules
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Engine, Objectives, Scaling, Service, ServiceKey, Variant, Wake
from fallow.domain.zones import IntensitySource, Ratio, Zone
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.predict import Query
from fallow.twin.calibration.store import shipped
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.recorded import Recorded
from fallow.twin.demand.together import Together
from fallow.twin.demand.weeks import DAY, SHAPES
from fallow.twin.simulation.demand import Array, Demand
from fallow.twin.simulation.grid import GridSeries
from fallow.twin.simulation.ports import Declared, GridCarbon
from fallow.twin.simulation.predicting import bare_watts, predicted_table
from fallow.twin.simulation.setup import NodeKind, PowerOff, ServiceSetup, Setup, Start, VariantSetup
from fallow.twin.simulation.sizing import Survey, carried, known_of, survey
from fallow.twin.traces import read_trace

PRODUCT, MODEL_NAME = "NVIDIA-H100-80GB-HBM3", "NVIDIA H100 80GB HBM3"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
# Seconds: the objectives of an 8B model in the field's benchmarks, and what share of requests must meet both.
TTFT, ITL, ATTAINMENT = 1.0, 0.025, 0.99
# Of Azure's weeks: about 12 replicas at the peak.
SCALES = {"coding": 0.7, "conversation": 1.0}
MOST_REPLICAS = 64
# Share of a measured replica's concurrency that Fallow is told to fill; its own default headroom is the rest.
FILLED = 0.8
# Pull 30 s once a node; load of 8B in BF16 at 2 GB/s and 25 s of engine start: docs/methodology.md, starts.
START = Start(pull=30.0, load=33.0, compile_=10.0, sigma=0.3)
MONDAY = Instant(1_793_577_600.0)  # 2026-11-02
# What is served, and with all levers may be: FP8 that its owner declares as good (lossless in arXiv 2411.02355). The
# reference comes first.
REFERENCE = Variant("bf16", MODEL, "BF16", products=(PRODUCT,))
EIGHTS = Variant("fp8", f"{MODEL}-FP8", "FP8", products=(PRODUCT,))


@dataclass(frozen=True, slots=True)
class Rows:
    """Which trace and seed each service is."""

    traces: tuple[str, ...]
    seeds: tuple[int, ...]


def weeks(seeds: Sequence[int], days: float) -> tuple[Demand, Rows]:
    """Every named week with every seed."""
    parts: list[Demand] = []
    traces: list[str] = []
    numbers: list[int] = []
    for name, shape in SHAPES.items():
        for seed in seeds:
            rate = replace(shape.weekly, scale=shape.weekly.scale * SCALES[name])
            # a short run begins with a working day
            shift = -24.0 * next(day for day in range(7) if day not in shape.off) if days < 7 else 0.0
            stream = Stream(ServiceKey(name, f"seed-{seed}"), replace(rate, shift=shift), shape.lengths, shape.bursts)
            parts.append(Generated([stream], int(days * DAY), seed=seed))
            traces.append(name)
            numbers.append(seed)
    return Together(parts), Rows(tuple(traces), tuple(numbers))


def recorded(path: Path, scale: float) -> tuple[Demand, Rows]:
    """One trace in the Azure format, at its own length."""
    demand = Recorded(ServiceKey("trace", path.stem.lower()[:40]), read_trace(path), scale=scale)
    return demand, Rows((path.name,), (0,))


def grid() -> GridSeries:
    """A solar grid, assumed: lowest at seven in the morning UTC, highest in the evening, 230 to 530 g."""
    hours = np.arange(7 * 24, dtype=np.float64)
    return GridSeries(hours * 3600.0, 380.0 + 150.0 * np.cos(2 * np.pi * (hours - 19.0) / 24.0), pue=1.2)


def assembled(
    demand: Demand,
    seen: Survey | None = None,
    *,
    all_levers: bool = False,
    objectives: Sequence[tuple[float, float]] | None = None,
    attainment: float = ATTAINMENT,
) -> Assembled:
    """Of a demand that is read unless it was `seen`. With `all_levers` there is another precision, and Fallow may let
    it serve and lower clocks. `objectives` by service where they are not all of TTFT and ITL; `attainment`: the share
    of requests that Fallow is told to keep them for.
    """
    bounds = [(TTFT, ITL)] * len(demand.services) if objectives is None else objectives
    variants = (REFERENCE, EIGHTS) if all_levers else (REFERENCE,)
    queries = [_asked(variant) for variant in variants]
    seen = survey(demand) if seen is None else seen
    services = []
    for index, key in enumerate(demand.services):
        ttft, itl = bounds[index]
        tables = [predicted_table(seen.as_asked(index, query)) for query in queries]
        computed = float(seen.prompt[index] * (1.0 - demand.spread.cached[index]))
        of = carried(tables[0], computed, float(seen.output[index]), itl)
        begin = min(max(ceil(float(seen.start[index]) / of.rate / FILLED), 1), MOST_REPLICAS)
        replicas = tuple(
            VariantSetup(variant.name, 1, {PRODUCT: table}, START)
            for variant, table in zip(variants, tables, strict=True)
        )
        services.append(ServiceSetup(key, replicas, ttft, itl, 1, MOST_REPLICAS, begin))
    # as many GPUs again where one variant is made ready beside another
    nodes = len(variants) * MOST_REPLICAS * len(services) // 8
    kind = NodeKind(PRODUCT, MODEL_NAME, bare_watts(queries[0].gpu), 8, nodes, "home")
    setup = Setup((kind,), tuple(services), PowerOff())
    known = known_of(setup, demand, seen)
    return Assembled(
        setup=setup,
        demand=demand,
        seen=seen,
        grid={"home": grid()},
        declared=Declared(
            [
                # one number for several variants would be that of the least of them, and roles have none
                _service(
                    key,
                    variants,
                    None if all_levers or objectives else float(known.concurrency[index]),
                    limits,
                    attainment,
                )
                for index, (key, limits) in enumerate(zip(demand.services, bounds, strict=True))
            ],
            [_policy(all_levers=all_levers)],
            [
                Zone(
                    "home",
                    IntensitySource(GridCarbon.KIND, {"zone": "home"}),
                    is_default=True,
                    pue=Ratio(1.1, 1.2, 1.4),
                )
            ],
            [
                profile_of(variant, PRODUCT, predicted_table(query))
                for variant, query in zip(variants, queries, strict=True)
            ],
        ),
        began=MONDAY,
    )


def _asked(variant: Variant) -> Query:
    return query_of(Described(name=MODEL), Work(gpu="H100", precision=variant.precision), shipped())


def _service(
    key: ServiceKey,
    variants: tuple[Variant, ...],
    concurrency: float | None,
    limits: tuple[float, float],
    attainment: float,
) -> Service:
    ttft, itl = (Seconds(limit) if limit < inf else None for limit in limits)
    return Service(
        key=key,
        uid=str(key),
        generation=1,
        model=MODEL,
        served_name=key.name,
        variants=variants,
        objectives=Objectives(ttft, itl, attainment),
        scaling=Scaling(
            1,
            MOST_REPLICAS,
            None if concurrency is None else max(concurrency * FILLED, 1.0),
            Wake("held", {"service": str(key)}),
        ),
        engine=Engine(image="vllm/vllm-openai"),
        created=Instant(0),
    )


def _policy(*, all_levers: bool) -> Policy:
    """Enforced, with all levers that do not ask for other hardware, precision or rights; or with those too."""
    return Policy(
        "defaults",
        mode=Mode.ENFORCE,
        idle=IdleRules(),
        scaling=ScalingRules(limits_steps=True),
        hardware=HardwareRules(precisions=frozenset({EIGHTS.precision})) if all_levers else None,
        clocks=ClockRules() if all_levers else None,
        guards=GuardRules(),
    )


def bounds_by_service(one: Assembled, *, all_levers: bool = False) -> Array:
    """Joules: a row for each service, columns floor, integer oracle, schedule oracle."""
    return bounds(one, all_levers=all_levers).by_service
