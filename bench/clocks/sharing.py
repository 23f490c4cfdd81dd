"""Engines of several services that use GPUs in turns, on both clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.clocks.cases import InTurns
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.demand.recorded import Recorded
from fallow.twin.demand.together import Together
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.pods import Division, EngineFacts, NodeFacts
from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives, ReplayResult, Replicas, replay
from fallow.twin.simulation.demand import Spread
from fallow.twin.simulation.grid import constant
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.setup import NodeKind, ServiceSetup, Setup, VariantSetup
from fallow.twin.simulation.table import table_of
from fallow.twin.traffic import Arrival, GeneratedTraffic, Lengths

PRODUCT = "NVIDIA-H100-80GB-HBM3-SHARED"
# Seconds between two stretches, as two cycles.
CYCLE = 15


@dataclass(frozen=True, slots=True)
class Both:
    """The same requests: joules of all boards and of what services held, and shares in time, 0..1."""

    event: ReplayResult
    fast: Outcome

    @property
    def energy(self) -> float:
        """What services have more on the fast clock, as a share."""
        return sum(one.energy.value for one in self.fast.services) / self.event_joules - 1.0

    @property
    def event_joules(self) -> float:
        return sum(one.energy.value for one in self.event.services)

    @property
    def event_kept(self) -> float:
        done = sum(one.done for one in self.event.services)
        return sum((one.attainment or 0.0) * one.done for one in self.event.services) / done

    @property
    def off(self) -> float:
        return (self.fast.attainment or 0.0) - self.event_kept


def both(case: InTurns, seed: int = 1) -> Both:
    keys = [ServiceKey("bench", f"s{number}") for number in range(len(case.rates))]
    seeds = range(seed * 100, seed * 100 + len(keys))
    rows = {key: _rows(case, rate, own) for key, rate, own in zip(keys, case.rates, seeds, strict=True)}
    return Both(_event(case, rows), _fast(case, rows))


def _rows(case: InTurns, rate: float, seed: int) -> list[Arrival]:
    lengths = Lengths(case.prompt, case.cv), Lengths(case.output, case.cv)
    return GeneratedTraffic(Piecewise(((0.0, rate),)), *lengths, seed=seed).until(case.seconds)


def _event(case: InTurns, rows: Mapping[ServiceKey, list[Arrival]]) -> ReplayResult:
    return replay(
        [NodeFacts("n", "n", "", Gpu.H100, case.gpus, Division(copies=case.copies))],
        [Replicas(key, EngineFacts("8b", "m", Precision.BF16), case.replicas) for key in rows],
        rows,
        seconds=case.seconds,
        objectives=dict.fromkeys(rows, Objectives(case.ttft, case.itl)),
    )


def _fast(case: InTurns, rows: Mapping[ServiceKey, list[Arrival]]) -> Outcome:
    spread = Spread(np.array([case.cv]), np.array([case.cv]), np.array([0.0]))
    context = case.prompt + case.output * float(spread.found[0])
    table = table_of(law_for(Gpu.H100, "8b", Precision.BF16, 1), context=context)
    kind = NodeKind(PRODUCT, "NVIDIA H100", GPUS[Gpu.H100].bare, case.gpus * case.copies, 1, "home", copies=case.copies)
    variant = VariantSetup("bf16", 1, {PRODUCT: table})
    services = tuple(
        ServiceSetup(key, (variant,), case.ttft, case.itl, 0, case.replicas, case.replicas) for key in rows
    )
    # a request of one token at the start keeps the record's own beginning
    demand = Together([Recorded(key, [Arrival(0.0, 1, 1), *one], seconds=case.seconds) for key, one in rows.items()])
    told = Run("bench", 0, Instant(0.0))
    run = Simulation(Setup((kind,), services), demand, {"home": constant(400.0)}, told)
    for until in range(CYCLE, case.seconds + CYCLE, CYCLE):
        run.advance(until)
    return run.recorder.outcome(told)


def shared_row(case: InTurns) -> str:
    """Of Markdown: one case."""
    found = both(case)
    rates = ", ".join(f"{rate:g}" for rate in case.rates)
    engines = f"{len(case.rates)} x {case.replicas} on {case.gpus}"
    return (
        f"| {engines} | {rates} | {case.prompt:.0f}, {case.output:.0f} | {1e3 * case.itl:g} |"
        f" {found.event_joules / 1e3:.0f} | {found.energy:+.1%} | {found.event_kept:.2%} | {100 * found.off:+.1f} |"
    )
