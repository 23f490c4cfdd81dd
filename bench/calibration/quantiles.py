"""Bounds from misses: quantiles of ln(measured / predicted) by class, and how often they held what they never saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from bench.calibration.folds import Miss
from fallow.twin.calibration.bounds import Bounds, Spread, Spreads

# Misses of one model (or of one curve) fall together, so the conformal quantile counts these instead of rows: of M,
# each tail leaves out 1 - 0.9 (M + 1) / M. That is nothing for nine or fewer: their extremes. For some more it would be
# nearly so; half of the nominal tail is left out instead, and holds what it has to.
TAIL = 0.1
FEW = 9
LEAST_TAIL = 0.05
# Least factor for a GPU type without rows, and least width for each doubling of the batch: the measured ones come from
# one other GPU type and from one doubling. Choices.
OTHER_GPU = 1.5
PER_OCTAVE = 0.05
OUTPUTS = ("joules", "watts", "itl", "rate")


def bounds_of(batches: Sequence[Miss], models: Sequence[Miss], others: Sequence[Miss]) -> Bounds:
    """From left-out batches, left-out models, and rows of one GPU type predicted from the other."""
    inside = [miss for miss in batches if miss.beyond < 0.1]
    classes = {kind: _spreads(group) for kind, group in _by_kind([*inside, *models]).items()}
    edges = [
        (abs(miss.joules) - classes[miss.kind].joules.high) / miss.beyond for miss in batches if miss.beyond >= 0.1
    ]
    scaled = [
        (miss.joules / miss.doubt) / (ends.high if miss.joules > 0 else -ends.low)
        for miss in others
        if (ends := classes[miss.kind].joules)
    ]
    return Bounds(
        classes,
        other_gpu=max(OTHER_GPU, _eight_of_ten(np.abs(scaled).tolist())),
        per_octave=max(PER_OCTAVE, _eight_of_ten(edges)),
    )


def _eight_of_ten(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.8)) if values else 0.0


def _spreads(misses: Sequence[Miss]) -> Spreads:
    groups = len({miss.row.curve if miss.own else miss.row.label for miss in misses})
    tail = max(LEAST_TAIL, 1 - (1 - TAIL) * (groups + 1) / groups) if groups > FEW else 0.0

    def ends(output: str) -> Spread:
        values = [getattr(miss, output) / miss.doubt for miss in misses]
        return Spread(min(0.0, float(np.quantile(values, tail))), max(0.0, float(np.quantile(values, 1 - tail))))

    return Spreads(*(ends(output) for output in OUTPUTS))


def _by_kind(misses: Sequence[Miss]) -> dict[str, list[Miss]]:
    groups: dict[str, list[Miss]] = defaultdict(list)
    for miss in misses:
        groups[miss.kind].append(miss)
    return groups


def held(misses: Sequence[Miss], output: str = "joules") -> dict[int, bool]:
    """By id of the miss: did bounds taken from other models hold it? Misses beyond a curve's ends are left out."""
    answer: dict[int, bool] = {}
    for group in _by_kind([miss for miss in misses if miss.beyond < 0.1]).values():
        for label in {miss.row.label for miss in group}:
            rest = [miss for miss in group if miss.row.label != label]
            if not rest:
                continue
            ends = getattr(_spreads(rest), output)
            for miss in group:
                if miss.row.label == label:
                    answer[id(miss)] = ends.low * miss.doubt <= getattr(miss, output) <= ends.high * miss.doubt
    return answer
