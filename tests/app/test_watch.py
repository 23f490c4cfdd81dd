"""What the cycle keeps between two rounds: enough to judge by, bounded, and right when the clock is not."""

from dataclasses import replace
from typing import Any

import pytest

from fallow.app.watch import KEPT_READINGS, Watch
from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.lateness import Lateness
from fallow.domain.ledger import Ledger
from fallow.domain.plans import Plan
from fallow.domain.policies import Mode, ScalingRules
from fallow.domain.readings import Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Flow, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceMemory
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, conclude, estimate
from tests.support.budgets import account, books, budget, budgeted, step
from tests.support.builders import CHAT, NOW, Running, Scene, policy, readings, service

WINDOW = Seconds(120)


def shown(seconds: float, *, running: float = 1.0, **more: Any) -> Snapshot:
    """What a cycle sees at a time after NOW."""
    at = Instant(NOW + seconds)
    variants = {"bf16": Running(running=running)}
    return replace(Scene(variants=variants, now=at, readings=readings(variants, at=at)), **more).snapshot()


def remembered(watch: Watch, snapshot: Snapshot) -> Snapshot:
    return watch.remember(snapshot, estimate(snapshot, Concluded()))


def watched(times: list[float], **more: Any) -> Watch:
    watch = Watch(WINDOW)
    for seconds in times:
        remembered(watch, shown(seconds, **more))
    return watch


def every(seconds: float, until: float) -> list[float]:
    return [seconds * index for index in range(int(until / seconds) + 1)]


def test_a_new_watch_knows_nothing() -> None:
    watch = Watch(WINDOW)
    assert (watch.previous, watch.earlier(NOW), watch.history) == (None, None, {})


def test_how_long_steps_take_is_learned_anew_once_another_variant_serves() -> None:
    watch = watched(every(15, 60))
    one = shown(75)
    two = replace(one, cluster=replace(one.cluster, memories={CHAT: ServiceMemory(serving="bf16")}))
    same = decide(two, estimate(two, Concluded()))
    watch.keep(two, same)
    assert watch.habits[CHAT].arrivals.computed is None
    other = replace(same, services={CHAT: replace(same.services[CHAT], serving="l4")})
    watch.keep(two, other)
    assert watch.habits[CHAT].arrivals.computed == 0


def test_previous_are_the_readings_of_the_round_before() -> None:
    watch = watched([0, 15])
    assert watch.previous is not None
    assert watch.previous.at == NOW + 15


def test_earlier_are_the_oldest_readings_inside_the_window() -> None:
    watch = watched(every(15, 600))
    earlier = watch.earlier(Instant(NOW + 615))
    assert earlier is not None
    assert 90 <= NOW + 615 - earlier.at <= WINDOW


def test_readings_are_thinned_to_a_few_whatever_the_number_of_rounds() -> None:
    assert len(watched(every(1, 1000))._readings) <= KEPT_READINGS + 2


def test_the_round_itself_ends_the_history() -> None:
    watch = Watch(WINDOW)
    history = remembered(watch, shown(0, running=3)).history[CHAT]
    assert [(point.at, point.running) for point in history] == [(NOW, 3)]


def test_a_round_without_known_load_leaves_a_gap() -> None:
    watch = watched([0])
    remembered(watch, shown(15, readings=Readings(at=Instant(NOW + 15))))
    remembered(watch, shown(30))
    assert [point.at - NOW for point in watch.history[CHAT]] == [0, 30]


@pytest.mark.parametrize(
    ("down_window", "kept"), [(300, 450), (1200, 1800), (10, 90)], ids=["default", "long", "never below a minute"]
)
def test_history_reaches_over_the_longest_down_window_and_not_much_further(down_window: float, kept: float) -> None:
    rules = policy(scaling=ScalingRules(down_window=Seconds(down_window)))
    watch = watched(every(15, 3000), policy=rules)
    assert NOW + 3000 - watch.history[CHAT][0].at == kept


def test_the_history_of_a_deleted_service_goes() -> None:
    watch = watched([0])
    gone = shown(15)
    gone = replace(gone, cluster=replace(gone.cluster, services={}))
    remembered(watch, gone)
    assert watch.history == {}


def test_arrivals_are_learned_between_two_rounds_and_go_with_their_service() -> None:
    watch = watched([0, 15, 30])
    seen = remembered(watch, shown(45))
    gone = shown(60)
    after = remembered(watch, replace(gone, cluster=replace(gone.cluster, services={})))

    assert seen.habits[CHAT].arrivals.seconds == pytest.approx(45, rel=0.05)
    assert after.habits == {}


def test_a_new_process_goes_on_with_the_habits_that_the_ledger_tells() -> None:
    old = watched(every(15, 600))
    ledger = Ledger(NOW, NOW, habits=old.habits)
    new = Watch(WINDOW)

    def seen(seconds: float) -> Snapshot:
        snapshot = shown(seconds)
        return new.remember(snapshot, replace(estimate(snapshot, Concluded()), ledger=ledger))

    first = seen(900)
    assert first.habits[CHAT].arrivals == old.habits[CHAT].arrivals
    assert first.habits[CHAT].arrivals.seconds > 500
    # from then on its own count
    assert seen(915).habits[CHAT].arrivals.seconds > first.habits[CHAT].arrivals.seconds
    gone = shown(930)
    new.remember(
        replace(gone, cluster=replace(gone.cluster, services={})),
        replace(estimate(gone, Concluded()), services={}, ledger=ledger),
    )
    assert new.habits == {}


def test_a_clock_put_back_starts_history_and_window_anew() -> None:
    watch = watched(every(15, 600))
    remembered(watch, shown(-3600))
    assert [point.at for point in watch.history[CHAT]] == [NOW - 3600]
    remembered(watch, shown(-3585))
    earlier = watch.earlier(Instant(NOW - 3585))
    assert earlier is not None
    assert earlier.at == NOW - 3600


def test_a_clock_put_forward_leaves_nothing_of_the_time_before() -> None:
    watch = watched([*every(15, 600), 7200])
    assert [point.at for point in watch.history[CHAT]] == [NOW + 7200]


RESTING = ServiceMemory(serving="bf16", resting=True)


def carried_out(memory: ServiceMemory) -> tuple[Snapshot, Plan]:
    snapshot = shown(0)
    plan = decide(snapshot, estimate(snapshot, Concluded()))
    return snapshot, replace(plan, services={CHAT: replace(plan.services[CHAT], memory=memory)})


def test_the_own_memory_outweighs_a_status_that_has_not_come_back_yet() -> None:
    watch = Watch(WINDOW)
    watch.keep(*carried_out(RESTING))
    assert watch.recall(shown(15).cluster).memories[CHAT] == RESTING


def test_a_service_created_again_under_its_name_has_the_memory_of_its_status() -> None:
    watch = Watch(WINDOW)
    watch.keep(*carried_out(RESTING))
    view = shown(15).cluster
    view = replace(view, services={CHAT: replace(view.services[CHAT], uid="another")})
    assert watch.recall(view).memories[CHAT] == ServiceMemory()


def test_without_own_memory_the_status_counts() -> None:
    view = shown(0, memory=RESTING).cluster
    assert Watch(WINDOW).recall(view) == view


def test_missing_demand_is_never_kept_as_zero() -> None:
    watch = Watch(WINDOW)
    fault = Missing(Reason.SOURCE_UNREACHABLE, "refused")
    remembered(watch, shown(0, readings=Readings(at=NOW, engine_fault=fault)))
    assert watch.history[CHAT] == ()


@pytest.mark.parametrize(
    ("mode", "minimum", "changes", "learns"),
    [
        (Mode.ENFORCE, 1, {}, True),
        (Mode.RECOMMEND, 1, {}, False),
        (Mode.OBSERVE, 1, {}, False),
        (Mode.ENFORCE, 3, {}, False),
        (Mode.ENFORCE, 1, {"paused": True}, False),
    ],
    ids=["Fallow decides", "it only recommends", "it only looks", "declared replicas", "paused"],
)
def test_few_late_requests_are_to_the_credit_of_whoever_decides(
    mode: Mode, minimum: int, changes: dict[str, Any], *, learns: bool
) -> None:
    watch = Watch(WINDOW)
    for seconds in every(15, 1800):
        scene = Scene(
            service=service(minimum=minimum, **changes),
            policy=policy(mode),
            variants={"bf16": Running(3, running=20)},
            now=Instant(NOW + seconds),
        )
        snapshot = scene.snapshot()
        found = estimate(snapshot, Concluded())
        demand = found.services[CHAT].demand
        assert not isinstance(demand, Missing)
        known = replace(found.services[CHAT], demand=replace(demand, flow=Flow(5, 5, 5, 5, 5), late=0.0))
        kept = watch.remember(snapshot, replace(found, services={CHAT: known}))
    assert (kept.habits[CHAT].lateness.lenience > 0.5) == learns
    assert kept.habits[CHAT].lateness.most == 5


def test_who_is_late_because_a_budget_caps_replicas_teaches_nothing_about_crests() -> None:
    rules = budgeted(budget(step(0.1, Remedy.CAP_REPLICAS), energy=100))
    learned = {}
    for used in (5, 20):
        watch = Watch(WINDOW)
        for seconds in every(15, 600):
            scene = Scene(policy=rules, variants={"bf16": Running(3, running=20)}, now=Instant(NOW + seconds))
            snapshot = scene.snapshot()
            found = estimate(snapshot, conclude(books(account(used))))
            demand = found.services[CHAT].demand
            assert not isinstance(demand, Missing)
            late = replace(found.services[CHAT], demand=replace(demand, flow=Flow(5, 5, 5, 5, 5), late=4.0))
            kept = watch.remember(snapshot, replace(found, services={CHAT: late}))
        learned[used] = kept.habits[CHAT]
    assert learned[5].lateness != Lateness()
    assert learned[20].lateness == Lateness()
    assert learned[20].arrivals == learned[5].arrivals
