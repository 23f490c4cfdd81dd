"""What arrives: requests per second and their lengths, by service, in blocks that can be asked for in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fallow.domain.workloads import ServiceKey

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """Arrivals in each second of a block; arrays have a row for each service and a column for each second.

    `arrivals`: whole numbers of requests. `prompt`, `output`: mean tokens of those requests, above zero also where none
    arrives (then what one would have).
    """

    start: int
    arrivals: Array
    prompt: Array
    output: Array


@dataclass(frozen=True, slots=True)
class Spread:
    """Coefficients of variation of single requests' lengths, and the share of prompts found in cache, by service."""

    prompt_cv: Array
    output_cv: Array
    cached: Array

    @property
    def found(self) -> Array:
        """Tokens that an answer has so far when it is found decoding, in mean answers: long ones are found more often,
        and half of one is there in the mean (renewal theory).
        """
        return (1.0 + self.output_cv**2) / 2.0


class Demand(Protocol):
    """The same block is the same whenever it is asked for; what is kept of those before does not grow."""

    @property
    def services(self) -> tuple[ServiceKey, ...]: ...

    @property
    def seconds(self) -> int: ...

    @property
    def spread(self) -> Spread: ...

    def block(self, start: int, stop: int) -> Load:
        """Seconds from `start` up to and without `stop`, both within 0 and `seconds`."""
        ...
