"""One replica under a constant load: what follows from its table when arrivals, work and departures balance.

Requests are Poisson and share each step, so occupancy depends on lengths through their means alone (insensitivity of
symmetric queues, Kelly 1979). Each request takes `output` steps; prompts lengthen steps by their time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.table import EngineTable

ROUNDS = 60


@dataclass(frozen=True, slots=True)
class Steady:
    """`batch`: mean requests that decode. `running`: those and the ones in prefill. `itl`: mean seconds between two
    tokens of an answer. `watts`: mean, of the replica. `fits`: the load can be carried for ever within the slots and
    the cache; where it cannot, the rest is at full slots.
    """

    batch: Array
    running: Array
    itl: Array
    watts: Array
    fits: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


def steady(table: EngineTable, rate: Array, prompt: Array, output: Array) -> Steady:
    """At `rate` requests per second with mean `prompt` tokens to compute (those in cache left out) and `output`."""
    rate, prompt, output = np.broadcast_arrays(*(np.asarray(one, dtype=np.float64) for one in (rate, prompt, output)))
    batches = np.arange(table.slots + 1, dtype=np.float64)
    prefilling = rate * table.prompt_seconds(prompt)
    left = np.maximum(1.0 - prefilling, 1e-9)
    most = np.minimum(table.slots, table.cache / (prompt + output))
    # batch = rate * output * step(batch) / left: the right side grows more slowly than the left once it fits
    low, high = np.zeros(rate.shape), np.array(most, dtype=np.float64)
    arriving = rate * output / left
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        more = arriving * np.interp(middle, batches, table.step) > middle
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    batch = (low + high) / 2
    fits = (prefilling < 1.0) & (arriving * np.interp(most, batches, table.step) <= most)
    itl = np.interp(batch, batches, table.step) / left
    busy = np.clip(prefilling, 0.0, 1.0)
    decoding = np.interp(batch, batches, mixed(table.watts))
    return Steady(batch, batch + busy, itl, (1.0 - busy) * decoding + busy * table.prefill_watts, fits)


def mixed(values: Array) -> Array:
    """Mean of a function of the batch where the batch is Poisson around each whole number, as arrivals make it.

    Beyond 64 the spread is narrow against the curve, and the value itself is taken.
    """
    answer = np.array(values, dtype=np.float64)
    upto = min(64, len(values) - 1)
    whole = np.arange(len(values), dtype=np.float64)
    factorial = np.concatenate(([0.0], np.cumsum(np.log(whole[1:]))))
    for mean in range(1, upto + 1):
        weights = np.exp(whole * np.log(mean) - mean - factorial)
        answer[mean] = float(weights @ values / weights.sum())
    return answer
