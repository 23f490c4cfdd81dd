"""The books as statuses show them, of services and of zones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.reports.footprints import footprints, zone_footprints
from fallow.adapters.reports.sources import sources
from fallow.api.footprint import Footprint
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import (
    Account,
    Baseline,
    Book,
    Filling,
    Gap,
    GpuMark,
    HostMark,
    Ledger,
    Level,
    LineKey,
    LineKind,
    Period,
)
from fallow.domain.readings import HostMeter, Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Snapshot
from fallow.domain.units import Grams, GramsPerKWh, Instant, Joules, Money, Watts
from fallow.domain.workloads import Overhead, Service, ServiceKey
from tests.adapters.reports.scenes import ledger
from tests.support.builders import CHAT, NOW, gpu, intensity, node, pod, readings, service, zone

UNKNOWN = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")
SERVICE = service()


def total(books: Ledger, declared: Service = SERVICE) -> dict[str, Any]:
    shown = footprints(books, declared, intensity(300))
    assert shown is not None
    assert isinstance(shown.total, Footprint)
    return shown.total.as_json()


def more(books: Ledger, **amounts: Any) -> Ledger:
    """The same books with other amounts in every period."""

    def changed(period: Period) -> Period:
        return replace(period, account=replace(period.account, **amounts))

    def book(one: Book) -> Book:
        total, month, day, hour, last = map(changed, (one.total, one.month, one.day, one.hour, one.last_hour))
        return Book(total, month, day, hour, last)

    return replace(books, books={line: book(one) for line, one in books.books.items()})


def test_amounts_carry_bounds_and_units() -> None:
    shown = total(more(ledger(), host=Figure(Joules(900), Joules(1800), Joules(3600))))

    assert shown["energyWh"] == {"low": 2.0, "best": 2.0, "high": 2.0}
    assert shown["hostEnergyWh"] == {"low": 0.25, "best": 0.5, "high": 1.0}
    assert shown["facilityEnergyWh"] == {"low": 2.4, "best": 3.0, "high": 4.0}
    assert shown["carbonGrams"] == {"low": 0.8, "best": 1.0, "high": 1.2}
    assert shown["waterMillilitres"]["best"] == 2
    assert (shown["idleEnergyWh"], shown["idleShare"]) == (0.5, 0.25)


def remarks(*gaps: Gap) -> list[str]:
    shown = footprints(replace(ledger(), gaps=gaps), SERVICE, intensity(300))
    assert shown is not None
    return shown.missing


def gap(start: float, end: float, filled: Filling) -> Gap:
    """In seconds before 08:00."""
    return Gap(Instant(NOW - start), Instant(NOW - end), filled)


def test_times_of_which_nothing_was_read_are_told_with_how_they_were_filled() -> None:
    assert remarks(gap(3600, 1800, Filling.READ_BACK)) == [
        "nothing was read for 30 min since midnight (once): read back from the source afterwards"
    ]
    by_counters, *more = remarks(gap(20_000, 9200, Filling.COUNTERS), gap(8000, 4400, Filling.COUNTERS))
    assert by_counters.startswith("nothing was read for 4.0 h since midnight (2 times): booked by the counters")
    assert not more


def test_of_a_gap_across_midnight_today_s_part_is_told_and_of_an_older_one_nothing() -> None:
    assert "for 60 min since midnight" in remarks(gap(9 * 3600, 7 * 3600, Filling.READ_BACK))[0]
    assert remarks(gap(30 * 3600, 20 * 3600, Filling.COUNTERS)) == []


def test_figures_are_as_old_as_the_newest_sample_in_them() -> None:
    mark = GpuMark(Instant(NOW - 42), Joules(5), LineKey(LineKind.UNALLOCATED))
    shown = footprints(replace(ledger(), gpus={"GPU-a": mark}), SERVICE, intensity(300))
    assert shown is not None
    assert shown.as_of.timestamp() == NOW - 42


def test_the_parts_say_what_the_energy_was_for() -> None:
    parts = {"bare": Joules(720), "parked": Joules(1440), "underfilled": Joules(360), "starting": Joules(1080)}
    shown = total(more(ledger(), **parts))["partsWh"]

    assert shown == {"bare": 0.2, "loadedIdle": 0.4, "underfilled": 0.1, "starting": 0.3, "useful": 1.0}


def test_what_no_counter_measured_lowers_the_measured_share() -> None:
    assert total(ledger())["measuredShare"] == 1
    shown = footprints(more(ledger(), modelled=Joules(720)), SERVICE, intensity(300))

    assert shown is not None
    assert shown.total is not None
    assert shown.total.measured_share == 0.9
    assert "0.2 Wh at the GPU are modelled: no counter measured them" in shown.missing


def test_market_based_emissions_stand_beside_the_grid_s_and_are_absent_without_a_contract() -> None:
    contracted = more(ledger(), market_carbon=Figure.exact(Grams(0.4)), unmarketed=Joules(3600))
    without = more(ledger(), unmarketed=Joules(10_800))

    assert total(contracted)["carbonGrams"]["best"] == 1.0
    assert total(contracted)["marketCarbonGrams"]["best"] == 0.4
    assert total(contracted)["unmarketedEnergyWh"] == 1.0
    assert "marketCarbonGrams" not in total(without)


def test_costs_are_told_by_currency() -> None:
    paid = more(ledger(), costs={"USD": Figure.exact(Money(0.25)), "EUR": Figure.exact(Money(0.5))})

    assert [(one["currency"], one["amount"]["best"]) for one in total(paid)["cost"]] == [("EUR", 0.5), ("USD", 0.25)]
    assert total(ledger())["cost"] == []
    assert "uncostedEnergyWh" not in total(ledger())


def test_units_of_service_share_everything_idle_time_included() -> None:
    shown = total(ledger())

    assert shown["perToken"]["energyJoules"]["best"] == 2
    assert shown["perRequest"]["energyJoules"]["best"] == 720


def test_the_carbon_intensity_of_the_software_adds_manufacture_and_names_its_unit() -> None:
    """(E x I + M) per R: 1.0 g of operation and 0.3 g of manufacture, over a day of the service."""
    shown = total(ledger())["sci"]

    assert shown["perToken"]["best"] == pytest.approx(1.3 / 3600)
    assert shown["perRequest"]["best"] == pytest.approx(0.13)
    assert shown["perServiceHour"]["best"] == pytest.approx(1.3 / 24)
    assert shown["perRequest"]["low"] == pytest.approx(0.11)


@pytest.mark.parametrize("unpriced", [1.0, 7200 * 1.5], ids=["a part", "all"])
def test_while_emissions_are_not_known_in_full_there_is_no_carbon_intensity(unpriced: float) -> None:
    assert "sci" not in total(ledger(unpriced=unpriced))


def test_training_and_tuning_are_told_per_token_and_in_no_other_figure() -> None:
    declared = replace(SERVICE, overhead=Overhead((5e11, 1e12, 2e12), energy=Joules(3.6e12), carbon=Grams(390e6)))
    shown = footprints(ledger(), declared, intensity(300))

    assert shown is not None
    assert shown.overhead is not None
    assert shown.overhead.as_json() == {
        "energyJoulesPerToken": {"low": 1.8, "best": 3.6, "high": 7.2},
        "carbonGramsPerToken": {"low": 0.000195, "best": 0.00039, "high": 0.00078},
    }
    assert total(ledger(), declared) == total(ledger())


def test_without_a_token_there_is_no_figure_per_token() -> None:
    shown = total(ledger(generated=0))

    assert "perToken" not in shown
    assert "perToken" not in shown["sci"]
    assert "perRequest" in shown


def test_energy_that_could_not_be_priced_leaves_carbon_unknown() -> None:
    shown = footprints(ledger(unpriced=7200 * 1.5), SERVICE, UNKNOWN)
    assert shown is not None
    assert shown.total is not None

    assert shown.total.carbon_grams is None
    assert shown.missing[0] == "carbon is not counted now: SourceUnreachable: connection refused"


def test_partly_priced_energy_says_what_is_left_out() -> None:
    shown = footprints(ledger(unpriced=3600), SERVICE, intensity(300))
    assert shown is not None
    assert shown.total is not None

    assert shown.total.carbon_grams is not None
    assert shown.missing == ["carbon leaves out 1.0 Wh for which no intensity was known"]


def test_an_hour_before_the_service_was_seen_is_not_shown() -> None:
    new = footprints(ledger(since=Instant(NOW + 60)), SERVICE, intensity(300))
    old = footprints(ledger(), SERVICE, intensity(300))
    assert new is not None
    assert old is not None

    assert new.last_hour is None
    assert old.last_hour is not None
    assert old.last_hour.as_json()["end"] == "2027-01-15T08:00:00Z"


def test_a_service_without_books_has_no_footprint() -> None:
    assert footprints(ledger(), service(key=ServiceKey("llm", "other")), intensity(300)) is None


def account(chance: random.Random) -> Account:
    energy = chance.uniform(1, 1e11)
    return Account(
        energy=Figure(Joules(energy * 0.95), Joules(energy), Joules(energy * 1.05)),
        bare=Joules(energy * 0.3),
        host=Figure.exact(Joules(energy * chance.random())),
        facility=Figure.exact(Joules(energy * 1.5)),
        carbon=Figure.exact(Grams(energy * chance.random())),
    )


def test_the_services_and_a_zone_s_other_lines_add_up_to_the_zones_totals() -> None:
    """What an auditor does with kubectl and jq: every line once, and no digit lost on the way."""
    chance = random.Random(3)
    keys = [ServiceKey(f"team-{number % 7}", f"service-{number}") for number in range(200)]
    lines = [LineKey(LineKind.SERVICE, key.namespace, key.name, "bf16", zone) for key in keys for zone in ("a", "b")]
    lines += [LineKey(LineKind.FOREIGN, f"team-{number}", zone="a") for number in range(5)]
    lines += [LineKey(LineKind.UNALLOCATED, zone="a"), LineKey(LineKind.UNATTRIBUTED, zone="b")]
    period = {line: Period(NOW, account(chance)) for line in lines}
    books = Ledger(NOW, NOW, books={line: Book(one, one, one, one, one) for line, one in period.items()})

    zones = [zone.as_json() for zone in zone_footprints(books).values()]
    services = [total(books, service(key=key)) for key in keys]

    for name in ("energyWh", "hostEnergyWh", "facilityEnergyWh", "carbonGrams"):
        totals = sum(zone["total"][name]["best"] for zone in zones)
        of_services = sum(one[name]["best"] for one in services)
        others = sum(part[name]["best"] for zone in zones for line, part in zone["lines"].items() if line != "services")
        every = sum(part[name]["best"] for zone in zones for part in zone["lines"].values())
        assert of_services + others == pytest.approx(totals, rel=1e-9)
        assert every == pytest.approx(totals, rel=1e-9)


def test_lines_of_nodes_without_a_zone_are_kept_apart() -> None:
    assert set(zone_footprints(ledger())) == {""}


def told(targets: Mapping[tuple[ServiceKey, str], float] | None = None, **learned: Any) -> str:
    """The sources of a service whose pod holds one GPU."""
    one = pod()
    view = ClusterView(nodes={"node-a": node()}, pods={one.ref: one}, services={CHAT: SERVICE})
    seen = Readings(at=NOW, gpus={"GPU-0": gpu("GPU-0", one.ref)})
    snapshot = Snapshot(at=NOW, cluster=view, readings=seen, targets=targets or {})
    return "\n".join(sources(snapshot, replace(ledger(), **learned), CHAT, intensity(300), zone(300)))


def test_sources_name_the_constants_and_defaults_that_stand_in() -> None:
    words = told()

    assert "host: 150 W (75 to 290) per GPU, no node meter is read" in words
    assert "constants of the GPU model for 1 GPUs" in words
    assert "nothing says how many requests a replica should carry" in words
    assert "intensity: " in words
    assert "PUE: 1.2 (1.08 to 1.58)" in words


def test_sources_name_what_was_measured_and_learned() -> None:
    level = Level(Watts(141.2), 12, NOW)
    words = told(
        {(CHAT, "bf16"): 25.6},
        hosts={"node-a": HostMark(NOW, {}, HostMeter.KEPLER)},
        baselines={"GPU-0": Baseline(loaded=level)},
    )

    assert "host: Kepler, packages and memory, on 1 of 1 nodes" in words
    assert "loaded without work 141 W, learned on 1 of 1 GPUs from 12 samples since 2027-01-15" in words
    assert "against 25.6 for bf16 requests in flight a replica" in words


def test_a_zone_s_contract_and_price_are_named() -> None:
    priced = zone(300)
    declared = replace(
        priced.zone, market=Figure.exact(GramsPerKWh(12)), price_per_kwh=0.21, currency="EUR", name="north"
    )
    view = ClusterView(services={CHAT: SERVICE})
    words = sources(Snapshot(NOW, view, readings({})), ledger(), CHAT, intensity(300), replace(priced, zone=declared))

    assert "market-based: 12 g/kWh, as GridZone north says" in words
    assert "price: 0.21 EUR/kWh, as GridZone north says" in words
