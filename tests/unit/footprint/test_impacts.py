"""Host, facility, carbon, water and manufacture of a booked interval, and what is named as not known."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account
from fallow.domain.reasons import Reason
from fallow.domain.units import Grams, GramsPerKWh, Joules, LitresPerKWh, Seconds, Watts
from fallow.domain.zones import IntensityKind, Ratio, ZoneReading
from fallow.footprint.bookkeeping import book
from fallow.footprint.hardware import UNKNOWN, hardware_of, idle_ceiling
from fallow.footprint.impacts import Held, carbon, embodied, facility_energy, host_energy, impacts, water_used
from fallow.footprint.split import Parts
from fallow.footprint.zones import node_zone, zone_of
from tests.support.metered import CHAT, gpu, node, opened, pod, snapshot, zone

KWH = 3.6e6


def kilowatt_hour(*zones: ZoneReading, model: str = "NVIDIA H100 80GB HBM3") -> Account:
    """One GPU for 2 h at 500 W: 1 kWh at the GPU, 0.3 kWh of host, 1.56 kWh at the facility."""
    ledger, pods = opened(), [pod("chat-1")]
    for seconds, joules in ((0, 0.0), (7200, KWH)):
        seen = [gpu(seconds, joules, 500.0, holder="llm/chat-1", model=model)]
        ledger = book(ledger, snapshot(seconds, seen, pods=pods, zones=zones))
    (book_of_chat,) = ledger.service_books(CHAT)
    return book_of_chat.total.account


def test_host_energy_is_watts_times_time_held() -> None:
    assert host_energy(Figure(Watts(75), Watts(150), Watts(290)), Seconds(10)) == Figure(
        Joules(750), Joules(1500), Joules(2900)
    )


def test_pue_multiplies_energy_once() -> None:
    assert facility_energy(Figure.exact(Joules(100)), Ratio(1.1, 1.2, 1.3)).best.value == pytest.approx(120)
    assert kilowatt_hour(zone()).facility.best.value == pytest.approx((1 + 0.3) * 1.2 * KWH)


def test_carbon_is_energy_times_intensity_bound_by_bound() -> None:
    used = Figure(Joules(KWH), Joules(2 * KWH), Joules(3 * KWH))
    grid = Figure(GramsPerKWh(100), GramsPerKWh(200), GramsPerKWh(300))
    assert carbon(used, grid) == Figure(Grams(100), Grams(400), Grams(900))


def test_the_facility_s_energy_is_priced_at_the_zone_s_intensity() -> None:
    account = kilowatt_hour(zone(grams=400))
    assert account.carbon.best.value == pytest.approx(1.56 * 400)
    assert account.unpriced.value == 0


@pytest.mark.parametrize(
    "zones",
    [
        [],
        [zone(grams=Missing(Reason.SOURCE_UNREACHABLE))],
        [zone(kind=IntensityKind.MARGINAL)],
        [zone("south", region="south")],
    ],
    ids=["no zone", "no answer", "marginal only", "no zone selects the node"],
)
def test_energy_without_an_average_intensity_is_named_as_unpriced(zones: list[ZoneReading]) -> None:
    account = kilowatt_hour(*zones)
    assert account.carbon.best.value == 0
    assert account.unpriced == account.facility.best
    assert account.unpriced.value == pytest.approx(1.56 * KWH)


def test_contracts_give_emissions_of_their_own_beside_the_grid_s() -> None:
    green = zone(grams=400)
    bought = replace(green, zone=replace(green.zone, market=Figure.exact(GramsPerKWh(10))))
    account = kilowatt_hour(bought)
    assert account.market_carbon.best.value == pytest.approx(1.56 * 10)
    assert account.carbon.best.value == pytest.approx(1.56 * 400)
    assert account.unmarketed.value == 0


def test_without_a_contract_the_energy_is_named_and_not_counted_at_the_grid_s_intensity() -> None:
    account = kilowatt_hour(zone(grams=400))
    assert account.market_carbon.high.value == 0
    assert account.unmarketed == account.facility.best


def test_the_facility_s_energy_is_paid_for_in_the_zone_s_currency() -> None:
    sold = zone()
    account = kilowatt_hour(replace(sold, zone=replace(sold.zone, price_per_kwh=0.25, currency="EUR")))
    assert account.costs["EUR"].best.value == pytest.approx(1.56 * 0.25)
    assert account.costs["EUR"].low < account.costs["EUR"].best < account.costs["EUR"].high
    assert account.uncosted.value == 0


def test_without_a_price_there_is_no_cost_and_the_energy_is_named() -> None:
    account = kilowatt_hour(zone())
    assert account.costs == {}
    assert account.uncosted == account.facility.best


@pytest.mark.parametrize(
    ("live", "expected"),
    [(Ratio(1.3, 1.4, 1.5), 1.4), (Missing(Reason.STALE_SERIES), 1.2), (None, 1.2)],
    ids=["measured", "not known now", "not measured"],
)
def test_a_measured_pue_goes_before_the_declared_one(live: Ratio | Missing | None, expected: float) -> None:
    account = kilowatt_hour(replace(zone(), live_pue=live))
    assert account.facility.best.value == pytest.approx(1.3 * expected * KWH)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1e9), st.floats(1, 1e6), st.floats(0, 5000), st.floats(0, 1000), st.floats(0, 5), st.floats(0, 20))
def test_every_figure_that_follows_keeps_low_best_and_high_in_order(
    joules: float, seconds: float, grams: float, market: float, price: float, water: float
) -> None:
    place = zone(grams=grams, at_source=water)
    place = replace(
        place,
        zone=replace(place.zone, market=Figure.exact(GramsPerKWh(market)), price_per_kwh=price, currency="EUR"),
    )
    held = Held(
        energy=Figure(Joules(joules * 0.95), Joules(joules), Joules(joules * 1.05)),
        parts=Parts(bare=joules / 2),
        duration=Seconds(seconds),
        host=Figure.exact(Joules(joules / 10)),
        unmetered=Seconds(seconds),
        hardware=UNKNOWN,
        zone=place,
    )
    account = impacts(held)
    figures = [account.host, account.facility, account.carbon, account.market_carbon, account.water]
    for figure in (*figures, account.embodied, account.costs["EUR"]):
        assert figure.low.value <= figure.best.value <= figure.high.value  # type: ignore[attr-defined]
    assert account.energy.best.value + account.host.best.value <= account.facility.best.value * (1 + 1e-9)


def test_water_on_site_follows_the_computers_and_at_the_source_the_facility() -> None:
    assert water_used(Figure.exact(Joules(KWH)), Figure.exact(LitresPerKWh(1.8))).best.value == pytest.approx(1.8)
    account = kilowatt_hour(zone(on_site=0.5, at_source=3.0))
    assert account.water.best.value == pytest.approx(1.3 * 0.5 + 1.56 * 3.0)
    assert account.unwatered.value == 0


def test_water_that_is_partly_unknown_is_named() -> None:
    account = kilowatt_hour(zone(at_source=None))
    assert account.water.best.value == pytest.approx(1.3 * 0.3)
    assert account.unwatered == account.facility.best


def test_manufacture_is_shared_by_the_time_held() -> None:
    year = 365.25 * 86_400
    made = embodied(Figure(Grams(100), Grams(200), Grams(300)), Seconds(year))
    assert (made.low.value, made.best.value, made.high.value) == pytest.approx((100 / 6, 200 / 4, 300 / 3))


def test_an_h100_carries_its_own_manufacture_and_an_eighth_of_a_server() -> None:
    account = kilowatt_hour(zone())
    hours = 4 * 365.25 * 24
    assert account.embodied.best.value == pytest.approx((307_000 + 712_500) * 2 / hours)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("NVIDIA-H100-80GB-HBM3", "H100 SXM"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA-H100-PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA-A100-SXM4-80GB", "A100 SXM 80 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe"),
        ("NVIDIA-A100-SXM4-40GB", "A100 SXM 40 GB"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla-T4-SHARED", "T4"),
        ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "H100 SXM 1g.10gb"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100 SXM 3g.40gb"),
        ("NVIDIA-A100-SXM4-80GB-MIG-3g.40gb", "A100 SXM 80 GB 3g.40gb"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA GH200 480GB", "unknown GPU"),
        ("", "unknown GPU"),
    ],
)
def test_a_gpu_is_known_by_its_label_or_model_name(name: str, row: str) -> None:
    assert hardware_of(name).name == row


def test_an_unknown_gpu_has_the_widest_bounds() -> None:
    account = kilowatt_hour(zone(), model="Experimental 9")
    assert account.embodied.high.value > kilowatt_hour(zone()).embodied.high.value
    assert account.embodied.low.value < kilowatt_hour(zone()).embodied.low.value


def test_above_the_idle_ceiling_a_gpu_works() -> None:
    # loaded and idle H100 of a fleet draw up to 155 W, a decoding one 137 W and more
    assert 155 < idle_ceiling("NVIDIA-H100-80GB-HBM3").value < 160
    assert idle_ceiling("unheard of") == UNKNOWN.context * 1.3


def test_bare_power_lies_below_context_and_context_below_design() -> None:
    for name in ("H100", "H100 PCIe", "H200", "A100", "A100 PCIe", "L40S", "L4", "T4", "V100", "B200", ""):
        hardware = hardware_of(name)
        assert hardware.bare < hardware.context < hardware.design


def test_a_node_belongs_to_the_zone_that_selects_it_else_to_the_default() -> None:
    zones = {
        one.zone.name: one for one in (zone("any"), zone("north", region="north"), zone("north-2", region="north"))
    }
    assert zone_of(node(), zones) is zones["north"]
    assert zone_of(node(labels={"region": "east"}), zones) is zones["any"]
    assert zone_of(None, zones) is zones["any"]
    assert zone_of(node(labels={"region": "east"}), {"north": zones["north"]}) is None


def test_the_zone_of_a_node_is_found_by_name() -> None:
    north = zone("north", region="north")
    assert node_zone(snapshot(0, zones=[north]), "node-a") is north
    assert node_zone(snapshot(0, zones=[north]), "gone") is None
