"""What a request takes of a replica at every batch that keeps the objective: seconds of its time, and joules.

In the steady state at batch b a request takes output * step(b) / b + prefill seconds of a replica (`steady`, solved for
the rate), so what depends on the batch is a matter of one decoded token, and is worked out once a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray
from fallow.twin.simulation.steady import mixed
from fallow.twin.simulation.table import EngineTable

# Mean batches are looked at in quarters, as the engines look up their steps.
FINE = 4
TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Request:
    """Of mean requests, by interval: least `seconds` of a replica, least joules `all_in`, and least joules `beyond`
    the context that the replica draws anyway. Each at its own best batch.
    """

    seconds: Array
    all_in: Array
    beyond: Array


@dataclass(frozen=True, slots=True)
class Curve:
    """A table by mean batch 1/4, 2/4 and so on up to the slots. `time`: seconds of a replica for one decoded token;
    `all_in`, `beyond`: joules of it. All three are the least up to that batch.
    """

    table: EngineTable
    batch: Array
    step: Array
    time: Array
    all_in: Array
    beyond: Array

    def request(self, prompt: Array, output: Array, itl: float) -> Request:
        """`prompt` tokens to compute, `output` tokens; objective in seconds, inf for none."""
        table, prefill = self.table, self.table.prompt_seconds(prompt)
        low, most = self._most(prefill / output, np.maximum(table.cache / (prompt + output), 1.0), itl)
        time = np.minimum(self.time[low], np.interp(most, self.batch, self.step) / most)
        upper = np.minimum(low + 1, len(self.batch) - 1)
        return Request(
            seconds=output * time + prefill,
            all_in=output * self.all_in[upper] + prefill * table.prefill_watts,
            beyond=output * self.beyond[upper] + prefill * (table.prefill_watts - table.context),
        )

    def _most(self, stall: Array, room: Array, itl: float) -> tuple[IntArray, Array]:
        """The largest batch allowed and the place in the curve at or before it.

        The mean gap is step(b) + stall * b, where `stall` is prefill per decoded token. An objective that is met
        nowhere leaves one request at a time.
        """
        low, high = np.full(stall.shape, -1), np.full(stall.shape, len(self.batch) - 1)
        for _ in range(len(self.batch).bit_length()):
            middle = (low + high + 1) // 2
            kept = self.step[middle] + stall * self.batch[middle] <= itl
            low, high = np.where(kept, middle, low), np.where(kept, high, middle - 1)
        place = np.clip(low, 0, len(self.batch) - 2)
        slope = np.maximum((self.step[place + 1] - self.step[place]) * FINE + stall, TINY)
        part = (itl - self.step[place] - stall * self.batch[place]) / slope
        most = self.batch[place] + np.clip(part, 0.0, 1 / FINE)
        most = np.minimum(np.where(low < 0, 1.0, most), room)
        return np.searchsorted(self.batch, most, side="right") - 1, most


def curve_of(table: EngineTable) -> Curve:
    """Watts are the lower of those of a batch and of its Poisson mean, between which the engines' are; a step is as
    short as that of any larger batch.
    """
    whole = np.arange(table.slots + 1, dtype=np.float64)
    batch = np.arange(1, FINE * table.slots + 1) / FINE
    shortest = np.minimum.accumulate(table.step[::-1])[::-1]
    step = np.interp(np.maximum(batch, 1.0), whole, shortest)
    watts = np.interp(batch, whole, np.minimum(table.watts, mixed(table.watts)))
    least = [np.minimum.accumulate(step / batch * each) for each in (1.0, watts, watts - table.context)]
    return Curve(table, batch, step, *least)
