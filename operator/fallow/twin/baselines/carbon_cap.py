"""Azure's carbon-aware KEDA operator: the intensity of the grid caps the replicas that KEDA may ask for.

Source: Azure/carbon-aware-keda-operator, CarbonAwareKedaScaler: maxReplicasByCarbonIntensity is a list of thresholds;
the first one at or above the intensity rules, the last one beyond all. Its sample has three bands.
"""

from __future__ import annotations

import numpy as np

from fallow.twin.baselines.keda import Keda
from fallow.twin.simulation.sight import IntArray, Known, Sight

# gCO2e/kWh up to which a share of the maximum is allowed: the sample's 437, 504 and 571 with 110, 60 and 10 replicas.
BANDS = ((437.0, 1.0), (504.0, 0.55), (571.0, 0.1))


class CarbonCap:
    """KEDA under a cap; never below the minimum, nor below one replica."""

    name = "keda-carbon"

    def __init__(self, known: Known) -> None:
        self._known = known
        self._keda = Keda(known)
        self.period = self._keda.period

    def desired(self, sight: Sight) -> IntArray:
        shares = np.full(len(sight.grams), BANDS[-1][1])
        for threshold, share in reversed(BANDS):
            shares = np.where(sight.grams <= threshold, share, shares)
        cap = np.maximum(np.floor(self._known.maximum * shares).astype(np.int64), np.maximum(self._known.minimum, 1))
        return np.asarray(np.minimum(self._keda.desired(sight), cap))
