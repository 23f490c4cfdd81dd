"""Shields on live pods: what is written, what is somebody else's, and what is left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fallow.adapters.cluster.mirror import PODS, Mirror
from fallow.adapters.cluster.shields import Shields
from fallow.domain.errors import Conflict, Refused
from fallow.domain.plans import Outcome, ShieldPod
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import Shield
from fallow.domain.workloads import ServiceKey
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi

PATH = "/api/v1/namespaces/llm/pods/chat-bf16-x"
KARPENTER = "karpenter.sh/do-not-disrupt"
AUTOSCALER = "cluster-autoscaler.kubernetes.io/safe-to-evict"
MARK = "fallow.dev/startup-shield"
POD, UID = PodRef("llm", "chat-bf16-x"), "pod-chat-bf16-x"


class Bench:
    """A pod that loads; `see` is what the watch brings of it."""

    def __init__(self, annotations: Mapping[str, str] | None = None, *, dry_run: bool = False) -> None:
        self.api, self.mirror = FakeApi(), Mirror()
        self.api.hold(PATH, raw.pod(ready=False, annotations={"prometheus.io/port": "8000", **(annotations or {})}))
        self.see()
        self.shields = Shields(self.api, self.mirror, "fallow", dry_run=dry_run)

    def see(self) -> None:
        self.mirror.put(PODS, self.api.objects[PATH])

    @property
    def annotations(self) -> dict[str, str]:
        """But for the one of the pod's own."""
        found: dict[str, str] = dict(self.api.objects[PATH]["metadata"]["annotations"])
        assert found.pop("prometheus.io/port") == "8000"
        return found

    def annotate(self, name: str, value: str) -> None:
        """Somebody else does."""
        metadata = self.api.objects[PATH]["metadata"]
        metadata["annotations"] = {**metadata["annotations"], name: value}
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)

    async def up(self) -> Outcome:
        return await self._apply(up=True)

    async def down(self) -> Outcome:
        return await self._apply(up=False)

    async def _apply(self, *, up: bool) -> Outcome:
        return await self.shields.apply(ShieldPod(ServiceKey("llm", "chat"), POD, UID, up))


async def test_both_autoscalers_of_nodes_are_told_and_what_fallow_added_is_noted() -> None:
    bench = Bench()
    await bench.up()

    assert bench.annotations == {KARPENTER: "true", AUTOSCALER: "false", MARK: f"{KARPENTER} {AUTOSCALER}"}
    assert bench.api.calls == [("patch", PATH)]


async def test_nothing_but_a_note_is_left_behind() -> None:
    bench = Bench()
    await bench.up()
    await bench.down()

    assert bench.annotations == {MARK: "over"}


async def test_an_operator_that_has_just_started_takes_away_what_the_one_before_added() -> None:
    bench = Bench()
    await bench.up()
    after = Bench(bench.annotations)
    await after.down()

    assert after.annotations == {MARK: "over"}


@pytest.mark.parametrize("value", ["true", "false", "2h"])
async def test_what_the_pod_came_with_is_never_touched(value: str) -> None:
    bench = Bench({KARPENTER: value})
    await bench.up()
    assert bench.annotations == {KARPENTER: value, AUTOSCALER: "false", MARK: AUTOSCALER}
    await bench.down()
    assert bench.annotations == {KARPENTER: value, MARK: "over"}


async def test_a_pod_that_came_with_both_is_not_written_to() -> None:
    bench = Bench({KARPENTER: "true", AUTOSCALER: "true"})

    assert not (await bench.up()).wrote
    assert bench.api.calls == []


async def test_a_template_may_say_that_there_is_to_be_none() -> None:
    bench = Bench({MARK: "over"})

    assert not (await bench.up()).wrote
    assert bench.mirror.view().pods[POD].shield is Shield.OVER


async def test_what_somebody_has_set_to_another_value_since_stays() -> None:
    bench = Bench()
    await bench.up()
    bench.annotate(KARPENTER, "4h")
    bench.see()
    await bench.down()

    assert bench.annotations == {KARPENTER: "4h", MARK: "over"}


async def test_a_note_of_other_names_takes_nothing_else_away() -> None:
    bench = Bench({MARK: "team prometheus.io/port", "team": "a"})
    await bench.down()

    assert bench.annotations == {MARK: "over", "team": "a"}


async def test_a_pod_that_changes_at_that_moment_is_left_to_the_next_cycle() -> None:
    bench = Bench()
    bench.annotate(KARPENTER, "4h")
    outcome = await bench.up()
    assert (outcome.wrote, outcome.error) == (False, "")
    assert bench.annotations == {KARPENTER: "4h"}
    bench.see()
    assert (await bench.up()).wrote
    assert bench.annotations[KARPENTER] == "4h"


async def test_a_pod_that_is_not_seen_any_more_is_not_written_to() -> None:
    bench = Bench()
    bench.mirror.drop(PODS, bench.api.objects[PATH])

    assert not (await bench.up()).wrote
    assert bench.api.calls == []


async def test_a_refusal_is_told_and_a_conflict_is_not() -> None:
    bench = Bench()
    bench.api.fault = Refused("PATCH: 403 forbidden")
    assert (await bench.up()).error == "PATCH: 403 forbidden"
    bench.api.fault = Conflict("PATCH: 409 modified")
    assert (await bench.up()).error == ""


async def test_a_dry_run_writes_nothing() -> None:
    bench = Bench(dry_run=True)
    outcome = await bench.up()

    assert (outcome.wrote, outcome.error, bench.api.calls) == (False, "", [])


def test_of_a_pods_annotations_only_these_are_kept_in_memory() -> None:
    bench = Bench({KARPENTER: "true", "notes": "x" * 1000})
    held: Any = bench.mirror.get(PODS, "llm", "chat-bf16-x")

    assert held["metadata"]["annotations"] == {KARPENTER: "true"}


@pytest.mark.parametrize(
    ("annotations", "pinned"),
    [
        ({}, False),
        ({KARPENTER: "true"}, True),
        ({KARPENTER: "2h"}, True),
        ({KARPENTER: "false"}, False),
        ({AUTOSCALER: "false"}, True),
        ({AUTOSCALER: "true"}, False),
    ],
    ids=["nothing", "not", "not for a while", "may be", "not, by the other", "may be, by the other"],
)
async def test_whose_owner_says_not_to_move_it_is_told_from_those_that_fallow_shields(
    annotations: dict[str, str], *, pinned: bool
) -> None:
    bench = Bench(annotations)
    assert bench.mirror.view().pods[POD].pinned is pinned
    await bench.up()
    assert bench.mirror.view().pods[POD].pinned is pinned
