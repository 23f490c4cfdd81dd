"""Proposals that wait for a person: each has a name by which it is approved or rejected, once."""

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

from fallow.domain.figures import Missing
from fallow.domain.plans import Decision, Pending, replicas_text
from fallow.domain.policies import Mode, Objective
from fallow.domain.reasons import Reason
from fallow.domain.units import Grams, Instant, Money
from fallow.domain.workloads import Proposed, ServiceMemory, Variant
from fallow.planner.context import Context, Proposal
from fallow.planner.levers import throttle
from fallow.planner.switching import is_as_good
from fallow.planner.weighing import Spared, an_hour

# Digits of a name: enough for the one or two proposals of a service, and short enough to type.
DIGITS = 8


def proposed(context: Context, action: str, replicas: Mapping[str, int]) -> Proposed:
    """The proposal to do that, under the name that it has as long as nothing else is proposed.

    The name is made of when it was first proposed too, so that nobody's word of last week counts today.
    """
    what, before = f"{action} to {replicas_text(replicas, context.scalers)}", context.memory.proposal
    if before is not None and before.what == what:
        return before
    return Proposed(_name(context.service.uid, what, context.now), what, context.now)


def pending(context: Context, decision: Decision, replicas: Mapping[str, int], proposal: Proposal) -> Pending:
    """What a person is asked about."""
    one, spared = proposed(context, decision.action, replicas), _spared(context, decision, replicas, proposal)
    grams, money = (an_hour(objective, spared) for objective in (Objective.CARBON, Objective.COST))
    return Pending(
        proposed=one,
        now=replicas_text(context.current, context.scalers),
        risk=_risk(context, decision.action, replicas),
        approved=context.service.approved == one.id,
        rejected=context.service.rejected == one.id,
        grams=None if isinstance(grams, Missing) or not spared else Grams(grams),
        money=None if isinstance(money, Missing) or not spared else Money(money),
        currency=context.weighing.currency,
    )


def answered(decision: Decision, asked: Pending) -> Decision:
    """The decision in view of a person's word, if there is one; an approval goes before a rejection."""
    if asked.approved:
        return replace(decision, message=f"approved ({asked.proposed.id}): {decision.message}", proposal=False)
    if asked.rejected:
        message = f"rejected ({asked.proposed.id}), {asked.proposed.what}: {decision.message}"
        return replace(decision, action="Hold", reason=Reason.REJECTED, message=message, proposal=False)
    return decision


def kept(memory: ServiceMemory, asked: Pending | None, mode: Mode, *, acts: bool) -> ServiceMemory:
    """A proposal keeps its name while it is not made for a while; it is done with once anything is done."""
    if acts or mode is not Mode.RECOMMEND:
        return memory if memory.proposal is None else replace(memory, proposal=None)
    return memory if asked is None or asked.proposed == memory.proposal else replace(memory, proposal=asked.proposed)


def _spared(
    context: Context, decision: Decision, replicas: Mapping[str, int], proposal: Proposal
) -> tuple[Spared, ...]:
    """With the GPUs that are held no more once a switch is done; none where the watts are not known."""
    if decision.saves is None:
        return ()
    if proposal.spared:
        return proposal.spared
    to = proposal.switching_to
    left = {to: proposal.goal or replicas[to]} if to else replicas
    gpus = _gpus(context, context.current) - _gpus(context, left)
    return (Spared(context.weighing.here, decision.saves.value, gpus),)


def _gpus(context: Context, replicas: Mapping[str, int]) -> int:
    return sum(
        count * variant.gpus
        for name, count in replicas.items()
        if (variant := context.service.variant(name)) is not None
    )


def _name(uid: str, what: str, now: Instant) -> str:
    return sha256(f"{uid} {what} {now:.0f}".encode()).hexdigest()[:DIGITS]


def _risk(context: Context, action: str, replicas: Mapping[str, int]) -> str:
    if action == "Rest":
        took = context.memory.wake_took
        known = "" if took is None else f", which took {took:.0f} s last time"
        return f"the next request waits for a start{known}"
    if action == "Switch":
        added = [name for name, count in replicas.items() if count > context.current.get(name, 0)]
        found = next((variant for name in added if (variant := context.service.variant(name)) is not None), None)
        return "" if found is None else _risk_of_switch(context, found)
    if action == "Throttle":
        return f"engines are replaced; a first request after a pause takes up to {throttle.RAMP:g} s longer"
    if action == "LimitSteps":
        return "engines are replaced; a prompt waits for its turn, and takes longer alone"
    if action in {"Unthrottle", "FreeSteps"}:
        return "engines are replaced"
    if sum(replicas.values()) < sum(context.current.values()):
        return f"load above what {sum(replicas.values())} replicas carry waits for a start"
    return ""


def _risk_of_switch(context: Context, to: Variant) -> str:
    if is_as_good(context, to):
        same = to.precision.upper() == context.serving.precision.upper()
        pace = "other GPUs" if same else to.precision
        return f"answers come from {to.name}, as good, at the pace of {pace}: within objectives by its profile"
    return f"answers come from {to.name}, of quality {to.quality:g} of the reference's"
