"""Software Carbon Intensity, ISO/IEC 21031:2024: a rate, ((E * I) + M) per R, without offsets or avoided carbon."""

from __future__ import annotations

from fallow.domain.figures import Figure
from fallow.domain.units import Grams
from fallow.domain.zones import Ratio
from fallow.footprint.query import Span


def embodied_share(made: Figure[Grams], *, held: Span, life: Span, share: Ratio) -> Figure[Grams]:
    """S1: M = TE * (TiR / EL) * (RR / ToR); a long life gives the low bound.

    `held` is the time reserved, used or not; `share` the resources reserved of those that the hardware has.
    """
    return made.spread(
        held.low / life.high * share.low, held.best / life.best * share.best, held.high / life.low * share.high
    )


def intensity_per_unit(operational: Figure[Grams], embodied: Figure[Grams], units: float) -> Figure[Grams]:
    """S2: SCI = (O + M) per R, in g per functional unit; raises ValueError where there was no unit to divide by."""
    if units <= 0:
        raise ValueError(f"an intensity needs functional units, not {units:g}")
    return (operational + embodied) * (1 / units)
