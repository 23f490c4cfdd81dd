"""Reading a source's parameters and numbers: what is wrong is said in words, with what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason

# no grid is dirtier: burning lignite in old plants emits about 1,500 g/kWh; more than this is another unit
MOST_GRAMS = 5000.0


def grams(value: object, what: str) -> float | Missing:
    """A plausible intensity in gCO2e/kWh."""
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever float cannot read is refused below
    except (TypeError, ValueError):
        return Missing(Reason.NOT_A_NUMBER, f"{what} is {value!r}; it must be a plain number in gCO2e per kWh")
    if not isfinite(number):
        return Missing(Reason.NOT_A_NUMBER, f"{what} is {number}")
    if not 0 <= number <= MOST_GRAMS:
        return Missing(Reason.BAD_ANSWER, f"{what} is {number:g}; gCO2e per kWh lie between 0 and {MOST_GRAMS:g}")
    return number


def text(parameters: Mapping[str, Any], name: str, kind: str) -> str | Missing:
    value = parameters.get(name)
    if not isinstance(value, str) or not value:
        return Missing(Reason.BAD_ANSWER, f"a {kind} source needs {name}")
    return value
