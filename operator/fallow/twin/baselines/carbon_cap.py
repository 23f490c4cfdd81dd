"""Azure's carbon-aware KEDA operator: the grid's intensity sets the most replicas that KEDA may ask for.

Source: Azure/carbon-aware-keda-operator at 5296bba, controllers/max_replica_getter.go: the first band whose threshold
is at or above the intensity rules, the last one beyond all. Bands as in its README; ecoModeOff, which lifts the cap in
emergencies and at given hours, has no default and is left out.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.keda import Keda
from fallow.twin.simulation.sight import IntArray, Known, Sight

# gCO2e/kWh, and maxReplicas as shares of the first band's: 110, 60 and 10 there. Thirds of a grid's 370 to 571.
THRESHOLDS = np.array([437.0, 504.0, 571.0])
SHARES = np.array([1.0, 60 / 110, 10 / 110])


class CarbonCap:
    """KEDA under a cap, rounded up: never below the minimum nor below one replica."""

    name = "keda-carbon"

    def __init__(self, known: Known) -> None:
        self._known = known
        self._keda = Keda(known)
        self.period = self._keda.period

    def desired(self, sight: Sight) -> IntArray:
        band = np.minimum(np.searchsorted(THRESHOLDS, sight.grams), len(SHARES) - 1)
        cap = np.ceil(self._known.maximum * SHARES[band]).astype(np.int64)
        return np.asarray(np.minimum(self._keda.desired(sight), np.maximum(cap, self._known.minimum)))
