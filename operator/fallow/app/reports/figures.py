"""An account as numbers with their unit in the name: columns of CSV, members of JSON; and as short texts for tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account
from fallow.domain.units import JOULES_PER_KWH
from fallow.footprint.statement import sci

BOUNDS = ("low", "best", "high")
DIGITS = 6


def numbers(account: Account) -> Mapping[str, float | None]:
    """Every amount; None where it is not known or has no unit to be divided by. Never zero for what is not known."""
    found: dict[str, float | None] = {}
    for name, figure, factor in (
        ("energy_kwh", account.energy, 1 / JOULES_PER_KWH),
        ("host_energy_kwh", account.host, 1 / JOULES_PER_KWH),
        ("facility_energy_kwh", account.facility, 1 / JOULES_PER_KWH),
        ("carbon_kg", account.carbon if _is_known(account, account.unpriced.value) else None, 1e-3),
        ("market_carbon_kg", account.market_carbon if _is_known(account, account.unmarketed.value) else None, 1e-3),
        ("embodied_carbon_kg", account.embodied, 1e-3),
        ("water_l", account.water if account.water.high.value or not account.unwatered.value else None, 1.0),
        *((f"cost_{currency}", cost, 1.0) for currency, cost in sorted(account.costs.items())),
    ):
        found |= bounded(name, figure, factor)
    for part in ("useful", "underfilled", "parked", "bare", "starting", "modelled", "unpriced", "unwatered"):
        found[f"{part}_kwh"] = rounded(getattr(account, part).kilowatt_hours)
    for name in ("prompt_tokens", "cached_prompt_tokens", "generated_tokens", "iterations", "requests"):
        found[name] = round(getattr(account, name))
    found["energy_j_per_token"] = _per(account.energy.best.value, account.generated_tokens)
    found["energy_j_per_request"] = _per(account.energy.best.value, account.requests)
    for unit, count in (("token", account.generated_tokens), ("request", account.requests)):
        score = sci(account, count, unit)
        found[f"sci_g_per_{unit}"] = None if isinstance(score, Missing) else rounded(score.best.value)
    return found


def bounded(name: str, figure: Figure[Any] | None, factor: float) -> Mapping[str, float | None]:
    return {
        f"{name}_{bound}": None if figure is None else rounded(getattr(figure, bound).value * factor)
        for bound in BOUNDS
    }


def rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def text(value: float | None, unit: str = "") -> str:
    """Three digits for people, whole numbers from a thousand on; a dash for what is not known."""
    if value is None:
        return "-"
    three = float(f"{value:.3g}")
    shown = f"{value:,.0f}" if abs(value) < 1e5 else f"{three:,.0f}"
    return f"{shown if abs(value) >= 1000 else f'{value:.3g}'} {unit}".strip()


def change(now: float | None, before: float | None) -> str:
    """The change against the period before, as a signed percentage; empty where there is nothing to compare with."""
    if now is None or not before:
        return ""
    return f"{now / before - 1:+.0%}"


def _is_known(account: Account, unknown: float) -> bool:
    return account.facility.best.value <= 0 or unknown < account.facility.best.value


def _per(amount: float, count: float) -> float | None:
    return rounded(amount / count) if count > 0 else None
