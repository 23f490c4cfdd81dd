"""Whole cycles with fakes and a fixed clock: only differences are written, doubt and failure take nothing away."""

import asyncio
import logging
import random
from dataclasses import replace

import pytest

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.cycle import Cycle, Sources
from fallow.domain.errors import Conflict, Unreachable, WriteError
from fallow.domain.figures import Missing
from fallow.domain.plans import Change, ClearRequest, Outcome, RunVariant, ShieldPod
from fallow.domain.policies import Mode
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Shield
from fallow.domain.units import Seconds
from fallow.domain.workloads import ServiceKey, ServiceMemory
from fallow.planner.levers import replicas
from tests.support.builders import (
    BF16,
    CHAT,
    FP8,
    NOW,
    PRECISION,
    WAITING,
    WAKE,
    guards,
    node,
    pod,
    policy,
    service,
    workload,
)
from tests.support.carbon import InMemoryCarbonSource
from tests.support.cluster import FakeCluster
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metrics import FakeMetricSource
from tests.support.plant import Clock, FailingReporter, Listener, Plant

GREEN = policy(precision=PRECISION)
TO_ZERO = service(minimum=0, wake=WAKE)
ADOPTED_AT_ZERO = workload("bf16", 0, owned=False)


async def running(plant: Plant, load: float = 5.0, cycles: int = 30) -> Plant:
    """Long enough for a full down window and no dwell left."""
    plant.running = load
    await plant.pass_time(cycles)
    plant.cluster.changes.clear()
    return plant


def written(plant: Plant) -> list[tuple[str, int]]:
    return [(c.variant, c.replicas) for c in plant.cluster.changes if isinstance(c, RunVariant)]


async def test_a_new_service_is_started_once_and_then_left_alone() -> None:
    plant = Plant(service(minimum=2), GREEN)
    report = await plant.pass_time()
    assert written(plant) == [("bf16", 2)]
    assert [outcome.wrote for outcome in report.outcomes] == [True]
    await plant.pass_time(20)
    assert len(plant.cluster.changes) == 1


class SlowCluster(FakeCluster):
    """Takes a moment for each write; `most` were under way at once."""

    under_way = most = 0

    async def apply(self, change: Change) -> Outcome:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return await super().apply(change)


async def test_a_few_writes_are_under_way_at_once_and_outcomes_come_in_order() -> None:
    keys = [ServiceKey("llm", f"chat-{number}") for number in range(7)]
    services = {key: replace(service(), key=key, uid=str(key)) for key in keys}
    cluster = SlowCluster(ClusterView(nodes={"node-a": node()}, services=services, policies=(GREEN,)))
    sources = Sources(cluster, FakeMetricSource(), InMemoryCarbonSource())
    books = Bookkeeper(InMemoryLedgerStore(), Seconds(300))
    report = await Cycle(sources, books, (), window=Seconds(120), writes=3, clock=Clock()).run()

    assert cluster.most == 3
    assert [(outcome.key, outcome.wrote) for outcome in report.outcomes] == [(key, True) for key in keys]


async def test_a_steady_service_costs_no_write() -> None:
    plant = await running(Plant(service(), GREEN))
    report = await plant.pass_time(10)
    assert plant.cluster.changes == []
    assert [outcome.wrote for outcome in report.outcomes] == [False]


async def test_replicas_follow_the_load_up_by_steps_and_down_one_by_one() -> None:
    plant = await running(Plant(service(), GREEN))
    plant.running = 55
    await plant.pass_time(12)
    assert plant.replicas == {"bf16": 6}
    assert written(plant) == [("bf16", 2), ("bf16", 4), ("bf16", 6)]
    plant.cluster.changes.clear()
    plant.running = 15
    await plant.pass_time(150)
    assert written(plant) == [("bf16", 5), ("bf16", 4), ("bf16", 3), ("bf16", 2)]


async def test_a_quiet_service_rests_and_a_waiting_request_wakes_it() -> None:
    plant = await running(Plant(TO_ZERO, GREEN))
    plant.running = 0
    await plant.pass_time(45)
    assert plant.replicas == {"bf16": 0}
    await plant.pass_time(20)
    assert written(plant) == [("bf16", 0)]
    plant.hold_requests(2)
    report = await plant.pass_time()
    assert plant.replicas == {"bf16": 1}
    assert report.plan.services[CHAT].standing.reason is Reason.WAKE_WAITING
    plant.hold_requests(0)
    report = await plant.pass_time(2)
    assert report.plan.services[CHAT].memory.wake_took == Seconds(15)
    await plant.pass_time(10)
    assert plant.replicas == {"bf16": 1}


async def test_a_dirty_grid_moves_the_service_to_fp8_and_a_clean_one_back_without_a_moment_of_less() -> None:
    plant = await running(Plant(service(BF16, FP8), GREEN), load=15)
    assert plant.replicas == {"bf16": 2}
    ready = []

    async def watched(cycles: int) -> None:
        for _ in range(cycles):
            await plant.pass_time()
            ready.append(sum(plant.replicas[variant] for variant in plant.starts & set(plant.replicas)))

    plant.carbon.grams = 400.0
    await watched(5)
    assert plant.replicas == {"bf16": 0, "fp8": 2}
    plant.carbon.grams = 100.0
    await watched(40)
    assert plant.replicas == {"bf16": 2, "fp8": 0}
    assert min(ready) == 2


async def test_a_variant_that_never_gets_ready_is_given_up_and_the_old_one_never_touched() -> None:
    plant = await running(Plant(service(BF16, FP8), GREEN), load=15)
    plant.starts = frozenset({"bf16"})
    plant.carbon.grams = 400.0
    await plant.pass_time(130)
    assert ("fp8", 0) in written(plant)
    assert all(count == 2 for variant, count in written(plant) if variant == "bf16")
    assert plant.replicas["bf16"] == 2


FAULT = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")


@pytest.mark.parametrize("load", [0.0, 5.0], ids=["quiet", "little work"])
@pytest.mark.parametrize("broken", ["engine_fault", "gpu_fault", "waiting_fault", "stopped_at"])
async def test_a_fault_of_any_length_costs_no_replica_and_heals_by_itself(broken: str, load: float) -> None:
    plant = await running(Plant(TO_ZERO, GREEN), load=38)
    before = plant.replicas
    setattr(plant.metrics, broken, plant.clock.now if broken == "stopped_at" else FAULT)
    plant.running = load
    report = await plant.pass_time(60)
    assert plant.replicas == before
    fresh = next(c for c in report.plan.services[CHAT].conditions if c.type == "MetricsFresh")
    assert fresh.status is False
    setattr(plant.metrics, broken, None)
    report = await plant.pass_time(2)
    fresh = next(c for c in report.plan.services[CHAT].conditions if c.type == "MetricsFresh")
    assert fresh.status is True
    await plant.pass_time(120)
    assert sum(plant.replicas.values()) == (0 if load == 0 else 1)


async def test_a_restart_under_load_changes_nothing() -> None:
    plant = await running(Plant(service(), GREEN), load=38)
    for _ in range(3):
        plant.cycle = plant.started()
        await plant.pass_time(2)
    assert plant.cluster.changes == []


async def test_a_restart_forgets_nothing_of_how_requests_come_but_what_was_not_stored() -> None:
    plant = await running(Plant(service(), GREEN))
    stored = await plant.store.load()
    assert stored is not None
    plant.cycle = plant.started()
    after = (await plant.pass_time(2)).snapshot.habits[CHAT].arrivals
    assert after.seconds >= stored.habits[CHAT].arrivals.seconds > 200


async def test_a_restart_starts_the_quiet_time_anew() -> None:
    plant = await running(Plant(TO_ZERO, GREEN))
    plant.running = 0
    await plant.pass_time(35)
    plant.cycle = plant.started()
    await plant.pass_time(35)
    assert plant.replicas == {"bf16": 1}
    await plant.pass_time(10)
    assert plant.replicas == {"bf16": 0}


async def test_a_resting_service_rests_on_after_a_restart_and_wakes() -> None:
    plant = await running(Plant(TO_ZERO, GREEN))
    plant.running = 0
    await plant.pass_time(45)
    plant.cycle = plant.started()
    await plant.pass_time(5)
    assert plant.replicas == {"bf16": 0}
    plant.declare(replace(plant.service, wake_annotation="please"))
    await plant.pass_time()
    assert plant.replicas == {"bf16": 1}


async def test_a_service_that_rests_can_be_scaled_again_and_again() -> None:
    plant = await running(Plant(service(minimum=0, requested=2), GREEN), load=0, cycles=50)
    assert plant.replicas == {"bf16": 0}
    await plant.pass_time()
    assert plant.service.requested is None
    plant.declare(replace(plant.service, requested=2))
    await plant.pass_time()
    assert plant.replicas == {"bf16": 2}


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
async def test_a_policy_that_does_not_enforce_changes_no_replica(mode: Mode) -> None:
    plant = await running(Plant(TO_ZERO, replace(GREEN, mode=mode)))
    for load in (55.0, 5.0, 0.0):
        plant.running = load
        await plant.pass_time(60)
    assert plant.cluster.changes == []


async def test_a_paused_service_is_not_written_to_at_all() -> None:
    plant = await running(Plant(service(minimum=0, requested=1), GREEN))
    plant.declare(replace(plant.service, paused=True, requested=4))
    report = await plant.pass_time(3)
    assert plant.cluster.changes == []
    assert report.outcomes == ()


@pytest.mark.parametrize("what", ["changed", "deleted", "made anew"])
async def test_a_service_that_changed_while_it_was_decided_on_is_left_for_the_next_cycle(what: str) -> None:
    plant = await running(Plant(service(), GREEN))
    plant.running = 35
    await plant.pass_time(2)
    plant.cluster.changes.clear()
    old = plant.service

    def meddle() -> None:
        services = {"deleted": {}, "made anew": {CHAT: replace(old, uid="another")}}.get(
            what, {CHAT: replace(old, generation=old.generation + 1)}
        )
        plant.cluster.show(replace(plant.cluster.view(), services=services))

    plant.running = 75
    plant.metrics.meanwhile = meddle
    plant.clock.now += 120
    report = await plant.pass_time()
    assert plant.cluster.changes == []
    (outcome,) = report.outcomes
    assert ("is gone" if what != "changed" else "changed while") in outcome.error


async def test_less_is_not_written_on_readings_that_aged_during_the_cycle() -> None:
    plant = await running(Plant(TO_ZERO, replace(GREEN, guards=guards(metrics_max_age=30))))
    plant.running = 0
    await plant.pass_time(40)
    late = plant.store.load

    async def slow_load() -> object:
        plant.clock.now += 31
        return await late()

    plant.cycle._bookkeeper._reload = True
    plant.store.load = slow_load  # type: ignore[method-assign,assignment]
    report = await plant.pass_time()
    assert report.plan.services[CHAT].standing.reason is Reason.WRITE_FAILED
    assert "31 s old by now" in report.outcomes[0].error
    assert plant.replicas == {"bf16": 1}


@pytest.mark.parametrize(
    "fault", [Unreachable("no answer in 10 s"), Conflict("somebody wrote first")], ids=["unreachable", "conflict"]
)
async def test_a_write_that_failed_did_not_happen_and_is_tried_again(fault: WriteError) -> None:
    plant = await running(Plant(TO_ZERO, GREEN))
    plant.running = 0
    plant.cluster.fault = fault
    report = await plant.pass_time(45)
    told = report.plan.services[CHAT]
    assert (told.decision, told.standing.reason, told.standing.message) == (None, Reason.WRITE_FAILED, str(fault))
    assert told.memory.resting is False
    assert plant.replicas == {"bf16": 1}
    plant.cluster.fault = None
    report = await plant.pass_time()
    assert plant.replicas == {"bf16": 0}
    assert report.plan.services[CHAT].memory.resting


async def test_a_wake_that_could_not_be_written_is_not_forgotten() -> None:
    adopted = service(minimum=0, target="vllm-chat", wake_annotation="please")
    plant = Plant(adopted, GREEN)
    plant.cluster.show(replace(plant.cluster.view(), workloads=(ADOPTED_AT_ZERO,)))
    plant.cluster.refuses = RunVariant
    report = await plant.pass_time(3)
    assert report.plan.services[CHAT].memory.wake_handled == ""
    plant.cluster.refuses = None
    await plant.pass_time()
    assert plant.replicas == {"bf16": 1}


async def test_a_request_that_could_not_be_cleared_does_not_undo_the_rest() -> None:
    plant = await running(Plant(service(minimum=0, requested=1), GREEN))
    plant.cluster.refuses = ClearRequest
    plant.running = 0
    report = await plant.pass_time(60)
    assert plant.replicas == {"bf16": 0}
    assert written(plant) == [("bf16", 0)]
    assert report.plan.services[CHAT].memory.resting
    assert "admission webhook" in report.plan.services[CHAT].standing.message


async def test_a_refused_write_of_a_steady_service_does_not_freeze_its_memory() -> None:
    plant = await running(Plant(TO_ZERO, GREEN))
    plant.running = 0
    await plant.pass_time(20)
    plant.cluster.refuses = RunVariant
    plant.running = 3
    report = await plant.pass_time(2)
    assert report.plan.services[CHAT].memory.quiet_since is None


def starting(plant: Plant, count: int) -> None:
    """Pods that load, beside the one that serves."""
    pods = [pod(f"new-{number}", ready=False, started=None) for number in range(count)]
    plant.cluster.show(replace(plant.cluster.view(), pods={one.ref: one for one in pods}))


def shielded(plant: Plant) -> list[Shield]:
    return [one.shield for one in plant.cluster.view().pods.values()]


async def test_pods_that_load_are_shielded_and_asked_for_once() -> None:
    plant = await running(Plant(service(), GREEN))
    starting(plant, 3)
    await plant.cycle.run()
    await plant.cycle.run()
    assert shielded(plant) == [Shield.UP] * 3
    assert [change for change in plant.cluster.changes if not isinstance(change, ShieldPod)] == []
    assert len(plant.cluster.changes) == 3


async def test_a_shield_that_could_not_be_written_undoes_nothing_and_is_tried_again() -> None:
    plant = await running(Plant(service(), GREEN))
    plant.cluster.refuses = ShieldPod
    starting(plant, 1)
    report = await plant.cycle.run()
    told = report.plan.services[CHAT]
    assert [outcome.error for outcome in report.outcomes] == ["", "refused by an admission webhook"]
    assert told.standing.reason is not Reason.WRITE_FAILED
    plant.cluster.refuses = None
    await plant.cycle.run()
    assert shielded(plant) == [Shield.UP]


async def test_with_an_api_server_that_hardly_answers_a_cycle_leaves_shields_to_the_next() -> None:
    plant = await running(Plant(service(), GREEN))
    starting(plant, 40)
    quick = plant.cluster.apply

    async def slow(change: Change) -> Outcome:
        plant.clock.now += 10
        return await quick(change)

    plant.cluster.apply = slow  # type: ignore[method-assign]
    report = await plant.cycle.run()
    assert [outcome.error for outcome in report.outcomes] == [""] * 41
    assert shielded(plant).count(Shield.UP) == 2
    plant.cluster.apply = quick  # type: ignore[method-assign]
    await plant.cycle.run()
    assert shielded(plant) == [Shield.UP] * 40


async def test_a_reporter_that_fails_stops_neither_the_others_nor_the_next_cycle(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plant, listener = Plant(service(), GREEN), Listener()
    plant.cycle = plant.started([FailingReporter(), listener])
    with caplog.at_level(logging.ERROR):
        await plant.pass_time(2)
    assert len(listener.heard) == 2
    assert "FailingReporter failed" in caplog.text


async def test_a_ledger_that_cannot_be_read_stops_neither_decisions_nor_reports() -> None:
    plant = Plant(service(minimum=2), GREEN)
    plant.store.fault = Unreachable("no answer")
    report = await plant.pass_time()
    assert report.ledger is None
    assert plant.replicas == {"bf16": 2}


async def test_only_what_matters_is_asked_of_the_meters() -> None:
    plant = Plant(TO_ZERO, GREEN)
    view = plant.cluster.view()
    pods = [
        pod("ready"),
        pod("starting", ready=False),
        pod("homeless", address=""),
        replace(pod("foreign"), service=None, variant=None),
    ]
    bare = {"node-cpu": replace(view.nodes["node-a"], name="node-cpu", gpus=0)}
    plant.cluster.show(replace(view, pods={one.ref: one for one in pods}, nodes={**view.nodes, **bare}))
    await plant.cycle.run()
    ((at, scope),) = plant.metrics.reads
    assert at == NOW
    assert [target.pod.name for target in scope.engines] == ["ready"]
    assert scope.nodes == {"node-a": "10.0.1.1"}
    assert scope.waiting_metrics == {WAITING}


async def test_the_report_tells_what_it_took_and_what_was_asked() -> None:
    plant = Plant(service(), GREEN)
    report = await plant.cycle.run()
    assert (report.took, report.queries) == (Seconds(0), 3)
    assert report.ledger is not None


async def test_memory_found_in_the_status_is_used_by_the_first_cycle() -> None:
    plant = Plant(service(minimum=0), GREEN)
    resting = ServiceMemory(serving="bf16", resting=True)
    plant.cluster.show(replace(plant.cluster.view(), memories={CHAT: resting}, workloads=(ADOPTED_AT_ZERO,)))
    await plant.pass_time()
    assert plant.replicas == {"bf16": 0}


async def test_a_load_that_swings_around_a_threshold_does_not_make_replicas_swing() -> None:
    plant = await running(Plant(service(), GREEN), load=18, cycles=40)
    for cycle in range(240):
        plant.running = 24.0 if (cycle // 4) % 2 else 16.0
        await plant.pass_time()
    assert written(plant) in ([], [("bf16", 3)])


async def test_through_a_storm_of_faults_and_loads_capacity_never_falls_in_the_dark() -> None:
    """Seeded: faults come and go while load, grid and operator restarts change at random."""
    dice = random.Random(7)
    plant = await running(Plant(service(BF16, FP8, minimum=0, wake=WAKE), GREEN), load=20)
    faults = ("engine_fault", "gpu_fault", "waiting_fault")
    dark = 0
    for _ in range(600):
        plant.running = dice.choice([plant.running, plant.running, 0.0, 5.0, 30.0, 90.0])
        plant.carbon.grams = dice.choice([plant.carbon.grams, plant.carbon.grams, 100.0, 400.0])
        plant.starts = dice.choice([plant.starts, frozenset({"bf16", "fp8"}), frozenset({"bf16"})])
        for fault in faults:
            setattr(plant.metrics, fault, dice.choice([None, None, None, None, FAULT]))
        if dice.random() < 0.02:
            plant.cycle = plant.started()
        before, blind = plant.replicas, any(getattr(plant.metrics, fault) for fault in faults)
        await plant.pass_time()
        dark += blind
        fell = {variant for variant, count in plant.replicas.items() if count < before.get(variant, 0)}
        assert not (blind and fell and plant.cluster.view().pods), (before, plant.replicas)
        assert all(count <= plant.service.scaling.max_replicas for count in plant.replicas.values())
    assert dark > 100
    assert len(plant.cluster.changes) > 20


async def test_a_fault_in_a_plan_is_logged_with_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plant = await running(Plant(TO_ZERO, GREEN))
    monkeypatch.setattr(replicas, "propose", lambda _: 1 // 0)
    with caplog.at_level(logging.ERROR):
        report = await plant.pass_time()
    assert report.plan.services[CHAT].standing.reason is Reason.PLAN_FAILED
    assert plant.replicas == {"bf16": 1}
    assert "ZeroDivisionError" in caplog.text
    assert "_consult" in caplog.text
