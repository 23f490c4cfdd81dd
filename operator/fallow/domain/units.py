"""Physical quantities as types, and every conversion between them.

Adding watts to joules is a TypeError; dividing two amounts of one unit gives a plain ratio.
Time is kept as `Instant` (Unix seconds, UTC) and `Seconds` (a duration).
"""

from dataclasses import dataclass
from typing import NewType, Self

Instant = NewType("Instant", float)
Seconds = NewType("Seconds", float)

JOULES_PER_KWH = 3.6e6
JOULES_PER_WH = 3.6e3
# the international pound of 1959, exactly
GRAMS_PER_POUND = 453.59237


@dataclass(frozen=True, slots=True)
class Quantity:
    """An amount in one unit; arithmetic stays within the unit."""

    value: float

    def __add__(self, other: Self) -> Self:
        more = self._same(other)
        # most parts of an account are zero in most steps, and a large cluster adds thousands of accounts in each
        return type(self)(self.value + more) if more else self

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.value - self._same(other))

    def __mul__(self, factor: float) -> Self:
        return type(self)(self.value * factor)

    __rmul__ = __mul__

    def __truediv__(self, other: Self) -> float:
        return self.value / self._same(other)

    def __lt__(self, other: Self) -> bool:
        return self.value < self._same(other)

    def __le__(self, other: Self) -> bool:
        return self.value <= self._same(other)

    def __gt__(self, other: Self) -> bool:
        return self.value > self._same(other)

    def __ge__(self, other: Self) -> bool:
        return self.value >= self._same(other)

    def _same(self, other: Self) -> float:
        if type(other) is not type(self):
            raise TypeError(f"cannot mix {type(self).__name__} with {type(other).__name__}")
        return other.value


class Watts(Quantity):
    """Power, W."""

    __slots__ = ()


class Hertz(Quantity):
    """Clock frequency, Hz."""

    __slots__ = ()

    @property
    def megahertz(self) -> float:
        return self.value / 1e6


class FlopsPerByte(Quantity):
    """Arithmetic intensity, floating-point operations for each byte that memory moves."""

    __slots__ = ()


class Joules(Quantity):
    """Energy, J."""

    __slots__ = ()

    @property
    def watt_hours(self) -> float:
        return self.value / JOULES_PER_WH

    @property
    def kilowatt_hours(self) -> float:
        return self.value / JOULES_PER_KWH


class Grams(Quantity):
    """Greenhouse gas, gCO2e."""

    __slots__ = ()


class GramsPerKWh(Quantity):
    """Carbon intensity of electricity, gCO2e/kWh."""

    __slots__ = ()


class Litres(Quantity):
    """Water consumed (not withdrawn), L."""

    __slots__ = ()


class LitresPerKWh(Quantity):
    """Water usage effectiveness, L/kWh."""

    __slots__ = ()


class Money(Quantity):
    """An amount of money; its currency is kept beside it, and currencies are never added together."""

    __slots__ = ()


def energy(power: Watts, duration: Seconds) -> Joules:
    return Joules(power.value * duration)


def mean_power(used: Joules, duration: Seconds) -> Watts:
    """Mean power over a duration; the duration must be positive."""
    return Watts(used.value / duration)


def emissions(used: Joules, intensity: GramsPerKWh) -> Grams:
    return Grams(used.kilowatt_hours * intensity.value)


def cost(used: Joules, price_per_kwh: float) -> Money:
    return Money(used.kilowatt_hours * price_per_kwh)


def water(used: Joules, effectiveness: LitresPerKWh) -> Litres:
    return Litres(used.kilowatt_hours * effectiveness.value)


def from_millijoules(value: float) -> Joules:
    """DCGM and NVML count energy in mJ."""
    return Joules(value / 1e3)


def from_kilowatt_hours(value: float) -> Joules:
    return Joules(value * JOULES_PER_KWH)


def from_pounds_per_megawatt_hour(value: float) -> GramsPerKWh:
    """US grids and WattTime count emissions in lb/MWh."""
    return GramsPerKWh(value * GRAMS_PER_POUND / 1e3)


def from_kilograms(value: float) -> Grams:
    return Grams(value * 1e3)
