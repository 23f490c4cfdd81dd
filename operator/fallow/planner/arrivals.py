"""How requests come, learned from one cycle to the next in constant memory; and the crests of their number."""

from dataclasses import replace
from functools import lru_cache
from math import exp, sqrt
from statistics import NormalDist

from fallow.domain.arrivals import Arrivals, Uneven
from fallow.domain.lateness import Lateness
from fallow.domain.snapshots import DemandPoint
from fallow.domain.workloads import Objectives

# Cycles of a span; seconds after which what was seen counts for a third.
SPAN = 4
MEMORY = 1800.0
# Longer without a reading, and two cycles are no neighbours.
GAP = 300.0
# Of the requests that may miss the objectives, so many may do so in a crest that is larger than provided for. The rest
# is for starts, uneven spreading and a rate that moved on.
OF_MISSES = 0.06
# However few are late: half of all crests are provided for.
MEDIAN = 0.5
# A burst is looked at over the time that an answer may take by its objective, within these seconds.
SHORTEST, LONGEST = 1.0, 60.0


def noted(before: Arrivals, point: DemandPoint, seconds: float, *, timed: bool = True) -> Arrivals:
    """With what came in the `seconds` up to a point; a cycle without a replica, or of unknown requests, is left out.

    Unless it is `timed`, it tells nothing of how long steps take.
    """
    flow = point.flow
    if flow is None or point.ready == 0 or not 0 < seconds <= GAP:
        parted = replace(before, cycles=_parted(before.cycles), spans=_parted(before.spans))
        return replace(parted, open_requests=0.0, open_seconds=0.0, open_cycles=0)
    kept = exp(-seconds / MEMORY)
    came = max(flow.came, 0.0) * seconds
    kept_steps, new = (kept, seconds) if timed else (1.0, 0.0)
    cycles = _next(before.cycles, came, seconds, kept)
    spans, opened = before.spans, (before.open_requests + came, before.open_seconds + seconds, before.open_cycles + 1)
    if opened[2] >= SPAN:
        spans = _next(spans, opened[0], opened[1], exp(-opened[1] / MEMORY))
        opened = (0.0, 0.0, 0)
    return Arrivals(
        seconds=before.seconds * kept + seconds,
        requests=before.requests * kept + came,
        began=before.began * kept + flow.began * seconds,
        answered=before.answered * kept + flow.answered * seconds,
        prompt=before.prompt * kept + flow.prompts * seconds,
        output=before.output * kept + flow.answers * seconds,
        cycles=cycles,
        spans=spans,
        working=before.working * kept_steps + flow.running * new,
        replicas=before.replicas * kept_steps + point.ready * new,
        computed=None if before.computed is None else before.computed * kept_steps + flow.prompts * new,
        made=None if before.made is None else before.made * kept_steps + flow.answers * new,
        highest=max(before.highest * kept, came / seconds),
        open_requests=opened[0],
        open_seconds=opened[1],
        open_cycles=opened[2],
    )


def anew(before: Arrivals) -> Arrivals:
    """Other engines serve from now on: how long their steps take is not told by what those before them did."""
    return replace(before, working=0.0, replicas=0.0, computed=0.0, made=0.0)


def _next(before: Uneven, came: float, seconds: float, kept: float) -> Uneven:
    rate = came / seconds
    if before.rate is None:
        return replace(before, every=seconds, rate=rate)
    change = rate - before.rate
    returned = 0.0 if before.change is None else -change * before.change
    return Uneven(
        seconds=before.seconds * kept + seconds,
        squares=before.squares * kept + (change * seconds) ** 2 / 2,
        returned=before.returned * kept + returned * seconds**2,
        every=seconds,
        rate=rate,
        change=change,
    )


def _parted(before: Uneven) -> Uneven:
    """What comes next has no neighbour."""
    return replace(before, rate=None, change=None)


@lru_cache(maxsize=4096)
def _deviations(missed: float) -> float:
    """Standard deviations above the mean that a normal value exceeds with this chance."""
    return NormalDist().inv_cdf(1.0 - missed)


def share_missed(objectives: Objectives, lateness: Lateness) -> float:
    """Share of the requests (0..1) that may meet higher crests than are provided for, by how many were late so far."""
    return min((1.0 - objectives.attainment) * OF_MISSES * exp(lateness.lenience), MEDIAN)


def seconds_of(objectives: Objectives, output: float) -> float:
    """That a burst is looked at over, where answers have so many tokens."""
    allowed = objectives.ttft_p95 if objectives.itl_p95 is None else output * objectives.itl_p95
    return min(max(allowed or SHORTEST, SHORTEST), LONGEST)


def crest(rate: float, dispersion: float, seconds: float, missed: float) -> float:
    """Requests per second, over so many `seconds`, that all but a share `missed` (0..1) of the requests meet at most.

    Requests meet more than there are on average over time, since many of them are those of a burst. Their number is
    taken as gamma-Poisson with this variance over its mean, its quantile by Wilson and Hilferty (PNAS 17, 1931). For
    `dispersion` 1 and many requests it is square-root staffing (W. Whitt, Management Science 38(5), 1992).
    """
    if rate <= 0:
        return 0.0
    mean = rate * seconds + (dispersion - 1.0)
    shape = mean / dispersion
    z = _deviations(missed)
    return mean * max(1.0 - 1.0 / (9.0 * shape) + z / (3.0 * sqrt(shape)), 1.0) ** 3 / seconds
