"""`python -m bench.powercap`: demand grows by half within a second while two services share a power cap.

One service is of high priority and one of low; both run steadily under the cap before. The cap is a share of what they
come to draw without one. Watts are of each second, over all GPUs that the services hold. Each cap is held once as it
is, and once where a variant in FP8 may serve while it binds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context

import numpy as np

from bench.scoreboard.work import ITL, MODEL, MONDAY, PRODUCT, START, TTFT, assembled
from fallow.app.simulation.assembling import Assembled
from fallow.app.simulation.priors import profile_of
from fallow.app.simulation.steering import steered
from fallow.domain.goals import Remedy
from fallow.domain.policies import PowerRules, PrecisionRules, Tier
from fallow.domain.units import GramsPerKWh, Watts
from fallow.domain.workloads import ServiceKey, Variant
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.demand import Array, Load, Spread
from fallow.twin.simulation.ports import Declared
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.record import Run
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.setup import VariantSetup

HIGH, LOW = ServiceKey("front", "high"), ServiceKey("batch", "low")
# Requests a second of each before the step, tokens of a prompt and of an answer.
RATE, PROMPT, OUTPUT = 24.0, 1000.0, 250.0
STEP, BEFORE, AFTER = 1.5, 1800, 1800
SHARES = (1.0, 0.9, 0.8, 0.7)
FP8 = Variant("fp8", f"{MODEL}-FP8", "FP8", quality=0.995, products=(PRODUCT,))
# A policy whose precision has no tiers: no grid asks for a lesser variant.
EVERYWHERE = (Tier(GramsPerKWh(0), frozenset({"BF16", "FP8"})),)


class Stepped:
    """Poisson arrivals that grow by half at once."""

    def __init__(self, seed: int, after: int = AFTER) -> None:
        self.services = (HIGH, LOW)
        self.seconds = BEFORE + after
        self.spread = Spread(np.full(2, 0.6), np.full(2, 0.6), np.zeros(2))
        rate = np.where(np.arange(self.seconds) < BEFORE, RATE, RATE * STEP)
        self._arrivals = np.random.default_rng(seed).poisson(rate, (2, self.seconds)).astype(np.float64)

    def block(self, start: int, stop: int) -> Load:
        arrivals = self._arrivals[:, start:stop]
        return Load(start, arrivals, np.full(arrivals.shape, PROMPT), np.full(arrivals.shape, OUTPUT))


@dataclass(frozen=True, slots=True)
class Row:
    """`over`: longest time on end above the cap after the step, s; `peak`: the most, of the cap. Tokens of high and
    low, of those of the same run without a cap; requests in time. `lesser`: whether FP8 may serve while the cap binds.
    """

    seed: int
    cap: float
    lesser: bool
    over: int
    peak: float
    high: float
    low: float
    high_in_time: float
    low_in_time: float


def capped(seed: int, cap: float | None, *, after: int = AFTER, lesser: bool = False) -> Assembled:
    """Both services have a variant in FP8, which may serve while the cap binds where a `lesser` one is let."""
    one = assembled(Stepped(seed, after))
    query = query_of(Described(name=MODEL), Work(gpu="H100", precision="FP8"), shipped())
    table = predicted_table(query)
    services = [
        replace(service, priority=100 if key == HIGH else 0, variants=(*service.variants, FP8))
        for key, service in one.declared.services.items()
    ]
    power = None if cap is None else PowerRules(Watts(cap), on_bind=(Remedy.PRECISION,) if lesser else ())
    policies = [replace(policy, power=power, precision=PrecisionRules(EVERYWHERE)) for policy in one.declared.policies]
    fleets = tuple(
        replace(service, variants=(*service.variants, VariantSetup(FP8.name, 1, {PRODUCT: table}, START)))
        for service in one.setup.services
    )
    kinds = tuple(replace(kind, design=700.0) for kind in one.setup.nodes)
    profiles = (*one.declared.profiles, profile_of(FP8, PRODUCT, table))
    return replace(
        one,
        setup=replace(one.setup, nodes=kinds, services=fleets),
        declared=Declared(services, policies, one.declared.zones, profiles),
    )


def ran(seed: int, cap: float | None, *, after: int = AFTER, lesser: bool = False) -> Outcome:
    one = capped(seed, cap, after=after, lesser=lesser)
    told = Run("fallow", seed, MONDAY, sample=1)
    return steered(one.setup, one.demand, one.grid, one.declared, told=told)


def rows(asked: tuple[int, int]) -> list[Row]:
    """Of one seed, with so many seconds after the step."""
    seed, after = asked
    free = ran(seed, None, after=after)
    settled = float(free.series.watts.sum(axis=1)[-after // 2 :].mean())
    found = []
    for share, lesser in product(SHARES, (False, True)):
        cap = share * settled
        held = ran(seed, cap, after=after, lesser=lesser)
        watts = held.series.watts.sum(axis=1)[BEFORE:]
        tokens = [_tokens(held, number) / _tokens(free, number) for number in (0, 1)]
        found.append(
            Row(
                seed,
                cap,
                lesser,
                longest(watts > cap),
                float(watts.max()) / cap,
                *tokens,
                *(one.attainment for one in held.services),
            )
        )
    return found


def _tokens(one: Outcome, number: int) -> float:
    return one.services[number].generated_tokens


def longest(over: Array) -> int:
    """Seconds of the longest run of them."""
    longest = run = 0
    for one in over:
        run = run + 1 if one else 0
        longest = max(longest, run)
    return longest


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.powercap", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many runs of chance")
    parser.add_argument("--minutes", type=int, default=AFTER // 60, help="how long demand stays as high")
    asked = parser.parse_args(arguments)
    with get_context("fork").Pool() as pool:
        found = pool.map(rows, [(seed, 60 * asked.minutes) for seed in range(1, asked.seeds + 1)])
    print(f"objectives {TTFT:g} s and {ITL * 1e3:g} ms; demand of both grows by half at once")
    print("| seed | cap, kW | FP8 | longest over, s | peak, of the cap | tokens high | low | in time high | low |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in (row for seed in found for row in seed):
        lesser = "may serve" if row.lesser else "no"
        print(
            f"| {row.seed} | {row.cap / 1e3:.2f} | {lesser} | {row.over} | {row.peak:.1%} | {row.high:.2%}"
            f" | {row.low:.2%} | {row.high_in_time:.2%} | {row.low_in_time:.2%} |"
        )


if __name__ == "__main__":
    main()
