"""Switches by steps: a small share first, watched, then more; back where it is worse; never less than before."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadPoint, VariantEnergy
from fallow.domain.policies import Mode, Policy, PrecisionRules, ShiftRules
from fallow.domain.readings import Histogram, Readings
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Joules, Seconds, Watts
from fallow.domain.workloads import GivenUp, Objectives, Service, ServiceMemory
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from tests.support.builders import (
    BF16,
    CHAT,
    FP8,
    H100,
    NOW,
    PRECISION,
    TIERS,
    Running,
    Scene,
    policy,
    profile,
    readings,
    service,
    watched,
    zone,
)
from tests.unit.planner.asking import planned

WATCH = 300.0
STEPS = ShiftRules((0.1, 0.5), Seconds(WATCH))
RULES = policy(precision=PRECISION, shift=STEPS)
OBJECTIVES = Objectives(ttft_p95=Seconds(1.0), itl_p95=Seconds(0.05))
BOTH = service(BF16, FP8, maximum=40)
SERVES = ServiceMemory(serving="bf16", changed_at=Instant(NOW - 3600))
UNDER_WAY = ServiceMemory(serving="bf16", switching_to="fp8", changed_at=Instant(NOW - 60), before=10)
# Cycles after which a switch is over where nothing is in its way: two watches of 10, and replicas that come and go.
OVER = 30
BOUNDS = (0.01, 0.05, 1.0, 5.0, float("inf"))


@dataclass(frozen=True)
class Did:
    """What each pod of a variant did: requests, those that failed, and those above both objectives."""

    requests: float = 100.0
    failed: float | None = 0.0
    late: float = 0.0

    def read(self, seen: Readings, variant: str) -> Readings:
        mine = [ref for ref in seen.engines if ref.name.startswith(variant)]
        if not mine:
            return seen
        counts = (0.0, self.requests - self.late, self.requests - self.late, self.requests, self.requests)
        itl = (0.0, self.requests - self.late, *(self.requests,) * 3)
        shown = replace(
            seen.engines[mine[0]],
            requests=self.requests,
            failed=self.failed,
            ttft=Histogram(BOUNDS, counts),
            itl=Histogram(BOUNDS, itl),
        )
        return replace(seen, engines={**seen.engines, **dict.fromkeys(mine, shown)})


NOTHING = Did(0.0, 0.0, 0.0)


def scene(
    bf16: int | Running, fp8: int | Running, memory: ServiceMemory = UNDER_WAY, *, new: Did = Did(), old: Did = Did(),
    load: float = 95.0, **more: Any,
) -> Scene:  # fmt: skip
    """Both variants beside each other on a dirty grid; the load is spread evenly over what is ready."""
    runs = {name: Running(one) if isinstance(one, int) else one for name, one in (("bf16", bf16), ("fp8", fp8))}
    ready = max(sum(one.is_ready for one in runs.values()), 1)
    variants = {name: replace(one, running=load * one.is_ready / ready) for name, one in runs.items()}
    seen, before = readings(variants), readings(variants, at=Instant(NOW - 15))
    plain = Scene(
        service=BOTH,
        variants=variants,
        memory=memory,
        policy=RULES,
        zone=zone(400),
        readings=new.read(old.read(seen, "bf16"), "fp8"),
        previous=before,
        earlier=NOTHING.read(NOTHING.read(before, "bf16"), "fp8"),
    )
    return replace(plain, **more)


def watched_enough(memory: ServiceMemory = UNDER_WAY, seconds: float = WATCH + 1) -> ServiceMemory:
    return replace(memory, changed_at=Instant(NOW - seconds))


def test_a_small_share_comes_first() -> None:
    plan = planned(scene(10, 0, SERVES))
    assert (plan.replicas, plan.memory.switching_to, plan.memory.before) == ({"bf16": 10, "fp8": 1}, "fp8", 10)
    assert plan.standing.message.endswith("1 of 10 replicas first, watched for 300 s")


def test_without_steps_in_the_policy_all_come_at_once() -> None:
    plan = planned(scene(10, 0, SERVES, policy=policy(precision=PRECISION)))
    assert (plan.replicas, plan.memory.before) == ({"bf16": 10, "fp8": 10}, None)


def test_the_reference_comes_back_at_once() -> None:
    plan = planned(scene(0, 10, replace(SERVES, serving="fp8"), zone=zone(100)))
    assert (plan.replicas, plan.memory.before) == ({"bf16": 10, "fp8": 10}, None)


@pytest.mark.parametrize(
    ("runs", "seconds", "then", "reason"),
    [
        ((10, Running(1, 0)), 60, {"bf16": 10, "fp8": 1}, Reason.SWITCHING),
        ((10, 1), 60, {"bf16": 9, "fp8": 1}, Reason.SWITCHING),
        ((9, 1), 60, {"bf16": 9, "fp8": 1}, Reason.WATCHED),
        ((9, 1), 301, {"bf16": 9, "fp8": 5}, Reason.SWITCHING),
        ((9, Running(5, 1)), 60, {"bf16": 9, "fp8": 5}, Reason.SWITCHING),
        ((9, Running(5, 4)), 60, {"bf16": 9, "fp8": 5}, Reason.SWITCHING),
        ((9, 5), 60, {"bf16": 5, "fp8": 5}, Reason.SWITCHING),
        ((5, 5), 60, {"bf16": 5, "fp8": 5}, Reason.WATCHED),
        ((5, 5), 301, {"bf16": 5, "fp8": 10}, Reason.SWITCHING),
        ((5, Running(10, 9)), 60, {"bf16": 5, "fp8": 10}, Reason.SWITCHING),
        ((5, 10), 60, {"bf16": 0, "fp8": 10}, Reason.SWITCH_COMPLETE),
    ],
)
def test_each_step_waits_for_its_replicas_lets_as_many_go_and_is_watched(
    runs: tuple[Any, Any], seconds: float, then: dict[str, int], reason: Reason
) -> None:
    plan = planned(scene(*runs, watched_enough(seconds=seconds)))
    assert (plan.replicas, plan.standing.reason) == (then, reason), plan.standing.message


@pytest.mark.parametrize(("count", "steps"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (20, [2, 10, 20])])
def test_steps_are_of_whole_replicas_and_none_is_taken_twice(count: int, steps: list[int]) -> None:
    world = World(count)
    world.run(2 * OVER)
    assert world.counts_of("fp8") == [0, *steps]
    assert world.asked == {"bf16": 0, "fp8": count}


def test_the_one_replica_of_a_service_is_watched_beside_the_old_one() -> None:
    memory = replace(UNDER_WAY, before=1)
    plan = planned(scene(1, 1, memory, load=5))
    assert (plan.replicas, plan.standing.reason) == ({"bf16": 1, "fp8": 1}, Reason.WATCHED)
    assert planned(scene(1, 1, watched_enough(memory), load=5)).replicas == {"bf16": 0, "fp8": 1}


def test_with_few_requests_a_step_is_watched_for_longer_and_not_for_ever() -> None:
    few = Did(requests=29)
    assert planned(scene(9, 1, watched_enough(), new=few)).standing.reason is Reason.WATCHED
    assert planned(scene(9, 1, watched_enough(seconds=4 * WATCH + 1), new=few)).replicas == {"bf16": 9, "fp8": 5}


def test_of_too_few_requests_nothing_is_held_against_it_until_the_watch_is_over() -> None:
    few = Did(requests=29, failed=29)
    assert planned(scene(9, 1, new=few)).standing.reason is Reason.WATCHED
    assert planned(scene(9, 1, watched_enough(seconds=4 * WATCH + 1), new=few)).memory.given_up is not None


def test_a_person_is_told_what_the_whole_switch_saves_and_not_its_first_step() -> None:
    rules, one = replace(RULES, mode=Mode.RECOMMEND), zone(400)
    priced_zone = replace(one.zone, price_per_kwh=0.3, currency="EUR", price_per_gpu_hour={H100: 2.0})
    known = (profile(BF16, (1, 100, 200), (10, 800, 400)), profile(FP8, (1, 100, 200), (10, 1000, 400)))
    busy = {"bf16": Running(10, running=95, tokens=15_000)}
    before = readings({"bf16": Running(10, running=95)}, at=Instant(NOW - 15))
    by_steps, at_once = (
        planned(
            scene(10, 0, SERVES, policy=each, zone=replace(one, zone=priced_zone), profiles=known, variants=busy,
                  readings=None, previous=before, earlier=None)
        ).pending
        for each in (rules, replace(rules, shift=None))
    )  # fmt: skip
    assert by_steps is not None
    assert at_once is not None
    assert by_steps.money is not None
    assert by_steps.money == at_once.money


def test_what_was_seen_is_told_while_a_step_is_watched() -> None:
    judging = replace(BOTH, objectives=OBJECTIVES)
    plan = planned(scene(9, 1, service=judging, new=Did(80, 0, 1), old=Did(90, 0, 0)))
    assert plan.standing.message == (
        "fp8 is watched with 1 of 10 replicas for 300 s: 80 requests; 0 of 80 failed, 0 of 810 as bf16; "
        "1 of 80 above objectives.ttft of 1000 ms, 0 of 810 as bf16; "
        "1 of 80 above objectives.itl of 50 ms, 0 of 810 as bf16"
    )


WORSE = {
    "failed": (Did(80, 9, 0), Did(90, 0, 0), "9 of 80 failed, 0 of 810 as bf16"),
    "late": (Did(80, 0, 20), Did(90, 0, 1), "20 of 80 above objectives.ttft of 1000 ms, 9 of 810 as bf16"),
}
NO_WORSE = {
    "clients that leave both alike": (Did(80, 9, 0), Did(90, 10, 0)),
    "late as the old one is": (Did(80, 0, 20), Did(90, 0, 22)),
    "one that may be chance": (Did(80, 1, 5), Did(90, 0, 0)),
    "failures that are not counted": (Did(80, None, 0), Did(90, None, 0)),
}


@pytest.mark.parametrize("case", WORSE)
def test_one_that_is_worse_is_given_up_and_the_old_one_comes_back_first(case: str) -> None:
    new, old, words = WORSE[case]
    judging = replace(BOTH, objectives=OBJECTIVES)
    plan = planned(scene(5, 5, service=judging, new=new, old=replace(old, requests=old.requests * 9 / 5)))
    assert plan.replicas == {"bf16": 10, "fp8": 5}
    assert plan.memory.switching_to == "fp8"
    assert plan.standing.reason is Reason.MEASURED_WORSE
    assert plan.standing.message.startswith("fp8 is given up: ")
    assert plan.memory.given_up is not None
    early = planned(scene(9, 1, service=judging, new=new, old=old))
    assert words in early.standing.message
    assert early.memory.given_up == GivenUp("fp8", NOW, 1, early.memory.given_up.why if early.memory.given_up else "")


@pytest.mark.parametrize("case", NO_WORSE)
def test_one_that_is_no_worse_goes_on(case: str) -> None:
    new, old = NO_WORSE[case]
    plan = planned(scene(9, 1, watched_enough(), service=replace(BOTH, objectives=OBJECTIVES), new=new, old=old))
    assert plan.replicas == {"bf16": 9, "fp8": 5}, plan.standing.message


def priced(joules: float, reach: float, windows: float = 10.0) -> VariantEnergy:
    """Of minutes at the requests that a replica has here."""
    figure = Figure(Joules(joules - reach), Joules(joules), Joules(joules + reach))
    vague = Missing(Reason.NO_HISTORY, "not asked for")
    known = LoadPoint(9.5, figure, vague, 1000.0, 1000 * joules, windows, prompts=4.0, last_seen=Instant(NOW - 60))
    return VariantEnergy(H100, vague, (known,), idle=Figure(Watts(118), Watts(120), Watts(122)))


@pytest.mark.parametrize(
    ("fp8", "goes"),
    [
        (priced(0.6, 0.02), True),
        (priced(0.51, 0.02), False),
        (priced(0.6, 0.2), False),
        (priced(0.6, 0.02, windows=4), False),
        (priced(0.4, 0.02), False),
    ],
    ids=["clearly", "a little", "within its bounds", "too few minutes", "less"],
)
def test_one_that_is_measured_to_take_clearly_more_is_given_up(fp8: VariantEnergy, *, goes: bool) -> None:
    rules = policy(precision=PrecisionRules(TIERS), shift=STEPS)
    energies = {"bf16": priced(0.5, 0.02), "fp8": fp8}
    for one, is_given_up in ((scene(9, 1, policy=rules), goes), (scene(9, 1), False)):
        # where no advantage is asked for, none is looked for
        snapshot = one.snapshot()
        plan = decide(snapshot, estimate(snapshot, Concluded(energies={CHAT: energies}))).services[CHAT]
        assert (plan.memory.given_up is not None) is is_given_up, plan.standing.message
        if is_given_up:
            assert "0.600 J/token, 0.500 as bf16, as measured here to 0.02" in plan.standing.message


def test_what_is_watched_is_told_whatever_else_holds_replicas_back() -> None:
    plan = planned(scene(9, 1, load=20))
    assert plan.standing.reason is Reason.WATCHED
    assert plan.vetoes


LEFT = replace(UNDER_WAY, given_up=GivenUp("fp8", Instant(NOW - 60), 1, "9 of 80 failed"))


@pytest.mark.parametrize(
    ("runs", "then", "is_over"),
    [
        ((5, 5), {"bf16": 10, "fp8": 5}, False),
        ((Running(10, 5), 5), {"bf16": 10, "fp8": 5}, False),
        ((Running(10, 8), 5), {"bf16": 10, "fp8": 2}, False),
        ((10, 5), {"bf16": 10, "fp8": 0}, True),
        ((10, Running(1, 0)), {"bf16": 10, "fp8": 0}, True),
    ],
)
def test_on_the_way_back_the_new_one_goes_as_the_old_one_gets_ready(
    runs: tuple[Any, Any], then: dict[str, int], *, is_over: bool
) -> None:
    plan = planned(scene(*runs, LEFT))
    assert (plan.replicas, plan.serving) == (then, "bf16")
    assert (plan.memory.switching_to, plan.memory.before) == ((None, None) if is_over else ("fp8", 10))


@pytest.mark.parametrize(
    ("ago", "times", "begins"),
    [(3599, 1, False), (3601, 1, True), (7199, 2, False), (7201, 2, True), (86_399, 9, False), (86_401, 9, True)],
)
def test_what_was_given_up_is_not_tried_for_an_hour_and_each_time_for_twice_as_long(
    ago: float, times: int, *, begins: bool
) -> None:
    plan = planned(scene(10, 0, replace(SERVES, given_up=GivenUp("fp8", Instant(NOW - ago), times, "9 of 80 failed"))))
    assert (plan.memory.switching_to == "fp8") is begins
    if not begins:
        assert plan.standing.reason is Reason.MEASURED_WORSE
        assert "it was given up" in plan.standing.message
        assert "(9 of 80 failed)" in plan.standing.message


def test_given_up_again_it_waits_for_longer_and_carried_through_it_is_forgotten() -> None:
    before = GivenUp("fp8", Instant(NOW - 90_000), 1, "9 of 80 failed")
    again = planned(scene(9, 1, replace(UNDER_WAY, given_up=before), new=Did(80, 9, 0)))
    assert again.memory.given_up is not None
    assert again.memory.given_up.times == 2
    done = planned(scene(5, 10, replace(UNDER_WAY, given_up=before)))
    assert (done.serving, done.memory.given_up) == ("fp8", None)


def test_one_that_does_not_get_ready_is_given_up() -> None:
    late = replace(UNDER_WAY, changed_at=Instant(NOW - 2101))
    plan = planned(scene(9, Running(5, 1), late))
    assert plan.replicas == {"bf16": 10, "fp8": 5}
    assert plan.standing.message.startswith("fp8 is given up: fp8 has 1 of 5 replicas ready after 35 min")


@pytest.mark.parametrize("rules", [policy(shift=STEPS), replace(RULES, mode=Mode.OBSERVE), None])
def test_a_switch_that_nobody_wants_any_more_goes_back_without_less_capacity(rules: Policy | None) -> None:
    plan = planned(scene(5, 5, policy=rules))
    assert (plan.replicas, plan.memory.given_up) == ({"bf16": 10, "fp8": 5}, None)


def test_a_policy_without_steps_any_more_brings_the_rest_at_once() -> None:
    rules = policy(precision=PRECISION)
    assert planned(scene(9, 1, policy=rules)).replicas == {"bf16": 9, "fp8": 10}
    assert planned(scene(9, 10, policy=rules)).replicas == {"bf16": 0, "fp8": 10}


def test_a_deployment_that_is_deleted_on_the_way_is_made_up_for() -> None:
    plan = planned(scene(5, 0, load=40))
    assert (plan.replicas["bf16"], plan.memory.switching_to, plan.memory.before) == (10, None, None)


def test_a_variant_taken_out_of_the_spec_on_the_way_is_made_up_for() -> None:
    plan = planned(scene(5, 5, service=replace(BOTH, variants=(BF16,))))
    assert plan.replicas == {"bf16": 10, "fp8": 5}


def test_of_an_engine_that_carries_less_there_are_as_many_as_carry_an_even_share() -> None:
    small = service(replace(BF16, max_concurrency=10), replace(FP8, max_concurrency=5), maximum=40, concurrency=None)
    # of 5 each, a fifth kept free, 9 replicas carry 35 requests that are spread evenly
    plan = planned(
        scene(5, 0, SERVES, service=replace(small, scaling=replace(small.scaling, max_replicas=40)), load=35)
    )
    assert plan.replicas["fp8"] == 4
    assert plan.memory.switching_to == "fp8"


def test_replicas_that_stand_in_for_others_count_as_capacity() -> None:
    """A tenth of the old ones are left, and carry all of the load together with the new ones."""
    memory = replace(UNDER_WAY, before=10)
    plan = planned(scene(5, 5, memory, load=80))
    assert plan.replicas == {"bf16": 5, "fp8": 5}
    grown = planned(scene(5, 5, memory, load=115))
    assert (grown.replicas, grown.memory.before) == ({"bf16": 7, "fp8": 5}, 12)


@dataclass
class World:
    """A service whose pods take two cycles to get ready, at a constant load; `new` is what each new pod does. Nothing
    is read in cycles that are `dark`.
    """

    count: int
    new: Did = field(default_factory=Did)
    service: Service = BOTH
    every: float = 30.0
    load: float | None = None
    dark: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        self.asked = {"bf16": self.count, "fp8": 0}
        self.ready = {"bf16": self.count, "fp8": 0}
        self.starting: dict[str, list[int]] = {"bf16": [], "fp8": []}
        self.memory = replace(SERVES, changed_at=Instant(NOW - 86_400))
        self.seen: list[dict[str, int]] = [dict(self.asked)]
        self.lowest = float(self.count)

    def run(self, cycles: int) -> None:
        for _ in range(cycles):
            self._cycle(is_dark=len(self.seen) - 1 in self.dark)

    def _cycle(self, *, is_dark: bool) -> None:
        load = 9.5 * self.count if self.load is None else self.load
        runs = {name: Running(self.asked[name], self.ready[name]) for name in self.asked}
        one = scene(runs["bf16"], runs["fp8"], self.memory, new=self.new, load=load, service=self.service)
        history = watched(load, sum(self.ready.values()))
        one = replace(one, history=history)
        if is_dark:
            one = replace(one, readings=readings(one.variants, at=Instant(NOW - 300)))
        plan = planned(one)
        if is_dark:
            assert all(plan.replicas[name] >= self.asked[name] for name in self.asked), plan.standing.message
        self.memory = aged(plan.memory, self.every)
        for name in self.asked:
            self._apply(name, plan.replicas.get(name, 0))
        self.lowest = min(self.lowest, sum(self.ready.values()))
        self.seen.append(dict(self.asked))

    def _apply(self, name: str, count: int) -> None:
        """Those that start go first."""
        self.asked[name] = count
        starting = [left - 1 for left in self.starting[name]]
        self.ready[name] += sum(1 for left in starting if left <= 0)
        starting = [left for left in starting if left > 0]
        over = self.ready[name] + len(starting) - count
        while over > 0 and starting:
            starting.pop()
            over -= 1
        self.ready[name] -= max(over, 0)
        self.starting[name] = starting + [2] * max(count - self.ready[name] - len(starting), 0)

    def counts_of(self, name: str) -> list[int]:
        found: list[int] = []
        for one in self.seen:
            if not found or one[name] != found[-1]:
                found.append(one[name])
        return found


def aged(memory: ServiceMemory, seconds: float) -> ServiceMemory:
    """As it reads so much later, at the same instant of the clock."""
    changed, last = memory.changed_at, memory.given_up
    return replace(
        memory,
        changed_at=None if changed is None else Instant(changed - seconds),
        given_up=None if last is None else replace(last, at=Instant(last.at - seconds)),
    )


COUNTS = st.integers(1, 20)


@settings(max_examples=40, deadline=None)
@given(count=COUNTS, dark=st.frozensets(st.integers(0, OVER + 5), max_size=20))
def test_a_good_variant_is_carried_through_in_bounded_time_and_ready_capacity_never_falls(
    count: int, dark: frozenset[int]
) -> None:
    world = World(count, dark=dark)
    world.run(OVER + len(dark))
    assert world.asked == {"bf16": 0, "fp8": count}
    assert world.memory.serving == "fp8"
    world.run(5)
    assert world.asked == {"bf16": 0, "fp8": count}
    assert world.lowest >= count


@settings(max_examples=40, deadline=None)
@given(count=COUNTS, worse_after=st.integers(3, OVER + 5), dark=st.frozensets(st.integers(0, 2 * OVER), max_size=20))
def test_a_bad_one_is_given_up_in_bounded_time_and_ready_capacity_never_falls(
    count: int, worse_after: int, dark: frozenset[int]
) -> None:
    world = World(count, dark=dark)
    world.run(worse_after)
    done = world.memory.serving == "fp8"
    world.new = Did(200, 60)
    world.run(len(dark) + 20)
    assert world.lowest >= count
    if not done:
        assert world.asked == {"bf16": count, "fp8": 0}
        assert (world.memory.serving, world.memory.switching_to) == ("bf16", None)
        assert world.memory.given_up is not None


@settings(max_examples=30, deadline=None)
@given(count=COUNTS, cut=st.integers(1, OVER))
def test_an_operator_that_starts_anew_goes_on_with_the_step(count: int, cut: int) -> None:
    """What only the process knew is gone: the goal."""
    world = World(count)
    world.run(cut)
    other = deepcopy(world)
    other.memory = replace(other.memory, goal=None)
    for one in (world, other):
        one.run(OVER + 5 - cut)
    assert world.counts_of("fp8") == other.counts_of("fp8")
    assert world.asked == other.asked == {"bf16": 0, "fp8": count}
