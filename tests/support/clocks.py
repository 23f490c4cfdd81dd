"""The same requests on the event engine and on the fast clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np

from bench.clocks.nearness import live
from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import Gpu
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.pods import EngineFacts, NodeFacts
from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives, Replicas, ServiceResult, replay
from fallow.twin.simulation.demand import Spread
from fallow.twin.simulation.engines import Engines, Pools
from fallow.twin.simulation.table import table_of
from fallow.twin.traffic import GeneratedTraffic, Lengths


@dataclass(frozen=True, slots=True)
class Load:
    """Poisson requests of 8B on one H100 a replica; objectives in seconds, infinite for none."""

    rate: float
    prompt: float
    output: float
    replicas: int = 1
    seconds: int = 600
    cv: float = 0.9
    ttft: float = inf
    itl: float = inf
    limits: EngineLimits = field(default_factory=EngineLimits)
    throttles: bool = False
    seed: int = 3


def both_clocks(load: Load) -> tuple[ServiceResult, Engines]:
    """Of the event engine what came out, of the fast clock the engines as they stand at the end."""
    output_cv = load.cv if load.output > 1 else 0.0
    lengths = Lengths(load.prompt, load.cv), Lengths(load.output, output_cv)
    rows = GeneratedTraffic(Piecewise(((0.0, load.rate),)), *lengths, seed=load.seed).until(load.seconds)
    key = ServiceKey("a", "b")
    facts = EngineFacts("m", "m", Precision.BF16, limits=load.limits, throttles=load.throttles)
    event = replay(
        [NodeFacts("n", "n", "", Gpu.H100, load.replicas)],
        [Replicas(key, facts, load.replicas)],
        {key: rows},
        seconds=load.seconds,
        objectives={key: Objectives(load.ttft, load.itl)},
    ).services[0]
    spread = Spread(np.array([load.cv]), np.array([output_cv]), np.array([load.limits.prefix_hit_share]))
    context = load.prompt + load.output * float(spread.found[0])
    table = table_of(law_for(Gpu.H100, "8b", Precision.BF16, 1), load.limits, context=context)
    fast = Engines(Pools([table], np.array([0]), spread, np.array([load.ttft]), np.array([load.itl])))
    fast.after.throttle(0, on=load.throttles)
    live(fast, rows, replicas=load.replicas, seconds=load.seconds)
    return event, fast
