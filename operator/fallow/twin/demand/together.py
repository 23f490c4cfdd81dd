"""Several demands as one: services side by side; what two bring to the same service is added up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.demand import Demand, Load, Spread


class Together:
    """As long as the longest; a shorter one is silent after its end."""

    def __init__(self, parts: Sequence[Demand]) -> None:
        self._parts = tuple(parts)
        self.services: tuple[ServiceKey, ...] = tuple(
            dict.fromkeys(key for part in self._parts for key in part.services)
        )
        self.seconds = max(part.seconds for part in self._parts)
        self._rows = [np.array([self.services.index(key) for key in part.services]) for part in self._parts]
        values = [np.zeros(len(self.services)) for _ in range(3)]
        for part, rows in zip(reversed(self._parts), reversed(self._rows), strict=True):
            spread = part.spread
            for value, of in zip(values, (spread.prompt_cv, spread.output_cv, spread.cached), strict=True):
                value[rows] = of
        self.spread = Spread(*values)

    def block(self, start: int, stop: int) -> Load:
        shape = (len(self.services), stop - start)
        arrivals, prompt, output = (np.zeros(shape) for _ in range(3))
        weights = np.zeros(shape)
        for part, rows in zip(self._parts, self._rows, strict=True):
            if start >= part.seconds:
                continue
            load = part.block(start, min(stop, part.seconds))
            some = slice(0, load.arrivals.shape[1])
            arrivals[rows, some] += load.arrivals
            # where nothing arrives the lengths of a request that would count for a little
            share = load.arrivals + 1e-6
            weights[rows, some] += share
            prompt[rows, some] += share * load.prompt
            output[rows, some] += share * load.output
        known = np.maximum(weights, 1e-12)
        return Load(start, arrivals, np.maximum(prompt / known, 1.0), np.maximum(output / known, 1.0))
