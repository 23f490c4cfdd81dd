"""J per token and per request as measured, by the concurrency at which a replica ran: the plain figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import exp, hypot, log, log2, sqrt

from scipy.special import stdtrit

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.learned import LoadBin, LoadPoint
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules
from fallow.footprint.measured import Window

# 256 and more share the last bin
LAST_BIN = 8
# a bin speaks for the last windows that fell into it
MEMORY = 200.0
# the accuracy class of the GPU's own counter, as in energy.by_counter
COUNTER = Bounds(0.95, 1.05)
# an interpolated J/token errs by up to 7 % (H100) and 10 % (B200) at the 90th percentile; docs/methodology.md
INTERPOLATED = Bounds(0.90, 1.10)
# the scatter of J/token that is assumed before windows show theirs, and how many windows that is worth
FIRST_SCATTER, FIRST_WINDOWS = 0.05, 4.0
CONFIDENCE = 0.95
# windows in a bin from which its figure is used beyond the service: as many as a step model takes
ENOUGH = 20.0


def bin_of(window: Window) -> int | None:
    """The exponent of two below the window's tokens per step; None where nothing was generated or steps are unknown."""
    if window.iterations is None or window.iterations < 1 or window.generated_tokens <= 0:
        return None
    return min(int(log2(max(window.generated_tokens / window.iterations, 1.0))), LAST_BIN)


def binned(bins: Mapping[int, LoadBin], window: Window) -> Mapping[int, LoadBin]:
    """The bins with one window more; each bin forgets its own oldest."""
    index = bin_of(window)
    if index is None:
        return bins
    old = bins.get(index, LoadBin())
    kept = min(1.0, (MEMORY - 1.0) / old.windows) if old.windows else 1.0
    one = LoadBin(
        windows=1.0,
        energy=window.energy.value,
        seconds=window.seconds,
        prompt_tokens=window.prompt_tokens,
        generated_tokens=window.generated_tokens,
        iterations=window.iterations or 0.0,
        requests=window.requests,
        at=window.end,
    )
    return {**bins, index: together(_faded(old, kept), one)}


def together(one: LoadBin, other: LoadBin) -> LoadBin:
    """J7: both bins as one; their scatter grows by what lies between their means (Chan et al. 1979)."""
    if not one.windows or not other.windows:
        return one if one.windows else other
    tokens = one.generated_tokens + other.generated_tokens
    between = one.energy / one.generated_tokens - other.energy / other.generated_tokens
    return LoadBin(
        windows=one.windows + other.windows,
        energy=one.energy + other.energy,
        seconds=one.seconds + other.seconds,
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        generated_tokens=tokens,
        iterations=one.iterations + other.iterations,
        requests=one.requests + other.requests,
        scatter=one.scatter
        + other.scatter
        + one.generated_tokens * other.generated_tokens / tokens * between * between,
        at=max(one.at, other.at),
    )


def _faded(one: LoadBin, kept: float) -> LoadBin:
    if kept == 1.0:
        return one
    return replace(
        one,
        windows=one.windows * kept,
        energy=one.energy * kept,
        seconds=one.seconds * kept,
        prompt_tokens=one.prompt_tokens * kept,
        generated_tokens=one.generated_tokens * kept,
        iterations=one.iterations * kept,
        requests=one.requests * kept,
        scatter=one.scatter * kept,
    )


def load_points(bins: Mapping[int, LoadBin]) -> tuple[LoadPoint, ...]:
    """J5: E / tokens and E / requests of each bin that saw work, by rising concurrency."""
    return tuple(_point(one) for _, one in sorted(bins.items()) if one.generated_tokens > 0 and one.iterations > 0)


def joules_per_token_at(bins: Mapping[int, LoadBin], concurrency: float) -> Figure[Joules] | Missing:
    """J6: between two bins on logarithmic axes, held flat within a factor of two outside them, Missing beyond."""
    points = load_points(bins)
    if not points or not points[0].concurrency / 2 <= concurrency <= points[-1].concurrency * 2:
        return Missing(Reason.NO_HISTORY, f"no window was measured near {concurrency:.3g} requests a step")
    after = next((point for point in points if point.concurrency >= concurrency), points[-1])
    before = next((point for point in reversed(points) if point.concurrency <= concurrency), points[0])
    one, other = before.joules_per_token.best.value, after.joules_per_token.best.value
    if before.concurrency == after.concurrency:
        return Figure.around(Joules(one), INTERPOLATED)
    share = log(concurrency / before.concurrency) / log(after.concurrency / before.concurrency)
    share = min(max(share, 0.0), 1.0)
    return Figure.around(Joules(exp(log(one) + share * (log(other) - log(one)))), INTERPOLATED)


def _point(one: LoadBin) -> LoadPoint:
    per_token = one.energy / one.generated_tokens
    reach = _reach(one, per_token)
    return LoadPoint(
        concurrency=max(one.generated_tokens / one.iterations, 1.0),
        joules_per_token=Figure(Joules(max(per_token - reach, 0.0)), Joules(per_token), Joules(per_token + reach)),
        joules_per_request=Figure.around(Joules(one.energy), COUNTER) * (1 / one.requests)
        if one.requests > 0
        else Missing(Reason.NO_WORK, "no request finished in this bin"),
        tokens_per_second=one.generated_tokens / one.seconds,
        watts=one.energy / one.seconds,
        windows=one.windows,
        prompts=one.prompt_tokens / one.generated_tokens,
        last_seen=one.at,
    )


def _reach(one: LoadBin, per_token: float) -> float:
    """J7: half of the 95 % interval of a bin's J/token: the counter's own class and the scatter of its windows."""
    first = FIRST_WINDOWS * (FIRST_SCATTER * per_token) ** 2
    variance = (one.windows * one.scatter / one.generated_tokens + first) / (one.windows + FIRST_WINDOWS)
    return hypot(
        (COUNTER.high - 1.0) * per_token, _student(round(one.windows + FIRST_WINDOWS)) * sqrt(variance / one.windows)
    )


@lru_cache
def _student(freedom: int) -> float:
    return float(stdtrit(max(freedom - 1, 1), 0.5 + CONFIDENCE / 2))
