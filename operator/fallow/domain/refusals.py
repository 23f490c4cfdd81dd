"""Writes that the API server refuses: not tried again in each cycle, since something has to change first."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.domain.units import Instant, Seconds

# A choice: a right that was forgotten is often given within minutes, and one that is given later is noticed in half an
# hour at most.
FIRST, LONGEST = Seconds(60), Seconds(1800)


@dataclass(frozen=True, slots=True)
class Refusal:
    """So many `times` in a row, the last time `at`."""

    at: Instant
    times: int = 1

    @property
    def pause(self) -> Seconds:
        """Until it is tried again: a minute, and each time twice as long, up to half an hour."""
        return Seconds(min(FIRST * 2.0 ** min(self.times - 1, 10), LONGEST))

    def stands(self, now: Instant) -> bool:
        """Whether it is too early to try again; not where the clock was put back meanwhile."""
        return 0 <= now - self.at < self.pause

    def again(self, at: Instant) -> Refusal:
        return Refusal(at, self.times + 1)
