"""Amounts with a unit as people write them: 120k watts, 900kg of CO2e, 1.5MWh, 10%, 2x, Kubernetes quantities."""

import re
from typing import Annotated

from pydantic import Field

from fallow.api.formats import Format, NumberOrText
from fallow.domain.policies import NodeAllowance
from fallow.domain.units import Grams, Joules, Watts, from_kilowatt_hours

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_MASS = {"g": 1.0, "kg": 1e3, "t": 1e6}
_ENERGY = {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3, "GWh": 1e6}
_AMOUNT = re.compile(r"^([0-9.]+)([A-Za-z]*)$")

QUANTITY = NumberOrText(
    Format(
        r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        "must be a Kubernetes quantity such as 4, 500m or 16Gi",
    )
)
POWER = NumberOrText(
    Format(
        r"^[0-9]+(\.[0-9]+)?(k|M|G)?$",
        "must be watts above zero, such as 3500, 120k (120 kW) or 1.5M, without the letter W",
        also="[1-9]",
    ),
    minimum=1,
)
NODE_SHARE = NumberOrText(
    Format(r"^(100|[1-9]?[0-9])%$", "must be a number of nodes such as 2, or a share from 0% to 100% such as 10%")
)
PERCENT = Format(r"^[1-9][0-9]?%$", "must be a share from 1% to 99%, such as 10%")
CARBON_MASS = Format(
    r"^[0-9]+(\.[0-9]+)?(g|kg|t)$",
    "must be a mass of CO2e above zero with its unit, such as 500g, 900kg or 1.2t",
    also="[1-9]",
)
ENERGY = Format(
    r"^[0-9]+(\.[0-9]+)?(Wh|kWh|MWh|GWh)$",
    "must be an energy above zero with its unit, such as 800kWh or 1.5MWh",
    also="[1-9]",
)
FACTOR = Format(
    r"^[1-9][0-9]*(\.[0-9]+)?x$",
    "must be a factor of at least 1 followed by x, such as 2x or 1.5x",
)
MEMORY = Format(
    r"^[0-9]+(\.[0-9]+)?(k|M|G|Ki|Mi|Gi)$",
    "must be a size in memory with its unit, such as 2Gi or 512Mi",
    also="[1-9]",
)

Quantity = Annotated[int | str, QUANTITY]
Power = Annotated[int | str, POWER]
NodeShare = Annotated[int | str, NODE_SHARE]
Percent = Annotated[str, Field(min_length=1, max_length=8), PERCENT]
CarbonMass = Annotated[str, Field(min_length=1, max_length=32), CARBON_MASS]
EnergyAmount = Annotated[str, Field(min_length=1, max_length=32), ENERGY]
Factor = Annotated[str, Field(min_length=1, max_length=16), FACTOR]
MemorySize = Annotated[str, Field(min_length=1, max_length=32), MEMORY]


def node_share(declared: int | str) -> NodeAllowance:
    """A number of nodes, or a share of them."""
    text = str(declared)
    return NodeAllowance(share=share(text)) if text.endswith("%") else NodeAllowance(number=int(text))


def watts(power: int | str) -> Watts:
    return Watts(_scaled(str(power), _DECIMAL))


def grams(mass: str) -> Grams:
    return Grams(_scaled(mass, _MASS))


def joules(amount: str) -> Joules:
    return from_kilowatt_hours(_scaled(amount, _ENERGY))


def factor(text: str) -> float:
    return float(text.removesuffix("x"))


def share(text: str) -> float:
    return int(text.removesuffix("%")) / 100


def _scaled(text: str, units: dict[str, float]) -> float:
    found = _AMOUNT.match(text)
    if found is None or found[2] not in units:
        raise ValueError(f"{text!r} is no amount in one of the units {', '.join(u for u in units if u)}")
    return float(found[1]) * units[found[2]]
