"""Times of which nothing was read in time, in words for a status: how long, and how they were filled."""

from __future__ import annotations

from collections.abc import Iterable

from fallow.domain.ledger import Filling, Gap
from fallow.domain.units import Instant, Seconds

WORDS = {
    Filling.READ_BACK: "read back from the source afterwards",
    Filling.COUNTERS: "booked by the counters' differences, so that its energy is known and its course is not",
}


def told(gaps: Iterable[Gap], since: Instant) -> list[str]:
    """One line for each way in which gaps since then were filled."""
    lines = []
    for filled, words in WORDS.items():
        lengths = [gap.end - max(gap.start, since) for gap in gaps if gap.filled is filled and gap.end > since]
        if lengths:
            times = "once" if len(lengths) == 1 else f"{len(lengths)} times"
            lines.append(f"nothing was read for {_span(Seconds(sum(lengths)))} since midnight ({times}): {words}")
    return lines


def _span(seconds: Seconds) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"
