"""Whole cycles beside an autoscaler of others, which sets replicas between its bounds as it sees fit."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.errors import Unreachable
from fallow.domain.plans import RunVariant, SetFloor
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import Workload
from tests.support.builders import CHAT, policy, scaler, service, workload
from tests.support.plant import Plant

GREEN = policy()
ADOPTED = service(minimum=1, target="vllm-chat")
TO_ZERO = service(minimum=0, target="vllm-chat")


class Shared:
    """A plant whose Deployment an autoscaler holds between its bounds; `wants` is what it makes of its own metric."""

    def __init__(self, *owners: Autoscaler, replicas: int = 1, adopted: bool = True) -> None:
        self.plant = Plant(TO_ZERO if adopted else service(minimum=0), GREEN)
        self.wants = replicas
        one = workload("bf16", replicas, owned=not adopted, scalers=owners)
        self.plant.cluster.show(replace(self.plant.cluster.view(), workloads=(one,)))

    @property
    def workload(self) -> Workload:
        (found,) = self.plant.cluster.view().workloads
        return found

    @property
    def minimum(self) -> int:
        return self.workload.scalers[0].minimum

    async def pass_time(self, cycles: int = 1, *, load: float) -> CycleReport:
        self.plant.running = load
        for _ in range(cycles):
            report = await self.plant.pass_time()
            self.scale()
        return report

    def scale(self) -> None:
        """An HPA does nothing at zero."""
        one = self.workload
        if one.replicas and len(one.scalers) == 1:
            count = min(max(self.wants, one.scalers[0].minimum), one.scalers[0].maximum)
            view = self.plant.cluster.view()
            self.plant.cluster.show(replace(view, workloads=(replace(one, replicas=count),)))

    @property
    def numbers(self) -> list[tuple[str, int]]:
        return [(one.variant, one.replicas) for one in self.plant.cluster.changes if isinstance(one, RunVariant)]

    @property
    def floors(self) -> list[int]:
        return [one.minimum for one in self.plant.cluster.changes if isinstance(one, SetFloor)]


@pytest.mark.parametrize("adopted", [True, False], ids=["adopted", "Fallow's own"])
async def test_the_minimum_rises_and_falls_and_no_number_of_replicas_is_written(*, adopted: bool) -> None:
    shared = Shared(scaler(1), adopted=adopted)
    await shared.pass_time(40, load=38)
    assert (shared.minimum, shared.workload.replicas) == (4, 4)
    await shared.pass_time(120, load=3)
    assert shared.minimum == 1
    assert shared.numbers == []
    assert shared.floors == [2, 4, 3, 2, 1]


async def test_what_its_owner_declared_is_kept_beside_the_minimum() -> None:
    shared = Shared(scaler(1))
    await shared.pass_time(40, load=38)
    assert (shared.workload.scalers[0].declared, shared.workload.scalers[0].owners) == (1, 1)


async def test_a_steady_service_beside_an_autoscaler_costs_no_write() -> None:
    shared = Shared(scaler(1), replicas=3)
    await shared.pass_time(60, load=8)
    assert shared.plant.cluster.changes == []


async def test_a_rest_and_a_wake_are_replicas_from_and_to_zero() -> None:
    shared = Shared(scaler(1), replicas=2)
    await shared.pass_time(80, load=0)
    assert shared.numbers == [("bf16", 0)]
    shared.plant.declare(replace(TO_ZERO, wake_annotation="now"))
    await shared.pass_time(3, load=2)
    assert shared.numbers == [("bf16", 0), ("bf16", 1)]


async def test_two_owners_keep_fallow_from_writing_anything() -> None:
    shared = Shared(scaler(1, name="a"), scaler(1, name="b"), replicas=2)
    report = await shared.pass_time(40, load=90)
    assert shared.plant.cluster.changes == []
    assert report.plan.services[CHAT].standing.reason is Reason.TWO_OWNERS


async def test_an_autoscaler_that_comes_in_the_middle_of_a_cycle_is_seen() -> None:
    shared = Shared(replicas=1)
    shared.plant.running = 90

    def hpa_comes() -> None:
        one = replace(shared.workload, scalers=(scaler(1),))
        shared.plant.cluster.show(replace(shared.plant.cluster.view(), workloads=(one,)))

    shared.plant.metrics.meanwhile = hpa_comes
    for _ in range(10):
        report = await shared.plant.pass_time()
        if report.plan.services[CHAT].standing.reason is Reason.WRITE_FAILED:
            break
        shared.plant.metrics.meanwhile = hpa_comes
        shared.plant.cluster.show(
            replace(shared.plant.cluster.view(), workloads=(replace(shared.workload, scalers=()),))
        )
    assert "who owns its replicas changed meanwhile" in report.plan.services[CHAT].standing.message
    assert shared.numbers == []


async def test_a_minimum_that_nobody_claims_any_more_goes_back_to_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    shared = Shared(scaler(1))
    view = shared.plant.cluster.view()
    left = scaler(4, declared=1)
    shared.plant.cluster.show(replace(view, services={}, workloads=(), leftovers=(left,)))
    shared.plant.cluster.fault = Unreachable("no answer")
    with caplog.at_level(logging.INFO):
        await shared.plant.pass_time(3)
        assert caplog.text.count("HorizontalPodAutoscaler load in llm scales: no answer") == 1
        shared.plant.cluster.fault = None
        await shared.plant.pass_time(3)
    assert caplog.text.count("its minimum is its owner's own again, 1") == 1
    assert shared.plant.cluster.view().leftovers == ()
