"""What must outlive a restart, between an InferenceService's status and the domain."""

from datetime import datetime

from fallow.api.conditions import instant, moment
from fallow.api.inference_service_status import (
    Evidence,
    GivenUp,
    Idle,
    InferenceServiceStatus,
    Proposal,
    Reductions,
    ScaleRequest,
    Transition,
    WakeStatus,
)
from fallow.domain import workloads
from fallow.domain.units import Instant, Joules, Seconds
from fallow.domain.workloads import IdleState, Proposed, ServiceMemory

# characters of a line of a status
LINE = 256


def recalled(status: InferenceServiceStatus) -> ServiceMemory:
    """The memory that a status holds; an empty status is an empty memory."""
    asked, wake = status.scale_request, status.wake or WakeStatus()
    return ServiceMemory(
        serving=status.variant or None,
        switching_to=status.transition.to if status.transition else None,
        approval=(status.transition.approval or "") if status.transition else "",
        before=status.transition.replicas if status.transition else None,
        given_up=_given_up(status.given_up),
        resting=status.idle.resting,
        idle_state=IdleState(status.idle.state),
        idle_state_since=_instant(status.idle.since),
        quiet_since=_instant(status.idle.quiet_since),
        changed_at=_instant(status.last_change),
        request_seen=asked.replicas if asked else None,
        request_at=_instant(asked.at) if asked else None,
        wake_handled=wake.asked,
        wake_started=_instant(wake.started_at),
        wake_took=None if wake.took_seconds is None else Seconds(wake.took_seconds),
        wake_used=None if wake.energy_joules is None else Joules(wake.energy_joules),
        proposal=_recalled(status.proposal),
        reductions=status.reductions.times if status.reductions else 0,
        reduced_on=status.reductions.day if status.reductions else "",
        moving=status.moving or 0,
    )


def remembered(
    status: InferenceServiceStatus, memory: ServiceMemory, evidence: Evidence | None = None
) -> InferenceServiceStatus:
    """The status with the memory written into it; `recalled` gives the same memory back, to the second."""
    return status.model_copy(
        update={
            "variant": memory.serving or "",
            "transition": _transition(memory),
            "given_up": None if memory.given_up is None else _told(memory.given_up),
            "idle": Idle(
                state=memory.idle_state.value,
                since=_moment(memory.idle_state_since),
                quiet_since=_moment(memory.quiet_since),
                resting=memory.resting,
                evidence=evidence or status.idle.evidence,
            ),
            "last_change": _moment(memory.changed_at),
            "scale_request": _request(memory),
            "wake": _wake(memory),
            "proposal": _proposal(memory, status.proposal),
            "moving": memory.moving or None,
            "reductions": Reductions(day=memory.reduced_on, times=memory.reductions) if memory.reductions else None,
        }
    )


def _transition(memory: ServiceMemory) -> Transition | None:
    if memory.switching_to is None:
        return None
    return Transition(
        from_=memory.serving or "",
        to=memory.switching_to,
        since=_moment(memory.changed_at),
        replicas=memory.before,
        approval=memory.approval or None,
    )


def _told(one: workloads.GivenUp) -> GivenUp:
    return GivenUp(variant=one.variant, at=moment(one.at), times=one.times, why=one.why[:LINE])


def _given_up(one: GivenUp | None) -> workloads.GivenUp | None:
    return None if one is None else workloads.GivenUp(one.variant, instant(one.at), one.times, one.why)


def _request(memory: ServiceMemory) -> ScaleRequest | None:
    if memory.request_seen is None:
        return None
    return ScaleRequest(replicas=memory.request_seen, at=_moment(memory.request_at))


def _wake(memory: ServiceMemory) -> WakeStatus | None:
    if not (memory.wake_handled or memory.wake_started is not None or memory.wake_took is not None):
        return None
    return WakeStatus(
        asked=memory.wake_handled,
        started_at=_moment(memory.wake_started),
        took_seconds=None if memory.wake_took is None else round(memory.wake_took, 1),
        energy_joules=None if memory.wake_used is None else round(memory.wake_used.value),
    )


def _recalled(proposal: Proposal | None) -> Proposed | None:
    return None if proposal is None else Proposed(proposal.id, proposal.what, instant(proposal.since))


def _proposal(memory: ServiceMemory, told: Proposal | None) -> Proposal | None:
    """As it is told, where it is proposed now; else its name alone."""
    one = memory.proposal
    if one is None or (told is not None and told.id == one.id):
        return None if one is None else told
    return Proposal(id=one.id, what=one.what, since=moment(one.since))


def _instant(moment_: datetime | None) -> Instant | None:
    return None if moment_ is None else instant(moment_)


def _moment(instant_: Instant | None) -> datetime | None:
    return None if instant_ is None else moment(instant_)
