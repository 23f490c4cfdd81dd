"""J per token that work adds to a replica which stands loaded anyway: what can be compared where idle moments differ.

A quiet night raises plain J/token at a low concurrency, whichever variant serves; what work adds it leaves as it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp, hypot, log

from fallow.domain.figures import Figure
from fallow.domain.learned import LoadPoint
from fallow.domain.profiles import Profile, ProfilePoint
from fallow.domain.units import Joules, Watts
from fallow.footprint.bins import INTERPOLATED
from fallow.footprint.hardware import hardware_of

# so far beyond what was measured something is said: along the declared points, and without any
FAR, NEAR = 2.0, 1.5
# what a point between two measured ones, or beyond them along declared ones, errs by
BETWEEN = INTERPOLATED.high - 1.0


@dataclass(frozen=True, slots=True)
class Effort:
    """At one concurrency: J per generated token above loaded idle and half of its 95 % interval; `standing` is what the
    loaded idle draw comes to a token, `prompts` how many prompt tokens were computed for each, None where not known.
    """

    concurrency: float
    joules: float
    reach: float
    standing: float
    prompts: float | None = None


Shape = Callable[[float], float | None]


def above_idle(point: LoadPoint, idle: Figure[Watts]) -> Figure[Joules]:
    """J8: E / g - P_loaded / rate. Half of its interval is that of J7 and that of P_loaded, as independent errors."""
    one, each = point.joules_per_token, 1.0 / point.tokens_per_second
    best = max(one.best.value - idle.best.value * each, 0.0)
    reach = hypot((one.high.value - one.low.value) / 2, (idle.high.value - idle.low.value) / 2 * each)
    return Figure(Joules(max(best - reach, 0.0)), Joules(best), Joules(best + reach))


def efforts_of(points: Iterable[LoadPoint], idle: Figure[Watts]) -> tuple[Effort, ...]:
    """Of what was measured, by rising concurrency; a point that is all idle says nothing of work."""
    found = ((point, above_idle(point, idle)) for point in points)
    return tuple(
        Effort(
            concurrency=point.concurrency,
            joules=work.best.value,
            reach=work.high.value - work.best.value,
            standing=idle.best.value / point.tokens_per_second,
            prompts=point.prompts,
        )
        for point, work in found
        if work.best.value > 0
    )


def efforts_carried(profile: Profile) -> tuple[Effort, ...]:
    """Of points that were learned elsewhere, which come without an interval."""
    idle = loaded_idle(profile).value
    return tuple(
        Effort(point.concurrency, joules, BETWEEN * joules, idle / point.tokens_per_second)
        for point in profile.carried
        if (joules := _of_point(point, idle)) is not None
    )


def declared_above_idle(profile: Profile, concurrency: float) -> float | None:
    """J per token above loaded idle by the declared points, on logarithmic axes and flat outside; None without any."""
    idle = loaded_idle(profile).value
    known = [(point.concurrency, joules) for point in profile.points if (joules := _of_point(point, idle)) is not None]
    if not known:
        return None
    index = bisect_left([level for level, _ in known], concurrency)
    if index in {0, len(known)}:
        return known[min(index, len(known) - 1)][1]
    return _between(known[index - 1], known[index], concurrency)


def declared_of_prompts(profile: Profile) -> float:
    """J per prompt token above loaded idle: prompts draw as a full batch does. 0 where their rate is not known."""
    if not profile.points or not profile.prefill_rate:
        return 0.0
    return max(profile.points[-1].watts.value - loaded_idle(profile).value, 0.0) / profile.prefill_rate


def loaded_idle(profile: Profile) -> Watts:
    """As declared, else the constant of its GPUs."""
    return profile.context_watts or hardware_of(profile.gpu_product).context * profile.gpus


def effort_at(efforts: Sequence[Effort], concurrency: float, shape: Shape, prompt: float = 0.0) -> Effort | None:
    """J9: between two of them on logarithmic axes. Beyond them as the declared points run (`shape`), within `FAR`, but
    for what prompts take at `prompt` J a token, which is the same at any concurrency; where none are declared the
    nearest, within `NEAR`, as uncertain as it is far. None where that is too far.
    """
    if not efforts:
        return None
    index = bisect_left([one.concurrency for one in efforts], concurrency)
    if index in {0, len(efforts)}:
        return _beyond(efforts[min(index, len(efforts) - 1)], concurrency, shape, prompt)
    left, right = efforts[index - 1], efforts[index]
    joules = _between((left.concurrency, left.joules), (right.concurrency, right.joules), concurrency)
    nearest = min(left, right, key=lambda one: abs(log(one.concurrency / concurrency)))
    share = max(left.reach / left.joules, right.reach / right.joules)
    return replace(nearest, concurrency=concurrency, joules=joules, reach=share * joules)


def _beyond(edge: Effort, concurrency: float, shape: Shape, prompt: float) -> Effort | None:
    ratio = max(concurrency / edge.concurrency, edge.concurrency / concurrency)
    there, here = shape(concurrency), shape(edge.concurrency)
    if there is not None and here is not None and ratio <= FAR:
        of_prompts = min(prompt * (edge.prompts or 0.0), edge.joules)
        joules = of_prompts + (edge.joules - of_prompts) * there / here
        share = hypot(edge.reach / edge.joules, BETWEEN if ratio > 1.0 else 0.0)
        return replace(edge, concurrency=concurrency, joules=joules, reach=share * joules)
    if ratio > NEAR:
        return None
    return replace(edge, concurrency=concurrency, reach=hypot(edge.reach, (ratio - 1.0) * edge.joules))


def _of_point(point: ProfilePoint, idle: float) -> float | None:
    above = point.watts.value - idle
    return above / point.tokens_per_second if above > 0 else None


def _between(one: tuple[float, float], other: tuple[float, float], concurrency: float) -> float:
    share = log(concurrency / one[0]) / log(other[0] / one[0])
    return exp(log(one[1]) + share * (log(other[1]) - log(one[1])))
