"""How a service's memory moves from cycle to cycle: quiet time, requests through /scale, wakes."""

from dataclasses import replace
from zoneinfo import ZoneInfo

from fallow.domain.calendars import day_of
from fallow.domain.estimates import ServiceEstimate
from fallow.domain.policies import IdleRules, Policy
from fallow.domain.units import Instant, Joules, Seconds
from fallow.domain.workloads import IdleState, Service, ServiceMemory

DEFAULT_IDLE_AFTER = IdleRules().after


def settled(memory: ServiceMemory, service: Service, replicas: int | None, now: Instant) -> ServiceMemory:
    """What is remembered, set right by what runs (`replicas`; None without a Deployment) and by the clock.

    Somebody may have started a resting service by hand. An adopted Deployment that its owner left at zero rests too:
    Fallow starts it when asked. An instant still to come was noted under a wrong clock.
    """
    resting = memory.resting and not replicas
    if service.target is not None and replicas == 0 and service.requested != 0:
        resting = True
    noted = (
        memory.idle_state_since, memory.quiet_since, memory.changed_at, memory.request_at, memory.wake_started
    )  # fmt: skip
    if resting is memory.resting and all(at is None or at <= now for at in noted):
        return memory
    return replace(
        memory,
        resting=resting,
        idle_state_since=_past(memory.idle_state_since, now),
        quiet_since=_past(memory.quiet_since, now),
        changed_at=_past(memory.changed_at, now),
        request_at=_past(memory.request_at, now),
        wake_started=_past(memory.wake_started, now),
    )


def observed(
    memory: ServiceMemory, service: Service, estimate: ServiceEstimate, idle: IdleRules | None, now: Instant
) -> ServiceMemory:
    """The memory after looking, before deciding.

    Quiet counts only while it is watched: any doubt starts it anew, and so does a new word from the owner. While a
    service runs, what would wake it is taken note of, so that it does not wake a later rest.
    """
    called, handled = False, memory.wake_handled
    request_seen, request_at = memory.request_seen, memory.request_at
    if memory.resting:
        if service.requested is None:
            request_seen, request_at = None, None
    else:
        called = service.wake_annotation not in {"", handled}
        handled = service.wake_annotation
        if service.requested != request_seen:
            called = called or bool(service.requested)
            request_seen, request_at = service.requested, now if service.requested else None
    quiet_since = None
    if estimate.evidence.state is IdleState.STANDBY and estimate.waiting_outside == 0:
        quiet_since = now if called or memory.quiet_since is None else memory.quiet_since
    if request_at is not None and _is_over(request_at, quiet_since, idle, now):
        request_at = None
    state = _state(estimate, quiet_since, idle, now)
    before = (memory.idle_state, memory.quiet_since, memory.request_seen, memory.request_at, memory.wake_handled)
    if before == (state, quiet_since, request_seen, request_at, handled):
        return memory
    return replace(
        memory,
        idle_state=state,
        idle_state_since=memory.idle_state_since if state is memory.idle_state else now,
        quiet_since=quiet_since,
        request_seen=request_seen,
        request_at=request_at,
        wake_handled=handled,
    )


def reduced(memory: ServiceMemory, policy: Policy, now: Instant) -> ServiceMemory:
    """One change more that guards.maxReductionsPerDay counts."""
    today = day_of(now, ZoneInfo(policy.time_zone))
    return replace(memory, reductions=(memory.reductions if memory.reduced_on == today else 0) + 1, reduced_on=today)


def waking(memory: ServiceMemory, booked: Joules | None, now: Instant) -> ServiceMemory:
    """Begin a wake. `booked` is the energy on the service's books up to now, if they are open."""
    return replace(memory, wake_started=now, wake_booked=booked, wake_took=None, wake_used=None)


def woken(memory: ServiceMemory, ready: int, booked: Joules | None, now: Instant) -> ServiceMemory:
    """Close a running wake once a replica is ready: its seconds, and its joules where this process saw it begin."""
    if memory.wake_started is None or ready == 0:
        return memory
    used = None if booked is None or memory.wake_booked is None else booked - memory.wake_booked
    return replace(
        memory, wake_started=None, wake_booked=None, wake_took=Seconds(now - memory.wake_started), wake_used=used
    )


def _past(at: Instant | None, now: Instant) -> Instant | None:
    return None if at is None else min(at, now)


def _is_over(request_at: Instant, quiet_since: Instant | None, idle: IdleRules | None, now: Instant) -> bool:
    """What /scale asked for binds until the service was quiet for `idle.after` since it was asked."""
    return idle is not None and quiet_since is not None and now - max(quiet_since, request_at) >= idle.after


def _state(estimate: ServiceEstimate, quiet_since: Instant | None, idle: IdleRules | None, now: Instant) -> IdleState:
    state = estimate.evidence.state
    after = idle.after if idle else DEFAULT_IDLE_AFTER
    if state is IdleState.STANDBY and quiet_since is not None and now - quiet_since >= after:
        return IdleState.IDLE
    return state
