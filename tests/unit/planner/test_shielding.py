"""Which pods are shielded while they load, and which no longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.domain.plans import ShieldPod
from fallow.domain.policies import GuardRules, Mode, Policy
from fallow.domain.snapshots import Pod, Shield
from fallow.domain.units import Instant
from fallow.domain.workloads import Service
from fallow.planner.context import STARTING_LIMIT
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, estimate
from fallow.planner.shielding import shields
from tests.support.builders import CHAT, NOW, Running, Scene, pod, policy, service

OFF = policy(guards=GuardRules(startup_shield=False))
LONG_AGO = Instant(NOW - STARTING_LIMIT - 1)


def new(name: str = "new", **more: Any) -> Pod:
    """A pod that loads, which its node took a minute ago."""
    plain: dict[str, Any] = {"ready": False, "placed": Instant(NOW - 60), "started": Instant(NOW - 50)}
    return pod(name, **{**plain, **more})


def asked(
    *pods: Pod, under: Policy | None = None, without_policy: bool = False, chat: Service | None = None
) -> list[ShieldPod]:
    """What is asked for these pods of a service that is enforced, unless told otherwise."""
    scene = Scene(
        service=chat or service(),
        variants={"bf16": Running(0)},
        policy=None if without_policy else under or policy(),
    )
    one = scene.snapshot()
    one = replace(one, cluster=replace(one.cluster, pods={each.ref: each for each in pods}))
    return shields(one, decide(one, estimate(one, Concluded())))


def steps(*pods: Pod, **more: Any) -> list[bool]:
    """True for each shield that goes up, False for each that comes off."""
    return [change.up for change in asked(*pods, **more)]


def up(**more: Any) -> Pod:
    return new(shield=Shield.UP, **more)


def test_a_pod_that_loads_is_shielded() -> None:
    loading = new()

    assert asked(loading) == [ShieldPod(CHAT, loading.ref, loading.uid, up=True)]


def test_a_pod_that_is_ready_is_shielded_no_longer() -> None:
    loaded = up(ready=True)

    assert asked(loaded) == [ShieldPod(CHAT, loaded.ref, loaded.uid, up=False)]


@pytest.mark.parametrize(
    "quiet",
    [
        pytest.param(new(ready=True), id="ready"),
        pytest.param(up(), id="still loads"),
        pytest.param(new(shield=Shield.OVER), id="was ready before"),
        pytest.param(new(deleting=True), id="goes"),
        pytest.param(up(deleting=True), id="goes shielded"),
        pytest.param(new(placed=LONG_AGO), id="takes too long"),
        pytest.param(new(variant="other"), id="of no Deployment of Fallow's"),
        pytest.param(new(service=None, variant=None), id="of somebody else"),
    ],
)
def test_nothing_is_asked_for_a_pod_that(quiet: Pod) -> None:
    assert asked(quiet) == []


def test_a_pod_that_takes_too_long_is_shielded_no_longer() -> None:
    assert steps(up(placed=Instant(NOW - STARTING_LIMIT))) == []
    assert steps(up(placed=LONG_AGO)) == [False]


def test_a_container_that_starts_anew_does_not_begin_the_time_again() -> None:
    assert steps(up(placed=LONG_AGO, started=Instant(NOW - 5))) == [False]
    assert steps(new(placed=LONG_AGO, started=Instant(NOW - 5))) == []


def test_a_pod_that_waited_an_hour_for_its_node_is_shielded() -> None:
    made = Instant(NOW - 3600)

    assert steps(new(placed=None, started=None, node="", scheduled=False, created=made)) == [True]
    assert steps(new(created=made)) == [True]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND])
def test_without_a_policy_that_enforces_no_pod_is_shielded(mode: Mode) -> None:
    assert steps(new(), under=policy(mode=mode)) == []
    assert steps(new(), without_policy=True) == []
    assert steps(new(), under=OFF) == []


def test_where_the_policy_wants_no_shield_any_more_it_comes_off_at_once() -> None:
    assert steps(up(), under=OFF) == [False]
    assert steps(up(), under=policy(mode=Mode.OBSERVE)) == [False]


def test_what_was_shielded_stays_so_until_it_is_ready_where_nothing_is_known_of_its_policy_or_service() -> None:
    stranger = CHAT._replace(name="unreadable")

    assert steps(up(), without_policy=True) == []
    assert steps(up(key=stranger)) == []
    assert steps(up(ready=True), without_policy=True) == [False]
    assert steps(up(ready=True, key=stranger)) == [False]


def test_a_pod_that_lost_its_label_is_told_of_by_its_name() -> None:
    (change,) = asked(up(ready=True, service=None, variant=None))

    assert (change.up, change.key) == (False, (change.pod.namespace, change.pod.name))


def test_while_a_service_is_paused_shields_come_off_and_none_goes_up() -> None:
    paused = service(paused=True)

    assert steps(new(), chat=paused) == []
    assert steps(up(), chat=paused) == []
    assert steps(up(ready=True), chat=paused) == [False]


def test_the_pods_of_an_adopted_deployment_are_left_alone() -> None:
    assert steps(new(), chat=service(target="vllm-chat")) == []


def test_shields_that_come_off_go_first() -> None:
    assert steps(new("a"), up(name="b", ready=True)) == [False, True]


def test_a_pod_is_shielded_once_and_then_nothing_more_is_asked() -> None:
    """A plan applied to its own result asks for nothing more."""
    assert steps(new()) == [True]
    assert steps(up()) == []
    assert steps(up(ready=True)) == [False]
    assert steps(new(shield=Shield.OVER, ready=True)) == []
    assert steps(new(shield=Shield.OVER)) == []
