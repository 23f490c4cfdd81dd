"""Pods that go first: what is written, what is somebody else's, and what is taken back."""

from __future__ import annotations

import pytest

from fallow.adapters.cluster.leavers import Leavers
from fallow.adapters.cluster.mirror import PODS, Mirror
from fallow.domain.errors import Conflict, Refused, WriteError
from fallow.domain.readings import PodRef
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi

COST = "controller.kubernetes.io/pod-deletion-cost"
ONE, TWO = PodRef("llm", "chat-bf16-1"), PodRef("llm", "chat-bf16-2")


def path(pod: PodRef) -> str:
    return f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"


class Bench:
    """Two ready pods of one Deployment; the second one may have a cost already."""

    def __init__(self, cost: str | None = None, *, dry_run: bool = False) -> None:
        self.api, self.mirror = FakeApi(), Mirror()
        for pod in (ONE, TWO):
            annotations = {COST: cost} if cost is not None and pod == TWO else {}
            self.api.hold(path(pod), raw.pod(pod.name, annotations=annotations))
            self.mirror.put(PODS, self.api.objects[path(pod)])
        self.leavers = Leavers(self.api, self.mirror, "fallow", dry_run=dry_run)

    def cost(self, pod: PodRef) -> str | None:
        found: str | None = (self.api.objects[path(pod)]["metadata"].get("annotations") or {}).get(COST)
        return found


async def test_a_pod_is_told_once_to_go_first() -> None:
    bench = Bench()
    for _ in range(2):
        await bench.leavers.mark([ONE], [ONE, TWO])

    assert (bench.cost(ONE), bench.cost(TWO)) == ("-1000", None)
    assert bench.api.calls == [("patch", path(ONE))]


async def test_one_that_did_not_go_is_as_any_other_when_another_one_is_to() -> None:
    bench = Bench()
    await bench.leavers.mark([ONE], [ONE, TWO])
    await bench.leavers.mark([TWO], [ONE, TWO])

    assert (bench.cost(ONE), bench.cost(TWO)) == (None, "-1000")


async def test_what_somebody_else_wrote_stays() -> None:
    bench = Bench(cost="500")
    await bench.leavers.mark([TWO], [ONE, TWO])
    await bench.leavers.mark([ONE], [ONE, TWO])

    assert (bench.cost(ONE), bench.cost(TWO)) == ("-1000", "500")


@pytest.mark.parametrize("fault", [Conflict("it changed"), Refused("forbidden")])
async def test_a_pod_that_cannot_be_written_to_is_let_be(fault: WriteError) -> None:
    bench = Bench()
    bench.api.fault = fault
    await bench.leavers.mark([ONE, TWO], [ONE, TWO])

    assert len(bench.api.calls) == 2


async def test_a_dry_run_writes_nothing_and_a_pod_that_is_gone_is_nobody() -> None:
    dry = Bench(dry_run=True)
    await dry.leavers.mark([ONE], [ONE, TWO])
    await Bench().leavers.mark([PodRef("llm", "gone")], [])

    assert dry.api.calls == []
