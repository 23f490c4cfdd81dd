"""What can never happen to a service as things are declared, and what to write so that it can: silence explained."""

from collections.abc import Iterator

from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.planner import autoscaled, clocks
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context
from fallow.planner.levers import hardware, throttle
from fallow.planner.pieces import why_whole


def silences(context: Context) -> tuple[str, ...]:
    """One sentence for each lever or guard that is mute, the one that costs most first."""
    if not context.policy.name:
        return ("no EnergyPolicy applies to it: nothing is saved; select it in a policy's appliesTo",)
    return (
        *_rest(context),
        *_weighing(context),
        *_throttle(context),
        *_steps(context),
        *_clocks(context),
        *_replicas(context),
        *_budgets(context),
        *_bursts(context),
        *_precision(context),
        *_hardware(context),
        *_objectives(context),
    )


def _rest(context: Context) -> Iterator[str]:
    rules, scaling = context.policy.idle, context.service.scaling
    rested_by = autoscaled.rested_by(context.workloads.values())
    if rested_by is not None:
        yield f"Fallow never rests it: {rested_by} takes it to zero and back"
    elif rules is None or not rules.release:
        yield "it never rests: idle.ladder of the policy has no Release"
    elif scaling.min_replicas > 0 and not scaling.opened_by:
        yield f"it never rests: scaling.minReplicas is {scaling.min_replicas}; 0 lets it"
    elif scaling.wake is None:
        yield "no request wakes it from rest, only /scale and the annotation do: declare scaling.wake"


def _weighing(context: Context) -> Iterator[str]:
    if context.weighing.instead:
        yield context.weighing.instead


def _throttle(context: Context) -> Iterator[str]:
    rules = context.policy.idle
    asked = rules is not None and (rules.throttle or Remedy.THROTTLE in _remedies(context))
    if asked and (reason := throttle.why_never(context)) is not None:
        yield f"its idle engines keep their clocks up: {reason}"


def _steps(context: Context) -> Iterator[str]:
    if not context.policy.scaling.limits_steps:
        return
    profile = profile_for(context.serving, context.profiles, context.product)
    if (reason := why_whole(context.service)) is not None:
        yield f"the tokens of a step are not limited: {reason}"
    elif profile is None or profile.prefill_rate is None:
        yield "the tokens of a step are not limited: no ModelProfile with prefillTokensPerSecond fits what serves"


def _clocks(context: Context) -> Iterator[str]:
    if context.policy.clocks is not None and (reason := clocks.why_never(context)) is not None:
        yield f"its clocks are not lowered: {reason}"


def _replicas(context: Context) -> Iterator[str]:
    scaling, fixed = context.service.scaling, autoscaled.fixed(context.scaler)
    if not context.policy.scaling.enabled:
        yield "its replicas follow no load: scaling.enabled of the policy is false"
    elif fixed is not None:
        yield fixed.message
    elif scaling.min_replicas == scaling.max_replicas and not scaling.opened_by:
        yield f"its replicas follow no load: scaling.minReplicas and maxReplicas are both {scaling.max_replicas}"


def _budgets(context: Context) -> Iterator[str]:
    """Remedies that nothing can come of, and budgets whose use is not known."""
    remedies = _remedies(context)
    yield from dict.fromkeys(context.budget.unknown.values())
    if Remedy.PRECISION in remedies and context.policy.precision is None:
        yield "onBurn Precision never acts: the policy has no precision"
    if context.policy.power is not None and context.policy.power.on_bind and context.policy.precision is None:
        yield "onBind Precision never acts: the policy has no precision"
    if Remedy.CAP_REPLICAS in remedies and not context.policy.scaling.enabled:
        yield "onBurn CapReplicas never acts: scaling.enabled of the policy is false"
    if Remedy.DEFER in remedies:
        yield "onBurn Defer never acts: Fallow has no jobs that could wait"


def _remedies(context: Context) -> frozenset[Remedy]:
    return frozenset(remedy for budget in context.policy.budgets for step in budget.on_burn for remedy in step.do)


def _bursts(context: Context) -> Iterator[str]:
    """What the size of a fleet rests on: a profile of the serving variant, with its prefill."""
    serving = context.serving
    profile = profile_for(serving, context.profiles, context.product)
    if profile is None:
        where = context.product or "its GPUs"
        yield f"bursts are not provided for: no ModelProfile of {serving.model} in {serving.precision} on {where}"
    elif profile.prefill_rate is None:
        yield f"bursts are not provided for: ModelProfile {profile.name} has no prefillTokensPerSecond"


def _precision(context: Context) -> Iterator[str]:
    if context.policy.precision is None:
        return
    owned = next(((one, one.scaler) for one in context.workloads.values() if one.scaler is not None), None)
    if len(context.service.variants) < 2:
        yield "precision tiers never act: spec.variants has one variant"
    elif owned is not None:
        yield f"variants are never switched: {owned[1]} owns the replicas of {owned[0].name}"
    elif isinstance(context.estimate.intensity, Missing):
        yield f"precision tiers never act: the grid's intensity is not known ({context.estimate.intensity})"


def _hardware(context: Context) -> Iterator[str]:
    if context.policy.hardware is not None and (reason := hardware.why_never(context)) is not None:
        yield f"no other variant as good ever serves it: {reason}"


def _objectives(context: Context) -> Iterator[str]:
    objectives = context.service.objectives
    if objectives.ttft_p95 is None and objectives.itl_p95 is None:
        yield "latency keeps no replica: spec.objectives has neither ttft nor itl"
