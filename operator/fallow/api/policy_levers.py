"""What an EnergyPolicy lets Fallow do: one object for each lever, with what must hold within it.

Fields whose lever does not act in this version are accepted and say so in their description.
"""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.amounts import NodeShare, Percent, Power, share
from fallow.api.durations import PositiveDuration
from fallow.api.formats import Distinct
from fallow.api.model import ApiModel, Rule, share_rule
from fallow.api.variants import Precision
from fallow.api.windows import Window
from fallow.domain.clocks import LOWEST_CLOCK

Rung = Literal["Throttle", "Sleep", "Release"]


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

    rules = (
        share_rule("hysteresis", most=0.5, such_as=0.1),
        Rule(
            "self.match || size(self.precisions) == 0",
            lambda s: s.match or not s.precisions,
            "precisions say what may serve by match: write match: true beside them, or leave them out",
            ".match",
        ),
    )

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
