"""Whether a variant that serves a part of the traffic is measured to be worse than the one that it is to replace.

Both have the same load at the same time, as a Service spreads it. What is not known says nothing against a variant, nor
does what may be chance.
"""

from dataclasses import dataclass

from scipy.special import bdtrc

from fallow.domain.estimates import Tally
from fallow.domain.figures import Missing
from fallow.domain.workloads import Variant
from fallow.planner.context import Context
from fallow.planner.pricing import HERE, Prices, prices, watched

# A share is too high where so many would come of an allowed one with a lesser chance. A watch has some ten looks that
# tell anything of their own, so that one in ten good variants is given up at most. A choice.
CHANCE = 0.01
# Objectives are 95th percentiles.
ABOVE = 0.05
# Minutes of work at one concurrency by which a variant can be seen to take more: their interval says how clearly.
ENOUGH = 5.0
NONE = Tally(0.0, None)


@dataclass(frozen=True, slots=True)
class Judged:
    """`worse`: in what, in words; empty where it is not. `seen`: what is known of it so far, of so many requests."""

    worse: str
    seen: str
    requests: float


def judged(context: Context, variant: Variant) -> Judged:
    old = context.serving
    new, other = (context.estimate.tallies.get(one.name, NONE) for one in (variant, old))
    attainment, wanted = context.service.objectives.attainment, context.service.objectives
    limits = {"TTFT": wanted.ttft_p95, "ITL": wanted.itl_p95}
    found: list[tuple[bool, str]] = []
    if new.failed is not None:
        failed = (0.0, 0.0) if other.failed is None else (other.failed, other.requests)
        more = _is_more((new.failed, new.requests), failed, 1.0 - attainment)
        found.append((more, _counted((new.failed, new.requests), "failed", old, failed)))
    for name, late in new.late.items():
        limit, of_old = limits[name], other.late.get(name, (0.0, 0.0))
        words = f"above objectives.{name.lower()}" + ("" if limit is None else f" of {limit * 1e3:.0f} ms")
        found.append((_is_more(late, of_old, ABOVE), _counted(late, words, old, of_old)))
    taken = _taken(context, variant)
    if taken is not None:
        words = f"{taken.other:.3f} J/token, {taken.reference:.3f} as {context.reference.name}"
        found.append((taken.other - taken.reference > taken.doubt, f"{words}, {taken.origin} to {taken.doubt:.3f}"))
    return Judged(
        worse="; ".join(words for more, words in found if more),
        seen="; ".join([f"{new.requests:.0f} requests", *(words for _, words in found)]),
        requests=new.requests,
    )


def _is_more(new: tuple[float, float], old: tuple[float, float], allowed: float) -> bool:
    """Whether so many of so many are clearly more than allowed, and than of the other variant. A binomial tail."""
    count, of = round(new[0]), round(new[1])
    share = max(allowed, old[0] / old[1] if old[1] > 0 else 0.0)
    return 0 < count <= of and share < 1.0 and float(bdtrc(count - 1, of, share)) < CHANCE


def _counted(new: tuple[float, float], what: str, variant: Variant, old: tuple[float, float]) -> str:
    words = f"{new[0]:.0f} of {new[1]:.0f} {what}"
    return f"{words}, {old[0]:.0f} of {old[1]:.0f} as {variant.name}" if old[1] > 0 else words


def _taken(context: Context, variant: Variant) -> Prices | None:
    """What both take at the requests in work that a replica of either has now, as this service's own minutes say.

    A policy that asks for no advantage does not ask for one here. On other GPUs J/token is not all that counts.
    """
    rules = context.policy.precision
    is_lesser = variant not in context.peers
    if is_lesser and rules is not None and not rules.require_measured_advantage:
        return None
    points = watched(context)
    level = max(sum(one.running / max(one.ready, 1) for one in points) / len(points), 1.0) if points else 1.0
    known = prices(context, variant, (level, level), enough=ENOUGH)
    return None if isinstance(known, Missing) or known.origin != HERE else known
