"""What a service's requests are like, learned over hours: what a restart must not forget."""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow.domain.arrivals import Arrivals
from fallow.domain.lateness import Lateness


@dataclass(frozen=True, slots=True)
class Habits:
    """How a service's requests come, and how many of them were late."""

    arrivals: Arrivals = field(default_factory=Arrivals)
    lateness: Lateness = field(default_factory=Lateness)


# Of a service that was not read twice yet.
NO_HABITS = Habits()
