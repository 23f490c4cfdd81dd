"""Cordons of nodes: whose they are, who may end them, and what is said where they are not allowed."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.adapters.cluster.cordons import ADVICE, Cordons
from fallow.adapters.cluster.mirror import NODES, Mirror
from fallow.domain.errors import Conflict, Refused
from fallow.domain.plans import Cordon, CordonNode, Outcome
from fallow.domain.snapshots import Node
from fallow.domain.units import Instant
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi

PATH = "/api/v1/nodes/node-a"
MARK = "fallow.dev/emptying"
AT = Instant(1_772_323_200.0)


class Bench:
    """A node; `see` is what the watch brings of it."""

    def __init__(self, *, dry_run: bool = False) -> None:
        self.api, self.mirror = FakeApi(), Mirror()
        self.api.hold(PATH, raw.node())
        self.see()
        self.cordons = Cordons(self.api, self.mirror, "fallow", dry_run=dry_run)

    def see(self) -> None:
        self.mirror.put(NODES, self.api.objects[PATH])

    def edit(self, **spec: Any) -> None:
        """Somebody else does."""
        self.mirror.put(NODES, self.api.edited(PATH, spec))

    @property
    def node(self) -> Node:
        return self.mirror.view().nodes["node-a"]

    async def to(self, cordon: Cordon) -> Outcome:
        return await self.cordons.apply(CordonNode("node-a", cordon, AT, "green", "why"))


async def test_it_is_noted_on_the_node_since_when_it_is_emptied() -> None:
    bench = Bench()
    await bench.to(Cordon.EMPTY)

    live = bench.api.objects[PATH]
    assert live["metadata"]["annotations"] == {MARK: "2026-03-01T00:00:00+00:00"}
    assert live["spec"]["unschedulable"] is True
    assert bench.api.calls == [("patch", PATH)]


async def test_what_was_written_is_read_back_by_an_operator_that_starts_anew() -> None:
    bench = Bench()
    for cordon in (Cordon.EMPTY, Cordon.KEEP):
        await bench.to(cordon)
        anew = Mirror()
        anew.put(NODES, bench.api.objects[PATH])
        assert anew.view().nodes["node-a"] == bench.node


async def test_nothing_is_left_behind() -> None:
    bench = Bench()
    await bench.to(Cordon.EMPTY)
    await bench.to(Cordon.FREE)

    live = bench.api.objects[PATH]
    assert (live["metadata"]["annotations"], live["spec"]["unschedulable"]) == ({}, None)


@pytest.mark.parametrize("cordon", Cordon)
async def test_a_node_that_somebody_else_cordoned_is_theirs(cordon: Cordon) -> None:
    bench = Bench()
    bench.edit(unschedulable=True)

    assert not (await bench.to(cordon)).wrote
    assert bench.api.calls == []


async def test_of_a_node_that_somebody_opened_only_the_note_changes() -> None:
    bench = Bench()
    await bench.to(Cordon.EMPTY)
    bench.edit(unschedulable=False)
    await bench.to(Cordon.KEEP)

    assert "spec" not in bench.api.bodies[-1]
    assert (bench.node.cordoned, bench.node.emptying, bench.node.kept_since) == (False, None, AT)


@pytest.mark.parametrize(
    ("annotation", "value", "pinned"),
    [
        ("karpenter.sh/do-not-disrupt", "true", True),
        ("cluster-autoscaler.kubernetes.io/scale-down-disabled", "true", True),
        ("cluster-autoscaler.kubernetes.io/scale-down-disabled", "false", False),
        ("karpenter.sh/do-not-disrupt", "30m", False),
    ],
)
async def test_a_node_that_autoscalers_are_not_to_remove_is_known(annotation: str, value: str, *, pinned: bool) -> None:
    """As they read it: on a node only "true" counts."""
    body, mirror = raw.node(), Mirror()
    body["metadata"]["annotations"] = {annotation: value}
    mirror.put(NODES, body)

    assert mirror.view().nodes["node-a"].pinned is pinned


async def test_a_note_that_is_no_time_is_nobodys() -> None:
    body = raw.node()
    body["metadata"]["annotations"] = {MARK: "soon"}
    mirror = Mirror()
    mirror.put(NODES, body)

    assert (mirror.view().nodes["node-a"].emptying, mirror.view().nodes["node-a"].kept_since) == (None, None)


async def test_whoever_writes_at_the_same_moment_wins() -> None:
    bench = Bench()
    bench.api.fault = Conflict("409 the object has been modified")

    assert (await bench.to(Cordon.EMPTY)).error == ""


async def test_without_the_right_it_is_said_how_to_give_it() -> None:
    bench = Bench()
    bench.api.fault = Refused("PATCH /api/v1/nodes/node-a: 403 forbidden")

    assert (await bench.to(Cordon.EMPTY)).error == f"PATCH /api/v1/nodes/node-a: 403 forbidden; {ADVICE}"


async def test_a_dry_run_writes_nothing() -> None:
    bench = Bench(dry_run=True)

    assert not (await bench.to(Cordon.EMPTY)).wrote
    assert bench.api.calls == []


async def test_a_node_that_is_gone_is_no_error() -> None:
    bench = Bench()
    bench.mirror = Mirror()
    bench.cordons = Cordons(bench.api, bench.mirror, "fallow")

    assert await bench.to(Cordon.FREE) == Outcome(CordonNode("node-a", Cordon.FREE, AT, "green", "why"), wrote=False)
