"""How many requests were late, and what that says about the crests to provide for: fewer late than allowed, less care.

A model of arrivals is never quite right: what it promises is corrected by what came of it, as adaptive conformal
inference does (I. Gibbs and E. Candes, NeurIPS 2021, arXiv 2106.00170): the share of crests that may go beyond
capacity moves up while fewer requests are late than may be, and down by each that is. In the long run as many are late
as is aimed at, whatever the arrivals are, as long as the share stays within its bounds.
"""

from bisect import bisect_left
from math import exp, log

from fallow.domain.lateness import Lateness
from fallow.domain.readings import EngineReading, Histogram
from fallow.domain.snapshots import DemandPoint
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives

# With nobody late, so many seconds at the highest rate of late make the share e times as large; and that is forgotten
# over so many.
SLOWLY = 1800.0
DAYS = 2 * 86_400.0
# Bounds of the share over the first one: choices.
LEAST, MOST = log(1 / 1000), log(1000.0)


def late(before: EngineReading, now: EngineReading, objectives: Objectives) -> float | None:
    """Requests between two readings of an engine that missed an objective; one that missed both counts twice.

    None where there is no objective, or no histogram tells.
    """
    found = None
    for limit, old, new in (
        (objectives.ttft_p95, before.ttft, now.ttft),
        (objectives.itl_p95, before.itl, now.itl),
    ):
        if limit is None or new is None or not new.bounds:
            continue
        found = (found or 0.0) + above(old if old is not None and old.bounds == new.bounds else None, new, limit)
    return found


def above(old: Histogram | None, new: Histogram, limit: Seconds) -> float:
    """Counts above a limit, straight within its bucket as in `histogram_quantile`, less those of before."""
    place = bisect_left(new.bounds, limit)
    lower = new.bounds[place - 1] if place else 0.0
    width, into, counts = new.bounds[place] - lower, limit - lower, new.counts
    below = counts[place - 1] if place else 0.0
    found = counts[-1] - (below + (counts[place] - below) * into / width)
    if old is None:
        return found
    counts = old.counts
    below = counts[place - 1] if place else 0.0
    return found - (counts[-1] - (below + (counts[place] - below) * into / width))


def learned(before: Lateness, point: DemandPoint, aim: float, seconds: float, *, decides: bool = True) -> Lateness:
    """With the requests of the `seconds` up to a point, of which a share `aim` (0..1) is to be late.

    Unless crests `decide` how many replicas there are, that few are late is not to their credit: until they do again,
    care is no less than when they last did.
    """
    if point.flow is None or point.late is None or aim <= 0 or seconds <= 0:
        return before
    most = max(point.flow.answered, before.most * exp(-seconds / DAYS))
    if most <= 0:
        return before
    room = point.flow.answered * aim - point.late
    moved = before.lenience + room * seconds / (most * aim * SLOWLY)
    moved = min(max(moved, LEAST), MOST)
    if decides:
        return Lateness(moved, most)
    decided = before.lenience if before.decided is None else before.decided
    return Lateness(min(moved, decided), most, decided)
