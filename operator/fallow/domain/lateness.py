"""What is learned from how many requests missed the objectives: how careful crests need to be provided for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lateness:
    """`lenience`: logarithm of how many times the first share of crests may go beyond what is provided for; `most`: the
    highest rate of answers of late, per second, forgotten over days; 0 as long as none was seen. `decided`: what
    lenience was when crests last decided how many replicas there are; None while they do.
    """

    lenience: float = 0.0
    most: float = 0.0
    decided: float | None = None
