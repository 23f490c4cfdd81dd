"""The idle verdict: three signals must agree on quiet, one busy is enough for Active, and doubt is never quiet."""

from dataclasses import replace
from itertools import product

import pytest

from fallow.domain.estimates import IdleEvidence
from fallow.domain.figures import Missing
from fallow.domain.readings import Activity, ActivitySource, Readings, Share, Sharing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import IdleState
from fallow.footprint.hardware import idle_ceiling
from fallow.planner.demand import demand_of
from fallow.planner.quiet import idle_evidence
from tests.support.builders import CYCLE, NOW, Running, Scene, engine, gpu, readings, ref

MAX_AGE = Seconds(90)
OLD = Instant(NOW - 300)
POD = ref("bf16-0")
ABSENT = Missing(Reason.NO_SERIES, "not exported")
ENGINE = ActivitySource.ENGINE_ACTIVE


def evidence(scene: Scene, *, previous: Readings | None = None) -> IdleEvidence:
    snapshot = scene.snapshot()
    if previous is not None:
        snapshot = replace(snapshot, previous=previous)
    return idle_evidence(
        snapshot,
        scene.service,
        demand_of(snapshot, scene.service, MAX_AGE),
        max_age=MAX_AGE,
        idle_ceiling=idle_ceiling,
    )


def signals(requests: str, activity: str, watts: str) -> Readings:
    """One pod on one GPU, each signal in one of its four answers."""
    shown = engine(OLD if requests == "stale" else NOW, running=2.0 if requests == "busy" else 0.0)
    held = gpu("GPU-0", POD)
    activities: dict[str, float | Missing] = {"quiet": 0.0, "busy": 0.6, "missing": ABSENT, "stale": 0.0}
    draws: dict[str, float | Missing] = {"quiet": 122.0, "busy": 400.0, "missing": ABSENT, "stale": 122.0}
    held = replace(
        held,
        activity=gpu(active=activities[activity], at=OLD if activity == "stale" else NOW).activity,
        power=gpu(watts=draws[watts], at=OLD if watts == "stale" else NOW).power,
    )
    return Readings(at=NOW, engines={} if requests == "missing" else {POD: shown}, gpus={"GPU-0": held})


def verdict(answers: tuple[str, ...]) -> IdleState:
    if "busy" in answers:
        return IdleState.ACTIVE
    if "stale" in answers:
        return IdleState.STALE
    return IdleState.UNKNOWN if "missing" in answers else IdleState.STANDBY


TABLE = list(product(("quiet", "busy", "missing", "stale"), repeat=3))


@pytest.mark.parametrize("answers", TABLE, ids=["/".join(answers) for answers in TABLE])
def test_requests_activity_and_watts_give_one_verdict(answers: tuple[str, str, str]) -> None:
    found = evidence(Scene(readings=signals(*answers)))
    assert found.state is verdict(answers)
    assert len(found.missing) == sum(answer in {"missing", "stale"} for answer in answers)


def test_the_evidence_names_each_signal_with_its_numbers() -> None:
    found = evidence(Scene())
    assert found.requests == "0 running, 0 waiting, counters still"
    assert found.gpu_activity == "GPU active 0% of the time"
    assert found.watts == "122 W against an idle ceiling of 158 W"


def test_requests_finished_between_two_looks_are_work_although_none_runs_now() -> None:
    assert evidence(Scene(readings=readings({"bf16": Running()}, counted=5))).state is IdleState.ACTIVE


def test_an_engine_that_restarted_between_two_looks_is_taken_for_working() -> None:
    before = readings({"bf16": Running()}, at=Instant(NOW - CYCLE), counted=100)
    assert evidence(Scene(previous=before)).state is IdleState.ACTIVE


@pytest.mark.parametrize(
    "previous",
    [
        Readings(at=Instant(NOW - CYCLE)),
        readings({"bf16": Running()}, at=Instant(NOW - 3600)),
        readings({"bf16": Running()}, at=Instant(NOW + 3600)),
    ],
    ids=["did not see this pod", "is an hour old", "is an hour ahead"],
)
def test_counters_tell_nothing_when_the_look_before(previous: Readings) -> None:
    found = evidence(Scene(), previous=previous)
    assert found.state is IdleState.UNKNOWN
    assert found.missing[0].reason is Reason.NO_HISTORY


def test_the_first_look_since_the_start_is_not_quiet() -> None:
    scene = Scene()
    snapshot = replace(scene.snapshot(), previous=None)
    demand = demand_of(snapshot, scene.service, MAX_AGE)
    found = idle_evidence(snapshot, scene.service, demand, max_age=MAX_AGE, idle_ceiling=idle_ceiling)
    assert found.state is IdleState.UNKNOWN


def test_one_busy_gpu_among_quiet_ones_is_enough() -> None:
    two = {"bf16": Running(2)}
    seen = readings(two)
    gpus = {**seen.gpus, "GPU-bf16-1": gpu("GPU-bf16-1", ref("bf16-1"), active=0.5)}
    assert evidence(Scene(variants=two, readings=replace(seen, gpus=gpus))).state is IdleState.ACTIVE


def test_a_gpu_that_nobody_names_leaves_the_service_unknown() -> None:
    two = {"bf16": Running(2)}
    seen = readings(two)
    gpus = {uuid: one for uuid, one in seen.gpus.items() if one.holder == POD}
    found = evidence(Scene(variants=two, readings=replace(seen, gpus=gpus)))
    assert found.state is IdleState.UNKNOWN
    assert "names 0 of 1 GPUs of pod llm/bf16-1" in found.missing[0].detail


def test_a_node_whose_exporter_does_not_answer_is_named_though_others_do() -> None:
    fault = Missing(Reason.SOURCE_UNREACHABLE, "no GPU readings from node-a: connection refused")
    elsewhere = {"GPU-9": replace(gpu("GPU-9"), node="node-b")}
    found = evidence(Scene(readings=replace(readings({"bf16": Running()}), gpus=elsewhere, gpu_fault=fault)))
    assert found.missing == (fault, fault)


@pytest.mark.parametrize(("seconds", "reason"), [(5, Reason.NO_HISTORY), (91, Reason.NO_SERIES)], ids=["new", "older"])
def test_gpus_of_a_pod_that_just_became_ready_may_still_be_named(seconds: float, reason: Reason) -> None:
    snapshot = Scene(readings=replace(readings({"bf16": Running()}), gpus={})).snapshot()
    pods = {ref: replace(pod, ready_since=Instant(NOW - seconds)) for ref, pod in snapshot.cluster.pods.items()}
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, pods=pods))
    service = Scene().service
    demand = demand_of(snapshot, service, MAX_AGE)
    found = idle_evidence(snapshot, service, demand, max_age=MAX_AGE, idle_ceiling=idle_ceiling)
    assert found.state is IdleState.UNKNOWN
    assert {fault.reason for fault in found.missing} == {reason}


@pytest.mark.parametrize(
    ("seconds", "joules", "watts", "state"),
    [
        (95, 5000.0, 122.0, IdleState.STALE),
        (95, 5001.0, 122.0, IdleState.STANDBY),
        (60, 5000.0, 122.0, IdleState.STANDBY),
        (95, 0.0, 122.0, IdleState.STANDBY),
        (95, 5000.0, 0.0, IdleState.STANDBY),
    ],
    ids=["for long enough", "not at all", "for a short time", "as there is none", "as no power is drawn"],
)
def test_a_counter_that_stands_still(seconds: float, joules: float, watts: float, state: IdleState) -> None:
    seen, then = readings({"bf16": Running()}), Instant(NOW - seconds)
    counter = min(joules, 5000.0)
    before = Readings(at=then, gpus={"GPU-0": gpu("GPU-0", POD, at=then, joules=counter)})
    now = replace(seen, gpus={"GPU-0": gpu("GPU-0", POD, watts=watts, joules=joules)})
    found = evidence(Scene(readings=now, earlier=before))
    assert found.state is state
    assert all("stands still" in fault.detail for fault in found.missing)


OTHER = ref("notebook-0", "lab")


def shared(own: float | None, other: float | None, whole: float, watts: float) -> Readings:
    """The pod's GPU is a MIG instance of one that another pod works on as well; activities of each, and of the GPU."""
    parts = tuple(
        Share(name, Sharing.MIG, pod, 3, ABSENT if active is None else Activity(active, ENGINE, NOW), "3g.40gb")
        for name, pod, active in (("1", POD, own), ("2", OTHER, other))
    )
    held = replace(gpu("GPU-0", None, active=whole, watts=watts), shares=parts)
    return Readings(at=NOW, engines={POD: engine(NOW)}, gpus={"GPU-0": held})


@pytest.mark.parametrize(
    ("own", "other", "whole", "watts", "state"),
    [
        (0.0, 0.0, 0.0, 122.0, IdleState.STANDBY),
        (None, None, 0.0, 122.0, IdleState.STANDBY),
        (0.6, 0.0, 0.6, 400.0, IdleState.ACTIVE),
        (0.0, 0.6, 0.6, 400.0, IdleState.UNKNOWN),
        (None, None, 0.6, 400.0, IdleState.UNKNOWN),
        (None, None, 0.6, 122.0, IdleState.UNKNOWN),
    ],
    ids=[
        "all quiet",
        "the whole GPU quiet, parts not measured",
        "its own part busy",
        "only the neighbour's busy",
        "the whole GPU busy, parts not measured",
        "active, though it draws little",
    ],
)
def test_on_a_shared_gpu_a_pod_is_quiet_only_by_its_own_meters_or_where_the_whole_gpu_is(
    own: float | None, other: float | None, whole: float, watts: float, state: IdleState
) -> None:
    found = evidence(Scene(readings=shared(own, other, whole, watts)))
    assert found.state is state
    reasons = {fault.reason for fault in found.missing}
    assert reasons == ({Reason.NOT_IDENTIFIABLE} if state is IdleState.UNKNOWN else set()) or state is IdleState.ACTIVE


def test_a_pod_with_two_instances_of_one_gpu_is_seen_whole() -> None:
    scene = Scene(readings=shared(0.0, 0.0, 0.0, 122.0))
    seen = scene.readings
    assert seen is not None
    mine = tuple(replace(share, holder=POD) for share in seen.gpus["GPU-0"].shares)
    alone = replace(seen.gpus["GPU-0"], shares=mine, holder=POD)
    scene = Scene(readings=replace(seen, gpus={"GPU-0": alone}))
    snapshot = scene.snapshot()
    pods = {ref: replace(pod, gpus=2, instances={"3g.40gb": 2}) for ref, pod in snapshot.cluster.pods.items()}
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, pods=pods))
    demand = demand_of(snapshot, scene.service, MAX_AGE)
    found = idle_evidence(snapshot, scene.service, demand, max_age=MAX_AGE, idle_ceiling=idle_ceiling)
    assert found.state is IdleState.STANDBY


def test_an_exporter_that_does_not_answer_is_named_by_its_fault() -> None:
    fault = Missing(Reason.SOURCE_UNREACHABLE, "connection refused")
    found = evidence(Scene(readings=replace(readings({"bf16": Running()}), gpus={}, gpu_fault=fault)))
    assert found.state is IdleState.UNKNOWN
    assert found.missing == (fault, fault)


@pytest.mark.parametrize(
    ("variants", "state"),
    [
        ({"bf16": Running(2, ready=0)}, IdleState.UNKNOWN),
        ({"bf16": Running(0)}, IdleState.IDLE),
        ({}, IdleState.IDLE),
    ],
    ids=["none is ready", "none is wanted", "there is no Deployment"],
)
def test_without_ready_pods_only_a_service_that_wants_none_is_idle(
    variants: dict[str, Running], state: IdleState
) -> None:
    assert evidence(Scene(variants=variants)).state is state


def test_replicas_that_are_wanted_but_have_no_pods_are_unknown() -> None:
    scene = Scene(variants={"bf16": Running(2)})
    snapshot = scene.snapshot()
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, pods={}))
    demand = demand_of(snapshot, scene.service, MAX_AGE)
    found = idle_evidence(snapshot, scene.service, demand, max_age=MAX_AGE, idle_ceiling=idle_ceiling)
    assert found.state is IdleState.UNKNOWN
