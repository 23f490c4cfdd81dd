"""How many of the late requests that an objective allows are aimed at: fewer where it takes little to avoid them."""

from math import log

from fallow.domain.habits import Habits
from fallow.domain.workloads import Objectives
from fallow.planner.arrivals import crest, seconds_of, share_missed

# Of what an objective allows: the least that is aimed at, so that what comes late to notice has room, and the most.
LEAST, MOST = 0.4, 0.8
# What a late request weighs, in requests' share of the replicas: a choice. At 8 a service whose requests come evenly,
# and that takes the place of one that is never late, loses less than half a point of attainment (docs/benchmarks.md).
WEIGHT = 8.0
# The share of crests that elasticity is taken over: twice as many that go beyond.
TWICE = 2.0


def aimed(objectives: Objectives, habits: Habits) -> float:
    """Share (LEAST..MOST) of the late requests that `objectives` allow, at which a service is aimed.

    Where a share l of the requests is late, replicas go with l^-e, e being their elasticity. Replicas and WEIGHT times
    what is late are least together at l = e / WEIGHT: the steeper the bursts, the more it takes to have fewer late.
    """
    allowed, arrivals = 1.0 - objectives.attainment, habits.arrivals
    if allowed <= 0 or arrivals.tokens is None or not arrivals.is_known:
        return LEAST
    rate, seconds = arrivals.requests / arrivals.seconds, seconds_of(objectives, arrivals.tokens[1])
    (uneven,) = arrivals.dispersions((seconds,))
    missed = share_missed(objectives, habits.lateness)
    high, low = (crest(rate, uneven, seconds, share) for share in (missed / TWICE, missed))
    return min(max(log(high / low) / log(TWICE) / WEIGHT / allowed, LEAST), MOST)
