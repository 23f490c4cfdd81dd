"""The SM clock at which a service's engines still keep their objectives with room for crests, where more is not needed.

Packing comes first: a clock takes up only what replicas leave over, since one replica less saves more than all of them
slower (docs/methodology.md). So the replicas that are ready are asked what they carry at each clock, by the law that
says how many are needed at the highest; and the clock is the highest while anything is in doubt.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from fallow.domain.clocks import step_at
from fallow.domain.figures import Missing
from fallow.domain.policies import Mode
from fallow.domain.profiles import Profile, ProfilePoint
from fallow.domain.readings import ClockRange
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Seconds
from fallow.footprint.attribution import own_gpus
from fallow.planner import guards
from fallow.planner.aim import LEAST
from fallow.planner.capacity import Capacity, Same, engine_limit, in_work, pace, profile_for, rate_within
from fallow.planner.context import Context
from fallow.planner.crests import Crests, highest, replicas

# Clocks are looked at, and lowered, in steps of this share of the highest.
STEP = 0.05
# Shares of the requests that a replica should have in flight, and of the TTFT objective, which its own prompt may take.
# Choices.
FILLED, PROMPT = 0.9, 0.25
# Shares of what a replica carries that crests may fill at a lower clock. The least leaves a fleet that is packed as it
# is, in energy and in time (docs/how-to/clocks.md); the most is for one of which nobody is late. Choices.
LEAST_FILLED, MOST_FILLED = 0.75, 0.95
# Over how long the highest rate counts: so long after a crest clocks stay up.
LOOKED = Seconds(120)


def clock(context: Context) -> float | None:
    """Of the GPUs of what serves, as a share of the highest; None where none is to be set."""
    rules = context.policy.clocks
    if rules is None or context.policy.mode is not Mode.ENFORCE or context.service.paused:
        return None
    if why_never(context) is not None:
        return None
    crests = Crests.of(context, context.capacity[context.serving.name])
    if crests is None or in_doubt(context):
        return 1.0
    rate = highest(context, LOOKED)
    height = crests.height_at(rate) / _filled(context)
    # a step at a time, so that what it does is seen before the next
    lowest = max(rules.lowest, min((one.share for one in context.clocks), default=1.0) - STEP)
    shares = (1.0 - STEP * number for number in range(int((1.0 - lowest) / STEP + 1e-6), 0, -1))
    return next((share for share in shares if carries(context, share, rate, height)), 1.0)


def why_never(context: Context) -> str | None:
    """Why clocks are not lowered as things are declared and installed, and what to write instead."""
    serving = context.serving
    profile = profile_for(serving, context.profiles, context.product)
    if context.service.objectives.itl_p95 is None:
        return "spec.objectives has no itl, so that nothing says how slow is too slow"
    if profile is None or profile.prefill_rate is None or not profile.points:
        return "no ModelProfile with points and prefillTokensPerSecond fits what serves"
    if serving.name in context.step_tokens:
        return "its prompts are computed in pieces as large as the highest clock lets them be"
    if context.ready(serving.name) and not context.clocks:
        return "no node agent sets the clocks of its GPUs, or they are shared: set agent.clocks in the chart"
    return None


def in_doubt(context: Context) -> bool:
    """Whether clocks are at their highest for now: load is not known, or waits, or what serves it is changing."""
    demand, outside = context.estimate.demand, context.estimate.waiting_outside
    if isinstance(demand, Missing) or isinstance(outside, Missing) or demand.waiting + outside > 0:
        return True
    if is_crowded(demand.in_flight, context.ready(context.serving.name), context.capacity[context.serving.name]):
        return True
    changes = context.memory.switching_to is not None or bool(context.strays)
    vetoes = guards.raised(guards.freshness(context), guards.pending(context), guards.objectives(context))
    return changes or bool(vetoes)


def is_crowded(in_flight: float, ready: int, capacity: Capacity) -> bool:
    """Whether replicas have more in flight than they should have at a lower clock."""
    return in_flight > FILLED * capacity.concurrency * ready


def carries(context: Context, share: float, rate: float, height: float) -> bool:
    """Whether the replicas that are ready carry a rate with crests of this height at a share of the highest clock."""
    service, serving, arrivals = context.service, context.serving, context.habits.arrivals
    profile, ready = profile_for(serving, context.profiles, context.product), context.ready(serving.name)
    if profile is None or profile.prefill_rate is None or arrivals.tokens is None or ready == 0:
        return False
    (prompt, output), objectives = arrivals.tokens, service.objectives
    slow, limit = at_clock(profile, share), engine_limit(serving, profile)
    each = rate_within(slow, prompt, output, objectives.itl_p95, limit, pace(profile, arrivals))
    if each is None or replicas(height, each) > ready:
        return False
    ttft = objectives.ttft_p95
    if ttft is not None and prompt / profile.prefill_rate / share > ttft * PROMPT:
        return False
    working = in_work(slow, prompt, output, limit, rate / ready)
    return working is not None and not is_crowded(working, 1, context.capacity[serving.name])


def _filled(context: Context) -> float:
    """Share of what a replica carries at a lower clock that crests may fill.

    Above the fewest replicas that are declared it is late requests that decide how many there are (`lateness`), and
    must not be made by clocks. At these it is the clocks that they decide: the more are late, the less is filled.
    """
    points = context.lately(context.policy.scaling.down_window)
    late = [point.late for point in points if point.late is not None]
    answered = sum(point.flow.answered for point in points if point.flow is not None)
    allowed = (1.0 - context.service.objectives.attainment) * LEAST * answered
    if context.ready(context.serving.name) > max(context.floor, 1) or len(late) < len(points) or allowed <= 0:
        return LEAST_FILLED
    return MOST_FILLED - (MOST_FILLED - LEAST_FILLED) * min(sum(late) / allowed, 1.0)


def clocks_of(snapshot: Snapshot, pods: tuple[Pod, ...]) -> tuple[ClockRange, ...]:
    """Of all GPUs of the ready pods; empty unless an agent sets that of each, and nobody else is on any."""
    found: list[ClockRange] = []
    for pod in pods:
        if not pod.ready or pod.deleting:
            continue
        gpus = own_gpus(snapshot, pod)
        known = [gpu.clock for gpu in gpus if gpu.clock is not None]
        if len(known) != pod.gpus:
            return ()
        found += known
    return tuple(found)


def at_clock(profile: Profile, share: float) -> Profile:
    """How fast it is at a share of the highest clock, by `domain.clocks`; watts are as they were."""
    rate = None if profile.prefill_rate is None else profile.prefill_rate * share
    return replace(profile, points=_slowed(Same(profile.points), share), prefill_rate=rate)


@lru_cache(maxsize=1024)
def _slowed(of: Same, share: float) -> tuple[ProfilePoint, ...]:
    def step(point: ProfilePoint) -> float:
        return point.concurrency / point.tokens_per_second

    def slowed(point: ProfilePoint) -> ProfilePoint:
        longer = step_at(share, step(point), step(of.points[0])) / step(point)
        itl = None if point.itl is None else Seconds(point.itl * longer)
        return replace(point, tokens_per_second=point.tokens_per_second / longer, itl=itl)

    return tuple(slowed(point) for point in of.points)
