"""EnergyPolicy: what to strive for, what may be done, how far, and to whom."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.amounts import Factor
from fallow.api.baseline import Baseline
from fallow.api.durations import Duration, PositiveDuration
from fallow.api.energy_policy_status import EnergyPolicyStatus
from fallow.api.model import ApiModel
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta
from fallow.api.policy_goals import Budget, Target
from fallow.api.policy_levers import (
    ClockPolicy,
    Consolidation,
    HardwarePolicy,
    IdlePolicy,
    PowerPolicy,
    PrecisionPolicy,
    ScalingPolicy,
    ShiftPolicy,
)
from fallow.api.selectors import LabelSelector
from fallow.api.windows import TimeZone


class AppliesTo(ApiModel):
    """Which InferenceServices the policy is for; both selectors must match."""

    namespace_selector: LabelSelector | None = Field(
        default=None, description="Labels of the service's namespace. Absent: every namespace."
    )
    service_selector: LabelSelector | None = Field(
        default=None, description="Labels of the InferenceService. Absent: every service."
    )


class Guards(ApiModel):
    """What must hold before anything is changed."""

    dwell: Duration = Field(default="5m", description="Shortest time between two reductions of the same service.")
    max_step_per_minute: Factor = Field(
        default="2x", description="Largest growth of a service's replicas within a minute, such as 2x."
    )
    metrics_max_age: PositiveDuration = Field(
        default="90s", description="Readings older than this are stale and never take capacity away."
    )
    objective_veto: bool = Field(
        default=True, description="No reduction while a service misses its latency objectives."
    )
    max_concurrent_changes: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="Services of the policy whose replicas come or go at one time: while there are so many, no other "
        "is reduced, switched or put to rest. Growth and wakes never wait. Absent: any.",
    )
    max_reductions_per_day: int | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="How often a day a service is reduced, switched or put to rest; then it keeps what it has until "
        "midnight in timeZone. Absent: any.",
    )
    startup_shield: bool = Field(
        default=True,
        description="In mode Enforce: pods of services without targetRef are not to be moved while they load their "
        'model, for half an hour at most. They carry karpenter.sh/do-not-disrupt: "true" and '
        'cluster-autoscaler.kubernetes.io/safe-to-evict: "false" until they are ready; one that spec.template sets '
        "stays as it is.",
    )
    gpus_short_after: Duration = Field(
        default="10m",
        description="How long a replica waits for GPUs that nobody has before they count as short: time for an "
        "autoscaler to bring nodes. From then on, in mode Enforce, services share the GPUs that are there: those of "
        "lower priority give replicas to those of higher priority.",
    )


class EnergyPolicySpec(ApiModel):
    """What to strive for, what may be done, how far, and to whom."""

    mode: Literal["Observe", "Recommend", "Enforce"] = Field(
        default="Recommend",
        description="Observe: report only. Recommend: also say what would be done. Enforce: also do it.",
    )
    applies_to: AppliesTo = Field(default=AppliesTo(), description="Which InferenceServices the policy is for.")
    priority: int = Field(
        default=0,
        ge=-1000000,
        le=1000000,
        description="Of several policies for a service the highest priority applies; equal ones by name, the first.",
    )
    objective: Literal["Energy", "Carbon", "Cost"] = Field(
        default="Energy",
        description="What is to be least where objectives, quality floors and guards leave a choice, of GPU types "
        "above all. Energy: watts with host and PUE. Carbon: gCO2e an hour at the average intensity of the zones "
        "of the nodes. Cost: money an hour by price of their GridZones, GPUs that are held included. While one of "
        "these is not known Energy decides, and the services' silences say what to write.",
    )
    idle: IdlePolicy = Field(default=IdlePolicy(), description="What happens to a service that nobody uses.")
    scaling: ScalingPolicy = Field(default=ScalingPolicy(), description="How replicas follow the load.")
    precision: PrecisionPolicy | None = Field(
        default=None, description="When a quantised variant may serve. Absent: never."
    )
    hardware: HardwarePolicy | None = Field(
        default=None, description="Which variant serves of those as good as the reference. Absent: the reference."
    )
    shift: ShiftPolicy | None = Field(
        default=None,
        description="How a variant comes to serve, by precision, hardware or a budget: in steps that are watched, and "
        "back where more of its requests fail or miss the objectives, or where it is measured to take clearly more "
        "joules per token. The reference comes back at once, and so does what is due under a power cap that has no "
        "room for both. Absent: at once, when all replicas are ready.",
    )
    power: PowerPolicy | None = Field(default=None, description="Power caps. Absent: none.")
    clocks: ClockPolicy | None = Field(default=None, description="How fast GPUs run. Absent: as the driver has them.")
    budgets: Annotated[list[Budget], Field(max_length=8)] = Field(
        default=[],
        description="Amounts that the matched services may use in a period, and what is done as they are used up.",
    )
    consolidation: Consolidation | None = Field(
        default=None, description="How nodes become empty, so that the autoscaler can remove them. Absent: by chance."
    )
    baseline: Baseline | None = Field(
        default=None,
        description="What savings are reckoned against. Absent: ReferenceAutoscaler where mode is Enforce; otherwise "
        "Fallow changes nothing and no savings are kept.",
    )
    time_zone: TimeZone = Field(
        default="UTC",
        description="Time zone by whose midnight the days and months of the matched services end, such as "
        "Europe/Berlin. A change starts their hour, day and month anew; totals go on.",
    )
    guards: Guards = Field(default=Guards(), description="What must hold before anything is changed.")
    targets: Annotated[list[Target], Field(max_length=8)] = Field(
        default=[], description="Reductions to reach in the long run. Reported by fallow report."
    )


class EnergyPolicy(ApiModel):
    """Goals, levers and guards for the inference services that it selects."""

    api_version: ApiVersion = Field(description="Version of the schema: fallow.dev/v1alpha1.")
    kind: Literal["EnergyPolicy"] = Field(description="Name of the kind: EnergyPolicy.")
    metadata: ObjectMeta = Field(description="Standard Kubernetes metadata.")
    spec: EnergyPolicySpec = Field(
        default=EnergyPolicySpec(), description="What to strive for, what may be done, how far, and to whom."
    )
    status: EnergyPolicyStatus = Field(
        default=EnergyPolicyStatus(), description="To whom the policy applies. Written by Fallow."
    )


ENERGY_POLICY = Kind(
    model=EnergyPolicy,
    plural="energypolicies",
    singular="energypolicy",
    short="epol",
    namespaced=False,
    columns=(
        Column("Mode", ".spec.mode", "Observe, Recommend or Enforce."),
        Column("Objective", ".spec.objective", "What to minimise: Energy, Carbon or Cost."),
        Column("Priority", ".spec.priority", "The highest priority applies.", "integer"),
        Column("Services", ".status.matchedServices", "Services to which the policy applies.", "integer"),
        Column("Idle", ".status.services.idle", "Those of them that are idle.", "integer"),
        Column("Proposals", ".status.pendingProposals", "Changes recommended, not enforced.", "integer"),
        Column("Would Save", ".status.summary.saves", "What the proposals would save now."),
        AGE,
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is in effect.", wide=True),
        Column("Watts", ".status.summary.watts", "What the matched services draw now.", wide=True),
        Column("Budget", ".status.summary.budget", "The budget that is used furthest.", wide=True),
    ),
)
