"""Side by side with CodeCarbon and EcoLogits: the same energy in the same zone is the same carbon, water, manufacture.

Both run as libraries on what they ship: no tracker, no network. Where they differ, the reason is pinned here and listed
in docs/methodology.md, "Compared with others". With -s the comparison is printed.
"""

from __future__ import annotations

import socket
import statistics
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from fallow.adapters.carbon.dataset import yearly_means
from fallow.domain.figures import Figure
from fallow.domain.units import (
    Grams,
    GramsPerKWh,
    LitresPerKWh,
    Seconds,
    from_kilowatt_hours,
    from_millijoules,
)
from fallow.domain.zones import Ratio
from fallow.footprint.impacts import carbon
from fallow.footprint.presets import MACHINES
from fallow.footprint.query import Footprint, Node, Site, Span, computers_energy, footprint
from fallow.footprint.sci import embodied_share

KWH = 0.0421
COUNTRIES = {"DE": "DEU", "FR": "FRA", "US": "USA", "GB": "GBR", "PL": "POL", "SE": "SWE", "IN": "IND", "BR": "BRA"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a peer library reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def codecarbon_data() -> Any:
    from codecarbon.input import DataSource

    return DataSource()  # type: ignore[no-untyped-call]  # the library has no types


def codecarbon_grams(kwh: float, country: str, region: str | None = None) -> float:
    """What CodeCarbon's offline tracker would book for this energy, g."""
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata

    emissions = Emissions(codecarbon_data())
    return 1e3 * float(
        emissions.get_private_infra_emissions(Energy.from_energy(kwh), GeoMetadata(country, region=region))
    )


def codecarbon_intensity(country: str) -> float:
    """The factor in CodeCarbon's shipped JSON, g/kWh."""
    return float(codecarbon_data().get_global_energy_mix_data()[country]["carbon_intensity"])


def ecologits_mix(country: str) -> Any:
    from ecologits.electricity_mix_repository import electricity_mixes

    return electricity_mixes.find_electricity_mix(country)


@dataclass(frozen=True)
class Peer:
    """A request as EcoLogits sees it: its figures, and what it took of the site."""

    impacts: Any
    pue: Ratio
    wue: Ratio
    mix: Any

    def fallow(self) -> Footprint:
        """Fallow's figures for EcoLogits' energy of the computers, at the same site."""
        energy = _bounds(self.impacts.energy.value)
        computers = Figure(
            *(from_kilowatt_hours(kwh / pue) for kwh, pue in zip(energy, _bounds(self.pue), strict=True))
        )
        water = Figure(*map(LitresPerKWh, _bounds(self.wue)))
        site = Site(
            self.pue,
            water,
            Figure.exact(LitresPerKWh(self.mix.wue)),
            Figure.exact(GramsPerKWh(self.mix.gwp * 1e3)),
        )
        return footprint(computers, site)


def _bounds(value: Any) -> tuple[float, float, float]:
    if isinstance(value, Ratio):
        return value.low, value.best, value.high
    if isinstance(value, int | float):
        return value, value, value
    return value.min, value.mean, value.max


def ecologits(
    country: str, pue: tuple[float, float], wue: tuple[float, float], *, tokens: int = 300, parameters: float = 70
) -> Peer:
    """A dense model of 70 billion parameters on EcoLogits' own constants."""
    from ecologits.impacts.llm import compute_llm_impacts
    from ecologits.utils.range_value import RangeValue

    mix = ecologits_mix(country)
    impacts = compute_llm_impacts(
        model_active_parameter_count=parameters,
        model_total_parameter_count=parameters,
        output_token_count=tokens,
        if_electricity_mix_adpe=mix.adpe,
        if_electricity_mix_pe=mix.pe,
        if_electricity_mix_gwp=mix.gwp,
        if_electricity_mix_wue=mix.wue,
        datacenter_pue=RangeValue(min=pue[0], max=pue[1]),
        datacenter_wue=RangeValue(min=wue[0], max=wue[1]),
    )
    return Peer(impacts, Ratio(pue[0], sum(pue) / 2, pue[1]), Ratio(wue[0], sum(wue) / 2, wue[1]), mix)


def generation_seconds(parameters: float, tokens: int) -> Seconds:
    """How long EcoLogits takes a request to run."""
    from ecologits.impacts import llm

    constants = (llm.BATCH_SIZE, llm.LATENCY_ALPHA, llm.LATENCY_BETA, llm.LATENCY_GAMMA)
    seconds = llm.generation_latency(parameters, tokens, *constants, request_latency=float("inf"))
    assert isinstance(seconds, float)
    return Seconds(seconds)


@pytest.mark.parametrize("country", COUNTRIES.values())
def test_the_same_energy_at_codecarbon_s_factor_is_codecarbon_s_carbon(country: str) -> None:
    ours = carbon(Figure.exact(from_kilowatt_hours(KWH)), Figure.exact(GramsPerKWh(codecarbon_intensity(country))))
    assert ours.best.value == pytest.approx(codecarbon_grams(KWH, country), rel=1e-12)


def test_codecarbon_turns_joules_into_kilowatt_hours_with_six_digits() -> None:
    """Its 2.77778e-7 is 8e-7 above 1 / 3.6e6, which Fallow divides by."""
    from codecarbon.core.units import Energy

    ours, theirs = from_millijoules(1e9).kilowatt_hours, Energy.from_millijoules(1e9).kWh
    assert theirs / ours - 1 == pytest.approx(8e-7, rel=0.01)


def test_the_shipped_dataset_is_codecarbon_s_for_countries_but_for_rounding_to_whole_grams() -> None:
    import pycountry

    mixes = codecarbon_data().get_global_energy_mix_data()
    compared = 0
    for zone, mean in yearly_means().items():
        if mean.source != "ember" or "-" in zone:
            continue
        country = pycountry.countries.get(alpha_2=zone)
        assert country is not None
        mix = mixes[country.alpha_3]
        assert mean.grams.value == pytest.approx(mix["carbon_intensity"], abs=0.51), zone
        assert mean.year == mix["year"], zone
        compared += 1
    assert compared >= 60


@pytest.mark.parametrize(
    ("zone", "country", "region"),
    [("US-CAL-CISO", "USA", "california"), ("CA-QC", "CAN", "quebec"), ("US-TEX-ERCO", "USA", "texas")],
)
def test_for_parts_of_countries_codecarbon_counts_less_as_it_leaves_out_the_fuel_chain(
    zone: str, country: str, region: str
) -> None:
    """They are production mixes of states (eGRID: what is burnt there); ours is the life cycle of a grid area's use."""
    assert codecarbon_grams(1, country, region) < yearly_means()[zone].grams.value


@pytest.mark.parametrize("country", ["USA", "SWE", "FRA", "DEU"])
@pytest.mark.parametrize(("pue", "wue"), [((1.2, 1.2), (0.569, 0.569)), ((1.09, 1.14), (0.13, 0.999))])
def test_ecologits_energy_at_its_site_is_ecologits_carbon_and_water(
    country: str, pue: tuple[float, float], wue: tuple[float, float]
) -> None:
    peer = ecologits(country, pue, wue)
    ours = peer.fallow()
    for mine, theirs, scale in (
        (ours.carbon, peer.impacts.usage.gwp.value, 1e3),
        (ours.water, peer.impacts.usage.wcf.value, 1.0),
    ):
        assert mine.low.value == pytest.approx(theirs.min * scale, rel=1e-9)
        assert mine.high.value == pytest.approx(theirs.max * scale, rel=1e-9)


def test_ecologits_hardware_and_time_give_ecologits_share_of_manufacture() -> None:
    from ecologits.impacts import llm

    peer = ecologits("USA", (1.2, 1.2), (0.569, 0.569))
    gpus = llm.gpu_required_count(llm.model_required_memory(70, llm.MODEL_QUANTIZATION_BITS), llm.GPU_MEMORY)
    made = Grams(1e3 * (gpus / llm.SERVER_GPUS * llm.SERVER_EMBODIED_IMPACT_GWP + gpus * llm.GPU_EMBODIED_IMPACT_GWP))
    held, life = generation_seconds(70, 300), Seconds(llm.HARDWARE_LIFESPAN)
    ours = embodied_share(
        Figure.exact(made),
        held=Span(held, held, held),
        life=Span(life, life, life),
        share=Ratio(1 / llm.BATCH_SIZE, 1 / llm.BATCH_SIZE, 1 / llm.BATCH_SIZE),
    )
    assert ours.best.value == pytest.approx(peer.impacts.embodied.gwp.value * 1e3, rel=1e-9)


def test_water_at_the_source_is_ecologits_own_and_missing_where_it_puts_the_world_s_mean() -> None:
    for zone, country in COUNTRIES.items():
        ours, theirs = yearly_means()[zone].litres, ecologits_mix(country)
        assert ours is not None
        assert ours.value == pytest.approx(theirs.wue, abs=0.006)
    assert any("wue" in str(warning) for warning in ecologits_mix("SGP").warnings)
    assert yearly_means()["SG"].litres is None


def test_ecologits_takes_a_later_year_of_the_same_source() -> None:
    """Most of its factors are below CodeCarbon's and ours of 2023; the yearly bounds of 20 % hold for most."""
    ratios = {
        zone: ecologits_mix(country).gwp * 1e3 / yearly_means()[zone].grams.value for zone, country in COUNTRIES.items()
    }
    assert statistics.median(ratios.values()) < 1
    assert sum(0.8 <= ratio <= 1.2 for ratio in ratios.values()) >= len(ratios) - 2


def test_the_bounds_formula_and_ecologits_differ_by_the_batch_they_assume() -> None:
    """70 billion parameters, 300 tokens in EcoLogits' own time: 8 queries share a node there, 64 here."""
    machine = MACHINES["h100"]
    seconds = generation_seconds(70, 300)
    gpus, host = machine.shares["medium"]
    node = Node(Figure.exact(machine.gpu_power), gpus, Figure.exact(machine.host_power), host)
    by_bounds = computers_energy(node, Span(seconds, seconds, seconds)).best.watt_hours
    by_ecologits = ecologits("USA", (1.0, 1.0), (0.0, 0.0)).impacts.energy.value.mean * 1e3
    assert by_bounds / by_ecologits == pytest.approx(15.6, rel=0.01)


def test_the_comparison_is_printed_row_by_row() -> None:
    """g of 1 kWh, and mg and mL of one request at PUE 1.2: the peer, Fallow with its factors, Fallow's own dataset."""
    worst = 0.0
    names = ("zone", "CodeCarbon g", "Fallow g", "own data g", "EcoLogits mg", "Fallow mg", "EcoLogits mL", "Fallow mL")
    rows: list[tuple[str, ...]] = [names]
    for zone, country in COUNTRIES.items():
        peer = ecologits(country, (1.2, 1.2), (0.569, 0.569))
        request, kwh = peer.fallow(), Figure.exact(from_kilowatt_hours(1))
        pairs = [
            (
                codecarbon_grams(1, country),
                carbon(kwh, Figure.exact(GramsPerKWh(codecarbon_intensity(country)))).best.value,
            ),
            (peer.impacts.usage.gwp.value.mean * 1e6, request.carbon.best.value * 1e3),
            (peer.impacts.usage.wcf.value.mean * 1e3, request.water.best.value * 1e3),
        ]
        worst = max(worst, *(abs(ours / theirs - 1) for theirs, ours in pairs))
        figures = [*pairs[0], yearly_means()[zone].grams.value, *pairs[1], *pairs[2]]
        rows.append((zone, *(f"{figure:.4g}" for figure in figures)))
    lines = ["".join(f"{cell:>14}" for cell in row) for row in rows]
    print("\n", *lines, f"largest relative error: {worst:.1g}", sep="\n")  # noqa: T201 - the comparison, with -s
    assert worst < 1e-9
