"""Quantities as short texts for people: three significant digits and a fitting unit."""

from __future__ import annotations

from fallow.domain.units import Grams, Watts


def significant(value: float) -> str:
    """Three significant digits without an exponent, such as 0.123, 12.3, 412."""
    if value == 0:
        return "0"
    shown = f"{value:.3g}"
    return shown if "e" not in shown else f"{float(shown):.6f}".rstrip("0").rstrip(".") or "0"


def watts(power: Watts) -> str:
    value = power.value
    return f"{significant(value / 1e3)} kW" if abs(value) >= 1e3 else f"{value:.0f} W"


def effect(saves: Watts) -> str:
    """What a decision saves, or where that is less than nothing costs."""
    return f"{'saves' if saves.value >= 0 else 'costs'} {watts(Watts(abs(saves.value)))}"


def grams(mass: Grams) -> str:
    value = mass.value
    if abs(value) >= 1e6:
        return f"{significant(value / 1e6)} t"
    return f"{significant(value / 1e3)} kg" if abs(value) >= 1e3 else f"{significant(value)} g"


def line(text: str, limit: int = 256) -> str:
    """The text within a field's length limit."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
