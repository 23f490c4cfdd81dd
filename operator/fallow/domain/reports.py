"""What one cycle has to tell."""

from __future__ import annotations

from dataclasses import dataclass

from fallow.domain.estimates import Estimates
from fallow.domain.ledger import Ledger
from fallow.domain.plans import Outcome, Plan
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Seconds


@dataclass(frozen=True, slots=True)
class CycleReport:
    """The five steps' results; `took` is the cycle's own duration, `queries` what it asked of the metric source.

    `ledger` is None until the stored one was read: nothing is told about totals before that.
    """

    snapshot: Snapshot
    estimates: Estimates
    plan: Plan
    outcomes: tuple[Outcome, ...]
    ledger: Ledger | None
    took: Seconds
    queries: int = 0
