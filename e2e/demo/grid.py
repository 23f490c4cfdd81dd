"""The grid of the demo: a forecast in a file, renewed as a service that follows a provider would renew it."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

CLEAN, DIRTY = 80, 420
# a forecast says beforehand what comes
AHEAD = 5.0
HOUR = 3600.0


class Grid:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._now = CLEAN
        self.forecast(CLEAN)

    def forecast(self, grams: int) -> float:
        """Write what the grid is now and that it will be so soon, for some hours; gives the time of the change."""
        turns = time.time() + AHEAD
        points = [(turns - HOUR, self._now), (turns, grams), (turns + HOUR, grams), (turns + 6 * HOUR, CLEAN)]
        lines = ["time,gramsPerKWh", *(f"{stamp(at)},{value}" for at, value in points)]
        # moved into place whole: Fallow may be reading it
        new = self._file.with_suffix(".new")
        new.write_text("\n".join([*lines, ""]))
        os.replace(new, self._file)  # noqa: PTH105 - what makes it atomic should be seen
        self._now = grams
        return turns


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
