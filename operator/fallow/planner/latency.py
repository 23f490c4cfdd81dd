"""Latency quantiles over the estimation window, from differences of cumulative histograms."""

from collections.abc import Iterable
from math import isinf

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
    shared = set(windows[0]).intersection(*windows[1:])
    bounds = tuple(sorted(shared))
    return Histogram(bounds, tuple(sum(window[bound] for window in windows) for bound in bounds))


def _difference(earlier: Histogram | None, now: Histogram) -> dict[float, float]:
    """Counts of one pod since `earlier`, by bound."""
    grew = (
        earlier is not None
        and earlier.bounds == now.bounds
        and all(before <= count for before, count in zip(earlier.counts, now.counts, strict=True))
    )
    base = earlier.counts if earlier is not None and grew else (0.0,) * len(now.bounds)
    return {bound: count - before for bound, count, before in zip(now.bounds, now.counts, base, strict=True)}


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
