"""What savings are reckoned against: the part of an EnergyPolicy that says what would have run without Fallow."""

from typing import Literal

from pydantic import Field

from fallow.api.formats import Line
from fallow.api.grid_zone import Bounds
from fallow.api.model import ApiModel, Rule


class Baseline(ApiModel):
    """The counterfactual. It is frozen per service when it is first seen, and again when its declaration changes."""

    rules = (
        Rule(
            "(self.kind == 'Static') == has(self.replicas)",
            lambda b: (b.kind == "Static") == (b.replicas is not None),
            "replicas goes with kind Static and with no other, such as {kind: Static, replicas: 4}",
            ".replicas",
        ),
        Rule(
            "(self.kind == 'JoulesPerToken') == has(self.joulesPerToken)",
            lambda b: (b.kind == "JoulesPerToken") == (b.joules_per_token is not None),
            "joulesPerToken goes with kind JoulesPerToken and with no other, such as "
            "{kind: JoulesPerToken, joulesPerToken: 0.45}",
            ".joulesPerToken",
        ),
        Rule(
            "!has(self.bounds) || (has(self.joulesPerToken) && self.bounds.low <= self.joulesPerToken && "
            "self.joulesPerToken <= self.bounds.high)",
            lambda b: (
                b.bounds is None
                or (b.joules_per_token is not None and b.bounds.low <= b.joules_per_token <= b.bounds.high)
            ),
            "bounds must hold joulesPerToken: low at most joulesPerToken, high at least",
            ".bounds",
        ),
    )

    kind: Literal["ReferenceAutoscaler", "Static", "JoulesPerToken"] = Field(
        default="ReferenceAutoscaler",
        description="ReferenceAutoscaler: the reference variant under the rule of Kubernetes' HorizontalPodAutoscaler "
        "on requests in flight, with the service's limits and at least one replica. Static: the reference variant on a "
        "fixed number of replicas. JoulesPerToken: a fixed GPU energy per generated token.",
    )
    replicas: int | None = Field(
        default=None, ge=1, le=10000, description="Replicas of a Static baseline. Absent: another kind."
    )
    joules_per_token: float | None = Field(
        default=None,
        gt=0,
        le=100000,
        description="GPU energy per generated token of a JoulesPerToken baseline, joules. Absent: another kind.",
    )
    bounds: Bounds | None = Field(
        default=None, description="Bounds of joulesPerToken, joules. Absent: it counts as exact."
    )
    note: Line = Field(
        default="", description="Where the baseline comes from, such as measured in March 2026; shown beside savings."
    )
