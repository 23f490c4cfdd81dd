"""Latency quantiles over the estimation window, from differences of cumulative histograms."""

from collections.abc import Iterable
from math import isinf
from operator import gt, sub

from fallow.domain.figures import Missing
from fallow.domain.readings import Histogram
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds


def merged_difference(pairs: Iterable[tuple[Histogram | None, Histogram | None]]) -> Histogram | None:
    """Sum over pods of (now - earlier). A pod without an earlier histogram, or restarted, counts from zero.

    Engines may differ in their bounds; cumulative counts can be added at the bounds that all of them have.
    """
    windows = [_difference(earlier, now) for earlier, now in pairs if now is not None and now.bounds]
    if not windows:
        return None
    first = windows[0].bounds
    if all(window.bounds == first for window in windows):
        return Histogram(first, tuple(map(sum, zip(*(window.counts for window in windows), strict=True))))
    bounds = tuple(sorted(set(first).intersection(*(window.bounds for window in windows))))
    at = [dict(zip(window.bounds, window.counts, strict=True)) for window in windows]
    return Histogram(bounds, tuple(sum(window[bound] for window in at) for bound in bounds))


def _difference(earlier: Histogram | None, now: Histogram) -> Histogram:
    """Counts of one pod since `earlier`."""
    if earlier is None or earlier.bounds != now.bounds or any(map(gt, earlier.counts, now.counts)):
        return now
    return Histogram(now.bounds, tuple(map(sub, now.counts, earlier.counts)))


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
