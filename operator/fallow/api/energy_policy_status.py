"""The status of an EnergyPolicy: to whom it applies, what that comes to, and how far its budgets are used."""

from typing import Annotated

from pydantic import Field

from fallow.api.conditions import Conditions, Time
from fallow.api.formats import Line, Word
from fallow.api.model import StatusModel


class StateCounts(StatusModel):
    """Matched services by state."""

    active: int = Field(default=0, ge=0, description="Services with requests in work.")
    standby: int = Field(default=0, ge=0, description="Services that are quiet for a short time.")
    idle: int = Field(default=0, ge=0, description="Services that are idle, with or without replicas.")
    unknown: int = Field(default=0, ge=0, description="Services whose signals were never seen.")
    stale: int = Field(default=0, ge=0, description="Services whose signals are too old.")


class PolicySummary(StatusModel):
    """Figures as short texts, for the columns of kubectl get."""

    watts: Word = Field(default="", description="What the matched services draw, such as 4.1 kW.")
    saves: Word = Field(default="", description="What the pending proposals would save, such as 360 W.")
    budget: Word = Field(default="", description="The budget that is used furthest, such as 81% of Month carbon.")


class BudgetUse(StatusModel):
    """How far one amount of a budget is used in the present period."""

    period: Word = Field(description="Day, Week, Month, Quarter or Year.")
    resource: Word = Field(description="carbon or energy.")
    start: Time | None = Field(default=None, description="When the period began.")
    end: Time | None = Field(default=None, description="When the next one begins.")
    used_share: float | None = Field(
        default=None, ge=0, description="What the matched services used of it, 1 is all. Absent: not known."
    )
    projected_share: float | None = Field(
        default=None, ge=0, description="What it comes to at the pace of the last hour or two. Absent: not known."
    )
    active: Annotated[list[Word], Field(max_length=4)] = Field(
        default=[], description="Remedies that onBurn asks for now."
    )
    active_since: Time | None = Field(default=None, description="Since when it asks for these.")
    missing: Line = Field(default="", description="Why it is not known what is used; no remedy acts then.")


class EnergyPolicyStatus(StatusModel):
    """To whom the policy applies, and what that comes to."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the spec that Fallow last acted on."
    )
    conditions: Conditions = Field(
        default=[],
        description="Ready: the policy could be read and is in effect. WithinBudgets: something is left of each.",
    )
    matched_services: int = Field(default=0, ge=0, description="Services to which this policy applies.")
    services: StateCounts = Field(default=StateCounts(), description="Those services by state.")
    pending_proposals: int = Field(default=0, ge=0, description="Changes that are recommended and not enforced.")
    watts: float | None = Field(
        default=None, ge=0, description="What the GPUs of the matched services draw, watts. Absent: not known."
    )
    proposed_saving_watts: float | None = Field(
        default=None, description="What the pending proposals would save, watts. Absent: not known."
    )
    active_remedies: Annotated[list[Word], Field(max_length=128)] = Field(
        default=[], description="What budgets ask for now, such as: Month carbon 0.8: Precision."
    )
    budgets: Annotated[list[BudgetUse], Field(max_length=16)] = Field(
        default=[], description="How far each budget is used, carbon and energy apart."
    )
    kept_nodes: Annotated[list[Line], Field(max_length=8)] = Field(
        default=[],
        description="Why no node is emptied now, though maxUnavailableNodes is set: each reason once, of the node that "
        "comes nearest to it. Empty: one is, or nothing asks for it.",
    )
    summary: PolicySummary | None = Field(default=None, description="Figures as short texts, for kubectl get.")
