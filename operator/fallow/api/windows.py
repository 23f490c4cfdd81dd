"""Calendar expressions: weekly windows such as "Mon-Fri 20:00-06:00 Europe/Berlin", months such as 2026-01, zones."""

from dataclasses import dataclass
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from fallow.api.formats import Format

_DAY = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"


@dataclass(frozen=True, slots=True)
class TimeZoneName(Format):
    """A name of the tz database, which API servers carry too, for CronJobs."""

    def fits(self, value: str) -> bool:
        try:
            return Format.fits(self, value) and bool(ZoneInfo(value).key)
        except (KeyError, OSError, ValueError):  # a name that is not there, or that is a directory
            return False

    def cel(self, subject: str = "self") -> str:
        return f"{Format.cel(self, subject)} && {self.exists(subject)}"

    def exists(self, subject: str) -> str:
        """In CEL, whether the API server knows it."""
        return f"timestamp('2026-01-01T00:00:00Z').getHours({subject}) >= 0"


TIME_ZONE = TimeZoneName(
    "^[A-Z][A-Za-z]+([/_+-][A-Za-z0-9]+)*$", "must be a time zone of the tz database, such as Europe/Berlin or UTC"
)


@dataclass(frozen=True, slots=True)
class WindowFormat(Format):
    """Its last word is a name of the tz database."""

    def fits(self, value: str) -> bool:
        return Format.fits(self, value) and TIME_ZONE.fits(value.rpartition(" ")[2])

    def cel(self, subject: str = "self") -> str:
        zone = f"{subject}.split(' ')[2]"
        return f"{Format.cel(self, subject)} && {TIME_ZONE.exists(zone)}"


WINDOW = WindowFormat(
    rf"^{_DAY}(-{_DAY})?(,{_DAY}(-{_DAY})?)* {_CLOCK}-{_CLOCK} [A-Za-z]+([/_+-][A-Za-z0-9]+)*$",
    "must be days, hours and a time zone, such as Mon-Fri 20:00-06:00 Europe/Berlin or Sat,Sun 00:00-23:59 UTC",
)
MONTH = Format(r"^20[0-9]{2}-(0[1-9]|1[0-2])$", "must be a month written as year-month, such as 2026-01")

Window = Annotated[str, Field(min_length=1, max_length=96), WINDOW]
TimeZone = Annotated[str, Field(min_length=1, max_length=64), TIME_ZONE]
Month = Annotated[str, Field(min_length=1, max_length=7), MONTH]
