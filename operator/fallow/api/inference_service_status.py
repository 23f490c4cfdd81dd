"""The status of an InferenceService: what runs, why, and what it costs. Also the memory that outlives a restart."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.conditions import REASON, Conditions, Figure, Time
from fallow.api.footprint import Footprints, Remarks
from fallow.api.formats import Keyed, Line, Text, Word
from fallow.api.model import StatusModel

Name = Annotated[str, Field(max_length=253)]
State = Literal["Active", "Standby", "Idle", "Unknown", "Stale"]
ModeName = Literal["Observe", "Recommend", "Enforce"]


class ActiveVariant(StatusModel):
    """A variant that has replicas or is getting some."""

    name: Word = Field(description="Name of the variant.")
    replicas: int = Field(default=0, ge=0, description="Replicas asked for.")
    ready_replicas: int = Field(default=0, ge=0, description="Replicas that answer.")
    pending: int = Field(default=0, ge=0, description="Replicas that are starting or wait for a GPU.")


class Evidence(StatusModel):
    """The three signals behind the state, in words."""

    requests: Line = Field(default="", description="What vLLM says about requests, such as none for 14m.")
    gpu_activity: Line = Field(default="", description="What the GPUs say about their activity, such as 0 % for 14m.")
    watts: Line = Field(default="", description="What the GPUs draw, such as 122 W of 700 W.")
    missing: Remarks = Field(
        default=[], description="Signals that could not be read, each with the reason. They never count as idle."
    )


class Idle(StatusModel):
    """Whether the service works, by three signals."""

    state: State = Field(
        default="Unknown",
        description="Active: requests are in work. Standby: quiet for a short time. Idle: quiet by all three signals. "
        "Unknown: a signal was never seen. Stale: a signal is too old. Unknown and Stale never take capacity away.",
    )
    since: Time | None = Field(default=None, description="When this state began.")
    quiet_since: Time | None = Field(default=None, description="Start of the present quiet. Absent while active.")
    resting: bool = Field(default=False, description="Fallow rests the service at zero replicas.")
    evidence: Evidence = Field(default=Evidence(), description="The signals behind the state.")


class ScaleRequest(StatusModel):
    """What /scale asked for, as Fallow saw it."""

    replicas: int = Field(ge=0, description="Replicas asked for in spec.replicas.")
    at: Time | None = Field(default=None, description="When Fallow first saw this request.")


class WakeStatus(StatusModel):
    """Wakes from rest, and what the last one cost."""

    asked: Line = Field(
        default="", description="Value of the annotation fallow.dev/wake that has been obeyed; a new value wakes again."
    )
    started_at: Time | None = Field(default=None, description="Start of the wake that is under way. Absent: none is.")
    took_seconds: float | None = Field(
        default=None,
        ge=0,
        description="How long the last finished wake took, from its start to the first ready replica, seconds.",
    )
    energy_joules: float | None = Field(
        default=None, ge=0, description="Energy at the GPU of the last finished wake, joules. Absent: not known."
    )


class Reductions(StatusModel):
    """How often Fallow reduced the service, switched it or put it to rest on its last such day."""

    day: Annotated[str, Field(max_length=10)] = Field(description="The day in the policy's time zone.")
    times: int = Field(ge=1, description="How often; guards.maxReductionsPerDay counts these.")


class Transition(StatusModel):
    """A switch between variants on its way: the new one is made ready before the old one is taken away."""

    from_: Word = Field(alias="from", description="The variant that still serves.")
    to: Word = Field(description="The variant that is being made ready.")
    since: Time | None = Field(default=None, description="When it began, or its last step.")
    replicas: int | None = Field(
        default=None,
        ge=0,
        description="Replicas that served when a switch in steps began, with those that the load has asked for since. "
        "Absent: it goes without steps.",
    )
    approval: Word | None = Field(
        default=None,
        description="Name of the approved proposal by which it began; fallow reject with it ends it. Absent: none.",
    )


class GivenUp(StatusModel):
    """A switch in steps that was given up, since the new variant was measured to be worse or did not get ready."""

    variant: Word = Field(description="The variant that was to serve.")
    at: Time = Field(description="When it was given up.")
    times: int = Field(default=1, ge=1, description="How often in a row; each time doubles how long it waits.")
    why: Line = Field(default="", description="In what it was worse, with numbers.")


class Decision(StatusModel):
    """Something Fallow did, or would have done, and why."""

    at: Time = Field(description="When it was decided.")
    action: Line = Field(description="What was done, such as replicas 2 -> 1 or switch to fp8.")
    reason: Annotated[str, Field(min_length=1, max_length=128), REASON] = Field(
        description="One word that says why; the same word appears in Events, metrics and logs."
    )
    lever: Word = Field(description="The lever that decided, such as idle, scaling or precision.")
    policy: Name = Field(default="", description="The policy on whose behalf. Empty: none applies.")
    message: Text = Field(default="", description="The reason in a sentence, with numbers.")
    saves_watts: float | None = Field(
        default=None, description="Estimated saving at that moment, watts. Absent where it is not known."
    )
    proposal: bool = Field(default=False, description="Only proposed: the policy recommends and does not enforce.")


class Veto(StatusModel):
    """A guard that keeps capacity from being taken away."""

    guard: Word = Field(description="The guard, such as dwell or freshness.")
    reason: Annotated[str, Field(min_length=1, max_length=128), REASON] = Field(description="Its reason in one word.")
    message: Line = Field(default="", description="The reason in a sentence, with numbers.")


class Standing(StatusModel):
    """What Fallow makes of the service now: why it runs what it runs, and what keeps it from less."""

    reason: Annotated[str, Field(min_length=1, max_length=128), REASON] = Field(
        description="One word that says why; the same word appears in Events, metrics and logs."
    )
    lever: Word = Field(default="", description="The lever whose word it is, such as Replicas, Rest or Owner.")
    message: Text = Field(default="", description="The reason in a sentence, with numbers.")
    vetoes: Annotated[list[Veto], Field(max_length=8)] = Field(
        default=[], description="Guards that say no to taking capacity away, in the order in which they were asked."
    )
    silences: Remarks = Field(
        default=[], description="What can never happen as things are declared, each with what to write so that it can."
    )
    kept_node: Line = Field(
        default="",
        description="Why a node that its replicas are on is not emptied now, where its policy moves replicas "
        "(consolidation.maxUnavailableNodes). Empty: one is, or nothing asks for it.",
    )


class Proposal(StatusModel):
    """What the policy would do if it were enforced, until a person approves or rejects it, or something else is due."""

    id: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="Its name, for fallow approve, fallow reject and the annotations fallow.dev/approve and /reject."
    )
    what: Line = Field(description="What would be done, such as ScaleDown to bf16 2.")
    since: Time = Field(description="When it was first proposed.")
    stands: bool = Field(
        default=False, description="It is proposed now. false: the load speaks against it just now; its name stays."
    )
    rejected: bool = Field(default=False, description="Rejected by a person.")
    now: Line = Field(default="", description="What runs now, such as bf16 3.")
    message: Text = Field(default="", description="The reason in a sentence, with numbers.")
    risk: Line = Field(default="", description="What may get worse by it. Empty: nothing.")
    saves_watts: float | None = Field(default=None, description="Saving at the GPU now, watts. Absent: not known.")
    saves_grams_per_hour: float | None = Field(
        default=None, description="With the PUE, at the grid's intensity now, gCO2e an hour. Absent: not known."
    )
    saves_money_per_hour: float | None = Field(
        default=None,
        description="With the PUE, at the zone's price, and with price.perGpuHour of the GPUs that are released; "
        "in its currency an hour. Absent: not known.",
    )
    currency: Word = Field(default="", description="Of the money.")


class Work(StatusModel):
    """By what the engines' work is bound, as vLLM estimates it over the last minutes."""

    variant: Word = Field(description="The variant whose engines are meant.")
    regime: Literal["MemoryBound", "ComputeBound", "Between"] = Field(
        description="MemoryBound: it waits for bytes, so that smaller weights save. ComputeBound: it waits for "
        "arithmetic, so that weights alone save nothing. Between: the bounds of both figures do not tell."
    )
    flops_per_byte: Figure = Field(description="Arithmetic intensity: operations for each byte that memory moves.")
    ridge_flops_per_byte: Figure = Field(
        description="The intensity from which on its GPU has more to compute than to move, in the variant's precision."
    )


class ServiceSummary(StatusModel):
    """Figures as short texts, for the columns of kubectl get."""

    replicas: Word = Field(default="", description="Ready of wanted replicas, such as 2/2.")
    watts: Word = Field(default="", description="What the GPUs of the service draw, such as 1.2 kW.")
    joules_per_token: Word = Field(
        default="", description="GPU energy per generated token over the recent window, such as 0.12."
    )
    carbon_today: Word = Field(default="", description="Operational emissions since midnight UTC, such as 412 g.")


class InferenceServiceStatus(StatusModel):
    """What runs, why, and what it costs."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the spec that Fallow last acted on."
    )
    conditions: Conditions = Field(
        default=[],
        description="Ready, Serving, Converged, ObjectivesMet, MetricsFresh and PolicyApplied.",
    )
    replicas: int = Field(default=0, ge=0, description="Replicas that exist, all variants together.")
    ready_replicas: int = Field(default=0, ge=0, description="Replicas that answer, all variants together.")
    desired_replicas: int = Field(default=0, ge=0, description="Replicas that Fallow wants, all variants together.")
    selector: Annotated[str, Field(max_length=1024)] = Field(
        default="", description="Label selector of the service's pods, in the form that /scale and a HPA need."
    )
    active_variants: Annotated[list[ActiveVariant], Field(max_length=16), Keyed("name")] = Field(
        default=[], description="Variants that have replicas or are getting some."
    )
    variant: Word = Field(default="", description="The variant that serves.")
    policy: Name = Field(default="", description="The EnergyPolicy that applies. Empty: none.")
    mode: ModeName | None = Field(
        default=None, description="How far Fallow goes here: the mode of the policy; Observe without one."
    )
    idle: Idle = Field(default=Idle(), description="Whether the service works, with the evidence.")
    last_change: Time | None = Field(
        default=None, description="When Fallow last changed capacity; guards.dwell counts from here."
    )
    scale_request: ScaleRequest | None = Field(
        default=None, description="What /scale asked for. Absent: nothing is asked."
    )
    wake: WakeStatus | None = Field(default=None, description="Wakes from rest, and what the last one cost.")
    reductions: Reductions | None = Field(default=None, description="Reductions of a day. Absent: none yet.")
    transition: Transition | None = Field(
        default=None, description="A switch between variants on its way. Absent: none."
    )
    moving: int | None = Field(
        default=None,
        ge=1,
        description="Replicas asked for in the place of as many on nodes that are being emptied, which go once these "
        "are ready. Absent: none.",
    )
    given_up: GivenUp | None = Field(
        default=None,
        description="The last switch in steps that was given up; the variant is not tried again for an hour, each time "
        "in a row for twice as long, up to a day. Absent: none, or it has been carried through since.",
    )
    power_limit_watts: float | None = Field(
        default=None,
        description="Power limit of each of its GPUs under the power cap of its policy, watts. Absent: none.",
    )
    clock_share: float | None = Field(
        default=None,
        description="Highest SM clock of its GPUs as Fallow sets it, as a share of the highest that they have. Absent: "
        "Fallow does not set it.",
    )
    standing: Standing | None = Field(
        default=None, description="Why it runs what it runs. fallow explain NAMESPACE/NAME tells it with the rest."
    )
    work: Work | None = Field(
        default=None,
        description="By what the work of the variant that serves is bound. Absent: none, or its engines do not tell.",
    )
    proposal: Proposal | None = Field(
        default=None, description="What waits for a person's word under a policy that recommends. Absent: nothing."
    )
    decision: Annotated[list[Decision], Field(max_length=5)] = Field(
        default=[], description="The last five decisions, newest first."
    )
    footprint: Footprints | None = Field(default=None, description="Energy, water and carbon by period.")
    summary: ServiceSummary | None = Field(default=None, description="Figures as short texts, for kubectl get.")
