"""A policy's power cap, shared out among the services that it governs.

The GPU's own power controller keeps to a limit within milliseconds, so limits that together stay below the cap hold it
whatever the load does next: a cycle only moves what is free to where it is needed. Each GPU is left its lowest; then by
priority what a step in demand would take; then by priority the rest. Where even the lowest limits of all replicas
exceed the cap, services of low priority get fewer replicas. As in POLCA (ASPLOS'24): first slower, low priority first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from fallow.domain.estimates import Estimates
from fallow.domain.figures import Missing
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Policy, PowerRules
from fallow.domain.readings import GpuReading
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Watts
from fallow.domain.workloads import ServiceKey
from fallow.footprint.attribution import own_gpus
from fallow.footprint.hardware import hardware_of

# Controllers keep a limit in the mean over some ten milliseconds, not to the watt. A choice.
KEPT = 0.98
# What a GPU may come to draw before the next cycle, of what it draws now: requests in flight half as many again.
ROOM = 1.5
# A GPU that draws this much of its limit could use more, and gets it where that is more by a twentieth. Choices.
PRESSED, WORTH = 0.95, 1.05
# Limits are whole multiples of it, so that a watt more or less changes none.
STEP_WATTS = 5.0


@dataclass(frozen=True, slots=True)
class Cap:
    """What is left to one service: the `limit` of each of its GPUs (None: as high as they go) and its most `replicas`
    (None: as many as it needs). `unlimited`: some of what it draws no limit reaches.

    `paid`: replicas that the cap pays for once those that are too many have gone; `is_short` where that is fewer than
    the load asks for. At their lowest limits replicas may take, in W: `left` those that come now, and what is `free`
    beside, which nobody wants; those that come for others that went, what is `unclaimed`; all of them `reach`, while
    everybody of its priority or a higher one has what a step in demand takes. `is_turn`: whether it may have its best
    variant back before others of the policy.
    """

    policy: str
    total: Watts
    draw: Draw
    limit: Watts | None = None
    replicas: int | None = None
    paid: int = 0
    left: float = 0.0
    free: float = 0.0
    unclaimed: float = 0.0
    reach: float = 0.0
    is_turn: bool = True

    @property
    def is_short(self) -> bool:
        return self.paid < self.draw.wanted

    @property
    def unlimited(self) -> bool:
        return self.draw.loose > 0

    def affords(self, gpus: int) -> int:
        """Replicas of so many GPUs that it pays for altogether at their lowest limits, others not short of what a step
        in demand takes.
        """
        each = self.draw.each * gpus
        return max(int(self.reach / each + 1e-9), 0) if each > 0 else 0

    def room(self, gpus: int, gone: int = 0) -> int:
        """Replicas of so many GPUs that may come now, as many as have `gone` in their place; none where it is not known
        what one takes.
        """
        each = self.draw.each * gpus
        if each <= 0:
            return 0
        return max(int((self.left + self.free) / each + 1e-9), min(int(self.unclaimed / each + 1e-9), gone), 0)

    @property
    def silences(self) -> tuple[str, ...]:
        if not self.unlimited:
            return ()
        told = f"the power cap of {self.policy} holds it by replicas alone, since no agent limits the power of its GPUs"
        return (f"{told}: set agent.powerLimits in the chart",)


@dataclass(frozen=True, slots=True)
class Draw:
    """One service under a cap. Of its `gpus` that can be limited each draws `watts`, is limited to `now`, and can be
    limited to `lowest` up to `highest`; `loose` W are drawn by GPUs that cannot, `coming` GPUs are not seen yet.

    Of `wanted` replicas at least `floor` are to run; `current` are asked for. One takes `claim` W at its lowest, and
    `each` of its GPUs its part of that.
    """

    key: ServiceKey
    priority: int
    gpus: int
    watts: float
    now: float
    lowest: float
    highest: float
    loose: float = 0.0
    coming: int = 0
    current: int = 0
    wanted: int = 0
    floor: int = 1
    claim: float = 0.0
    each: float = 0.0

    @property
    def fixed(self) -> float:
        """W that no limit takes away."""
        return self.loose + self.coming * self.lowest

    @property
    def need(self) -> float:
        """What one draws, of its lowest; where the limit may be what holds it, as much as it can."""
        if not self.gpus:
            return 1.0
        pressed = self.watts >= PRESSED * self.now
        return max((self.highest if pressed else self.watts) / self.lowest, 1.0)

    @property
    def expected(self) -> float:
        """W of one GPU after a step in demand."""
        return min(max(self.watts * ROOM, self.lowest), self.highest)

    @property
    def provided(self) -> float:
        """W of all its replicas after a step in demand, or where the limit may be what holds them."""
        return max(self.wanted * self.claim * self.need, self.fixed + self.gpus * self.expected)

    @property
    def least(self) -> float:
        """W of its floor."""
        return min(self.wanted, self.floor) * self.claim


def caps(
    snapshot: Snapshot, estimates: Estimates, plans: Mapping[ServiceKey, ServicePlan]
) -> Mapping[ServiceKey, Cap | Exception]:
    """Of each service under an enforced cap; a fault is of one policy. What is not known takes nothing away."""
    found: dict[ServiceKey, Cap | Exception] = {}
    governed: dict[str, tuple[Policy, list[ServicePlan]]] = {}
    for plan in plans.values():
        if plan.policy is not None and plan.policy.caps_power:
            governed.setdefault(plan.policy.name, (plan.policy, []))[1].append(plan)
    for policy, governs in governed.values():
        try:
            found |= _caps(snapshot, estimates, policy, governs)
        except Exception as fault:  # noqa: BLE001 - told in the plans of its services, and logged there
            found |= {plan.key: fault for plan in governs}
    return found


def _caps(
    snapshot: Snapshot, estimates: Estimates, policy: Policy, plans: Sequence[ServicePlan]
) -> Mapping[ServiceKey, Cap]:
    rules = policy.power
    if rules is None:
        return {}
    draws = [_draw(snapshot, estimates, plan, rules) for plan in plans]
    most = rules.cap.value * KEPT
    allowed, replicas, paid = limits(most, draws), ceilings(most, draws), dealt(most, draws)
    (room, free), reach = _roomed(most, draws), _reach(most, draws)
    return {
        one.key: Cap(
            policy=policy.name,
            total=rules.cap,
            draw=one,
            limit=_watts(allowed.get(one.key)),
            replicas=replicas.get(one.key),
            paid=paid[one.key],
            left=room[one.key] * one.claim,
            free=max(free, 0.0),
            unclaimed=_unclaimed(most, draws),
            reach=reach[one.key],
        )
        for one in draws
    }


def in_turn(
    found: Mapping[ServiceKey, Cap | Exception], key: ServiceKey, plans: Mapping[ServiceKey, ServicePlan]
) -> Cap | Exception:
    """As the plans of the others leave it: one switch at a time takes what is free under a cap, and the best variant
    comes back to one service at a time, and first to those of higher priority that the cap keeps it from.
    """
    cap = found[key]
    if isinstance(cap, Exception):
        return cap
    others = [
        (plans[other], one)
        for other, one in found.items()
        if isinstance(one, Cap) and one.policy == cap.policy and other != key
    ]
    switching = any(plan.memory.switching_to is not None for plan, _ in others)
    is_first = not any(
        plan.standing.reason is Reason.POWER_CAP and one.draw.priority > cap.draw.priority for plan, one in others
    )
    return replace(cap, free=0.0 if switching else cap.free, is_turn=is_first and not switching)


def present_limit(snapshot: Snapshot, key: ServiceKey) -> Watts | None:
    """What its GPUs are limited to now; None where they are not."""
    bounds = [gpu.limit for pod in snapshot.pods_of(key) for gpu in own_gpus(snapshot, pod) if gpu.limit is not None]
    limited = [one.now for one in bounds if one.now < one.highest]
    return min(limited, default=None)


def limits(most: float, draws: Sequence[Draw]) -> Mapping[ServiceKey, float]:
    """W of each GPU by service, together at most `most` but for what is fixed and the lowest; empty where none binds.

    Those that stand stay as long as they hold and nobody who could use more would get it.
    """
    limited = [one for one in draws if one.gpus]
    left = most - sum(one.fixed for one in draws)
    if sum(one.gpus * one.highest for one in limited) <= left:
        return {}
    better = {key: watts // STEP_WATTS * STEP_WATTS for key, watts in _shared(left, limited).items()}
    better = {one.key: max(better[one.key], one.lowest) for one in limited}
    stands = sum(one.gpus * one.now for one in limited) <= left and all(one.now >= one.lowest for one in limited)
    if stands and not any(one.watts >= PRESSED * one.now and better[one.key] > WORTH * one.now for one in limited):
        return {one.key: one.now for one in limited}
    return better


def ceilings(most: float, draws: Sequence[Draw]) -> Mapping[ServiceKey, int]:
    """The most replicas of each service that is to have fewer than it wants."""
    found = dealt(most, draws)
    room = _room(most, draws)
    least = {one.key: min(found[one.key], max(one.current + room[one.key], one.floor)) for one in draws}
    return {one.key: least[one.key] for one in draws if least[one.key] < one.wanted}


def dealt(most: float, draws: Sequence[Draw]) -> Mapping[ServiceKey, int]:
    """The replicas that a cap pays for: everybody's floor at its lowest, then by priority all at what they need.

    Where that is too much, as many as it pays for at their lowest, since a watt does most there; of those of lower
    priority none beyond the floor.
    """
    counts = {one.key: min(one.wanted, one.floor) for one in draws}
    left = most - sum(counts[one.key] * one.claim for one in draws)
    for group in _by_priority(draws):
        needed = sum(one.wanted * one.claim * one.need - counts[one.key] * one.claim for one in group)
        if needed <= left:
            counts |= {one.key: one.wanted for one in group}
            left -= needed
            continue
        asked = sum((one.wanted - counts[one.key]) * one.claim for one in group)
        share = _share(left, asked)
        for one in group:
            counts[one.key] += int((one.wanted - counts[one.key]) * share + 1e-9)
        left = 0.0
    return counts


def _room(most: float, draws: Sequence[Draw]) -> Mapping[ServiceKey, int]:
    """How many replicas of each may come now: those that go draw on, and those of higher priority keep their room."""
    return _roomed(most, draws)[0]


def _reach(most: float, draws: Sequence[Draw]) -> Mapping[ServiceKey, float]:
    """W that each may come to draw while nobody of its priority or a higher one has to give way for it."""
    return {
        one.key: most
        - sum(
            other.least if other.priority < one.priority else other.provided for other in draws if other.key != one.key
        )
        for one in draws
    }


def _unclaimed(most: float, draws: Sequence[Draw]) -> float:
    """W of the cap beside what all that is there takes at its lowest."""
    return most - sum(one.fixed + one.gpus * one.lowest for one in draws)


def _roomed(most: float, draws: Sequence[Draw]) -> tuple[Mapping[ServiceKey, int], float]:
    """Replicas of each that may come now, and the W that are free beside."""
    free = _unclaimed(most, draws)
    found: dict[ServiceKey, int] = {}
    for group in _by_priority(draws):
        for one in group:
            more = max(one.wanted - one.current, 0)
            fits = one.claim == 0 or more * one.claim <= free
            found[one.key] = more if fits else max(int(free / one.claim), 0)
            free -= found[one.key] * one.claim
        free -= sum(one.gpus * (one.expected - one.lowest) for one in group)
    return found, free


def _shared(left: float, draws: Sequence[Draw]) -> Mapping[ServiceKey, float]:
    found = {one.key: one.lowest for one in draws}
    left -= sum(one.gpus * one.lowest for one in draws)
    stages: tuple[Callable[[Draw], float], ...] = (lambda one: one.expected, lambda one: one.highest)
    for upto in stages:
        for group in _by_priority(draws):
            asked = sum(one.gpus * (upto(one) - found[one.key]) for one in group)
            share = _share(left, asked)
            for one in group:
                found[one.key] += share * (upto(one) - found[one.key])
            left -= share * asked
    return found


def _share(left: float, asked: float) -> float:
    """Of what is asked, 0..1."""
    return min(max(left, 0.0) / asked, 1.0) if asked > 0 else 1.0


def _by_priority(draws: Iterable[Draw]) -> Iterator[list[Draw]]:
    """The highest first."""
    ordered = sorted(draws, key=lambda one: (-one.priority, one.key))
    return (list(group) for _, group in groupby(ordered, key=lambda one: one.priority))


def _draw(snapshot: Snapshot, estimates: Estimates, plan: ServicePlan, rules: PowerRules) -> Draw:
    service, pods = snapshot.cluster.services[plan.key], snapshot.pods_of(plan.key)
    held = [gpu for pod in pods for gpu in snapshot.readings.gpus_by_holder.get(pod.ref, ())]
    # of a paused service nothing is changed
    own = [] if service.paused else [gpu for pod in pods for gpu in own_gpus(snapshot, pod)]
    limited = [gpu for gpu in own if gpu.limit is not None]
    bounds = [one.limit for one in limited if one.limit is not None]
    highest = min((one.highest.value for one in bounds), default=0.0)
    lowest = max([highest * rules.lowest, *(one.lowest.value for one in bounds)])
    each = sum(_drawn(gpu) for gpu in limited) / len(limited) if limited else 0.0
    loose = _loose(estimates.services[plan.key].watts, held, limited)
    seen = len(held) + sum(1 for pod in pods if pod.ref in snapshot.readings.shares_by_holder)
    running = sum(1 for pod in pods if not pod.deleting)
    gpus = max((pod.gpus for pod in pods), default=service.reference.gpus)
    claim = gpus * lowest if limited else loose / max(running, 1)
    return Draw(
        key=plan.key,
        priority=service.priority,
        gpus=len(limited),
        watts=each,
        now=max((one.now.value for one in bounds), default=0.0),
        lowest=lowest,
        highest=highest,
        loose=loose,
        coming=max(sum(pod.gpus for pod in pods if pod.scheduled) - seen, 0),
        current=sum(workload.replicas for workload in snapshot.workloads_of(plan.key)),
        wanted=_wanted(plan),
        floor=max(service.scaling.min_replicas, service.requested or 0, 1),
        claim=claim,
        each=claim / gpus if gpus else 0.0,
    )


def _wanted(plan: ServicePlan) -> int:
    """Replicas that the load asks for: while one variant takes another's place, those of either."""
    if plan.memory.switching_to is None:
        return plan.total
    return max(plan.memory.goal or sum(plan.asked.values()), *plan.asked.values(), 0)


def _loose(watts: Watts | Missing, held: Sequence[GpuReading], limited: Sequence[GpuReading]) -> float:
    """What the service draws beside its limited GPUs: by its share of others, as far as that is known."""
    if isinstance(watts, Missing):
        return sum(_drawn(gpu) for gpu in held if gpu not in limited)
    return max(watts.value - sum(_drawn(gpu) for gpu in limited), 0.0)


def _drawn(gpu: GpuReading) -> float:
    """W; where it is not told, as much as it may."""
    if not isinstance(gpu.power, Missing):
        return gpu.power.watts.value
    return hardware_of(gpu.model_name).design.value if gpu.limit is None else gpu.limit.now.value


def _watts(value: float | None) -> Watts | None:
    return None if value is None else Watts(value)
