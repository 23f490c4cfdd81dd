"""The same requests on both clocks: joules, and the share within the objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from bench.clocks.cases import Case, Role
from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.demand.recorded import Recorded
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.physics.parts import profiles_of
from fallow.twin.pods import Division, EngineFacts, NodeFacts
from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives, Replicas, replay
from fallow.twin.simulation.demand import Spread
from fallow.twin.simulation.engines import Engines, Pools
from fallow.twin.simulation.table import table_of
from fallow.twin.traffic import Arrival, GeneratedTraffic, Lengths

KEY = ServiceKey("bench", "one")


@dataclass(frozen=True, slots=True)
class Nearness:
    """Joules and shares in time, 0..1, means of all runs; `off` is the fast clock's share less the event engine's."""

    event_joules: float
    fast_joules: float
    event_kept: float
    off: float

    @property
    def energy(self) -> float:
        """What the fast clock has more, as a share."""
        return self.fast_joules / self.event_joules - 1.0


def nearness(case: Case) -> Nearness:
    runs = [_run(case, seed) for seed in range(1, case.seeds + 1)]
    return Nearness(
        fmean(run.event_joules for run in runs),
        fmean(run.fast_joules for run in runs),
        fmean(run.event_kept for run in runs),
        fmean(run.off for run in runs),
    )


def row(case: Case) -> str:
    """Of Markdown: one case."""
    found = nearness(case)
    return (
        f"| {case.model} on {case.part or case.gpus} x {case.replicas} | {case.rate:g}"
        f" | {case.prompt:.0f}, {case.output:.0f} | {found.event_joules / 1e3:.0f} | {found.energy:+.1%} |"
        f" {found.event_kept:.2%} | {100 * found.off:+.1f} |"
    )


def role_row(role: Role, replicas: int) -> str:
    """Of Markdown: a role at each share of its knee, and the energy that is furthest off."""
    found = [nearness(case) for case in role.at(replicas)]
    cells = " | ".join(f"{one.event_kept:.2%}, {100 * one.off:+.1f}" for one in found)
    energy = max((one.energy for one in found), key=abs)
    lengths = f"{role.one.prompt:.0f}, {role.one.output:.0f}"
    return f"| {role.name} | {lengths} | {replicas} | {role.knees[replicas]:g} | {cells} | {energy:+.1%} |"


def _run(case: Case, seed: int) -> Nearness:
    lengths = Lengths(case.prompt, case.prompt_cv), Lengths(case.output, case.output_cv)
    rows = GeneratedTraffic(Piecewise(((0.0, case.rate),)), *lengths, seed=seed).until(case.seconds)
    joules, kept = _event(case, rows)
    fast_joules, fast_kept = _fast(case, rows)
    return Nearness(joules, fast_joules, kept, fast_kept - kept)


def _event(case: Case, rows: list[Arrival]) -> tuple[float, float]:
    instance = profiles_of("H100")[case.part] if case.part else None
    division = Division()
    if instance is not None:
        division = Division(((instance,) * instance.most_on(GPUS[Gpu.H100].memory),) * 8, single=True)
    nodes = [
        NodeFacts(f"n{index}", f"n{index}", "", Gpu.H100, 8, division)
        for index in range(-(-case.replicas * case.gpus // 8))
    ]
    limits = EngineLimits(prefix_hit_share=case.cached)
    facts = EngineFacts(case.model, "m", Precision.BF16, limits=limits)
    event = replay(
        nodes,
        [Replicas(KEY, facts, case.replicas, gpus=case.gpus)],
        {KEY: rows},
        seconds=case.seconds,
        objectives={KEY: Objectives(case.ttft, case.itl)},
    ).services[0]
    return event.energy.value, event.attainment or 0.0


def _fast(case: Case, rows: list[Arrival]) -> tuple[float, float]:
    instance = profiles_of("H100")[case.part] if case.part else None
    spread = Spread(np.array([case.prompt_cv]), np.array([case.output_cv]), np.array([case.cached]))
    law = law_for(Gpu.H100, case.model, Precision.BF16, case.gpus, part=instance)
    table = table_of(law, context=case.prompt + case.output * float(spread.found[0]))
    fast = Engines(Pools([table], np.array([0]), spread, np.array([case.ttft]), np.array([case.itl])))
    live(fast, rows, replicas=case.replicas, seconds=case.seconds)
    return float(fast.after.totals.joules.sum()), kept(fast)


def live(fast: Engines, rows: Sequence[Arrival], *, replicas: int, seconds: int) -> None:
    """One pool with so many replicas from the start meets these requests, in stretches as between two cycles."""
    # a request of one token at the start keeps the record's own beginning
    load = Recorded(KEY, [Arrival(0.0, 1, 1), *rows], seconds=seconds).block(0, seconds)
    for _ in range(replicas):
        fast.join(0)
    for begin in range(0, seconds, 15):
        part = slice(begin, begin + 15)
        fast.advance(load.arrivals[:, part], load.prompt[:, part], load.output[:, part])


def kept(fast: Engines) -> float:
    """The share of those who ended that were in time."""
    return float(fast.after.totals.good.sum() / fast.after.totals.done.sum())
