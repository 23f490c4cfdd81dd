"""Replicas that go leave nodes empty, where the policy consolidates; never more of them, nor the last spare one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.plans import RunVariant
from fallow.domain.policies import ConsolidationRules, Mode, Policy
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant
from fallow.domain.weekly import weekly
from fallow.domain.workloads import ServiceKey
from fallow.planner.changes import changes
from tests.support.builders import CHAT, NOW, Running, Scene, pod, policy, ref, service
from tests.unit.planner.asking import planned

ALWAYS = ConsolidationRules()


def placed(*nodes: str, others: tuple[tuple[str, int], ...] = (), minimum: int = 1, **more: Any) -> Snapshot:
    """Ready replicas on these nodes, and pods of nobody that hold GPUs."""
    given = {"policy": policy(consolidation=ALWAYS)} | more
    own = [replace(pod(f"bf16-{place}"), node=node, ready_since=Instant(NOW - 900)) for place, node in enumerate(nodes)]
    foreign = [
        replace(pod(f"x-{place}"), node=node, gpus=gpus, service=None, variant=None)
        for place, (node, gpus) in enumerate(others)
    ]
    scene = Scene(service=service(minimum=minimum), variants={"bf16": Running(len(nodes))}, **given)
    snapshot = scene.snapshot()
    pods = {one.ref: one for one in (*own, *foreign)}
    return replace(snapshot, cluster=replace(snapshot.cluster, pods=pods))


def gone(snapshot: Snapshot, to: int) -> tuple[PodRef, ...]:
    plan = planned(snapshot)
    (change,) = changes(snapshot, replace(plan, replicas={"bf16": to}, policy=snapshot.cluster.policies[0]))
    assert isinstance(change, RunVariant)
    return change.leaving


def left(snapshot: Snapshot, to: int) -> Counter[str]:
    """Replicas by node."""
    going = gone(snapshot, to)
    return Counter(one.node for one in snapshot.pods_of(CHAT) if one.ref not in going)


@pytest.mark.parametrize(
    ("nodes", "others", "to", "stay"),
    [
        (("a", "a", "b"), (), 2, {"a": 2}),
        (("a", "b", "b", "c"), (), 2, {"b": 2}),
        (("a", "b"), (("b", 4),), 1, {"b": 1}),
        (("a", "a", "b"), (("b", 4),), 1, {"b": 1}),
        (("a", "b"), (("a", 2), ("b", 1)), 1, {"a": 1}),
    ],
    ids=[
        "the one that is alone on its node",
        "both that are alone",
        "a node that somebody else holds is not emptied by it",
        "however many are on the other one",
        "of two such the emptier one",
    ],
)
def test_the_emptiest_nodes_are_left_first(
    nodes: tuple[str, ...], others: tuple[tuple[str, int], ...], to: int, stay: dict[str, int]
) -> None:
    assert left(placed(*nodes, others=others), to) == stay


def test_of_nodes_that_are_as_full_the_one_with_fewer_of_its_own_is_left_first() -> None:
    one = placed("a", "a", "b")
    beside = [
        replace(pod(f"y-{place}"), node=node, service=ServiceKey("llm", "other"))
        for place, node in enumerate(("a", "b", "b"))
    ]
    snapshot = replace(
        one, cluster=replace(one.cluster, pods={**one.cluster.pods, **{each.ref: each for each in beside}})
    )
    assert left(snapshot, 2) == {"a": 2}


def test_a_service_that_keeps_two_has_them_on_two_nodes() -> None:
    assert left(placed("a", "a", "b", minimum=2), 2) == {"a": 1, "b": 1}
    assert left(placed("a", "a", "a", minimum=2), 2) == {"a": 2}
    assert left(placed("a", "a", "b", minimum=1), 2) == {"a": 2}


@pytest.mark.parametrize(
    "other",
    [
        policy(),
        policy(Mode.RECOMMEND, consolidation=ALWAYS),
        policy(consolidation=ConsolidationRules((weekly("Mon 00:00-00:01 UTC"),))),
    ],
    ids=["a policy that does not", "one that recommends", "outside its windows"],
)
def test_kubernetes_chooses_under(other: Policy) -> None:
    assert gone(placed("a", "a", "b", policy=other), 2) == ()


def test_nobody_is_chosen_where_none_goes_or_all_do() -> None:
    assert gone(placed("a", "b"), 2) == ()
    assert gone(placed("a", "b"), 3) == ()
    assert gone(placed("a", "b"), 0) == ()


def test_who_is_not_ready_goes_first_and_is_counted() -> None:
    snapshot = placed("a", "a", "b")
    loading = replace(snapshot.cluster.pods[ref("bf16-1")], ready=False)
    pods = {**snapshot.cluster.pods, loading.ref: loading}
    snapshot = replace(snapshot, cluster=replace(snapshot.cluster, pods=pods))

    assert gone(snapshot, 2) == ()
    assert len(gone(snapshot, 1)) == 1


@given(
    nodes=st.lists(st.sampled_from("abcd"), min_size=1, max_size=10),
    others=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 4)), max_size=4),
    to=st.integers(1, 10),
    minimum=st.integers(0, 3),
)
def test_as_many_go_as_are_to_and_nodes_are_used_no_more_than_by_chance(
    nodes: list[str], others: list[tuple[str, int]], to: int, minimum: int
) -> None:
    snapshot = placed(*nodes, others=tuple(others), minimum=minimum)
    going = gone(snapshot, to)
    stays = left(snapshot, to)

    assert len(going) == len(set(going)) == max(len(nodes) - to, 0)
    apart = 2 if minimum >= 2 else 1
    assert len(stays) >= min(apart, len(set(nodes)), max(to, 1))
    if not others and minimum < 2:
        # the fullest nodes first are the fewest that hold so many
        fullest, room, needed = Counter(nodes).most_common(), min(to, len(nodes)), 0
        while room > 0:
            room, needed = room - fullest[needed][1], needed + 1
        assert len(stays) == needed
