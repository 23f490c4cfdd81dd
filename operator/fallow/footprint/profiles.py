"""What was learned of every service, taken together by the profile that it fits, and held against what is declared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import hypot

from fallow.domain.learned import Learned, LoadBin, Placement, Starts
from fallow.domain.profiles import Difference, LearnedProfile, Profile, ProfileKey, Start
from fallow.domain.units import Instant, Joules, Seconds
from fallow.domain.workloads import Service, ServiceKey
from fallow.footprint.above_idle import BETWEEN, above_idle, declared_above_idle
from fallow.footprint.bins import ENOUGH, load_points, together
from fallow.footprint.steps import LEAST_IDLE_WINDOWS, idle_draw


def learned_profiles(
    learned: Mapping[Placement, Learned], services: Mapping[ServiceKey, Service]
) -> Mapping[ProfileKey, LearnedProfile]:
    """J7 by model, precision, GPU type and count. What a service runs no more is of no known model and left out."""
    found: defaultdict[ProfileKey, list[Learned]] = defaultdict(list)
    for placement, one in learned.items():
        service = services.get(placement.service)
        variant = service.variant(placement.variant) if service is not None else None
        if variant is not None and variant.gpus == one.gpus:
            key = ProfileKey(variant.model, variant.precision.upper(), placement.product, one.gpus)
            found[key].append(one)
    return {key: _together(key, parts) for key, parts in found.items()}


def differences(profile: Profile, learned: LearnedProfile) -> tuple[Difference, ...]:
    """Bins between declared points whose energy of work is neither within its interval of theirs nor within what a
    point between two measured ones errs by.
    """
    if not profile.points:
        return ()
    found = []
    first, last = profile.points[0].concurrency, profile.points[-1].concurrency
    for point in learned.points:
        declared = declared_above_idle(profile, point.concurrency)
        if declared is None or not first <= point.concurrency <= last:
            continue
        seen = above_idle(point, learned.idle)
        if abs(seen.best.value - declared) > hypot(seen.high.value - seen.best.value, BETWEEN * declared):
            found.append(Difference(point, seen, Joules(declared)))
    return tuple(found)


def _together(key: ProfileKey, parts: Sequence[Learned]) -> LearnedProfile:
    bins: dict[int, LoadBin] = {}
    for one in parts:
        for index, part in one.bins.items():
            bins[index] = together(bins.get(index, LoadBin()), part)
    windows = sum(one.idle_windows for one in parts)
    watts = sum(one.idle_watts * one.idle_windows for one in parts) / windows if windows else 0.0
    idle = Learned(key.gpus, Instant(0), idle_watts=watts, idle_windows=windows)
    return LearnedProfile(
        points=tuple(point for point in load_points(bins) if point.windows >= ENOUGH),
        idle=idle_draw(idle, key.gpu_product, key.gpus),
        idle_seen=windows >= LEAST_IDLE_WINDOWS,
        services=len(parts),
        start=_start([one.starts for one in parts if one.starts is not None]),
    )


def _start(parts: Sequence[Starts]) -> Start | None:
    number, metered = sum(one.number for one in parts), sum(one.metered for one in parts)
    if number <= 0:
        return None
    joules = Joules(sum(one.joules for one in parts) / metered) if metered > 0 else None
    return Start(Seconds(sum(one.seconds for one in parts) / number), joules)
