"""The decide step: one plan for the cluster, each service's part explained, nothing done without a reason.

The same snapshot and estimates always give the same plan. Levers are asked in the order of their worth: the owner's
word, rest and wake, the switch under way, variant, a power cap, more replicas, hardware, fewer replicas, how engines
are started. What a power cap leaves to each service, and GPUs where they are short, follows from what all of them want.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.estimates import Estimates, ServiceEstimate
from fallow.domain.plans import Decision, Pending, Plan, ServicePlan
from fallow.domain.policies import Mode, Objective
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.workloads import Service, ServiceKey, ServiceMemory
from fallow.planner import autoscaled, clocks
from fallow.planner.binding import may_lessen, noted
from fallow.planner.budgets import NOTHING, asks
from fallow.planner.caps import Cap, caps, in_turn, present_limit
from fallow.planner.changing import changing
from fallow.planner.conditions import conditions
from fallow.planner.context import Around, Context, Proposal
from fallow.planner.emptying import emptied
from fallow.planner.gathering import gathered
from fallow.planner.inventory import Free, emptying, free_gpus
from fallow.planner.levers import gpus, hardware, pieces, power, precision, replicas, rest, throttle
from fallow.planner.moving import moved
from fallow.planner.proposing import answered, kept, pending
from fallow.planner.remembering import reduced, waking
from fallow.planner.shortage import shares
from fallow.planner.silence import silences
from fallow.planner.switching import is_as_good, under_way
from fallow.planner.weighing import Sites, sites_of

OWNER = "Owner"
# What guards.maxReductionsPerDay counts, where it is Fallow's own doing.
REDUCTIONS = frozenset({"ScaleDown", "Rest", "Switch"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """A proposal, the name of the action it stands for, and whether it acts whatever the policy's mode.

    `fault`: what kept the service from being planned.
    """

    proposal: Proposal
    action: str = "Hold"
    always: bool = False
    fault: Exception | None = None


def decide(snapshot: Snapshot, estimates: Estimates, *, told: bool = True) -> Plan:
    """Where nobody is `told` of it, conditions, what can never happen and why nodes are kept are left out."""
    services: dict[ServiceKey, ServicePlan] = {}
    rolling, busy = snapshot.cluster.rolling, dict(changing(snapshot.cluster, snapshot.at))
    budgets, (free, sites) = asks(snapshot, estimates), _gpus(snapshot)
    for key, service in snapshot.cluster.services.items():
        around = Around(budgets.get(key, NOTHING), None, rolling, busy, free, sites=sites)
        plan = services[key] = plan_service(snapshot, service, estimates.services[key], around, told=told)
        if plan.decision is None or plan.decision.proposal:
            continue
        if plan.decision.lever in {throttle.NAME, pieces.NAME}:
            rolling |= {key}
        if plan.decision.lever == hardware.NAME:
            free = free.none()  # what this one takes is seen by the next cycle
        if plan.policy is not None and plan.policy.name in busy:
            busy[plan.policy.name] |= {key}

    def again(key: ServiceKey, known: Around) -> ServicePlan:
        """With what was found out since."""
        around = replace(
            known,
            budget=budgets.get(key, NOTHING),
            rolling=rolling - {key},
            changing=busy,
            free=free,
            sites=sites,
        )
        return plan_service(snapshot, snapshot.cluster.services[key], estimates.services[key], around, told=told)

    found = caps(snapshot, estimates, services)
    capped: dict[ServiceKey, Cap] = {}
    for key in sorted(found, key=lambda key: (-snapshot.cluster.services[key].priority, key)):
        cap = in_turn(found, key, services)
        services[key] = _under_cap(snapshot, services[key], cap, again)
        if isinstance(cap, Cap):
            capped[key] = cap
    for key, share in shares(snapshot, estimates, services).items():
        plan = again(key, Around(cap=capped.get(key), share=share))
        services[key] = replace(
            plan,
            memory=replace(plan.memory, short_at=share.at),
            power_limit=services[key].power_limit,
            silences=services[key].silences,
        )
    return _with_moves(snapshot, estimates, services, Around(rolling=rolling, changing=busy), told=told)


def _with_moves(
    snapshot: Snapshot, estimates: Estimates, services: Mapping[ServiceKey, ServicePlan], around: Around, *, told: bool
) -> Plan:
    """Where nodes are emptied, with replicas in the place of those on them."""

    def context(key: ServiceKey) -> Context:
        return gathered(snapshot, snapshot.cluster.services[key], estimates.services[key], around)

    nodes, kept = emptied(snapshot, services, context, told=told)
    leave = emptying(snapshot.cluster) - {one.node for one in nodes}
    return Plan(
        at=snapshot.at,
        services={
            key: moved(snapshot, plan, estimates.services[key], leave) if leave or plan.memory.moving else plan
            for key, plan in services.items()
        },
        nodes=nodes,
        kept=kept,
    )


def _under_cap(
    snapshot: Snapshot, plan: ServicePlan, cap: Cap | Exception, again: Callable[[ServiceKey, Around], ServicePlan]
) -> ServicePlan:
    """With what a power cap leaves, planned anew where that may change the plan. Where it is not known for a fault of
    Fallow's own, the service keeps what it has, and its GPUs the limits that they have.
    """
    if isinstance(cap, Exception):
        return replace(again(plan.key, Around(fault=cap)), power_limit=present_limit(snapshot, plan.key))
    is_fewer = cap.replicas is not None and plan.total > cap.replicas
    may_switch = may_lessen(plan.policy) and len(snapshot.cluster.services[plan.key].variants) > 1
    if is_fewer or may_switch or plan.memory.switching_to is not None:
        plan = again(plan.key, Around(cap=cap))
    return replace(plan, power_limit=cap.limit, silences=(*cap.silences, *plan.silences))


def _gpus(snapshot: Snapshot) -> tuple[Free, Sites]:
    """Which nobody has, and where GPUs are, where a policy asks for either: tiers do among several zones."""
    policies, several = snapshot.cluster.policies, len(snapshot.zones) > 1
    matched = any(policy.hardware is not None for policy in policies)
    placed = matched or any(
        policy.objective is not Objective.ENERGY or (several and policy.precision is not None) for policy in policies
    )
    return free_gpus(snapshot.cluster) if matched else Free(), sites_of(snapshot) if placed else {}


def plan_service(
    snapshot: Snapshot,
    service: Service,
    estimate: ServiceEstimate,
    around: Around | None = None,
    *,
    told: bool = True,
) -> ServicePlan:
    """What one service should run, and why."""
    context, verdict = _verdict(gathered(snapshot, service, estimate, around or Around()))
    proposal, policy, scalers = verdict.proposal, context.policy, context.scalers
    enforced = verdict.always or policy.mode is Mode.ENFORCE
    wanted = dict(proposal.replicas) if proposal.replicas is not None else dict(context.current)
    steps = autoscaled.steps(context.current, wanted, scalers)
    decision = Decision(
        at=context.now,
        action=verdict.action,
        lever=proposal.lever,
        reason=proposal.reason,
        message=f"{steps}; {proposal.message}" if steps else proposal.message,
        policy=policy.name,
        saves=None if steps and context.is_exceeded else proposal.saves,
        proposal=proposal.replicas is not None and not enforced,
    )
    asked = (
        pending(context, decision, wanted, proposal) if decision.proposal and policy.mode is Mode.RECOMMEND else None
    )
    if asked is not None:
        decision = answered(decision, asked)
    acts = proposal.replicas is not None and (enforced or (asked is not None and asked.approved))
    runs = wanted if acts else dict(context.current)
    memory = kept(_after(context, verdict, asked) if acts else context.memory, asked, policy.mode, acts=acts)
    return ServicePlan(
        key=service.key,
        replicas=runs,
        proposed=wanted,
        serving=memory.serving or context.serving.name,
        memory=memory,
        decision=decision if acts or (decision.proposal and policy.mode is Mode.RECOMMEND) else None,
        standing=decision,
        vetoes=proposal.vetoes,
        policy=policy if policy.name else None,
        conditions=conditions(context, runs, memory) if told else (),
        clear_request=_is_spent(context, memory),
        fault=verdict.fault,
        pending=None if acts else asked,
        silences=silences(context) if told else (),
        throttled=_throttled(context, proposal.throttled if acts else None),
        clock=clocks.clock(context),
        step_tokens=context.step_tokens if proposal.step_tokens is None or not acts else proposal.step_tokens,
        scalers=scalers,
        above={name: max(context.asked(name) - runs[name], 0) for name in scalers if runs.get(name)},
    )


def _throttled(context: Context, decided: bool | None) -> bool:
    """As they are, unless it was decided otherwise; where none runs, the next ones come as the policy wants them."""
    if decided is not None:
        return decided
    if context.policy.mode is Mode.ENFORCE and not any(context.current.values()):
        return throttle.is_wanted(context)
    return context.throttled


def _is_spent(context: Context, memory: ServiceMemory) -> bool:
    """Whether spec.replicas was obeyed and only stands in the way of the next /scale: it rests, and did before."""
    requested = context.service.requested
    rests = context.memory.resting and memory.resting and not context.service.paused
    return rests and bool(requested) and requested == memory.request_seen


def _verdict(context: Context) -> tuple[Context, Verdict]:
    """A fault of Fallow's own leaves its service as it is, and the others are planned all the same."""
    if context.around.fault is not None:
        return context, _faulty(context.around.fault)
    try:
        known = noted(context)
        return known, _consult(known)
    except Exception as fault:  # noqa: BLE001 - told in the plan, and logged by those who asked for it
        return context, _faulty(fault)


def _faulty(fault: Exception) -> Verdict:
    message = f"a fault of Fallow, {type(fault).__name__}: {fault}; nothing is changed, see the log"
    return Verdict(Proposal(OWNER, Reason.PLAN_FAILED, message), fault=fault)


def _consult(context: Context) -> Verdict:
    owner = _owner(context)
    if owner is not None:
        return owner
    if context.memory.resting:
        proposal = rest.wake(context)
        if proposal is not None:
            return Verdict(proposal, "Wake", always=True)
        return Verdict(Proposal(rest.NAME, Reason.RESTING, "rests until a request, /scale or the annotation wakes it"))
    resting = rest.propose(context)
    can_rest = context.policy.mode is Mode.ENFORCE or context.memory.switching_to is None
    if resting is not None and resting.replicas is not None and can_rest:
        return Verdict(resting, "Rest")
    switch = _under_way(context) or precision.propose(context)
    if switch is not None and switch.replicas is not None:
        return _switch_verdict(switch)
    return _tended(context, resting, switch)


def _tended(context: Context, resting: Proposal | None, switch: Proposal | None) -> Verdict:
    """What runs, sized and placed for its load."""
    scaling = power.propose(context) or gpus.propose(context) or replicas.propose(context)
    grows = scaling.replicas is not None and sum(scaling.replicas.values()) > sum(context.current.values())
    if grows:
        return Verdict(scaling, "ScaleUp")
    # while a lesser variant is asked for, or it is not known whether one is, hardware stays as it is
    matching = hardware.propose(context) if switch is None or switch.reason is Reason.STEADY else None
    if matching is not None and matching.replicas is not None:
        return Verdict(matching, "Switch")
    if scaling.replicas is not None and context.memory.switching_to is None:
        return Verdict(scaling, "Withdraw" if gpus.only_withdraws(context, scaling) else "ScaleDown")
    tuning = (throttle.propose(context), pieces.propose(context))
    tuned = next((one for one in tuning if one is not None and one.replicas is not None), None)
    if tuned is not None:
        return Verdict(tuned, _tuning(context, tuned))
    return Verdict(_standing(resting, switch, scaling, matching, *tuning))


def _under_way(context: Context) -> Proposal | None:
    """The switch under way, on behalf of the lever whose kind it is."""
    target = context.service.variant(context.memory.switching_to or "")
    as_good = target is not None and is_as_good(context, target)
    return under_way(context, hardware.NAME if as_good else precision.NAME)


def _tuning(context: Context, tuned: Proposal) -> str:
    if tuned.step_tokens is not None:
        return "LimitSteps" if context.serving.name in tuned.step_tokens else "FreeSteps"
    return "Throttle" if tuned.throttled else "Unthrottle"


def _owner(context: Context) -> Verdict | None:
    """What the owner says outright is done in every mode: pause, stop, start, limits, adopted."""
    service, current = context.service, context.current
    total = sum(current.values())
    if service.paused:
        return Verdict(Proposal(OWNER, Reason.PAUSED, "paused: Fallow reports and changes nothing"))
    left = _left_to_autoscalers(context)
    if left is not None:
        return Verdict(left)
    if service.requested == 0:
        message = "stopped: /scale asks for 0 replicas"
        if total == 0:
            return Verdict(Proposal(OWNER, Reason.STOPPED, message))
        stopped = Proposal(OWNER, Reason.STOPPED, message, dict.fromkeys(current, 0), resting=False, switching_to="")
        return Verdict(stopped, "Stop", always=True)
    if service.target is not None and not context.workloads:
        message = f"Deployment {service.target} named by targetRef does not exist in {service.key.namespace}"
        return Verdict(Proposal(OWNER, Reason.TARGET_NOT_FOUND, message))
    if context.memory.resting:
        return None
    if total == 0:
        count = min(max(context.floor, 1), max(context.ceiling, 1))
        message = f"starts with {count} replicas of {context.serving.name}"
        started = Proposal(OWNER, Reason.FIRST_START, message, {**current, context.serving.name: count})
        return Verdict(started, "Start", always=True)
    return _handover(context) or (_limits(context) if context.scaler is None else _minimum(context, context.scaler))


def _handover(context: Context) -> Verdict | None:
    """A variant taken out of the spec goes once the serving one runs as many replicas, all of them ready."""
    gone = {name: count for name, count in context.strays.items() if context.service.variant(name) is None}
    if not gone:
        return None
    names, serving = ", ".join(sorted(gone)), context.serving.name
    leaving = sum(context.asked(name) for name in gone)
    wanted = min(max(context.replicas, context.floor, leaving, context.memory.before or 0), max(context.ceiling, 1))
    if context.replicas < wanted:
        message = f"{names} is no longer in spec.variants; {serving} takes over with {wanted} replicas"
        begun = Proposal(OWNER, Reason.SWITCHING, message, {**context.current, serving: wanted})
        return Verdict(begun, "Switch", always=True)
    if context.ready(serving) >= wanted:
        message = f"{names} is no longer in spec.variants and drains; {serving} is ready with {wanted} replicas"
        done = Proposal(OWNER, Reason.DRAINING, message, {**context.current, **dict.fromkeys(gone, 0)})
        return Verdict(done, "SwitchDone", always=True)
    return None


def _left_to_autoscalers(context: Context) -> Proposal | None:
    """What is not Fallow's to do: anything where two own the replicas, and going to zero where one does that itself.

    A service that Fallow put to rest is woken all the same.
    """
    total = sum(context.current.values())
    rested_by = autoscaled.rested_by(context.workloads.values())
    conflict = autoscaled.rivals(context.workloads.values())
    if conflict is not None and (total > 0 or not context.memory.resting):
        return Proposal(autoscaled.NAME, Reason.TWO_OWNERS, autoscaled.rivals_text(*conflict))
    if rested_by is None:
        return None
    if total == 0:
        message = f"rests at 0 replicas until {rested_by} starts it"
        return Proposal(autoscaled.NAME, Reason.LEFT_TO_AUTOSCALER, message)
    if context.service.requested == 0:
        message = (
            f"/scale asks for 0 replicas, but {rested_by} would start it again: {autoscaled.how_to_stop(rested_by)}"
        )
        return Proposal(autoscaled.NAME, Reason.LEFT_TO_AUTOSCALER, message)
    return None


def _minimum(context: Context, scaler: Autoscaler) -> Verdict | None:
    """The limits of an autoscaler's minimum. Its owner's own comes back where no policy may set another."""
    if autoscaled.fixed(scaler) is not None:
        return None
    bounded = min(max(context.replicas, context.floor), context.ceiling) if context.follows else context.floor
    if bounded == context.replicas:
        return None
    asked = context.service.requested
    wanted = {**context.current, context.serving.name: bounded}
    if asked and bounded == min(asked, context.ceiling) and bounded > scaler.owners:
        requested = Proposal(OWNER, Reason.REQUESTED, f"/scale asks for {asked}", wanted)
        return Verdict(requested, "ScaleUp" if bounded > context.replicas else "ScaleDown", always=True)
    if not context.follows:
        message = "its owner's own, since no policy sets another any more"
        return Verdict(Proposal(autoscaled.NAME, Reason.HANDED_BACK, message, wanted), "HandBack", always=True)
    message = f"limits: between {context.floor} and {context.ceiling}"
    limited = Proposal(OWNER, Reason.LIMITS, message, wanted)
    return Verdict(limited, "ScaleUp" if bounded > context.replicas else "ScaleDown")


def _limits(context: Context) -> Verdict | None:
    """MinReplicas and maxReplicas at once; what /scale asks for is a floor, and exact where Fallow does not scale."""
    asked, ceiling = context.service.requested, max(context.ceiling, 1)
    if asked and context.memory.request_at == context.now and not context.policy.scales:
        ceiling = min(asked, ceiling)
    bounded = min(max(context.replicas, context.floor - context.beside), ceiling)
    if bounded == context.replicas or (bounded < context.replicas and context.memory.switching_to is not None):
        return None
    reason = Reason.REQUESTED if asked and bounded == asked else Reason.LIMITS
    opened = context.service.scaling.opened_by
    words = f"/scale asks for {asked}" if reason is Reason.REQUESTED else "limits"
    if opened and bounded == context.service.scaling.min_replicas:
        reason, words = Reason.SCHEDULE, f"the schedule {opened}"
    message = f"{words}: between {context.floor} and {context.ceiling} replicas"
    limited = Proposal(OWNER, reason, message, {**context.current, context.serving.name: bounded})
    return Verdict(limited, "ScaleUp" if bounded > context.replicas else "ScaleDown", always=True)


def _switch_verdict(switch: Proposal) -> Verdict:
    """Beginning a switch is the policy's to decide; one under way is always brought to an end."""
    if switch.switching_to:
        return Verdict(switch, "Switch")
    actions = {Reason.SWITCHING: "Switch", Reason.SWITCH_COMPLETE: "SwitchDone"}
    return Verdict(switch, actions.get(switch.reason, "SwitchStop"), always=True)


def _standing(
    resting: Proposal | None, switch: Proposal | None, scaling: Proposal, *tuning: Proposal | None
) -> Proposal:
    """Why nothing changes: the most telling of the levers' answers, with the rest of their vetoes."""
    answers = [answer for answer in (switch, scaling, resting, *tuning) if answer is not None]
    vetoes = tuple(veto for answer in answers for veto in answer.vetoes)
    telling = next((answer for answer in answers if answer.vetoes), None)
    if switch is not None and switch.reason is Reason.WATCHED:
        telling = switch
    if telling is None and resting is not None:
        telling = resting
    if telling is None and switch is not None and switch.reason is not Reason.STEADY:
        telling = switch
    told = telling or scaling
    return told if told.replicas is None and told.vetoes == vetoes else replace(told, replicas=None, vetoes=vetoes)


def _after(context: Context, verdict: Verdict, asked: Pending | None) -> ServiceMemory:
    """The memory once the proposal is carried out, which a person approved where one was `asked`."""
    proposal = verdict.proposal
    changed: Mapping[str, int] = proposal.replicas or {}
    memory = context.memory
    tuned = proposal.throttled is not None or proposal.step_tokens is not None
    if dict(changed) != dict(context.current) or tuned:
        memory = replace(memory, changed_at=context.now)
    if verdict.action in REDUCTIONS and not verdict.always:
        memory = reduced(memory, context.policy, context.now)
    if proposal.resting is not None:
        memory = replace(
            memory, resting=proposal.resting, quiet_since=None, switching_to=None, approval="", before=None
        )
    memory = _switched(context, verdict, "" if asked is None else asked.proposed.id, memory)
    if verdict.action == "Wake":
        memory = replace(
            waking(memory, context.estimate.booked, context.now),
            wake_handled=context.service.wake_annotation,
            request_seen=context.service.requested,
            request_at=context.now if context.service.requested else None,
        )
    return memory


def _switched(context: Context, verdict: Verdict, approval: str, memory: ServiceMemory) -> ServiceMemory:
    """Which variant serves, and which is switched to. What the load asks for during a switch by steps counts like what
    served when it began.
    """
    proposal = verdict.proposal
    if verdict.action == "ScaleUp" and memory.before is not None and proposal.replicas is not None:
        carries = proposal.replicas.get(context.serving.name, 0) + context.replaced
        memory = replace(memory, before=max(memory.before, carries))
    if verdict.action == "SwitchDone":
        memory = replace(memory, before=None)
    if proposal.serving is not None:
        last = memory.given_up
        tried = last is not None and last.variant == proposal.serving
        memory = replace(memory, serving=proposal.serving, given_up=None if tried else last)
    if proposal.given_up is not None:
        memory = replace(memory, given_up=proposal.given_up)
    if proposal.switching_to is None:
        return memory
    return replace(
        memory,
        switching_to=proposal.switching_to or None,
        approval=approval,
        goal=proposal.goal,
        before=proposal.before,
    )
