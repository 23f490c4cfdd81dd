"""Figures with bounds, and the honest absence of one.

A figure is low <= best <= high with its method; what is not known is `Missing` with a reason, never a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from fallow.domain.reasons import Reason
from fallow.domain.units import Quantity

Q = TypeVar("Q", bound=Quantity)
A = TypeVar("A", bound=Quantity)
B = TypeVar("B", bound=Quantity)


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not known, and why; `detail` says what to look at."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Relative bounds around a best value: best*low .. best*high."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figure(Generic[Q]):
    """A quantity with bounds; raises ValueError unless low <= best <= high."""

    low: Q
    best: Q
    high: Q

    def __post_init__(self) -> None:
        if not self.low.value <= self.best.value <= self.high.value:
            raise ValueError(
                f"bounds out of order: {self.low.value} <= {self.best.value} <= {self.high.value} does not hold"
            )

    @classmethod
    def around(cls, best: Q, bounds: Bounds) -> Figure[Q]:
        return cls(low=best * bounds.low, best=best, high=best * bounds.high)

    @classmethod
    def exact(cls, value: Q) -> Figure[Q]:
        return cls(low=value, best=value, high=value)

    @classmethod
    def combined(cls, law: Callable[[A, B], Q], one: Figure[A], other: Figure[B]) -> Figure[Q]:
        """A law that grows with both its arguments, applied to the lows, the bests and the highs."""
        return cls(law(one.low, other.low), law(one.best, other.best), law(one.high, other.high))

    def __add__(self, other: Figure[Q]) -> Figure[Q]:
        if other.low.value == other.high.value == 0.0 and type(other.best) is type(self.best):
            # as in `Quantity.__add__`: most are zero
            return self
        return Figure(self.low + other.low, self.best + other.best, self.high + other.high)

    def __mul__(self, factor: float) -> Figure[Q]:
        """Scale by a non-negative factor."""
        return Figure(self.low * factor, self.best * factor, self.high * factor)

    def spread(self, low: float, best: float, high: float) -> Figure[Q]:
        """Scale by a non-negative factor that has bounds of its own."""
        return Figure(self.low * low, self.best * best, self.high * high)
