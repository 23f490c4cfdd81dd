"""Whether a power cap asks for a lesser variant of a service: while it pays for fewer replicas than the load asks for,
and from then on until it pays for the best variant with room.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.policies import Policy
from fallow.domain.units import Seconds
from fallow.planner.caps import Cap
from fallow.planner.context import Context
from fallow.planner.pricing import prices_at_hand
from fallow.planner.switching import needed

# The best variant comes back where its replicas would be this share of those that the cap pays for, so that it is not
# short of them at once. As of peers that carry the load of a replica that goes.
FILLED = 0.9
# Of J/token of the best variant to those of a lesser one, where they are not known: what limits leave of a GPU's power.
UNKNOWN = 2.0


def may_lessen(policy: Policy | None) -> bool:
    """Whether it lets a lesser variant serve while its cap binds."""
    power = None if policy is None or not policy.caps_power or policy.precision is None else policy.power
    return power is not None and Remedy.PRECISION in power.on_bind


def noted(context: Context) -> Context:
    """With the time since when the cap asks for another variant than serves; doubt starts it anew."""
    if context.cap is None and may_lessen(context.policy):
        return context
    memory = context.memory
    since = (memory.cap_since or context.now) if _asks_another(context) else None
    return context if since == memory.cap_since else replace(context, memory=replace(memory, cap_since=since))


def lessened(context: Context) -> str | None:
    """Why a lesser variant is to serve, or to go on serving, in words; None where the cap does not ask for it."""
    cap, scaling = context.cap, context.policy.scaling
    if not may_lessen(context.policy):
        return None
    serving, best = context.serving, context.reference
    if cap is None:
        return None if serving == best else "it is not known yet what the power cap leaves"
    if serving == best:
        words = f"the power cap of {cap.policy} pays for {cap.paid} of {cap.draw.wanted} replicas"
        return f"{words} that the load asks for" if _has_lasted(context, scaling.up_window) else None
    if not _fits(context, cap):
        count, paid = _would_need(context, cap), cap.affords(best.gpus)
        return f"the power cap of {cap.policy} pays for {paid} replicas of {best.name}, it comes back at {count}"
    if not _has_lasted(context, scaling.down_window):
        return f"the power cap of {cap.policy} has had room for {best.name} for less than {scaling.down_window:.0f} s"
    return None if cap.is_turn else f"others under the power cap of {cap.policy} get their best variant first"


def _asks_another(context: Context) -> bool:
    cap = context.cap
    if cap is None or not may_lessen(context.policy) or context.memory.switching_to is not None:
        return False
    if isinstance(context.estimate.demand, Missing):
        return False
    return cap.is_short if context.serving == context.reference else _fits(context, cap)


def _has_lasted(context: Context, window: Seconds) -> bool:
    since = context.memory.cap_since
    return since is not None and context.now - since >= window


def _fits(context: Context, cap: Cap) -> bool:
    return not cap.is_short and _would_need(context, cap) <= cap.affords(context.reference.gpus)


def _would_need(context: Context, cap: Cap) -> int:
    """Replicas that the cap must pay for: as many as the load asks for, more by the ratio of J/token, FILLED."""
    known = prices_at_hand(context, context.serving)
    ratio = UNKNOWN if isinstance(known, Missing) else max(known.reference / known.other, 1.0)
    return ceil(max(needed(context, context.reference), cap.draw.wanted) * ratio / FILLED - 1e-9)
