"""Amounts as people type them: 12.5s, 5.6kW, 0.055:0.075. What cannot be read says what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fallow.footprint.impacts import YEAR

_PART = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z%/][A-Za-z0-9%/]*)?\s*")


class UnreadableError(ValueError):
    """An input that cannot be used; the text says what to write instead."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A kind of amount: what it is, an example, the factor of each unit ("" is a plain number), limits."""

    noun: str
    example: str
    units: Mapping[str, float]
    base: str = ""
    least: float = 0.0
    most: float = math.inf
    above: bool = False

    def limits(self) -> str:
        if math.isinf(self.most):
            return f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        return f"above {self.least:g} and at most {self.most:g}" if self.above else f"{self.least:g} to {self.most:g}"


_TIME = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}
_LONG = {**_TIME, "d": 86_400.0, "y": YEAR}
_POWER = {"": 1.0, "W": 1.0, "kW": 1e3, "MW": 1e6, "w": 1.0, "kw": 1e3}
_WATT_HOURS = {"": 1.0, "Wh": 1.0, "kWh": 1e3, "MWh": 1e6, "GWh": 1e9, "J": 1 / 3600, "kJ": 1 / 3.6, "MJ": 1e3 / 3.6}
_INTENSITY = {
    **dict.fromkeys(("", "g/kWh", "gCO2/kWh", "gCO2e/kWh", "gCO2eq/kWh", "kg/MWh"), 1.0),
    **dict.fromkeys(("kg/kWh", "t/MWh"), 1e3),
    "lb/MWh": 0.45359237,
}
_COUNT = {"": 1.0, "k": 1e3, "M": 1e6}

TIME = Measure("a time", "12.5s, 250ms or 1.5min", _TIME, "s", above=True)
WAIT = Measure("a time", "0.45s or 450ms", _TIME, "s")
POWER = Measure("a power", "5.6kW or 5600", _POWER, "W")
ENERGY = Measure("an energy", "0.4Wh, 1.2kWh or 1500J", _WATT_HOURS, "Wh")
SHARE = Measure("a share of the rated power", "0.075 or 7.5%", {"": 1.0, "%": 0.01}, most=1.0)
PUE = Measure("a ratio", "1.12", {"": 1.0}, least=1.0, most=10.0)
WATER = Measure(
    "litres per kWh", "0.30 or 4.35", {"": 1.0, "L/kWh": 1.0, "l/kWh": 1.0, "mL/Wh": 1.0}, "L/kWh", most=1000.0
)
INTENSITY = Measure("g CO2e per kWh", "340 or 0.34kg/kWh", _INTENSITY, "g/kWh", most=3000.0)
TOKENS = Measure("a number of tokens", "300 or 1.5k", {**_COUNT, "tokens": 1.0}, "tokens")
RATE = Measure(
    "tokens per second", "80", {"": 1.0, "/s": 1.0, "t/s": 1.0, "tok/s": 1.0, "tokens/s": 1.0}, "tokens/s", above=True
)
MASS = Measure("a mass of CO2e", "1205kg or 5.7t", {"": 1e3, "g": 1.0, "kg": 1e3, "t": 1e6}, "g")
LIFE = Measure("a lifetime", "4y, 3y:6y or 35040h", {**_LONG, "": YEAR}, "s", above=True)
HELD = Measure("a time", "12.5s or 1h", _LONG, "s")
RESERVED = Measure("a share of the hardware", "0.125, 12.5% or 2/16", {"": 1.0, "%": 0.01}, most=1.0)
UNITS = Measure("a number", "300 or 50e9", _COUNT, above=True)
WEIGHT = Measure("a place between low and high", "mean, low, high or 0.5", {"": 1.0}, most=1.0)
EXPECTED = Measure("a published figure", "0.43 or 0.40:0.43:0.46", {"": 1.0}, least=-math.inf)


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount in its base unit; `stated` says that whoever gave it named the best value."""

    low: float
    best: float
    high: float
    stated: bool = False

    @property
    def single(self) -> bool:
        return self.low == self.high

    def __str__(self) -> str:
        if self.single:
            return f"{self.best:g}"
        return f"{self.low:g}:{self.best:g}:{self.high:g}" if self.stated else f"{self.low:g}:{self.high:g}"


def amount(text: str, measure: Measure) -> Amount:
    """One value, low:high (best is their mean) or low:best:high; raises UnreadableError."""
    values = _values(text, measure)
    if len(values) > 3:
        raise UnreadableError(f"{text!r} has {len(values)} parts; write one value, low:high or low:best:high")
    if any(after < before for before, after in pairwise(values)):
        raise UnreadableError(f"{text!r} is out of order; write the lower bound first, as low:high or low:best:high")
    low, high = values[0], values[-1]
    best = values[1] if len(values) == 3 else (low + high) / 2
    return Amount(low, best, high, stated=len(values) == 3)


def five(text: str, measure: Measure) -> tuple[tuple[float, ...], bool]:
    """Five percentiles p5:p25:p50:p75:p95, and whether one fell and was raised to the one before it."""
    values = _values(text, measure)
    if len(values) != 5:
        raise UnreadableError(f"{text!r} has {len(values)} parts; write five percentiles as p5:p25:p50:p75:p95")
    risen = list(values)
    for place in range(1, 5):
        risen[place] = max(risen[place], risen[place - 1])
    return tuple(risen), risen != values


def one(text: str, measure: Measure) -> float:
    """One value without bounds."""
    values = _values(text, measure)
    if len(values) != 1:
        raise UnreadableError(f"{text!r} has {len(values)} parts where one value is wanted, such as {measure.example}")
    return values[0]


def choice(text: str, known: Mapping[str, Any]) -> str:
    """One of the known words, whatever its case."""
    word = text.strip().lower()
    if word not in known:
        raise UnreadableError(f"{text!r} is not known; write one of {', '.join(known)}")
    return word


def _values(text: str, measure: Measure) -> list[float]:
    parts = [_part(part, text, measure) for part in text.split(":")]
    # in 5:6kW the kW is meant for both
    unit = next((unit for _, unit in parts if unit), "")
    values = [number * measure.units[own or unit] for number, own in parts]
    for value in values:
        if (
            not math.isfinite(value)
            or not measure.least <= value <= measure.most
            or (measure.above and value == measure.least)
        ):
            raise UnreadableError(
                f"{text!r} is out of range; {measure.noun} here is {measure.limits()}, such as {measure.example}"
            )
    return values


def _part(part: str, text: str, measure: Measure) -> tuple[float, str]:
    if measure is RESERVED and (fraction := re.fullmatch(r"\s*(\d+)\s*/\s*(\d*[1-9]\d*)\s*", part)):
        return int(fraction[1]) / int(fraction[2]), ""
    found = _PART.fullmatch(part)
    if found is None or (found[2] or "") not in measure.units:
        units = ", ".join(unit for unit in measure.units if unit)
        raise UnreadableError(
            f"{text!r} cannot be read; write {measure.noun} such as {measure.example}"
            + (f" (units {units})" if units else "")
            + ", with a point for decimals and bounds as low:high"
        )
    return float(found[1]), found[2] or ""
