"""A fixed number of replicas, sized once for the known peak: what most fleets run."""

from __future__ import annotations

import numpy as np

from fallow.twin.simulation.sight import IntArray, Known, Sight


class Static:
    """Carries the peak minute with replicas that are filled to `share` of what each can carry."""

    period = 3600

    def __init__(self, known: Known, share: float) -> None:
        self.name = f"static-{round(share * 100)}"
        self._replicas = fixed(known, share)

    def desired(self, sight: Sight) -> IntArray:  # noqa: ARG002 - whatever it sees
        return self._replicas


def fixed(known: Known, share: float) -> IntArray:
    needed = np.ceil(known.peak / (known.rate * share) - 1e-9).astype(np.int64)
    return np.asarray(np.clip(np.maximum(needed, 1), known.minimum, known.maximum))
