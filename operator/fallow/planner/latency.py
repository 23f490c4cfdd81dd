"""Latency quantiles over the estimation window, from differences of cumulative histograms."""

from array import array
from collections.abc import Iterable, Sequence
from math import isinf
from operator import sub

import numpy as np

from fallow.domain.figures import Missing
from fallow.domain.readings import Histogram
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds


def merged_difference(pairs: Iterable[tuple[Histogram | None, Histogram | None]]) -> Histogram | None:
    """Sum over pods of (now - earlier). A pod without an earlier histogram, or restarted, counts from zero.

    Engines may differ in their bounds; cumulative counts can be added at the bounds that all of them have.
    """
    read = [(earlier, now) for earlier, now in pairs if now is not None and now.bounds]
    if not read:
        return None
    first = read[0][1].bounds
    if all(now.bounds == first for _, now in read):
        return _alike(first, read)
    windows = [(now.bounds, _difference(earlier, now)) for earlier, now in read]
    common = tuple(sorted(set(first).intersection(*(bounds for bounds, _ in windows))))
    at = [dict(zip(bounds, counts, strict=True)) for bounds, counts in windows]
    return Histogram(common, tuple(sum(counts[bound] for counts in at) for bound in common))


def _alike(bounds: tuple[float, ...], pairs: Sequence[tuple[Histogram | None, Histogram]]) -> Histogram:
    """The same where all have these bounds, a row of an array each."""
    nothing = bytes(8 * len(bounds))
    known = (nothing if one is None or one.bounds != bounds else one.packed for one, _ in pairs)
    now = np.frombuffer(b"".join(one.packed for _, one in pairs)).reshape(-1, len(bounds))
    grew = now - np.frombuffer(b"".join(known)).reshape(now.shape)
    anew = grew.min(axis=1) < 0
    if anew.any():
        grew[anew] = now[anew]
    return Histogram(bounds, array("d", grew.sum(axis=0).tobytes()))


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
        return Missing(Reason.NO_SERIES, "no ready engine exposes such a histogram")
    total = histogram.counts[-1]
    if total <= 0:
        return Missing(Reason.NO_WORK, "no request finished in the window")
    rank = q * total
    lower, below = 0.0, 0.0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=True):
        if count >= rank and count > below:
            if isinf(bound):
                return Seconds(lower)
            return Seconds(lower + (bound - lower) * (rank - below) / (count - below))
        lower, below = bound, count
    return Seconds(lower)
