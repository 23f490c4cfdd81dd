"""Whose savings are kept, and what the baseline is told of the demand."""

from dataclasses import replace

import pytest

from fallow.domain.counterfactual import BaselineKind, BaselineRule
from fallow.domain.figures import Missing
from fallow.domain.policies import Mode, Policy
from fallow.domain.workloads import Service, ServiceMemory
from fallow.planner.situations import situations
from tests.support.builders import (
    BF16,
    CHAT,
    FP8,
    H100,
    NOW,
    WAKE,
    Running,
    Scene,
    held_series,
    pod,
    policy,
    profile,
    readings,
    service,
)

STATIC = BaselineRule(BaselineKind.STATIC, replicas=4)


@pytest.mark.parametrize(
    ("rule", "one", "kept"),
    [
        (policy(), service(), BaselineRule()),
        (policy(Mode.RECOMMEND), service(), None),
        (policy(Mode.OBSERVE), service(), None),
        (policy(Mode.OBSERVE, baseline=STATIC), service(), STATIC),
        (policy(baseline=STATIC), service(), STATIC),
        (None, service(), None),
        (policy(), service(paused=True), None),
        (policy(), service(requested=0), None),
    ],
    ids=[
        "enforced",
        "recommended",
        "observed",
        "declared and observed",
        "declared",
        "no policy",
        "paused",
        "stopped",
    ],
)
def test_savings_are_kept_where_fallow_acts_or_a_baseline_is_declared(
    rule: Policy | None, one: Service, kept: BaselineRule | None
) -> None:
    found = situations(Scene(service=one, policy=rule).snapshot())
    assert (found[CHAT].rule if CHAT in found else None) == kept


def test_the_baseline_is_told_of_requests_in_work_waiting_and_held_outside() -> None:
    variants = {"bf16": Running(2, running=7, waiting=3)}
    seen = readings(variants, waiting=[held_series(5)])
    scene = Scene(service=service(wake=WAKE), variants=variants, readings=seen)
    assert situations(scene.snapshot())[CHAT].in_flight == 15


def test_a_pod_that_cannot_be_read_leaves_the_demand_unknown() -> None:
    variants = {"bf16": Running(2, running=7)}
    seen = readings(variants)
    one = {ref: engine for ref, engine in seen.engines.items() if ref.name != "bf16-1"}
    scene = Scene(variants=variants, readings=replace(seen, engines=one))
    assert isinstance(situations(scene.snapshot())[CHAT].in_flight, Missing)


def test_the_target_is_the_one_that_fallow_scales_by() -> None:
    assert situations(Scene(service=service(concurrency=10.0)).snapshot())[CHAT].target == 10
    points = (profile(BF16, (8, 1070, 486), (64, 5147, 610)),)
    known = situations(Scene(service=service(concurrency=None), profiles=points).snapshot())[CHAT]
    assert known.target == pytest.approx(64 * 0.8)
    assert known.profiles.keys() == {"bf16"}


def test_replicas_that_hold_gpus_count_by_variant_and_those_that_wait_for_a_place_do_not() -> None:
    scene = Scene(service=service(BF16, FP8), variants={"bf16": Running(3, ready=2), "fp8": Running(1)})
    snapshot = scene.snapshot()
    waits = pod("bf16-9", scheduled=False, ready=False)
    crowded = replace(snapshot.cluster, pods={**snapshot.cluster.pods, waits.ref: waits})
    one = situations(replace(snapshot, cluster=crowded))[CHAT]
    assert dict(one.held) == {"bf16": 3, "fp8": 1}
    assert one.starting == 1
    assert one.product == H100
    assert not one.resting


@pytest.mark.parametrize("throttled", [False, True])
def test_it_tells_whether_the_clocks_of_idle_engines_fall(throttled: bool) -> None:
    assert situations(Scene(throttled=throttled).snapshot())[CHAT].throttled is throttled


def test_rest_is_what_the_service_s_memory_says() -> None:
    scene = Scene(variants={"bf16": Running(0)}, memory=ServiceMemory(resting=True), now=NOW)
    one = situations(scene.snapshot())[CHAT]
    assert one.resting
    assert not one.held
    assert one.in_flight == 0
