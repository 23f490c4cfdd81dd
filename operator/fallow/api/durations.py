"""Spans of time as people write them in Kubernetes: 250ms, 90s, 10m, 1h30m."""

import re
from typing import Annotated

from pydantic import Field

from fallow.api.formats import Format
from fallow.domain.units import Seconds

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"

DURATION = Format(_PATTERN, "must be a duration such as 250ms, 90s, 10m or 1h30m (units ms, s, m, h)")
POSITIVE_DURATION = Format(
    _PATTERN,
    "must be a duration above zero such as 250ms, 90s, 10m or 1h30m (units ms, s, m, h)",
    also="[1-9]",
)

Duration = Annotated[str, Field(min_length=1, max_length=32), DURATION]
PositiveDuration = Annotated[str, Field(min_length=1, max_length=32), POSITIVE_DURATION]


def seconds(duration: str) -> Seconds:
    """The length of a duration that has passed its format check."""
    return Seconds(sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(duration)))
