"""What a controller sees and what it may ask for: the seam between the fleet and every autoscaler that is compared.

Arrays have an entry for each service, in the order of the demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fallow.twin.simulation.demand import Array

IntArray = NDArray[np.int64]

# Upper bounds in seconds of the latency histograms, the last one infinite; those of vLLM that matter to objectives.
LATENCY_BOUNDS = np.array(
    [.005, .01, .015, .02, .025, .03, .04, .05, .075, .1, .15, .2, .25, .5, .75, 1, 2, 2.5, 5, 10, 20, 40, 80, np.inf]
)  # fmt: skip
# They are whole multiples of this, so that a table tells between which ones a value lies.
GRAIN = 0.005
_BY_GRAIN = np.searchsorted(LATENCY_BOUNDS, (np.arange(round(LATENCY_BOUNDS[-2] / GRAIN) + 2) - 0.5) * GRAIN)


def places_of(latencies: Array) -> IntArray:
    """Of each latency (s) the index of the first bound that is not below it, as `np.searchsorted` gives it."""
    grains = np.ceil(latencies * (1.0 / GRAIN))
    return np.take(_BY_GRAIN, np.minimum(grains, len(_BY_GRAIN) - 1).astype(np.intp))


@dataclass(frozen=True, slots=True)
class Known:
    """What whoever sets up an autoscaler knows of each service, by measuring one replica.

    `minimum`, `maximum`: replicas allowed. `concurrency`: requests in work on one replica at which the ITL objective is
    just met. `rate`: requests per second that one replica then serves. `peak`: the highest requests per second, over a
    minute, that the whole demand brings. `ttft`, `itl`: objectives in seconds. `load_seconds`: from asked for to ready.
    """

    minimum: IntArray
    maximum: IntArray
    concurrency: Array
    rate: Array
    peak: Array
    ttft: Array
    itl: Array
    load_seconds: Array


@dataclass(frozen=True, slots=True)
class Sight:
    """What metrics show `at` a time, in seconds since the start.

    `asked`: replicas last asked for; `ready` of them serve, or are asleep. `running`, `waiting`: requests in engines
    that serve, those that drain left out; `held`: outside them, while none serves. `in_flight`: the sum of the three at
    each second since the last call, oldest first, a row a second. `arrived`, `finished`, `prompt_tokens`,
    `generated_tokens`: counted since the last call. `kv_usage`: 0..1, mean of the ready replicas. `ttft`, `itl`: counts
    since the last call in each of LATENCY_BOUNDS (not cumulative), a row a service; of first tokens, and of requests by
    the mean time between their tokens. `grams`: of CO2e per kWh, in the service's zone.
    """

    at: float
    asked: IntArray
    ready: IntArray
    running: Array
    waiting: Array
    held: Array
    in_flight: Array
    arrived: Array
    finished: Array
    prompt_tokens: Array
    generated_tokens: Array
    kv_usage: Array
    ttft: Array
    itl: Array
    grams: Array


class Controller(Protocol):
    """Asked every `period` seconds; keeps what it needs to remember. The same sights give the same answers."""

    @property
    def name(self) -> str: ...

    @property
    def period(self) -> int: ...

    def desired(self, sight: Sight) -> IntArray:
        """Replicas asked for from now on, between the minimum and the maximum that it was told."""
        ...
