"""By what a policy's choices are compared: watts, gCO2e an hour or money an hour, as its objective says.

Built once a cycle for each service, from the zones of the nodes that it is on or may come to. Only what depends on the
place and on the number of GPUs is different between objectives, so that levers ask for nothing but rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fallow.domain.figures import Missing
from fallow.domain.policies import Objective
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Watts
from fallow.domain.zones import Zone, ZoneReading
from fallow.footprint.hardware import share_of
from fallow.footprint.impacts import ANYWHERE, average_intensity
from fallow.footprint.zones import zone_of
from fallow.planner.inventory import whole_nodes

WATTS_PER_KILOWATT = 1e3

# Zones of the nodes that have a product; None: those of no GridZone.
Zones = tuple[ZoneReading | None, ...]
Sites = Mapping[str, Zones]


@dataclass(frozen=True, slots=True)
class Rates:
    """What counts for a watt that computers draw, and for a GPU that is held: W, gCO2e/h or money/h."""

    watt: float = 1.0
    gpu: float = 0.0

    def of(self, watts: float, gpus: float = 0.0) -> float:
        """Of J and GPU-seconds it is as much over so many seconds."""
        return watts * self.watt + gpus * self.gpu


@dataclass(frozen=True, slots=True)
class Place:
    """GPUs of one product in these zones: the mean of these counts."""

    product: str = ""
    zones: Zones = (None,)
    rates: Rates = field(default_factory=Rates)

    @property
    def name(self) -> str:
        """Of its zones."""
        return " and ".join(sorted({_zone(one).name for one in self.zones}))

    @property
    def host(self) -> Watts:
        """What the rest of a machine draws for each of its GPUs, as it is booked; for instances their share of that."""
        each = sum(_zone(one).host_per_gpu.best.value for one in self.zones) / len(self.zones)
        return Watts(each * share_of(self.product))


@dataclass(frozen=True, slots=True)
class Weighing:
    """What is minimised, `here` where the service is, and at all `places` where it may come to be.

    `instead`: why it is not what the policy says, and what to write.
    """

    objective: Objective = Objective.ENERGY
    currency: str = ""
    here: Place = field(default_factory=Place)
    places: tuple[Place, ...] = ()
    instead: str = ""

    @property
    def unit(self) -> str:
        return "W" if self.objective is Objective.ENERGY else f"{self._counted}/h"

    @property
    def per_million(self) -> str:
        return f"{self._counted}/Mtoken"

    @property
    def _counted(self) -> str:
        return "gCO2e" if self.objective is Objective.CARBON else self.currency

    def text(self, amount: float) -> str:
        """Such as 294 W or 2.40 EUR/h."""
        if self.objective is Objective.ENERGY or abs(amount) >= 100:
            return f"{amount:.0f} {self.unit}"
        return f"{amount:.2f} {self.unit}" if abs(amount) >= 0.1 else f"{amount:.3g} {self.unit}"

    def at(self, product: str) -> tuple[Place, ...]:
        return tuple(one for one in self.places if one.product == product)


BY_ENERGY = Weighing()


@dataclass(frozen=True, slots=True)
class Spared:
    """At one place: W of the computers and GPUs held; less than nothing where more of these are needed."""

    place: Place
    watts: float
    gpus: float = 0.0


def an_hour(objective: Objective, spared: Sequence[Spared]) -> float | Missing:
    """What is saved of what the objective counts, whatever decided."""
    places = _rated(objective, [one.place for one in spared])
    if isinstance(places, Missing):
        return places
    return sum(place.rates.of(one.watts, one.gpus) for place, one in zip(places, spared, strict=True))


def sites_of(snapshot: Snapshot) -> Sites:
    """Of the nodes that give pods whole GPUs."""
    found: dict[str, dict[str, ZoneReading | None]] = {}
    for node in whole_nodes(snapshot.cluster):
        zone = zone_of(node, snapshot.zones)
        found.setdefault(node.gpu_product, {})[_zone(zone).name] = zone
    return {product: tuple(zones.values()) for product, zones in found.items()}


def weighing(objective: Objective, here: Place | None, sites: Sites) -> Weighing:
    """By the objective where all that is compared is known, else by energy: nothing is guessed.

    `here` is where a service is; its product is empty where it is on GPUs of several, None where it is nowhere.
    """
    places = [Place(product, (zone,)) for product, zones in sites.items() for zone in zones]
    rated = _rated(objective, places if here is None else [here, *places])
    if isinstance(rated, Missing):
        by_energy = weighing(Objective.ENERGY, here, sites)
        return replace(by_energy, instead=f"objective {objective}: {rated.detail}; Energy decides until then")
    return Weighing(
        objective=objective,
        currency=_zone(rated[0].zones[0]).currency if rated else "",
        here=Place() if here is None else rated[0],
        places=rated if here is None else rated[1:],
    )


def rates(objective: Objective, product: str, zone: ZoneReading | None) -> Rates | Missing:
    """What counts of the watts, hosts and all, and of each GPU there; Missing says what to write."""
    pue = zone.pue.best if zone else ANYWHERE.pue.best
    if objective is Objective.ENERGY:
        return Rates(pue)
    if zone is None:
        return Missing(Reason.NO_ZONE, f"no GridZone covers nodes of {product or 'the service'}: select them in one")
    name, declared = zone.zone.name, zone.zone
    if objective is Objective.CARBON:
        grams = average_intensity(zone)
        if grams is not None:
            return Rates(pue * grams.best.value / WATTS_PER_KILOWATT)
        why = zone.intensity if isinstance(zone.intensity, Missing) else "it gives a marginal one"
        return Missing(Reason.NO_INTENSITY, f"GridZone {name} has no average intensity ({why}): see its conditions")
    if declared.price_per_kwh is None:
        return Missing(Reason.NO_PRICE, f"GridZone {name} has no price: write price.perKWh and price.currency")
    held = declared.price_per_gpu_hour.get(product, 0.0)
    return Rates(pue * declared.price_per_kwh / WATTS_PER_KILOWATT, held)


def _rated(objective: Objective, places: Sequence[Place]) -> tuple[Place, ...] | Missing:
    """Each with its rates; Missing where something is not known of one of them."""
    found: list[Place] = []
    for place in places:
        known: list[Rates] = []
        for zone in place.zones:
            one = rates(objective, place.product, zone)
            if isinstance(one, Missing):
                return one
            known.append(one)
        mean = Rates(sum(one.watt for one in known) / len(known), sum(one.gpu for one in known) / len(known))
        found.append(replace(place, rates=mean))
    fault = _unlike(places) if objective is Objective.COST else None
    return tuple(found) if fault is None else fault


def _unlike(places: Sequence[Place]) -> Missing | None:
    """Prices are compared in one currency, and where all GPUs have one or none has."""
    zones = {zone.zone.name: zone.zone for place in places for zone in place.zones if zone is not None}
    currencies = sorted({one.currency for one in zones.values()})
    if len(currencies) > 1:
        words = f"prices of {', '.join(sorted(zones))} are in {' and '.join(currencies)}"
        return Missing(Reason.NO_PRICE, f"{words}: write one price.currency")
    if not any(one.price_per_gpu_hour for one in zones.values()):
        return None
    for place in places:
        for name in sorted({zone.zone.name for zone in place.zones if zone is not None}):
            if place.product and place.product not in zones[name].price_per_gpu_hour:
                words = f"GridZone {name} has no price of {place.product}, and others have"
                written = "write it in price.perGpuHour, 0 where it costs the same held or not"
                return Missing(Reason.NO_PRICE, f"{words}: {written}")
    return None


def _zone(zone: ZoneReading | None) -> Zone:
    return zone.zone if zone else ANYWHERE
