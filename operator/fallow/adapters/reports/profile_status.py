"""The status of a ModelProfile: what was learned of it beside what is declared. Pure.

A figure that hardly moved is left as it was written, so that a steady load writes nothing for an hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fallow.adapters.reports import standing
from fallow.adapters.reports.texts import significant
from fallow.api.conditions import moment
from fallow.api.model_profile import LearnedLoad, LearnedPoint, ModelProfileStatus, ProfileSummary
from fallow.domain.learned import LoadPoint
from fallow.domain.plans import Condition
from fallow.domain.profiles import Difference, LearnedProfile, Profile
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds

JSON = Mapping[str, Any]

# of J/token and watts, of everything else that moves with the load, and of when it was last seen
CLOSE, NEAR, LATELY = 0.02, 0.10, Seconds(3600)
STEADY = ("joulesPerToken", "watts")
LEARNED = ("points", "contextWatts", "load")
MOVING = ("tokensPerSecond", "lowJoulesPerToken", "highJoulesPerToken", "samples")


@dataclass(frozen=True, slots=True)
class Known:
    """What a cycle knows of a profile besides its spec. `learned` None: nothing yet; `is_read`: the books were."""

    learned: LearnedProfile | None = None
    differing: Sequence[Difference] = ()
    is_read: bool = True


def profile_status(profile: Profile, known: Known, before: JSON, generation: int, now: Instant) -> dict[str, Any]:
    """While the books are not read, what was written of them stays."""
    learned = _learned(known, before) if known.is_read else {name: before.get(name) for name in LEARNED}
    points: Sequence[JSON] = learned["points"] or ()
    declared = (*profile.points, *profile.carried)
    costs = [
        *((one.joules_per_token, one.concurrency) for one in declared),
        *((float(one["joulesPerToken"]), float(one["concurrency"])) for one in points),
    ]
    best = min(costs, default=None)
    written = ModelProfileStatus(
        observed_generation=generation,
        conditions=standing.shown(_conditions(profile, known, len(costs)), before, generation, now),
        point_count=len(costs),
        best_joules_per_token=None if best is None else _round(best[0]),
        summary=ProfileSummary(best="" if best is None else f"{significant(best[0])} at {best[1]:g}"),
    ).as_json()
    return {**written, **{name: value for name, value in learned.items() if value is not None}}


def _learned(known: Known, before: JSON) -> dict[str, Any]:
    one = known.learned
    if one is None:
        return {"points": [], "load": before.get("load")}
    shown = {point.concurrency: point.as_json() for point in map(_point, one.points)}
    old = {part.get("concurrency"): part for part in before.get("points") or ()}
    return {
        "points": [_settled(part, old.get(level)) for level, part in sorted(shown.items())],
        "contextWatts": _kept(one.idle.best.value if one.idle_seen else None, before.get("contextWatts")),
        "load": _load(one, before.get("load")),
    }


def _point(point: LoadPoint) -> LearnedPoint:
    """At the whole number next to its mean concurrency that is still in its bin of powers of two."""
    lowest = 1 << (max(int(point.concurrency), 1).bit_length() - 1)
    highest = 2 * lowest - 1 if lowest < 256 else round(point.concurrency)
    figure = point.joules_per_token
    return LearnedPoint(
        concurrency=min(max(round(point.concurrency), lowest), max(highest, lowest)),
        tokens_per_second=_round(point.tokens_per_second),
        watts=_round(point.watts),
        joules_per_token=_round(figure.best.value),
        low_joules_per_token=_round(figure.low.value),
        high_joules_per_token=_round(figure.high.value),
        samples=max(int(point.windows), 1),
        last_seen=moment(point.last_seen),
    )


def _settled(new: dict[str, Any], old: JSON | None) -> dict[str, Any]:
    """The old point where nothing of the new one differs by what a person would look at twice."""
    if old is None or old.keys() != new.keys():
        return new
    if any(_differs(new[name], old[name], CLOSE) for name in STEADY):
        return new
    if any(_differs(new[name], old[name], NEAR) for name in MOVING):
        return new
    return new if _hours(new["lastSeen"]) != _hours(old["lastSeen"]) else dict(old)


def _load(one: LearnedProfile, before: Any) -> Any:
    """The last one that was seen stays while no replica starts."""
    if one.start is None:
        return before
    shown = LearnedLoad(
        seconds=_round(one.start.seconds),
        joules=None if one.start.joules is None else _round(one.start.joules.value),
    ).as_json()
    same = before is not None and before.keys() == shown.keys()
    return before if same and not any(_differs(shown[name], before[name], NEAR) for name in shown) else shown


def _kept(new: float | None, old: Any) -> float | None:
    if new is None:
        return None
    return float(old) if old is not None and not _differs(new, old, CLOSE) else _round(new)


def _conditions(profile: Profile, known: Known, points: int) -> Iterator[Condition]:
    if points:
        words = f"{points} points for {profile.gpus} x {profile.gpu_product}"
        yield Condition("Ready", status=True, reason=Reason.AS_ASKED, message=words)
    else:
        words = "no point is declared or learned yet"
        yield Condition("Ready", status=False, reason=Reason.NO_HISTORY, message=words)
    if profile.points:
        yield _agreement(known)


def _agreement(known: Known) -> Condition:
    """Whether what is declared holds here: of the bins that differ, the one that was measured longest is named."""
    learned, kind = known.learned, "PointsAgree"
    if learned is None or not learned.points:
        words = "nothing was measured of it here yet"
        return Condition(kind, status=None, reason=Reason.NO_HISTORY, message=words)
    if not known.differing:
        words = f"{len(learned.points)} learned points contradict none of the declared"
        return Condition(kind, status=True, reason=Reason.POINTS_AGREE, message=words)
    one = max(known.differing, key=lambda found: found.point.windows)
    point, seen = one.point, one.seen
    message = (
        f"at {significant(point.concurrency)} requests at once a token's work takes {significant(seen.best.value)} J "
        f"above loaded idle ({significant(seen.low.value)} to {significant(seen.high.value)}, "
        f"{point.windows:.0f} minutes of {learned.services} services, {significant(point.prompts)} prompt tokens "
        f"computed a token), spec.points say {significant(one.declared.value)} J; {len(known.differing)} of "
        f"{len(learned.points)} points differ. Precision is chosen by what was learned once both variants were "
        "measured; replicas are sized by spec.points: measure them again with prompts like these"
    )
    return Condition(kind, status=False, reason=Reason.POINTS_DIFFER, message=message)


def _differs(new: Any, old: Any, share: float) -> bool:
    return abs(float(new) - float(old)) > share * abs(float(old))


def _hours(shown: str) -> str:
    """Up to the hour, of a time such as 2026-11-28T14:02:00Z."""
    return shown[:13]


def _round(value: float) -> float:
    """Four significant digits: as fine as a counter's class, and short to read."""
    return float(f"{value:.4g}")
