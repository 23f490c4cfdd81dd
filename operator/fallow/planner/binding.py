"""Whether a power cap asks for a lesser variant of a service: while it pays for fewer replicas than the load asks for,
and from then on until the best variant fits under it with room for a step in demand.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.policies import Policy
from fallow.domain.units import Seconds
from fallow.footprint.hardware import hardware_of
from fallow.planner.caps import ROOM, Cap
from fallow.planner.context import Context
from fallow.planner.pricing import prices_at_hand
from fallow.planner.switching import needed


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
        return _shortage(cap) if _has_lasted(context, scaling.up_window) else None
    if not _fits(context, cap):
        words = f"{_would_draw(context, cap) / 1e3:.2f} kW, and the cap leaves {max(cap.reach, 0.0) / 1e3:.2f} kW"
        return f"the power cap of {cap.policy} binds: {best.name} may come to draw {words}"
    if not _has_lasted(context, scaling.down_window):
        return f"the power cap of {cap.policy} has had room for {best.name} for less than {scaling.down_window:.0f} s"
    return None if cap.is_turn else f"others under the power cap of {cap.policy} get their best variant first"


def _shortage(cap: Cap) -> str:
    return f"the power cap of {cap.policy} pays for {cap.paid} of {cap.draw.wanted} replicas that the load asks for"


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
    return not cap.is_short and _would_draw(context, cap) <= cap.reach


def _would_draw(context: Context, cap: Cap) -> float:
    """W of the best variant after a step in demand: what is drawn now by the ratio of J/token, half as much again.

    No GPU draws more than it can be set to, which counts where the ratio is not known, nor claims less than its lowest.
    """
    draw, best = cap.draw, context.reference
    gpus = needed(context, best) * best.gpus
    known = prices_at_hand(context, context.serving)
    design = inf if context.product is None else hardware_of(context.product).design.value
    highest = draw.highest if draw.gpus else design
    if isinstance(known, Missing):
        return gpus * highest
    now = draw.gpus * draw.need * draw.lowest + draw.loose
    each = now * known.reference / known.other / gpus * ROOM
    return gpus * min(max(each, draw.each), highest)
