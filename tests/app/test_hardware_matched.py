"""A service with variants on two GPU types on the simulated fleet, under the operator's own cycle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fallow.app.simulation.priors import profile_of
from fallow.app.simulation.steering import steered
from fallow.domain.policies import HardwareRules
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.predict import Query
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.ports import Declared, GridCarbon
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.result import Outcome
from fallow.twin.simulation.setup import NodeKind, ServiceSetup, Setup, Start, VariantSetup
from tests.support.builders import BF16, L4, policy, service
from tests.support.fleets import CHAT, GRID, H100, TOLD, Written, poisson

ZONE = Zone("home", IntensitySource(GridCarbon.KIND, {"zone": "home"}), is_default=True)
LARGE, SMALL = replace(BF16, name="h100", products=(H100,)), replace(BF16, name="l4", products=(L4,))
PROMPT, OUTPUT = 500.0, 100.0
TTFT, ITL = 2.0, 0.1


def asked(gpu: str) -> Query:
    return query_of(Described(name=BF16.model), Work(gpu=gpu, gpus=1, precision="BF16"), shipped())


def drive(arrivals: Array, rules: HardwareRules | None) -> Outcome:
    """One node of each type with eight GPUs."""
    queries = {H100: asked("H100 80GB HBM3"), L4: asked("L4")}
    tables = {
        product: predicted_table(replace(query, context=PROMPT + OUTPUT / 2, output=OUTPUT))
        for product, query in queries.items()
    }
    start = Start(pull=20, load=40, compile_=10, sigma=0.0)
    variants = tuple(
        VariantSetup(one.name, 1, {product: tables[product] for product in one.products}, start)
        for one in (LARGE, SMALL)
    )
    setup = Setup(
        nodes=(
            NodeKind(H100, "NVIDIA H100 80GB HBM3", 71.8, 8, 1, "home"),
            NodeKind(L4, "NVIDIA L4", 17.0, 8, 1, "home"),
        ),
        services=(ServiceSetup(CHAT, variants, TTFT, ITL, 1, 8, 1),),
    )
    chat = service(
        LARGE, SMALL, key=CHAT, maximum=8, concurrency=None, objectives=Objectives(Seconds(TTFT), Seconds(ITL))
    )
    profiles = [
        profile_of(one, one.products[0], tables[one.products[0]], queries[one.products[0]]) for one in (LARGE, SMALL)
    ]
    declared = Declared([chat], [policy(idle_after=None, hardware=rules)], [ZONE], profiles)
    return steered(setup, Written(arrivals, prompt=PROMPT, output=OUTPUT), GRID, declared, told=TOLD)


def switches(outcome: Outcome) -> list[str]:
    begun = [one for one in outcome.decisions if one.lever == "Hardware" and one.reason == "LessPower"]
    return [next(iter(one.after)) for one in begun]


def test_at_little_load_the_small_gpu_comes_to_serve_for_less() -> None:
    arrivals = poisson(0.2, 3600)
    before, after = drive(arrivals, None), drive(arrivals, HardwareRules())
    assert (switches(before), switches(after)) == ([], ["l4"])
    (large,), (small,) = before.services, after.services
    # all GPUs of both nodes, most of them empty; and what is booked of the service
    assert after.fleet.value < 0.96 * before.fleet.value
    assert small.facility.value < 0.85 * large.facility.value
    assert small.attainment == pytest.approx(1, abs=0.002)


def test_as_load_comes_and_goes_so_does_the_large_gpu() -> None:
    wave = 0.15 + 3 * np.maximum(0, np.sin(np.arange(7200) / 7200 * 2 * np.pi))
    arrivals = np.random.default_rng(1).poisson(wave, (1, 7200)).astype(np.float64)
    before, after = drive(arrivals, None), drive(arrivals, HardwareRules())
    assert switches(after) == ["l4", "h100", "l4"]
    (large,), (found,) = before.services, after.services
    assert found.facility.value < large.facility.value
    assert found.attainment == pytest.approx(1, abs=0.005)


def test_a_load_that_fills_the_large_gpu_leaves_it_where_it_is() -> None:
    assert switches(drive(poisson(3, 1200), HardwareRules())) == []
