"""What would have run without Fallow: the baseline as declared, and how far it was followed. Kept in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from fallow.domain.figures import Figure
from fallow.domain.units import Instant, Joules


class BaselineKind(StrEnum):
    """The Kubernetes autoscaler on requests in flight; a fixed number of replicas; a fixed J per generated token."""

    AUTOSCALER = "ReferenceAutoscaler"
    STATIC = "Static"
    JOULES_PER_TOKEN = "JoulesPerToken"  # noqa: S105 - an energy, not a credential


@dataclass(frozen=True, slots=True)
class BaselineRule:
    """As a policy declares it. `replicas` for Static, `joules_per_token` for JoulesPerToken, `note` for readers."""

    kind: BaselineKind = BaselineKind.AUTOSCALER
    replicas: int | None = None
    joules_per_token: Figure[Joules] | None = None
    note: str = ""


class Saving(StrEnum):
    """What a difference is due to: fewer replicas, none at all, another variant; Other where only a total is known."""

    REPLICAS = "Replicas"
    REST = "Rest"
    PRECISION = "Precision"
    OTHER = "Other"


@dataclass(frozen=True, slots=True)
class Terms:
    """A rule applied to one service: its reference variant, its limits, the requests in flight that a replica carries.

    `target` may be learned; it is frozen with the rest, while `declared_target` is the owner's own word.
    """

    rule: BaselineRule
    variant: str
    minimum: int
    maximum: int
    target: float
    declared_target: float | None = None

    def same_declaration(self, other: Terms) -> bool:
        mine = (self.rule, self.variant, self.minimum, self.maximum, self.declared_target)
        return mine == (other.rule, other.variant, other.minimum, other.maximum, other.declared_target)


@dataclass(frozen=True, slots=True)
class Demand:
    """Generated tokens at the beginning, over `first_seconds` of at most a week, and their present rate per second."""

    first_tokens: float = 0.0
    first_seconds: float = 0.0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """The baseline of one service, frozen at `since`; a changed declaration begins the next `version`.

    `running` are the replicas that it would run now, `product` the GPUs that the reference variant was last seen on.
    `asked` are the autoscaler's recent answers; they are not stored.
    """

    terms: Terms
    version: int
    since: Instant
    running: int
    product: str = ""
    demand: Demand = field(default_factory=Demand)
    asked: tuple[tuple[Instant, int], ...] = ()
