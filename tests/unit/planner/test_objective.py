"""What a policy minimises: each objective picks another of the same GPUs, and what is not known leaves it to energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from fallow.domain.figures import Figure, Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import IdleRules, Mode, Objective, Operator, PrecisionRules, Requirement, Selector
from fallow.domain.profiles import Profile
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.workloads import ServiceMemory
from fallow.domain.zones import Intensity, IntensityKind, IntensitySource, Ratio, Zone, ZoneReading
from tests.support.builders import (
    BF16,
    FP8,
    H100,
    INT4,
    L4,
    NOW,
    TIERS,
    Running,
    Scene,
    intensity,
    node,
    policy,
    profile,
    service,
    watched,
    zone,
)
from tests.unit.planner.asking import planned
from tests.unit.planner.test_hardware import BLIND, GREEN, LARGE, OBJECTIVES, SMALL, curves, drawn, loads, scene
from tests.unit.planner.test_pieces import scene as pieces_scene

L40S, A10 = "NVIDIA-L40S", "NVIDIA-A10"
PLACES = {H100: "north", L4: "coal", L40S: "hydro", A10: "north"}
NODES = {H100: "node-a", L4: "node-l4", L40S: "node-l40s", A10: "node-a10"}
GRAMS = {"north": 300.0, "coal": 800.0, "hydro": 25.0}
RENTS = {H100: 2.40, L4: 0.80, L40S: 1.20, A10: 0.30}


def like_small(product: str, times: float) -> Profile:
    """As fast as the small GPU, and draws so many times as much."""
    return replace(
        SMALL,
        name=product.lower(),
        gpu_product=product,
        points=tuple(replace(one, watts=one.watts * times) for one in SMALL.points),
        context_watts=Watts(30 * times),
        idle_watts=Watts(17 * times),
    )


VARIANTS = tuple(
    replace(BF16, name=name, products=(product,))
    for name, product in (("h100", H100), ("l4", L4), ("l40s", L40S), ("a10", A10))
)
FOUR = service(*VARIANTS, concurrency=None, objectives=OBJECTIVES)
DRAWN = (LARGE, SMALL, like_small(L40S, 1.3), like_small(A10, 1.6))


@dataclass(frozen=True)
class Grid:
    """A cluster's zones: intensities, prices of a kWh, and of GPUs by product."""

    grams: dict[str, float]
    prices: dict[str, float]
    rents: dict[str, float]

    def zone(self, name: str) -> ZoneReading:
        labels = Selector((Requirement("zone", Operator.IN, (name,)),))
        declared = Zone(
            name,
            IntensitySource("Static"),
            nodes=labels,
            price_per_kwh=self.prices.get(name),
            currency="EUR" if name in self.prices else "",
            price_per_gpu_hour={product: rent for product, rent in self.rents.items() if PLACES[product] == name},
        )
        known = intensity(self.grams[name]) if name in self.grams else Missing(Reason.SOURCE_UNREACHABLE, "down")
        return ZoneReading(declared, known)


GRID = Grid(GRAMS, dict.fromkeys(GRAMS, 0.2), RENTS)


def asked(
    objective: Objective, grid: Grid = GRID, alter: Callable[[ZoneReading], ZoneReading] | None = None, **more: Any
) -> Snapshot:
    """The reference serves on an H100 in the north; every GPU type has a node in its place."""
    one = scene(**{"service": FOUR, "policy": replace(GREEN, objective=objective), "profiles": DRAWN, **more})
    one.nodes = tuple(
        replace(node(NODES[product], product, 4000), labels={"zone": PLACES[product]}) for product in NODES
    )
    zones = {name: grid.zone(name) for name in GRAMS}
    return replace(one.snapshot(), zones={name: alter(zone) if alter else zone for name, zone in zones.items()})


def chosen(plan: ServicePlan) -> str | None:
    return plan.memory.switching_to


@pytest.mark.parametrize(
    ("objective", "variant", "reason", "words"),
    [
        ("Energy", "l4", Reason.LESS_POWER, "354 W on NVIDIA-H100-80GB-HBM3 in north and 248 W on NVIDIA-L4 in coal"),
        ("Carbon", "l40s", Reason.LESS_CARBON, "gCO2e/h on NVIDIA-L40S in hydro"),
        ("Cost", "a10", Reason.LESS_COST, "2.47 EUR/h on NVIDIA-H100-80GB-HBM3 and 0.36 EUR/h on NVIDIA-A10"),
    ],
)
def test_each_objective_picks_another_gpu_on_the_same_fleet(
    objective: str, variant: str, reason: Reason, words: str
) -> None:
    plan = planned(asked(Objective(objective)))
    assert (chosen(plan), plan.standing.reason) == (variant, reason)
    assert words in plan.standing.message
    assert not any("objective" in one for one in plan.silences)


def marginal(zone: ZoneReading) -> ZoneReading:
    known = zone.intensity
    return (
        replace(zone, intensity=replace(known, kind=IntensityKind.MARGINAL)) if isinstance(known, Intensity) else zone
    )


def in_kronor(zone: ZoneReading) -> ZoneReading:
    return replace(zone, zone=replace(zone.zone, currency="SEK")) if zone.zone.name == "hydro" else zone


def without(of: dict[str, float], name: str) -> dict[str, float]:
    return {one: value for one, value in of.items() if one != name}


@pytest.mark.parametrize(
    ("objective", "grid", "alter", "words"),
    [
        (
            "Carbon",
            replace(GRID, grams=without(GRAMS, "hydro")),
            None,
            "GridZone hydro has no average intensity (SourceUnreachable: down): see its conditions",
        ),
        ("Carbon", GRID, marginal, "GridZone north has no average intensity (it gives a marginal one)"),
        (
            "Cost",
            replace(GRID, prices=without(GRID.prices, "coal")),
            None,
            "GridZone coal has no price: write price.perKWh and price.currency",
        ),
        (
            "Cost",
            replace(GRID, rents=without(RENTS, L40S)),
            None,
            "GridZone hydro has no price of NVIDIA-L40S, and others have: write it in price.perGpuHour",
        ),
        ("Cost", GRID, in_kronor, "prices of coal, hydro, north are in EUR and SEK: write one price.currency"),
    ],
    ids=["no intensity", "marginal", "no price", "no price of a GPU", "two currencies"],
)
def test_what_is_missing_leaves_the_choice_to_energy_and_is_told(
    objective: str, grid: Grid, alter: Callable[[ZoneReading], ZoneReading] | None, words: str
) -> None:
    plan = planned(asked(Objective(objective), grid, alter))
    assert (chosen(plan), plan.standing.reason) == ("l4", Reason.LESS_POWER)
    assert f"objective {objective}: {words}" in " ".join(plan.silences)
    assert "Energy decides until then" in " ".join(plan.silences)
    assert not any("objective" in one for one in planned(asked(Objective.ENERGY, grid, alter)).silences)


def test_nodes_of_no_zone_leave_the_choice_to_energy_too() -> None:
    known = asked(Objective.CARBON)
    plan = planned(replace(known, zones=without_zone(known.zones, "hydro")))
    assert (chosen(plan), plan.standing.reason) == ("l4", Reason.LESS_POWER)
    assert "objective Carbon: no GridZone covers nodes of NVIDIA-L40S: select them in one" in " ".join(plan.silences)


def without_zone(zones: Mapping[str, ZoneReading], name: str) -> dict[str, ZoneReading]:
    return {one: zone for one, zone in zones.items() if one != name}


@pytest.mark.parametrize("objective", Objective)
def test_watts_are_those_of_the_facility_and_of_the_hosts_where_the_gpus_are(objective: Objective) -> None:
    """One other GPU type, in a zone of its own with as good a grid as here."""
    two = service(VARIANTS[0], VARIANTS[1], concurrency=None, objectives=OBJECTIVES)
    even = Grid(dict.fromkeys(GRAMS, 300.0), GRID.prices, {})

    def there(**declared: Any) -> str | None:
        def alter(zone: ZoneReading) -> ZoneReading:
            return replace(zone, zone=replace(zone.zone, **declared)) if zone.zone.name == "coal" else zone

        return chosen(planned(asked(objective, even, alter, service=two)))

    assert there() == "l4"
    assert there(pue=Ratio(2.0, 2.0, 2.0)) is None
    assert there(host_per_gpu=Figure.exact(Watts(300))) is None


def test_what_is_not_compared_may_be_missing() -> None:
    """A service without a choice, of GPUs in a zone whose price is known."""
    alone = service(VARIANTS[0], VARIANTS[3], concurrency=None, objectives=OBJECTIVES)
    grid = replace(GRID, prices={"north": 0.2})
    plan = planned(asked(Objective.COST, grid, service=alone))
    assert (chosen(plan), plan.standing.reason) == ("a10", Reason.LESS_COST)


def test_where_gpus_of_one_type_are_in_several_zones_a_switch_must_pay_in_the_worst() -> None:
    two = service(VARIANTS[0], VARIANTS[1], concurrency=None, objectives=OBJECTIVES)
    clean = Grid({"north": 300.0, "coal": 100.0, "hydro": 25.0}, GRID.prices, RENTS)
    assert chosen(planned(asked(Objective.CARBON, clean, service=two))) == "l4"
    known = asked(Objective.CARBON, clean, service=two)
    more = replace(node("node-l4-too", L4), labels={"zone": "hydro"})
    also = replace(known.cluster, nodes={**known.cluster.nodes, more.name: more})
    assert chosen(planned(replace(known, cluster=also))) == "l4"
    known = asked(Objective.CARBON, replace(clean, grams={**clean.grams, "hydro": 900.0}), service=two)
    assert chosen(planned(replace(known, cluster=also))) is None


@pytest.mark.parametrize(
    ("objective", "grid", "variant"),
    [
        (Objective.ENERGY, GRID, None),
        (Objective.CARBON, GRID, "h100"),
        (Objective.COST, GRID, None),
        (Objective.COST, replace(GRID, rents={**RENTS, L4: 3.0}), "h100"),
    ],
    ids=["fewest watts", "its zone is dirty", "cheapest", "its price has risen"],
)
def test_the_reference_comes_back_for_what_the_objective_counts(
    objective: Objective, grid: Grid, variant: str | None
) -> None:
    two = service(VARIANTS[0], VARIANTS[1], concurrency=None, objectives=OBJECTIVES)
    assert chosen(planned(asked(objective, grid, serving="l4", service=two))) == variant


def test_a_switch_is_paid_back_in_what_the_objective_counts() -> None:
    """Loading takes an hour: in energy that is paid back in a day, in money two GPUs are held for it."""
    slow = tuple(replace(one, load_seconds=Seconds(3 * 3600)) for one in DRAWN)
    assert chosen(planned(asked(Objective.ENERGY, profiles=slow))) == "l4"
    near = replace(GRID, rents={H100: 2.40, L4: 2.10, L40S: 2.10, A10: 2.10})
    quick, late = asked(Objective.COST, near), asked(Objective.COST, near, profiles=slow)
    assert chosen(planned(quick)) is not None
    assert chosen(planned(late)) is None


prices = st.floats(0.01, 5.0)
grids = st.builds(
    Grid,
    st.fixed_dictionaries({name: st.floats(5, 1000) for name in GRAMS}),
    st.fixed_dictionaries(dict.fromkeys(GRAMS, prices)),
    st.fixed_dictionaries(dict.fromkeys(PLACES, prices)),
)
four_curves = st.tuples(curves, curves, curves, curves)
Curves = tuple[tuple[float, float, float, float], ...]


def profiles_of(four: Curves) -> tuple[Profile, ...]:
    return tuple(drawn(one, one.products[0], curve) for one, curve in zip(VARIANTS, four, strict=True))


def scaled(grid: Grid, times: float) -> Grid:
    return Grid(
        *({name: value * times for name, value in one.items()} for one in (grid.grams, grid.prices, grid.rents))
    )


@settings(deadline=None, max_examples=60)
@given(four_curves, loads, grids, st.integers(-6, 6), st.sampled_from(Objective))
def test_intensities_or_prices_that_are_all_so_many_times_higher_change_no_choice(
    four: Curves, rate: float, grid: Grid, power: int, objective: Objective
) -> None:
    one, other = (
        planned(asked(objective, each, rate=rate, profiles=profiles_of(four)))
        for each in (grid, scaled(grid, 2.0**power))
    )
    event(f"{objective} picks {chosen(one)}")
    assert (chosen(one), one.replicas) == (chosen(other), other.replicas)


@settings(deadline=None, max_examples=60)
@given(four_curves, loads, st.floats(5, 1000), prices)
def test_with_equal_intensities_and_no_prices_of_gpus_all_objectives_choose_alike(
    four: Curves, rate: float, grams: float, price: float
) -> None:
    grid = Grid(dict.fromkeys(GRAMS, grams), dict.fromkeys(GRAMS, price), {})
    plans = [planned(asked(objective, grid, rate=rate, profiles=profiles_of(four))) for objective in Objective]
    event(f"picks {chosen(plans[0])}")
    assert len({chosen(plan) for plan in plans}) == 1
    assert not any("objective" in one for plan in plans for one in plan.silences)


@settings(deadline=None, max_examples=60)
@given(four_curves, loads, grids, st.sampled_from(Objective))
def test_by_each_objective_a_service_comes_to_rest(four: Curves, rate: float, grid: Grid, objective: Objective) -> None:
    """What is counted falls with each switch, so that none is taken back."""
    of = service(*VARIANTS, concurrency=None, objectives=OBJECTIVES, maximum=500)
    serving, count, served = "h100", 1, ["h100"]
    for _ in range(20):
        plan = planned(
            asked(objective, grid, rate=rate, serving=serving, count=count, service=of, profiles=profiles_of(four))
        )
        before, serving = (serving, count), chosen(plan) or serving
        count = plan.replicas[serving]
        if serving != served[-1]:
            served.append(serving)
        # the next plan would be the same one
        if (serving, count) == before:
            break
    event(f"{objective}: {len(served)} served")
    assert len(set(served)) == len(served), served


def priced(per_gpu_hour: float, per_kwh: float = 0.2, product: str = H100, grams: float = 400) -> ZoneReading:
    one = zone(grams)
    return replace(
        one,
        zone=replace(one.zone, price_per_kwh=per_kwh, currency="EUR", price_per_gpu_hour={product: per_gpu_hour}),
    )


@pytest.mark.parametrize(
    ("objective", "rent", "throttled"),
    [(Objective.ENERGY, 10.0, True), (Objective.COST, 2.0, True), (Objective.COST, 10.0, False)],
)
def test_engines_are_replaced_where_the_gpus_that_are_held_twice_are_paid_back(
    objective: Objective, rent: float, throttled: bool
) -> None:
    """Two idle engines: 50 W each are 1 cent an hour, and a GPU is held for two minutes more."""
    rules = policy(objective=objective, idle_after=None)
    idle = replace(rules, idle=IdleRules(release=False, throttle=True))
    one = Scene(service=service(minimum=2), policy=idle, variants={"bf16": Running(2)}, zone=priced(rent))
    assert planned(one).throttled is throttled


def test_gpus_that_prompts_in_pieces_spare_count_with_their_price() -> None:
    """Loading takes so long that the joules of the replicas spared do not pay for it in a day; their price does."""
    plain = pieces_scene()
    saved = planned(plain).standing.saves
    assert saved is not None
    spared = saved.value / 121.6
    slow = tuple(replace(one, load_seconds=Seconds(86_400 * spared / 12)) for one in plain.profiles)

    def limited(objective: Objective) -> bool:
        rules = replace(plain.policy or GREEN, objective=objective)
        return bool(planned(replace(plain, policy=rules, profiles=slow, zone=priced(2.0))).step_tokens)

    assert (limited(Objective.ENERGY), limited(Objective.CARBON), limited(Objective.COST)) == (False, False, True)


TWO_GPUS = replace(BF16, gpus=2)
CURVES = (
    profile(TWO_GPUS, (1, 100, 400), (64, 2000, 800)),
    profile(FP8, (1, 80, 380), (64, 1500, 680)),
)


@pytest.mark.parametrize(
    ("objective", "rent", "serves", "unit"),
    [
        (Objective.ENERGY, 2.0, None, "J/token"),
        (Objective.CARBON, 2.0, None, "J/token"),
        (Objective.COST, 2.0, "fp8", "EUR/Mtoken"),
        (Objective.COST, 0.01, None, "EUR/Mtoken"),
    ],
)
def test_a_lesser_variant_on_fewer_gpus_is_less_where_gpus_have_a_price(
    objective: Objective, rent: float, serves: str | None, unit: str
) -> None:
    """FP8 takes more J/token here, and one GPU instead of two."""
    plan = planned(lesser(objective, rent))
    assert chosen(plan) == serves
    assert unit in plan.standing.message


def test_while_no_tokens_are_counted_the_price_of_gpus_brings_no_lesser_variant() -> None:
    plan = planned(replace(lesser(Objective.COST, 2.0), history=watched(9.5, 1)))
    assert (chosen(plan), plan.standing.reason) == (None, Reason.NO_MEASURED_ADVANTAGE)
    assert "no tokens are counted" in plan.standing.message


INT4_AWAY = replace(INT4, products=(L4,))
AWAY = (
    profile(replace(BF16, products=(H100,)), (1, 100, 400), (64, 2000, 800)),
    profile(INT4_AWAY, (1, 100, 480), (64, 2000, 960), product=L4),
)


def away(objective: Objective, serving: str = "bf16", **more: Any) -> Snapshot:
    """INT4 takes a fifth more J/token, on GPUs in a zone with a tenth of the intensity and a fifth of the price."""
    grid = Grid({"north": 400.0, "coal": 40.0, "hydro": 40.0}, GRID.prices, {H100: 2.0, L4: 0.4})
    return asked(
        objective,
        grid,
        serving=serving,
        service=service(replace(BF16, products=(H100,)), INT4_AWAY),
        policy=policy(**{"precision": PrecisionRules(TIERS), "guards": BLIND, "objective": objective, **more}),
        profiles=AWAY,
        memory=ServiceMemory(serving=serving, changed_at=Instant(NOW - 3600)),
        history=watched(9.5, 1, tokens_per_second=500.0),
    )


@pytest.mark.parametrize(
    ("objective", "serves", "unit"),
    [
        (Objective.ENERGY, None, "J/token"),
        (Objective.CARBON, "int4", "gCO2e/Mtoken"),
        (Objective.COST, "int4", "EUR/Mtoken"),
    ],
)
def test_a_lesser_variant_elsewhere_is_weighed_there(objective: Objective, serves: str | None, unit: str) -> None:
    plan = planned(away(objective))
    assert chosen(plan) == serves
    assert unit in plan.standing.message
    # once it serves, the grid is clean under its own nodes: it stays for that of the reference
    back = planned(away(objective, "int4"))
    assert chosen(back) == (None if serves else "bf16")


@pytest.mark.parametrize("objective", Objective)
def test_a_lesser_variant_on_a_cleaner_grid_does_not_end_its_own_reason(objective: Objective) -> None:
    asked_for = PrecisionRules(TIERS, require_measured_advantage=False)
    assert chosen(planned(away(objective, precision=asked_for))) == "int4"
    assert chosen(planned(away(objective, "int4", precision=asked_for))) is None


def test_a_proposal_of_a_lesser_variant_elsewhere_counts_both_places() -> None:
    known = away(Objective.CARBON, mode=Mode.RECOMMEND)
    tokens = {
        ref: replace(one, generated_tokens=one.generated_tokens + 7500) for ref, one in known.readings.engines.items()
    }
    plan = planned(replace(known, readings=replace(known.readings, engines=tokens)))
    assert plan.pending is not None
    assert plan.standing.saves is not None
    assert plan.pending.grams is not None
    assert plan.pending.money is not None
    watts = -plan.standing.saves.value / 0.2
    assert plan.pending.grams.value == pytest.approx(watts * 1.2 * (0.4 - 1.2 * 0.04), rel=1e-6)
    assert plan.pending.money.value == pytest.approx(2.0 - 0.4 - 0.2 * watts * 1.2 * 0.2e-3, rel=1e-6)


def lesser(objective: Objective, rent: float) -> Scene:
    rules = policy(precision=PrecisionRules(TIERS), objective=objective, guards=BLIND)
    return Scene(
        service=service(TWO_GPUS, FP8),
        variants={"bf16": Running(1, running=9.5)},
        memory=ServiceMemory(serving="bf16", changed_at=Instant(NOW - 3600)),
        policy=rules,
        zone=priced(rent),
        profiles=CURVES,
        history=watched(9.5, 1, tokens_per_second=500.0),
    )


def test_a_proposal_says_what_it_saves_of_all_three_by_the_places_that_it_is_between() -> None:
    """Whatever decided: GPUs of the north at 300 g and 2.40 EUR/h, those that come in hydro at 25 g."""
    plan = planned(asked(Objective.CARBON, policy=replace(GREEN, objective=Objective.CARBON, mode=Mode.RECOMMEND)))
    assert plan.pending is not None
    assert plan.standing.saves is not None
    assert plan.pending.grams is not None
    assert plan.pending.money is not None
    assert "take 106 gCO2e/h on NVIDIA-H100-80GB-HBM3 in north and 6.72 gCO2e/h" in plan.standing.message
    # what the host and the empty GPU draw on stays
    idle_before, idle_after = (150 + 71.8) * 1.2 * 0.3, (150 + 17 * 1.3) * 1.2 * 0.025
    assert plan.pending.grams.value == pytest.approx((106.3 - idle_before) - (6.72 - idle_after), abs=0.1)
    assert plan.pending.money.value == pytest.approx(2.40 - 1.20 + plan.standing.saves.value * 1.2 * 0.2e-3)
    assert plan.pending.currency == "EUR"


@pytest.mark.parametrize(("rents", "money"), [({H100: 2.4}, 2.4), ({}, 0.0)], ids=["with a price", "without"])
def test_a_replica_that_goes_saves_the_price_of_its_gpus(rents: dict[str, float], money: float) -> None:
    one = zone()
    known = replace(one, zone=replace(one.zone, price_per_kwh=0.2, currency="EUR", price_per_gpu_hour=rents))
    plan = planned(Scene(policy=policy(Mode.RECOMMEND), variants={"bf16": Running(2, running=4)}, zone=known))
    assert plan.pending is not None
    assert (plan.standing.action, plan.standing.saves) == ("ScaleDown", Watts(121.6 - 71.8))
    assert plan.pending.money is not None
    assert plan.pending.money.value == pytest.approx(money + 0.0498 * 1.2 * 0.2)
    assert plan.pending.grams is not None
    assert plan.pending.grams.value == pytest.approx(0.0498 * 1.2 * 200)


def test_what_a_proposal_saves_is_left_out_where_it_is_not_known() -> None:
    down = zone(Missing(Reason.SOURCE_UNREACHABLE, "down"))
    plan = planned(Scene(policy=policy(Mode.RECOMMEND), variants={"bf16": Running(2, running=4)}, zone=down))
    assert plan.pending is not None
    assert (plan.standing.action, plan.pending.grams, plan.pending.money) == ("ScaleDown", None, None)
