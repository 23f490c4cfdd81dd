"""Latency quantiles over the estimation window, from differences of cumulative histograms."""

from array import array
from collections.abc import Hashable, Iterable, Mapping, Sequence
from operator import sub
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fallow.domain.figures import Missing
from fallow.domain.readings import Histogram
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds

# Of one pod: as it was at the start of the window, where it was there, and as it is now.
Pair = tuple[Histogram | None, Histogram]
Key = TypeVar("Key", bound=Hashable)
# Against a division by nothing in rows whose quantile is not told.
TINY = 1e-300
NONE_SHOWN = Missing(Reason.NO_SERIES, "no ready engine exposes such a histogram")
NONE_FINISHED = Missing(Reason.NO_WORK, "no request finished in the window")


def quantiles(
    windows: Mapping[Key, Sequence[tuple[Histogram | None, Histogram | None]]], q: float
) -> dict[Key, Seconds | Missing]:
    """The same as `quantile` of each `merged_difference`; of all with the same bounds at once."""
    found: dict[Key, Seconds | Missing] = {}
    alike: dict[tuple[float, ...], list[tuple[Key, list[Pair]]]] = {}
    for key, pairs in windows.items():
        read = [(earlier, now) for earlier, now in pairs if now is not None and now.bounds]
        bounds = read[0][1].bounds if read else ()
        if len(bounds) > 1 and all(now.bounds == bounds for _, now in read):
            alike.setdefault(bounds, []).append((key, read))
        else:
            found[key] = quantile(merged_difference(pairs), q)
    for bounds, rows in alike.items():
        grew = _grown(bounds, [pair for _, read in rows for pair in read])
        starts = np.cumsum([0, *(len(read) for _, read in rows[:-1])])
        found |= zip((key for key, _ in rows), _by_row(bounds, np.add.reduceat(grew, starts, axis=0), q), strict=True)
    return found


def _by_row(bounds: tuple[float, ...], counts: NDArray[np.float64], q: float) -> list[Seconds | Missing]:
    """Quantiles of histograms of the same bounds, a row each."""
    edges, first = np.array([0.0, *bounds]), np.zeros((len(counts), 1))
    below = np.concatenate((first, counts[:, :-1]), axis=1)
    rank = q * counts[:, -1:]
    place = np.argmax((counts >= rank) & (counts > below), axis=1)
    row = np.arange(len(counts))
    lower, upper, under = edges[place], edges[place + 1], below[row, place]
    inside = (rank[:, 0] - under) / np.maximum(counts[row, place] - under, TINY)
    values = np.where(np.isinf(upper), lower, lower + np.where(np.isinf(upper), 0.0, upper - lower) * inside)
    return [
        Seconds(value) if total > 0 else NONE_FINISHED
        for value, total in zip(values.tolist(), counts[:, -1].tolist(), strict=True)
    ]


def merged_difference(pairs: Iterable[tuple[Histogram | None, Histogram | None]]) -> Histogram | None:
    """Sum over pods of (now - earlier). A pod without an earlier histogram, or restarted, counts from zero.

    Engines may differ in their bounds; cumulative counts can be added at the bounds that all of them have.
    """
    read = [(earlier, now) for earlier, now in pairs if now is not None and now.bounds]
    if not read:
        return None
    first = read[0][1].bounds
    if all(now.bounds == first for _, now in read):
        return Histogram(first, array("d", _grown(first, read).sum(axis=0).tobytes()))
    windows = [(now.bounds, _difference(earlier, now)) for earlier, now in read]
    common = tuple(sorted(set(first).intersection(*(bounds for bounds, _ in windows))))
    at = [dict(zip(bounds, counts, strict=True)) for bounds, counts in windows]
    return Histogram(common, tuple(sum(counts[bound] for counts in at) for bound in common))


def _grown(bounds: tuple[float, ...], pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Counts since the window's start where all have these bounds, a row a pod."""
    nothing = bytes(8 * len(bounds))
    known = (nothing if one is None or one.bounds != bounds else one.packed for one, _ in pairs)
    now = np.frombuffer(b"".join(one.packed for _, one in pairs)).reshape(-1, len(bounds))
    grew = now - np.frombuffer(b"".join(known)).reshape(now.shape)
    anew = grew.min(axis=1) < 0
    if anew.any():
        grew[anew] = now[anew]
    return grew


def _difference(earlier: Histogram | None, now: Histogram) -> Sequence[float]:
    """Counts of one pod since `earlier`."""
    if earlier is None or earlier.bounds != now.bounds:
        return now.counts
    counts = tuple(map(sub, now.counts, earlier.counts))
    return now.counts if min(counts) < 0 else counts


def quantile(histogram: Histogram | None, q: float) -> Seconds | Missing:
    """Linear interpolation within the bucket, as Prometheus' histogram_quantile does.

    In the last, unbounded bucket the answer is its lower bound: "at least this much".
    """
    if histogram is None or len(histogram.bounds) < 2:
        return NONE_SHOWN
    return _by_row(histogram.bounds, np.array([histogram.counts]), q)[0]
