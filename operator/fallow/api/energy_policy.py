"""EnergyPolicy: what to strive for, what may be done, how far, and to whom.

Fields whose lever does not act in this version are accepted and say so in their description.
"""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.amounts import CarbonMass, EnergyAmount, Factor, NodeShare, Percent, Power, share
from fallow.api.baseline import Baseline
from fallow.api.conditions import Conditions, Time
from fallow.api.durations import Duration, PositiveDuration
from fallow.api.formats import Distinct, Line, Word
from fallow.api.model import ApiModel, Rule, StatusModel, share_rule
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta
from fallow.api.selectors import LabelSelector
from fallow.api.variants import Precision
from fallow.api.windows import Month, TimeZone, Window
from fallow.domain.clocks import LOWEST_CLOCK

Rung = Literal["Throttle", "Sleep", "Release"]
Remedy = Literal["Precision", "CapReplicas", "Throttle", "Defer"]


class AppliesTo(ApiModel):
    """Which InferenceServices the policy is for; both selectors must match."""

    namespace_selector: LabelSelector | None = Field(
        default=None, description="Labels of the service's namespace. Absent: every namespace."
    )
    service_selector: LabelSelector | None = Field(
        default=None, description="Labels of the InferenceService. Absent: every service."
    )


class IdlePolicy(ApiModel):
    """What happens to a service that nobody uses."""

    after: PositiveDuration = Field(
        default="10m", description="How long a service must be idle, by all signals, before it rests."
    )
    ladder: Annotated[list[Rung], Field(max_length=3), Distinct()] = Field(
        default=["Release"],
        description="Rungs that may be used, lightest first. Throttle lets the clocks of loaded engines fall within "
        "seconds when they have nothing to do; they rise with the next request. To begin or end it engines are "
        "replaced once, one after the other. Release removes the replicas of services whose scaling.minReplicas is 0. "
        "Sleep is recorded and not acted on in this version. Without Release nothing rests.",
    )
    wake_within: PositiveDuration | None = Field(
        default=None,
        description="Longest wake that users accept: replicas are released only where a start is known to take no "
        "longer, from the last wake, the ModelProfile or the replicas that run. Absent: any.",
    )


class ScalingPolicy(ApiModel):
    """How replicas follow the load: quickly up, slowly down."""

    rules = (share_rule("headroom", most=0.9, such_as=0.2),)

    enabled: bool = Field(default=True, description="Whether Fallow may change the number of replicas with the load.")
    up_window: PositiveDuration = Field(
        default="30s", description="Load must have been higher for this long before replicas are added."
    )
    down_window: PositiveDuration = Field(
        default="5m", description="Load must have been lower for this long before replicas are removed."
    )
    headroom: float = Field(default=0.2, ge=0, description="Share of capacity kept free for bursts, 0 to 0.9.")
    limit_steps: bool = Field(
        default=False,
        description="Whether engines may be started with fewer tokens in a step (vLLM's --max-num-batched-tokens), "
        "where by the ModelProfile that lets a replica carry at least a fifth more within objectives.itl and "
        "objectives.ttft: prompts are then computed in pieces and do not hold answers up. To begin, change or end it "
        "engines are replaced once, one after the other.",
    )


class Tier(ApiModel):
    """Precisions allowed while the grid is dirtier than a threshold."""

    above: float = Field(
        ge=0, le=5000, description="The tier holds while the zone's carbon intensity is at or above this value."
    )
    unit: Literal["gCO2/kWh"] = Field(default="gCO2/kWh", description="Unit of above: gCO2/kWh.")
    allow: Annotated[list[Precision], Field(min_length=1, max_length=16), Distinct()] = Field(
        description="Precisions that may serve in this tier. A service without such a variant keeps the one it has."
    )


class PrecisionPolicy(ApiModel):
    """When a quantised variant may serve instead of the reference."""

    rules = (
        Rule(
            "self.tiers.all(t, self.tiers.exists_one(u, u.above == t.above))",
            lambda p: len({t.above for t in p.tiers}) == len(p.tiers),
            "precision.tiers must have a different above in each entry; merge the tiers with the same threshold",
            ".tiers",
        ),
        share_rule("hysteresis", most=0.5, such_as=0.05),
    )

    enabled: bool = Field(default=True, description="Whether Fallow may switch variants.")
    quality_floor: float = Field(
        default=0.97, ge=0, le=1, description="Variants whose quality is below this never serve, 0 to 1."
    )
    tiers: Annotated[list[Tier], Field(max_length=8)] = Field(
        default=[],
        description="Precisions allowed by carbon intensity; the highest threshold that is reached decides. "
        "Below all thresholds the reference serves.",
    )
    require_measured_advantage: bool = Field(
        default=True,
        description="Switch only where ModelProfiles show fewer joules per token at the concurrency at hand; by "
        "spec.objective grams or money, where other GPUs or another number of them would be held.",
    )
    hysteresis: float = Field(
        default=0.05,
        ge=0,
        description="Share of a threshold by which the intensity must fall below it before the tier ends, 0 to 0.5.",
    )


class HardwarePolicy(ApiModel):
    """Which variant serves, of those that are as good as the reference: on which GPU type, in which precision."""

    rules = (share_rule("hysteresis", most=0.5, such_as=0.1),)

    match: bool = Field(
        default=False,
        description="Whether a variant of at least the reference's quality, and of its precision or one of precisions, "
        "may serve instead of it, such as one on another GPU type or on more GPUs, where by the ModelProfiles the load "
        "of the last minutes and of the last half hour takes less there, by spec.objective, within the objectives, and "
        "enough GPUs are free.",
    )
    hysteresis: float = Field(
        default=0.1, ge=0, description="Share of what it takes that a switch must save, 0 to 0.5."
    )
    precisions: Annotated[list[Precision], Field(max_length=16), Distinct()] = Field(
        default=[],
        description="Precisions beside the reference's in which a variant may serve by match, where its quality is "
        "declared as no less than the reference's, such as FP8. A tier of spec.precision that allows the reference's "
        "must allow them too.",
    )


class ShiftPolicy(ApiModel):
    """How a service is brought from one variant to another: step by step, as long as the new one is no worse."""

    rules = (
        Rule(
            # isSorted() of what is made of a list may cost more than the API server allows
            "self.steps.all(s, self.steps.all(t, self.steps.indexOf(s) <= self.steps.indexOf(t) || "
            "size(s) > size(t) || (size(s) == size(t) && s > t)))",
            lambda s: [*s.steps] == sorted(s.steps, key=share),
            "shift.steps must rise, such as 10%, 50%; write the smallest share first",
            ".steps",
        ),
    )

    steps: Annotated[list[Percent], Field(min_length=1, max_length=8), Distinct()] = Field(
        description="Shares of its replicas that the new variant has one after the other before it has all of them, "
        "such as 10%, 50%; at least one replica. As many of the old ones go once they are ready."
    )
    watch: PositiveDuration = Field(
        default="5m",
        description="How long each step is watched before the next, such as 5m. Where few requests come it is watched "
        "longer, four times as long at most.",
    )


class PerGpu(ApiModel):
    """Limits of a single GPU."""

    min: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Lowest power limit of a GPU, as a share of the highest that it can be set to, above 0 to 1.",
    )


class PowerPolicy(ApiModel):
    """Power caps."""

    rules = (
        Rule(
            "size(self.onBind) == 0 || has(self.capWatts)",
            lambda p: not p.on_bind or p.cap_watts is not None,
            "onBind must have a cap that can bind: write capWatts beside it, such as 120k",
            ".onBind",
        ),
    )

    cap_watts: Power | None = Field(
        default=None,
        description="Most watts that the GPUs of all matched services may draw together, such as 120k. It is held by "
        "power limits of single GPUs, low priority first, where the node agent sets them, and by fewer replicas where "
        "that is not enough. Absent: no cap.",
    )
    per_gpu: PerGpu = Field(default=PerGpu(), description="Limits of a single GPU.")
    on_bind: Annotated[list[Literal["Precision"]], Field(max_length=1)] = Field(
        default=[],
        description="What may be done while the cap leaves a service fewer replicas than its load asks for, in mode "
        "Enforce. Precision: a lesser variant serves, as if a tier of precision asked for it, where by profile or "
        "measurement it takes clearly fewer joules per token at the batch at hand; the reference comes back once the "
        "cap has room for it. Needs precision. Empty: nothing.",
    )


class ClockPolicy(ApiModel):
    """How fast GPUs run."""

    follow: bool = Field(
        default=False,
        description="Whether the SM clocks of a service's GPUs are lowered as far as its ready replicas carry the "
        "crests of its load within objectives.itl all the same, by its ModelProfile, and are at their highest while "
        "anything is in doubt. Needs mode Enforce and agent.clocks of the chart.",
    )
    lowest: float = Field(
        default=0.7,
        ge=LOWEST_CLOCK,
        le=1,
        description="Lowest SM clock, as a share of the highest of the GPU, 0.4 to 1.",
    )


class Burn(ApiModel):
    """What to do once a share of the budget is used."""

    at: float = Field(gt=0, le=2, description="Share of the budget, such as 0.8.")
    do: Annotated[list[Remedy], Field(min_length=1, max_length=4), Distinct()] = Field(
        description="What is done from there on until the period ends, in mode Enforce. Precision: a lesser variant "
        "serves, as if a tier of precision asked for it. CapReplicas: no more replicas than what is left pays for to "
        "the period's end, at least scaling.minReplicas and one. Throttle: as in idle.ladder. Defer is recorded and "
        "not acted on in this version."
    )


class Budget(ApiModel):
    """An amount that may be used in a period."""

    rules = (
        Rule(
            "has(self.carbon) || has(self.energy)",
            lambda b: b.carbon is not None or b.energy is not None,
            "budgets must give carbon (such as 900kg) or energy (such as 1.5MWh) in each entry",
        ),
        Rule(
            "self.onBurn.all(b, self.onBurn.exists_one(c, c.at == b.at))",
            lambda b: len({step.at for step in b.on_burn}) == len(b.on_burn),
            "onBurn must have a different at in each entry; merge the entries with the same share",
            ".onBurn",
        ),
    )

    period: Literal["Day", "Week", "Month", "Quarter", "Year"] = Field(
        description="Calendar period in which it is used up, by the midnights of timeZone; weeks begin on Monday."
    )
    carbon: CarbonMass | None = Field(
        default=None, description="Operational emissions allowed, such as 900kg. Absent: any."
    )
    energy: EnergyAmount | None = Field(
        default=None, description="Facility energy allowed, such as 1.5MWh. Absent: any."
    )
    on_burn: Annotated[list[Burn], Field(max_length=8)] = Field(
        default=[], description="What to do as the budget is used up. Empty: only report."
    )


class Consolidation(ApiModel):
    """Which replicas go when they become fewer, and which move, so that nodes become empty and their autoscaler can
    remove them.
    """

    enabled: bool = Field(
        default=False,
        description="Whether, when replicas become fewer, those on the nodes with the fewest GPUs in use go first. "
        "Services with scaling.minReplicas of 2 or more stay on two nodes.",
    )
    windows: Annotated[list[Window], Field(max_length=16)] = Field(
        default=[],
        description="When that is so, such as Mon-Fri 20:00-06:00 Europe/Berlin. Empty: always.",
    )
    max_unavailable_nodes: NodeShare = Field(
        default=0,
        description="Nodes that may be emptied at once by moving replicas that are still needed: a number such as 2, "
        "or a share of all nodes with GPUs such as 10%, rounded up. Each one is replaced before it goes. 0: none is "
        "moved.",
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


class Target(ApiModel):
    """A reduction to reach in the long run."""

    rules = (
        Rule(
            "self.from < self.by",
            lambda t: t.from_ < t.by,
            "targets must have a by that is later than from, such as from: 2026-01 and by: 2027-01",
            ".by",
        ),
    )

    metric: Literal[
        "energyPerToken", "carbonPerToken", "waterPerToken", "energyPerRequest", "carbonPerRequest", "energy", "carbon"
    ] = Field(description="What is to become less.")
    reduce: float = Field(gt=0, le=1, description="Share by which it is to fall, such as 0.30.")
    from_: Month = Field(alias="from", description="Month to compare with, such as 2026-01.")
    by: Month = Field(description="Month by which the target is to be reached, such as 2027-01.")


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
