"""Runs controllers on the same fleet and demand, as many at once as there are cores, and shows how far they are."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from fallow.app.simulation.assembling import Assembled
from fallow.app.simulation.parting import parted, together
from fallow.app.simulation.steering import CYCLE, steered
from fallow.domain.policies import Mode, Policy
from fallow.twin.baselines.named import BASELINES
from fallow.twin.bounds.oracles import Bounds, bounds_of
from fallow.twin.bounds.problem import choices, offered
from fallow.twin.simulation.ports import Declared
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.run import run
from fallow.twin.simulation.sizing import known_of

FALLOW = "fallow"
POLL_SECONDS = 0.2
# Clocks that the oracle of all levers may lock, as shares of the highest.
CLOCKS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
# Objects made before circles among them are looked for; CPython's own 700 took a quarter of a run.
SELDOM = 200_000

Shown = Callable[[str, float], None]
_progress: Any = None


@dataclass(frozen=True, slots=True)
class Job:
    """One run of one `part` of the services: by Fallow, where asked `without` a lever, or by a baseline."""

    name: str
    index: int
    without: str = ""
    part: int = 0


# What each lever is in a policy, and how a policy looks without it.
LEVERS: Mapping[str, Callable[[Policy], Policy]] = {
    "replicas": lambda policy: replace(policy, scaling=replace(policy.scaling, enabled=False)),
    "rest": lambda policy: replace(policy, idle=policy.idle and replace(policy.idle, release=False)),
    "throttle": lambda policy: replace(policy, idle=policy.idle and replace(policy.idle, throttle=False)),
    "steps": lambda policy: replace(policy, scaling=replace(policy.scaling, limits_steps=False)),
    "precision": lambda policy: replace(policy, precision=None),
    "hardware": lambda policy: replace(policy, hardware=None),
    "clocks": lambda policy: replace(policy, clocks=None),
    "consolidation": lambda policy: replace(policy, consolidation=None),
    "power": lambda policy: replace(policy, power=None),
    "budgets": lambda policy: replace(policy, budgets=tuple(replace(one, on_burn=()) for one in policy.budgets)),
}


def enforced(declared: Declared) -> Declared:
    """As if every policy were enforced: what it would do, whatever its mode is today."""
    policies = [replace(policy, mode=Mode.ENFORCE) for policy in declared.policies]
    return Declared(list(declared.services.values()), policies, declared.zones, declared.profiles)


def levers_of(declared: Declared) -> tuple[str, ...]:
    """Those that some policy has."""
    return tuple(name for name, off in LEVERS.items() if any(off(one) != one for one in declared.policies))


def without(declared: Declared, lever: str) -> Declared:
    policies = [LEVERS[lever](policy) for policy in declared.policies]
    return Declared(list(declared.services.values()), policies, declared.zones, declared.profiles)


@dataclass(frozen=True, slots=True)
class How:
    """`every`: seconds a cycle of Fallow; `parts` that services are dealt out to; `without`: also without each of these
    levers.
    """

    seed: int
    every: int = CYCLE
    parts: int = 1
    without: tuple[str, ...] = ()


def all_run(one: Assembled, names: Sequence[str], shown: Shown, how: How) -> list[Outcome]:
    """Outcomes in the order of `names`, then Fallow without each lever that it is to be run without."""
    pieces = parted(one, how.parts) if how.parts > 1 else [one]
    runs = [(name, "") for name in names] + [(FALLOW, lever) for lever in how.without]
    jobs = [
        Job(name, len(pieces) * number + part, lever, part)
        for number, (name, lever) in enumerate(runs)
        for part in range(len(pieces))
    ]
    context = multiprocessing.get_context("fork")
    progress = context.Array("d", len(jobs), lock=False)
    workers = min(len(jobs), os.cpu_count() or 1)
    found: dict[int, Outcome] = {}
    with ProcessPoolExecutor(workers, context, initializer=_share, initargs=(progress,)) as pool:
        waiting: dict[Future[Outcome], Job] = {pool.submit(_run, pieces[job.part], job, how): job for job in jobs}
        while waiting:
            ended, _ = wait(waiting, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            for job in waiting.values():
                shown(title(job), progress[job.index] / one.demand.seconds)
            for future in ended:
                job = waiting.pop(future)
                found[job.index] = future.result()
                shown(title(job), 1.0)
    order, width = one.demand.services, len(pieces)
    return [
        found[width * number]
        if width == 1
        else together([found[width * number + part] for part in range(width)], order)
        for number in range(len(runs))
    ]


def title(job: Job) -> str:
    return f"{job.name} without {job.without}" if job.without else job.name


def bounds(one: Assembled, *, all_levers: bool = False) -> Bounds:
    """Of the demand on the reference variants; with `all_levers` on any variant at any clock."""
    allowed = choices(one.setup, clocks=CLOCKS if all_levers else (1.0,), variants=all_levers)
    return bounds_of(offered(one.demand), allowed)


def _share(progress: Any) -> None:
    """A worker begins: a run makes millions of small objects and hardly a circle of them, so that looking for circles
    is worth it seldom.
    """
    global _progress  # noqa: PLW0603 - a worker's own view of the shared array
    _progress = progress
    gc.freeze()
    gc.set_threshold(SELDOM, *gc.get_threshold()[1:])


def _run(one: Assembled, job: Job, how: How) -> Outcome:
    def note(now: int) -> None:
        if _progress is not None:
            _progress[job.index] = now

    if job.name == FALLOW:
        declared = without(one.declared, job.without) if job.without else one.declared
        told = Run(title(job), how.seed, one.began)
        return steered(one.setup, one.demand, one.grid, declared, told=told, every=how.every, progress=note)
    controller = BASELINES[job.name][0](known_of(one.setup, one.demand, one.seen))
    return run(one.setup, one.demand, one.grid, controller, Run(job.name, how.seed, one.began), progress=note)
