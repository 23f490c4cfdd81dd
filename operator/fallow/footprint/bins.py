"""J per token and per request as measured, by the concurrency at which a replica ran: the plain figures."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, log2

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
    new = LoadBin(
        windows=old.windows * kept + 1.0,
        energy=old.energy * kept + window.energy.value,
        seconds=old.seconds * kept + window.seconds,
        prompt_tokens=old.prompt_tokens * kept + window.prompt_tokens,
        generated_tokens=old.generated_tokens * kept + window.generated_tokens,
        iterations=old.iterations * kept + (window.iterations or 0.0),
        requests=old.requests * kept + window.requests,
    )
    return {**bins, index: new}


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
    energy = Figure.around(Joules(one.energy), COUNTER)
    return LoadPoint(
        concurrency=max(one.generated_tokens / one.iterations, 1.0),
        joules_per_token=energy * (1 / one.generated_tokens),
        joules_per_request=energy * (1 / one.requests)
        if one.requests > 0
        else Missing(Reason.NO_WORK, "no request finished in this bin"),
        tokens_per_second=one.generated_tokens / one.seconds,
        watts=one.energy / one.seconds,
        windows=one.windows,
    )
