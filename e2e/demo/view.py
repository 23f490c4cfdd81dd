"""What is on the screen at one moment, whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """One service as Fallow reports it; None where Fallow does not know."""

    name: str
    ready: int
    desired: int
    variant: str
    state: str
    in_flight: float | None
    watts: float | None
    joules_per_token: float | None
    grams: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Something Fallow decided, in its own words."""

    at: datetime
    service: str
    action: str
    reason: str
    message: str
    saves_watts: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """Watts as Fallow measures them; waste is what GPUs draw without serving anybody."""

    services: tuple[ServiceRow, ...]
    watts: float | None
    unallocated_watts: float | None
    idle_watts: float | None
    gpus: int
    free_gpus: int
    intensity: float | None
    decisions: tuple[Decision, ...] = field(default=())

    def service(self, name: str) -> ServiceRow | None:
        return next((row for row in self.services if row.name == name), None)


def watts(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f} W"


def joules(value: float) -> str:
    return f"{value / 1e3:,.1f} kJ"


def number(value: float | None, form: str = ",.0f") -> str:
    return "?" if value is None else format(value, form)


def clock(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"
