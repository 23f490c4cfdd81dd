"""A service with variants on two GPU types on the simulated fleet, under the operator's own cycle."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fallow.app.simulation.priors import profile_of
from fallow.app.simulation.steering import CYCLE, steered
from fallow.domain.policies import HardwareRules, Objective, Operator, Requirement, Selector
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.predict import Query
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.grid import GridSeries
from fallow.twin.simulation.ports import ZONE_LABEL, Declared, GridCarbon
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.setup import NodeKind, ServiceSetup, Setup, Start, VariantSetup
from fallow.twin.simulation.table import EngineTable
from tests.support.builders import BF16, L4, policy, service
from tests.support.fleets import CHAT, H100, TOLD, Written, poisson

GRAMS, RENTS = {"home": 400.0, "away": 40.0}, {H100: 2.4, L4: 0.6}
GRID = {
    name: GridSeries(np.zeros(1), np.array([grams]), price=0.2, currency="EUR", gpu_hours=RENTS)
    for name, grams in GRAMS.items()
}
LARGE, SMALL = replace(BF16, name="h100", products=(H100,)), replace(BF16, name="l4", products=(L4,))
PROMPT, OUTPUT = 500.0, 100.0
TTFT, ITL = 2.0, 0.1


def zone(name: str) -> Zone:
    here = Selector((Requirement(ZONE_LABEL, Operator.IN, (name,)),))
    source = IntensitySource(GridCarbon.KIND, {"zone": name})
    return Zone(name, source, nodes=here, price_per_kwh=0.2, currency="EUR", price_per_gpu_hour=RENTS)


def asked(gpu: str) -> Query:
    return query_of(Described(name=BF16.model), Work(gpu=gpu, gpus=1, precision="BF16"), shipped())


def drive(
    arrivals: Array, rules: HardwareRules | None, objective: Objective = Objective.ENERGY, *, every: int = CYCLE
) -> Outcome:
    """One node of each type with eight GPUs; the small ones are in a zone of their own."""
    queries = {H100: asked("H100 80GB HBM3"), L4: asked("L4")}
    tables = {
        product: predicted_table(replace(query, context=PROMPT + OUTPUT / 2)) for product, query in queries.items()
    }
    start = Start(pull=20, load=40, compile_=10, sigma=0.0)
    variants = tuple(
        VariantSetup(one.name, 1, {product: tables[product] for product in one.products}, start)
        for one in (LARGE, SMALL)
    )
    setup = Setup(
        nodes=(
            NodeKind(H100, "NVIDIA H100 80GB HBM3", 71.8, 8, 1, "home"),
            NodeKind(L4, "NVIDIA L4", 17.0, 8, 1, "away"),
        ),
        services=(ServiceSetup(CHAT, variants, TTFT, ITL, 1, 8, 1),),
    )
    chat = service(
        LARGE, SMALL, key=CHAT, maximum=8, concurrency=None, objectives=Objectives(Seconds(TTFT), Seconds(ITL))
    )
    profiles = [profile_of(one, one.products[0], tables[one.products[0]]) for one in (LARGE, SMALL)]
    rule = policy(idle_after=None, hardware=rules, objective=objective)
    declared = Declared([chat], [rule], [zone(name) for name in GRAMS], profiles)
    return steered(setup, Written(arrivals, prompt=PROMPT, output=OUTPUT), GRID, declared, told=TOLD, every=every)


@cache
def steady(rate: float, rules: HardwareRules | None, objective: Objective = Objective.ENERGY) -> Outcome:
    """Half an hour of a load that stays, looked at half as often as by default: nothing is in a hurry."""
    return drive(poisson(rate, 1800), rules, objective, every=2 * CYCLE)


def switches(outcome: Outcome) -> list[str]:
    begun = [one for one in outcome.decisions if one.lever == "Hardware" and one.reason.startswith("Less")]
    return [next(iter(one.after)) for one in begun]


def test_at_little_load_the_small_gpu_comes_to_serve_for_less() -> None:
    before, after = steady(0.2, None), steady(0.2, HardwareRules())
    assert (switches(before), switches(after)) == ([], ["l4"])
    (large,), (small,) = before.services, after.services
    # all GPUs of both nodes, most of them empty; and what is booked of the service
    assert after.fleet.value < 0.96 * before.fleet.value
    assert small.facility.value < 0.88 * large.facility.value
    assert small.attainment == pytest.approx(1, abs=0.002)


def test_as_load_comes_and_goes_so_does_the_large_gpu() -> None:
    wave = 0.1 + 3 * np.maximum(0, np.sin((np.arange(6000) - 1200) / 4800 * 2 * np.pi))
    arrivals = np.random.default_rng(1).poisson(wave, (1, 6000)).astype(np.float64)
    before, after = (drive(arrivals, rules, every=2 * CYCLE) for rules in (None, HardwareRules()))
    assert switches(after) == ["l4", "h100", "l4"]
    (large,), (found,) = before.services, after.services
    assert found.facility.value < large.facility.value
    assert found.attainment == pytest.approx(1, abs=0.005)


def test_a_load_that_fills_the_large_gpu_leaves_it_where_it_is() -> None:
    assert switches(drive(poisson(3, 1200), HardwareRules())) == []


@pytest.mark.parametrize("objective", Objective)
def test_what_an_objective_counts_becomes_less_and_is_booked_where_it_was_used(objective: Objective) -> None:
    """A request a second takes fewer watts on the large GPU. The small ones are on a cleaner grid, and cost less."""
    before, after = steady(1, None), steady(1, HardwareRules(), objective)
    assert switches(after) == ([] if objective is Objective.ENERGY else ["l4"])
    (large,), (found,) = before.services, after.services
    assert large.carbon.value == pytest.approx(large.facility.kilowatt_hours * 400)
    assert large.cost == pytest.approx(large.facility.kilowatt_hours * 0.2 + large.replica_hours["h100"] * 2.4)
    if objective is not Objective.ENERGY:
        assert found.facility.value > large.facility.value
        assert found.carbon.value < 0.5 * large.carbon.value
        assert found.cost is not None
        assert large.cost is not None
        assert found.cost < 0.8 * large.cost
        held = found.replica_hours["h100"] * 2.4 + found.replica_hours["l4"] * 0.6
        assert found.cost == pytest.approx(found.facility.kilowatt_hours * 0.2 + held)
    assert found.attainment == pytest.approx(1, abs=0.005)


EIGHTS = replace(LARGE, name="fp8", model=f"{LARGE.model}-FP8", precision="FP8")
LENIENT = HardwareRules(precisions=frozenset({"FP8"}))


def in_both(arrivals: Array, truth: float, said: float) -> Outcome:
    """The same GPUs, on which FP8 takes `truth` of the watts above idle of BF16 in as long, and its profile says that
    it were another share.
    """
    table = predicted_table(replace(asked("H100 80GB HBM3"), context=PROMPT + OUTPUT / 2, output=OUTPUT))

    def eights(share: float) -> EngineTable:
        drawn = table.context + share * (table.watts - table.context)
        return replace(table, watts=drawn, prefill_watts=table.context + share * (table.prefill_watts - table.context))

    start = Start(pull=20, load=40, compile_=10, sigma=0.0)
    variants = tuple(
        VariantSetup(one.name, 1, {H100: of}, start) for one, of in ((LARGE, table), (EIGHTS, eights(truth)))
    )
    setup = Setup(
        nodes=(NodeKind(H100, "NVIDIA H100 80GB HBM3", 71.8, 8, 2, "home"),),
        services=(ServiceSetup(CHAT, variants, TTFT, ITL, 2, 8, 2),),
    )
    chat = service(
        LARGE, EIGHTS, key=CHAT, minimum=2, maximum=8, concurrency=None,
        objectives=Objectives(Seconds(TTFT), Seconds(ITL)),
    )  # fmt: skip
    profiles = [profile_of(LARGE, H100, table), profile_of(EIGHTS, H100, eights(said))]
    rule = policy(idle_after=None, hardware=LENIENT)
    declared = Declared([chat], [rule], [zone("home")], profiles)
    return steered(setup, Written(arrivals, prompt=PROMPT, output=OUTPUT), GRID, declared, told=TOLD, every=2 * CYCLE)


def test_a_precision_that_is_as_good_serves_and_stays_where_it_takes_less() -> None:
    assert switches(in_both(poisson(40, 1800), truth=0.7, said=0.7)) == ["fp8"]


def test_a_precision_that_was_promised_to_take_less_is_left_again_and_not_tried_anew() -> None:
    """It comes once it is known here what BF16 takes, and goes once it is known what it takes itself."""
    found = in_both(poisson(40, 3600), truth=1.2, said=0.7)
    assert switches(found) == ["fp8", "h100"]
    (one,) = found.services
    assert one.replica_hours["fp8"] < 0.3 * one.replica_hours["h100"]


def test_a_precision_that_takes_more_never_serves() -> None:
    assert switches(in_both(poisson(40, 1800), truth=1.2, said=1.2)) == []
