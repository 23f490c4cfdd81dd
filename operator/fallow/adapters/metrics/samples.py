"""One sample as a source delivered it, and how a metric that Fallow reads is declared.

Sources turn their wire format into samples; `vllm` and `dcgm` turn samples into readings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant

MetricType = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Sample:
    """`labels` come without the metric's name; `value` may be NaN or infinite, as it was delivered."""

    name: str
    labels: Mapping[str, str]
    value: float
    at: Instant


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric that Fallow reads: the family as its TYPE line names it, and the labels its samples must carry.

    `suffix` picks the sample of a histogram that is read. `older` are sample names of earlier versions, newest first.
    """

    family: str
    type: MetricType
    labels: frozenset[str]
    suffix: str = ""
    older: tuple[str, ...] = ()

    @property
    def sample(self) -> str:
        return self.family + self.suffix

    @property
    def names(self) -> tuple[str, ...]:
        """Sample names to accept, the preferred one first."""
        return (self.sample, *self.older)


def checked(sample: Sample, *, highest: float = math.inf) -> float | Missing:
    """The sample's value if it is a finite number between zero and `highest`."""
    if not math.isfinite(sample.value):
        return Missing(Reason.NOT_A_NUMBER, f"{sample.name} is {sample.value}")
    if sample.value < 0 or sample.value > highest:
        return Missing(Reason.BAD_ANSWER, f"{sample.name} is {sample.value:g}, outside 0 to {highest:g}")
    return sample.value
