"""Whether an engine's work waits for memory or for arithmetic, as the roofline model tells (Williams et al. 2009)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.figures import Figure
from fallow.domain.units import FlopsPerByte


class Regime(StrEnum):
    MEMORY = "MemoryBound"
    COMPUTE = "ComputeBound"
    BETWEEN = "Between"


IN_WORDS = {
    Regime.MEMORY: "memory-bound",
    Regime.COMPUTE: "compute-bound",
    Regime.BETWEEN: "between memory-bound and compute-bound",
}


@dataclass(frozen=True, slots=True)
class Roofline:
    """What the engines of a variant compute for each byte (`intensity`), and from where on their GPU has more to
    compute than to move (`ridge`).
    """

    intensity: Figure[FlopsPerByte]
    ridge: Figure[FlopsPerByte]

    @property
    def regime(self) -> Regime:
        """A bound only where the two are apart with all their bounds."""
        if self.intensity.high < self.ridge.low:
            return Regime.MEMORY
        return Regime.COMPUTE if self.intensity.low > self.ridge.high else Regime.BETWEEN

    @property
    def words(self) -> str:
        at = f"{_bounded(self.intensity)} FLOP a byte, the ridge of its GPU is at {_bounded(self.ridge)}"
        return f"{IN_WORDS[self.regime]}: {at}"


def _bounded(figure: Figure[FlopsPerByte]) -> str:
    low, best, high = (f"{float(f'{one.value:.3g}'):g}" for one in (figure.low, figure.best, figure.high))
    return f"{best} ({low} to {high})"
