"""What was booked in the past, day by day, as a store of metrics remembers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.goals import Budget, Target
from fallow.domain.ledger import Account, LineKey
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey


@dataclass(frozen=True, slots=True)
class Day:
    """What every line used on a calendar day (YYYY-MM-DD); `seen`: the share of it in which Fallow worked, 0..1."""

    date: str
    start: Instant
    end: Instant
    accounts: Mapping[LineKey, Account]
    seen: float

    @property
    def total(self) -> Account:
        return sum(self.accounts.values(), start=Account())


@dataclass(frozen=True, slots=True)
class History:
    """Days in their order, without holes between them; and what was declared at their end.

    `policies` names the policy that applies to each service. `versions` are those of Fallow that wrote the figures.
    `remarks` say what the store did not have.
    """

    days: tuple[Day, ...]
    policies: Mapping[ServiceKey, str] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    budgets: tuple[Budget, ...] = ()
    versions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
