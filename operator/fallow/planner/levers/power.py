"""Fewer replicas where a power cap does not even pay for all of them at their lowest power limit."""

from fallow.domain.reasons import Reason
from fallow.planner import autoscaled, guards
from fallow.planner.context import Context, Proposal

NAME = "Power"


def propose(context: Context) -> Proposal | None:
    """As many as the cap leaves to the service; None where that is no fewer than it has.

    Latency is no reason against it, nor a change just made: whoever caps power has weighed that.
    """
    cap = context.cap
    if cap is None or cap.replicas is None or cap.replicas >= context.replicas or context.memory.switching_to:
        return None
    if autoscaled.fixed(context.scaler) is not None:
        return None
    message = f"the power cap of {cap.total.value / 1e3:g} kW of {cap.policy} leaves it {cap.replicas} replicas"
    vetoes = guards.raised(guards.freshness(context))
    if vetoes:
        return Proposal(NAME, vetoes[0].reason, f"{message}; {vetoes[0].message}", vetoes=vetoes)
    return Proposal(NAME, Reason.POWER_CAP, message, {**context.current, context.serving.name: cap.replicas})
