"""How much of the time engines have had nothing to do for long enough that their clocks would be down."""

from collections.abc import Sequence
from math import exp

from fallow.domain.snapshots import DemandPoint

# Seconds after the last request until the draw has fallen (arXiv 2605.23918).
FALL = 4.0


def idle_share(points: Sequence[DemandPoint]) -> float:
    """Of the time of a replica that it has had nothing to do for long enough, where requests come as they like.

    Of n requests in work in the mean none is there for exp(-n) of the time; a pause outlasts the fall where none of
    its requests, r a second, comes during it: exp(-r FALL).
    """
    shares = [
        exp(-point.in_flight / point.ready - (point.flow.came if point.flow else 0.0) / point.ready * FALL)
        for point in points
        if point.ready > 0
    ]
    return sum(shares) / len(shares) if shares else 0.0
