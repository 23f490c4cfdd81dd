"""How requests come, learned from one cycle to the next in constant memory; and the crests of their number."""

from dataclasses import replace
from math import exp, sqrt
from statistics import NormalDist

from fallow.domain.arrivals import Arrivals
from fallow.domain.snapshots import DemandPoint

# Cycles of a span; seconds after which what was seen counts for a third.
SPAN = 4
MEMORY = 1800.0
# Longer without a reading, and two cycles are no neighbours.
GAP = 300.0
# Of the requests that may miss the objectives, so many may do so in a crest that is larger than provided for. The rest
# is for starts, uneven spreading and a rate that moved on.
OF_MISSES = 0.06


def noted(before: Arrivals, point: DemandPoint, seconds: float) -> Arrivals:
    """With what came in the `seconds` up to a point; a cycle without a replica, or of unknown requests, is left out."""
    if point.arrivals is None or point.ready == 0 or not 0 < seconds <= GAP:
        return replace(before, last=None, last_span=None, open_requests=0.0, open_seconds=0.0, open_cycles=0)
    kept = exp(-seconds / MEMORY)
    came = max(point.arrivals, 0.0) * seconds
    swing = 0.0 if before.last is None else (came - before.last * seconds) ** 2 / 2
    now = replace(
        before,
        seconds=before.seconds * kept + seconds,
        requests=before.requests * kept + came,
        prompt=before.prompt * kept + (point.prompt_tokens_per_second or 0.0) * seconds,
        output=before.output * kept + (point.tokens_per_second or 0.0) * seconds,
        uneven=before.uneven * kept + swing,
        every=seconds,
        span_seconds=before.span_seconds * kept,
        span_uneven=before.span_uneven * kept,
        last=came / seconds,
        open_requests=before.open_requests + came,
        open_seconds=before.open_seconds + seconds,
        open_cycles=before.open_cycles + 1,
    )
    return _closed(now) if now.open_cycles >= SPAN else now


def _closed(now: Arrivals) -> Arrivals:
    rate, length = now.open_requests / now.open_seconds, now.open_seconds
    known = now.last_span is not None
    return replace(
        now,
        span_seconds=now.span_seconds + (length if known else 0.0),
        span_uneven=now.span_uneven + (((rate - (now.last_span or 0.0)) * length) ** 2 / 2 if known else 0.0),
        span_every=length,
        last_span=rate,
        open_requests=0.0,
        open_seconds=0.0,
        open_cycles=0,
    )


def crest(rate: float, dispersion: float, seconds: float, missed: float) -> float:
    """Requests per second, over so many `seconds`, that all but a share `missed` (0..1) of the requests meet at most.

    Requests meet more than there are on average over time, since many of them are those of a burst. Their number is
    taken as gamma-Poisson with this variance over its mean, its quantile by Wilson and Hilferty (PNAS 17, 1931). For
    `dispersion` 1 and many requests it is square-root staffing (W. Whitt, Management Science 38(5), 1992).
    """
    if rate <= 0:
        return 0.0
    mean = rate * seconds + dispersion - 1.0
    shape = mean / dispersion
    z = NormalDist().inv_cdf(1.0 - missed)
    return mean * max(1.0 - 1.0 / (9.0 * shape) + z / (3.0 * sqrt(shape)), 1.0) ** 3 / seconds
