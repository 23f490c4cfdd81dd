"""Remembers whether the API server refuses what is asked of nodes, so that it is not asked in each cycle."""

from collections.abc import Iterable

from fallow.domain.plans import CordonNode, Outcome
from fallow.domain.refusals import Refusal
from fallow.domain.units import Instant


class Refusals:
    """Lives as long as the process: after a restart it is tried once at once."""

    def __init__(self) -> None:
        self.cordons: Refusal | None = None

    def note(self, outcomes: Iterable[Outcome], now: Instant) -> None:
        """What nobody could answer, or what made no difference, says nothing about rights."""
        tried = [outcome for outcome in outcomes if isinstance(outcome.change, CordonNode)]
        if any(outcome.wrote for outcome in tried):
            self.cordons = None
        elif any(outcome.refused for outcome in tried):
            self.cordons = Refusal(now) if self.cordons is None else self.cordons.again(now)
