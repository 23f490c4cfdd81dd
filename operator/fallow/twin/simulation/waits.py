"""How long first tokens wait for the prompts of others, beyond what the counts of whole seconds show.

The fluid of `engines` has the work of each second, spread evenly over a pool's replicas. Two things it cannot show:
what happens within a second, and that replicas are not alike. Both are stationary, by the rate of the last seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from fallow.twin.simulation.demand import Array

TINY = 1e-12
# Riemann's zeta function of one half.
ZETA_HALF = -1.4603545
# Seconds between two looks of the event engine's router.
LOOK_SECONDS = 0.25
# A queue that grows has no mean; what it grows by is in the fluid.
MOST_USE = 0.98
# The next four are fitted to the event engine with 1 to 8 replicas that compute prompts alone, of 1,155 and 2,048
# tokens (cv .4 and .96), at 30 to 98 % of what they carry. At a use u of k replicas the share u^(k^WAIT_POWER) waits.
WAIT_POWER = 1 / 3
# A router that sees requests and not their lengths makes them wait for UNEVEN of the deviation of the work that it
# gives to one replica between two looks (variation of lengths, and WHOLE since requests are whole), over the root of
# the idle time, since longer queues differ more; but no more than at LEAST_IDLE.
UNEVEN, WHOLE, LEAST_IDLE = 0.3, 0.1, 0.05


@dataclass(frozen=True, slots=True)
class Waits:
    """Of those who come: the `share` who wait beside what the fluid shows, and their `mean` wait (s), exponential."""

    share: Array
    mean: Array


@dataclass(frozen=True, slots=True)
class Work:
    """What a replica has of them, an entry a pool. `use`: share of its time, with the steps between; `flow`: those that
    come each second; `seconds`: what one takes; `uneven`: one plus the squared variation of lengths.
    """

    use: Array
    flow: Array
    seconds: Array
    uneven: Array


def waits_of(prompts: Work, decoding: Array, replicas: Array) -> Waits:
    """Each array has an entry for each pool; `decoding` are requests beyond their first token, on one replica.

    One replica: Pollaczek and Khinchine, less what the fluid shows of it. More of them share their work as a queue for
    all of them (Sakasegawa 1977) as far as their router sees it: it levels requests, of which some decode. Of
    two independent numbers with a given sum the prompts that wait keep the share v / (v + w) of their variance, w being
    theirs (geometric, L + L^2) and v that of those who decode (Poisson): so far each replica has a queue of its own.
    """
    use = np.minimum(prompts.use, MOST_USE)
    idle = 1.0 - use
    each = 1.0 / replicas
    alone = prompts.seconds * prompts.uneven / (2.0 * idle)
    pooled = alone * each * use ** (np.sqrt(2.0 * replicas + 2.0) - 1.0)
    deviation = np.sqrt(use * prompts.seconds * prompts.uneven * each)
    # a request comes to a second with itself in it
    shown = each * (alone + prompts.seconds / 2.0) * np.interp(idle / (deviation + TINY), RATIOS, SHOWN)
    length = prompts.flow * (prompts.seconds + alone * use)
    seen = length + length**2
    seen = seen / (seen + decoding + TINY)
    given = np.sqrt(LOOK_SECONDS * prompts.seconds * (prompts.uneven - 1.0 + WHOLE))
    levelled = UNEVEN * (1.0 - each) * given * use / np.sqrt(np.maximum(idle, LEAST_IDLE))
    mean = np.maximum(pooled - shown, 0.0) + seen * levelled + (1.0 - seen) * (alone * use - pooled)
    share = use**replicas ** (WAIT_POWER * seen)
    return Waits(share, mean / (share + TINY))


def shown_by_seconds(ratio: Array) -> Array:
    """Of the mean of a reflected Brownian motion the share that it has when it is looked at each second alone, by its
    drift in a second over its deviation in a second: the maximum of a Gaussian random walk.

    Spitzer's identity (1956); near zero the first terms of its expansion (Chang and Peres, Annals of Probability 1997).
    """
    near = 1.0 + ratio * (np.sqrt(2.0 / np.pi) * ZETA_HALF + ratio / 2.0)
    terms = np.arange(1.0, 401.0)[:, None]
    places = np.maximum(ratio, 0.3) * np.sqrt(terms)
    density = np.exp(-(places**2) / 2.0) / np.sqrt(2.0 * np.pi)
    walk = ((density - places * ndtr(-places)) / np.sqrt(terms)).sum(axis=0)
    return np.asarray(np.where(ratio < 0.3, near, 2.0 * ratio * walk))


RATIOS = np.arange(0.0, 5.05, 0.1)
SHOWN = shown_by_seconds(RATIOS)
