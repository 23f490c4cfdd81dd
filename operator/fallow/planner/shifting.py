"""Switches by steps: the new variant has a small share of the replicas first and is watched, then a larger one.

A Service spreads requests evenly over ready pods, so a share of replicas is a share of the traffic. Of the old variant
as many go as ready ones of the new one stand in for, and at least one stays until the last step has been watched. Where
the new one is measured to be worse, or does not get ready, the old one comes back first. Where a step stands follows
from the replicas of both and from `before`, so that a restart goes on with it. As canaries of Argo Rollouts, Flagger.
"""

from dataclasses import dataclass
from math import ceil

from fallow.domain.figures import Missing
from fallow.domain.plans import Veto
from fallow.domain.policies import ShiftRules
from fallow.domain.reasons import Reason
from fallow.domain.units import Seconds
from fallow.domain.workloads import GivenUp, Variant
from fallow.planner import guards
from fallow.planner.context import STARTING_LIMIT, Context, Proposal
from fallow.planner.judging import Judged, judged

# Requests of the new variant before a watch ends, and how many times as long it lasts at most without them. Choices.
FEW, LONGEST = 30.0, 4.0
NO_STEPS = ShiftRules((), Seconds(0))


def steps_to(context: Context, variant: Variant, wanted: int) -> ShiftRules | None:
    """How it comes to serve; None where it comes at once: nobody asks for steps, it is the reference, or a power cap
    has no room for what is to come of it. What began one way goes on so, whatever the policy says meanwhile.
    """
    rules, cap, memory = context.policy.shift, context.cap, context.memory
    if memory.switching_to == variant.name and memory.before is None:
        return None
    coming = wanted - context.current.get(variant.name, 0)
    if cap is not None and (cap.is_short or cap.replicas is not None or cap.room(variant.gpus) < coming):
        return None
    if rules is None or variant == context.service.reference:
        return None if memory.before is None else NO_STEPS
    return rules


def held(context: Context, variant: Variant) -> Veto | None:
    """It was given up not long ago."""
    last = context.memory.given_up
    if context.policy.shift is None or last is None or last.variant != variant.name or context.now >= last.until:
        return None
    ago, left = (context.now - last.at) / 60, (last.until - context.now) / 60
    message = f"it was given up {ago:.0f} min ago ({last.why}), and is tried again in {left:.0f} min"
    return Veto("worse", Reason.MEASURED_WORSE, message)


@dataclass(frozen=True, slots=True)
class Shift:
    """A switch to `variant` by the steps of the `rules`, which is to have `wanted` replicas in the end."""

    context: Context
    lever: str
    variant: Variant
    rules: ShiftRules
    wanted: int

    @property
    def asked(self) -> int:
        return self.context.current.get(self.variant.name, 0)

    @property
    def ready(self) -> int:
        return self.context.ready(self.variant.name)

    @property
    def before(self) -> int:
        """Replicas of the old variant whose capacity is to be there all along."""
        return max(self.context.memory.before or 0, self.context.replicas)

    @property
    def counts(self) -> tuple[int, ...]:
        """Of the new variant, by step. A Service gives a small engine as much as a large one: there are as many as
        carry an even share of the load.
        """
        carried = self._evenly - self.context.replicas
        return tuple(min(max(ceil(step * self.wanted - 1e-9), carried, 1), self.wanted) for step in self.rules.steps)

    @property
    def next(self) -> int:
        return next((count for count in self.counts if count > self.asked), self.wanted)

    @property
    def is_last(self) -> bool:
        """Whether it has all its replicas, and no step that is watched."""
        return self.asked >= self.wanted and (not self.rules.steps or self.wanted > max(self.counts))

    @property
    def stays(self) -> int:
        """Replicas of the old variant that are left beside the ready ones of the new one."""
        left = self.before - self.context.stand_in(self.variant.name, self.ready)
        return min(max(left, self._evenly - self.ready, 1), self.context.replicas)

    @property
    def _evenly(self) -> int:
        """Replicas among which the load of late is an even share that the new variant carries."""
        demand = self.context.estimate.demand
        now = 0.0 if isinstance(demand, Missing) else demand.in_flight
        peak = max([now, *(point.in_flight for point in self.context.history)])
        return ceil(peak / self.context.capacity[self.variant.name].concurrency - 1e-9)

    @property
    def watched_for(self) -> float:
        """Seconds since the step was taken and all its replicas were ready."""
        pods = [pod for pod in self.context.pods if pod.variant == self.variant.name and pod.ready_since is not None]
        since = max([self.context.memory.changed_at or 0.0, *(pod.ready_since or 0.0 for pod in pods)])
        return self.context.now - since

    def is_short(self, known: Judged) -> bool:
        """Whether too little has come of it yet to say anything for or against it: first requests find caches cold."""
        return known.requests < FEW and self.watched_for < LONGEST * self.rules.watch

    @property
    def deadline(self) -> float:
        """Engines that fail while they are watched have as long to come back as they had to start."""
        return STARTING_LIMIT + self.rules.watch

    @property
    def is_late(self) -> bool:
        changed = self.context.memory.changed_at
        return changed is not None and self.context.now - changed > self.deadline

    def says(self, reason: Reason, message: str, replicas: dict[str, int] | None = None) -> Proposal:
        known = None if replicas is None else {**self.context.current, **replicas}
        return Proposal(self.lever, reason, message, known)


def shifted(shift: Shift, called_off: tuple[Reason, str] | None) -> Proposal:
    """What is next: of a switch that is not wanted any more (`called_off`) the way back. On doubt it waits."""
    context, veto = shift.context, guards.freshness(shift.context)
    if called_off is not None:
        return _back(shift, *called_off, veto)
    has = f"{shift.variant.name} has {shift.ready} of {shift.asked} replicas ready"
    if veto is not None:
        return Proposal(shift.lever, veto.reason, f"{has}; {veto.message}", vetoes=(veto,))
    known = judged(context, shift.variant)
    if known.worse and not shift.is_short(known):
        return _given_up(shift, Reason.MEASURED_WORSE, known.worse)
    if shift.ready >= shift.asked:
        return _stepped(shift, known)
    if shift.is_late:
        return _given_up(shift, Reason.NOT_READY, f"{has} after {shift.deadline / 60:.0f} min")
    return shift.says(Reason.SWITCHING, f"{has}; {context.serving.name} serves beside it")


def _stepped(shift: Shift, known: Judged) -> Proposal:
    """All that came of the new variant is ready, and no worse as far as is known."""
    context, old, target = shift.context, shift.context.serving.name, shift.variant.name
    if shift.is_last:
        return _done(shift)
    if context.replicas > shift.stays:
        goes = context.replicas - shift.stays
        message = f"{target} is ready with {shift.ready} replicas; {goes} of {old} go"
        return shift.says(Reason.SWITCHING, message, {old: shift.stays})
    watched, length, short = shift.watched_for, shift.rules.watch, shift.is_short(known)
    if watched < length or short:
        until = f"for {length:.0f} s{f' and {FEW:.0f} requests' if short else ''}"
        message = f"{target} is watched with {shift.asked} of {shift.wanted} replicas {until}: {known.seen}"
        return shift.says(Reason.WATCHED, message)
    if shift.asked >= shift.wanted:
        return _done(shift)
    message = (
        f"{target} was watched for {watched:.0f} s ({known.seen}) and gets {shift.next} of {shift.wanted} replicas"
    )
    return shift.says(Reason.SWITCHING, message, {target: shift.next})


def _done(shift: Shift) -> Proposal:
    context, old, target = shift.context, shift.context.serving.name, shift.variant.name
    message = f"{target} is ready with {shift.ready} replicas; {old} drains"
    replicas = {**context.current, old: 0}
    return Proposal(shift.lever, Reason.SWITCH_COMPLETE, message, replicas, serving=target, switching_to="")


def _given_up(shift: Shift, reason: Reason, why: str) -> Proposal:
    """The first step of the way back, and that it is not to be tried again at once."""
    context, last = shift.context, shift.context.memory.given_up
    times = last.times + 1 if last is not None and last.variant == shift.variant.name else 1
    given_up = GivenUp(shift.variant.name, context.now, times, why)
    back = _back(shift, reason, f"{shift.variant.name} is given up: {why}", None)
    known = dict(context.current) if back.replicas is None else back.replicas
    return Proposal(
        shift.lever,
        reason,
        back.message,
        known,
        serving=back.serving,
        switching_to=back.switching_to,
        given_up=given_up,
    )


def _back(shift: Shift, reason: Reason, why: str, veto: Veto | None) -> Proposal:
    """The old variant comes back first; then the new one goes, as far as ready ones of the old one carry."""
    context, old, target = shift.context, shift.context.serving.name, shift.variant.name
    full = min(shift.before, max(context.ceiling, context.replicas))
    if context.replicas < full:
        return shift.says(reason, f"{why}; {old} comes back with {full} replicas, then {target} goes", {old: full})
    missing = full - min(context.ready(old), full)
    stays = next((count for count in range(shift.ready) if context.stand_in(target, count) >= missing), shift.ready)
    if stays < shift.asked and veto is not None:
        return Proposal(shift.lever, veto.reason, f"{why}; {veto.message}", vetoes=(veto,))
    if not stays:
        replicas = {**context.current, target: 0}
        return Proposal(shift.lever, reason, f"{why}; {old} keeps serving", replicas, serving=old, switching_to="")
    if stays < shift.asked:
        message = (
            f"{why}; {shift.asked - stays} of {target} go, {old} has {context.ready(old)} of {full} replicas ready"
        )
        return shift.says(reason, message, {target: stays})
    return shift.says(reason, f"{why}; {target} stays until {old} has all of {full} replicas ready")
