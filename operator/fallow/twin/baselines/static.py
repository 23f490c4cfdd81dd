"""A fixed number of replicas, sized once for the known peak: what most fleets run."""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.gauges import ROUNDING
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray, Known, Sight


class Static:
    """Carries the peak minute with replicas that are filled to `share` of what each can carry; at least one."""

    name = "static"
    period = 3600

    def __init__(self, known: Known, share: Array | float) -> None:
        needed = np.ceil(known.peak / (known.rate * share) - ROUNDING).astype(np.int64)
        self._replicas = np.clip(needed, np.maximum(known.minimum, 1), known.maximum)

    def desired(self, sight: Sight) -> IntArray:  # noqa: ARG002 - whatever it sees
        return self._replicas
