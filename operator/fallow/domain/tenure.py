"""Who leads: of several replicas one decides, books and writes, as long as it renews its claim."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.domain.units import Instant, Seconds


@dataclass(frozen=True, slots=True)
class Tenure:
    """A claim to lead, as it is stored. `holder` is empty where it was given up.

    The times are the holder's own and for people to read; nobody else's clock is trusted. `terms` counts the changes of
    the holder. `version` is the store's; a writer with an old one is refused.
    """

    holder: str
    acquired: Instant
    renewed: Instant
    duration: Seconds
    terms: int = 0
    version: str = ""
