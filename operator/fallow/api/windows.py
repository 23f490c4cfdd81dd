"""Calendar expressions: weekly windows such as "Mon-Fri 20:00-06:00 Europe/Berlin", and months such as 2026-01."""

from typing import Annotated

from pydantic import Field

from fallow.api.formats import Format

_DAY = "(Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"

WINDOW = Format(
    rf"^{_DAY}(-{_DAY})?(,{_DAY}(-{_DAY})?)* {_CLOCK}-{_CLOCK} [A-Za-z]+([/_+-][A-Za-z0-9]+)*$",
    "must be days, hours and a time zone, such as Mon-Fri 20:00-06:00 Europe/Berlin or Sat,Sun 00:00-23:59 UTC",
)
MONTH = Format(r"^20[0-9]{2}-(0[1-9]|1[0-2])$", "must be a month written as year-month, such as 2026-01")

Window = Annotated[str, Field(min_length=1, max_length=96), WINDOW]
Month = Annotated[str, Field(min_length=1, max_length=7), MONTH]
