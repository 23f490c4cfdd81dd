"""From GPU energy to what it costs the world: host and facility, carbon, water, manufacture (docs/methodology.md)."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account
from fallow.domain.units import (
    Grams,
    GramsPerKWh,
    Joules,
    Litres,
    LitresPerKWh,
    Money,
    Seconds,
    Watts,
    cost,
    emissions,
    energy,
    water,
)
from fallow.domain.zones import IntensityKind, IntensitySource, Ratio, Zone, ZoneReading
from fallow.footprint.hardware import Hardware
from fallow.footprint.split import Parts

YEAR = Seconds(365.25 * 86_400)
# 3 y (EcoLogits) to 6 y (depreciation at large providers), 4 y (Cloud Carbon Footprint, 35,040 h)
LIFE_SHORT, LIFE, LIFE_LONG = Seconds(3 * YEAR), Seconds(4 * YEAR), Seconds(6 * YEAR)
# a server of eight GPUs without them, 5,700 kg (EcoLogits 0.9.1, BoaviztAPI); no bounds are published
SERVER_PER_GPU = Grams(5_700_000 / 8)
# what a node without a zone is taken to be: the defaults of a GridZone
ANYWHERE = Zone(name="", source=IntensitySource(kind=""))


@dataclass(frozen=True, slots=True)
class Held:
    """GPUs of one kind in one zone on one line: their energy and its parts, and the GPU-seconds held.

    `host` is what the nodes' own meters gave them; for `unmetered` of the time held declared watts stand in.
    """

    energy: Figure[Joules]
    parts: Parts
    duration: Seconds
    host: Figure[Joules]
    unmetered: Seconds
    hardware: Hardware
    zone: ZoneReading | None


def host_energy(per_gpu: Figure[Watts], duration: Seconds) -> Figure[Joules]:
    """F1: CPU, memory and fans, as declared watts per GPU held."""
    return Figure(energy(per_gpu.low, duration), energy(per_gpu.best, duration), energy(per_gpu.high, duration))


def facility_energy(computers: Figure[Joules], pue: Ratio) -> Figure[Joules]:
    """F2: energy of the computers times PUE; PUE is applied once and here only."""
    return computers.spread(pue.low, pue.best, pue.high)


def average_intensity(zone: ZoneReading | None) -> Figure[GramsPerKWh] | None:
    """The zone's average intensity; a marginal one answers another question and is not used."""
    if zone is None or isinstance(zone.intensity, Missing) or zone.intensity.kind is not IntensityKind.AVERAGE:
        return None
    return zone.intensity.grams


def carbon(facility: Figure[Joules], intensity: Figure[GramsPerKWh]) -> Figure[Grams]:
    """C1: operational emissions, by the grid's own intensity (location-based) or by contracts (C2, market-based)."""
    return Figure.combined(emissions, facility, intensity)


def water_used(used: Figure[Joules], effectiveness: Figure[LitresPerKWh]) -> Figure[Litres]:
    """W1 and W2: water consumed on site (computers x WUE_site) or at the source (facility x WUE_source)."""
    return Figure.combined(water, used, effectiveness)


def money(facility: Figure[Joules], price_per_kwh: float) -> Figure[Money]:
    """P1: what the facility's energy costs at the zone's price."""
    return Figure(*(cost(used, price_per_kwh) for used in (facility.low, facility.best, facility.high)))


def embodied(made: Figure[Grams], duration: Seconds) -> Figure[Grams]:
    """M1: the share of the manufacture for the time held, of a life of 4 years (3 to 6)."""
    return Figure(
        made.low * (duration / LIFE_LONG),
        made.best * (duration / LIFE),
        made.high * (duration / LIFE_SHORT),
    )


def impacts(held: Held) -> Account:
    """Every amount that follows from energy and time held; what cannot be known is named, not guessed."""
    zone = held.zone.zone if held.zone else ANYWHERE
    host = held.host + host_energy(zone.host_per_gpu, held.unmetered)
    computers = held.energy + host
    facility = facility_energy(computers, held.zone.pue if held.zone else zone.pue)
    intensity = average_intensity(held.zone)
    litres = Figure.exact(Litres(0))
    if zone.water_on_site is not None:
        litres += water_used(computers, zone.water_on_site)
    at_source = held.zone.water_at_source if held.zone else None
    if at_source is not None:
        litres += water_used(facility, at_source)
    dry = zone.water_on_site is None or at_source is None
    return Account(
        energy=held.energy,
        bare=Joules(held.parts.bare),
        parked=Joules(held.parts.parked),
        underfilled=Joules(held.parts.underfilled),
        starting=Joules(held.parts.starting),
        host=host,
        facility=facility,
        unpriced=facility.best if intensity is None else Joules(0),
        unwatered=facility.best if dry else Joules(0),
        unmarketed=facility.best if zone.market is None else Joules(0),
        uncosted=facility.best if zone.price_per_kwh is None else Joules(0),
        carbon=Figure.exact(Grams(0)) if intensity is None else carbon(facility, intensity),
        market_carbon=Figure.exact(Grams(0)) if zone.market is None else carbon(facility, zone.market),
        water=litres,
        embodied=embodied(held.hardware.embodied + Figure.exact(SERVER_PER_GPU), held.duration),
        costs={} if zone.price_per_kwh is None else {zone.currency: money(facility, zone.price_per_kwh)},
    )
