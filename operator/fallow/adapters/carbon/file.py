"""A carbon intensity in a file that somebody else keeps up to date: one number, or a forecast as CSV or JSON."""

from __future__ import annotations

from pathlib import Path

from fallow.adapters.carbon import schedule
from fallow.adapters.carbon.parameters import text
from fallow.adapters.carbon.schedule import Written
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.zones import Forecast, Intensity, IntensitySource

MAX_BYTES = 2 << 20


class FileCarbon:
    """Implements ports.CarbonSource for `name`, a file directly in `directory`; read anew each time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        found = self._read(source)
        return found if isinstance(found, Missing) else schedule.present(found[0], now, found[1])

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002 - the port's shape
        found = self._read(source)
        return found if isinstance(found, Missing) else schedule.forecast(*found)

    def _read(self, source: IntensitySource) -> tuple[str, Written] | Missing:
        name = text(source.parameters, "name", source.kind)
        if isinstance(name, Missing):
            return name
        if Path(name).name != name or name == "..":
            return Missing(Reason.BAD_ANSWER, f"{name!r} must be the name of a file, without directories")
        path = self._directory / name
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
                changed = path.stat().st_mtime
        except OSError as error:
            return Missing(Reason.NO_INTENSITY, f"{path} cannot be read: {error.strerror}")
        if len(content) > MAX_BYTES:
            return Missing(Reason.BAD_ANSWER, f"{path} is longer than {MAX_BYTES} bytes")
        try:
            return content.decode("utf-8-sig"), Written(f"file {name}", source.signal, Instant(changed))
        except UnicodeDecodeError:
            return Missing(Reason.BAD_ANSWER, f"{path} is no text in UTF-8")
