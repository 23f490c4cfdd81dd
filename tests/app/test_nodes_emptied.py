"""Whole cycles that empty a node, where the API server lets them and where it does not."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from fallow.adapters.reports.decision_log import LogReporter
from fallow.domain.errors import Refused, Unreachable
from fallow.domain.plans import Change, CordonNode, Outcome
from fallow.domain.policies import ConsolidationRules, NodeAllowance
from fallow.domain.snapshots import Pod
from fallow.domain.workloads import ServiceKey
from fallow.planner.emptying import REFUSED
from tests.support.builders import CYCLE, node, policy, service
from tests.support.plant import Plant

MOVES = policy(consolidation=ConsolidationRules(at_once=NodeAllowance(number=1)))
FORBIDDEN = Refused('PATCH /api/v1/nodes/b: 403 nodes "b" is forbidden')


class TwoNodes(Plant):
    """The third replica is alone on the second of two nodes of four GPUs; `asked`: when a node was to be patched."""

    def __init__(self) -> None:
        super().__init__(service(), MOVES)
        nodes = {name: node(name, gpus=4) for name in ("a", "b")}
        self.cluster.show(replace(self.cluster.view(), nodes=nodes))
        self.asked: list[float] = []
        self.fault: Refused | Unreachable | None = None
        self._apply = self.cluster.apply
        self.cluster.apply = self._answer  # type: ignore[method-assign]
        self.running = 27.0

    async def _answer(self, change: Change) -> Outcome:
        if isinstance(change, CordonNode):
            self.asked.append(self.clock.now)
            self.cluster.fault = self.fault
        outcome = await self._apply(change)
        self.cluster.fault = None
        return outcome

    def settle(self) -> None:
        super().settle()
        held = {f"GPU-{one.ref.name}": one.node for one in self.cluster.view().pods.values()}
        self.metrics.gpus |= {uuid: replace(self.metrics.gpus[uuid], node=name) for uuid, name in held.items()}

    def _pods_of(self, variant: str, replicas: int, key: ServiceKey) -> list[Pod]:
        return [
            replace(one, node="b" if number == 2 else "a")
            for number, one in enumerate(super()._pods_of(variant, replicas, key))
        ]

    async def until_asked(self) -> float:
        """Up to where the node is to be patched for the first time."""
        for _ in range(400):
            await self.pass_time()
            if self.asked:
                break
        return self.asked[0]


async def test_a_node_is_cordoned_once_and_its_replica_replaced() -> None:
    plant = TwoNodes()
    await plant.until_asked()
    await plant.pass_time()
    assert plant.cluster.view().nodes["b"].cordoned
    assert plant.replicas == {"bf16": 4}
    await plant.pass_time(20)
    assert len(plant.asked) == 1


async def test_a_cordon_that_is_refused_is_tried_later_and_later_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "fallow.decisions")
    plant = TwoNodes()
    plant.fault = FORBIDDEN
    plant.cycle = plant.started([LogReporter()])
    began = await plant.until_asked()
    report = await plant.pass_time(5500 // int(CYCLE))
    waited = [round(asked - began) for asked in plant.asked]
    assert waited == [0, 60, 180, 420, 900, 1860, 3660, 5460]
    assert [line for line in caplog.messages if "node" in line] == [f"node b was not changed (is emptied): {FORBIDDEN}"]
    assert report.plan.kept.policies == {"green": (f"b is not emptied: {REFUSED}",)}


async def test_what_is_told_while_it_is_refused_stays_the_same_when_it_is_tried_again() -> None:
    plant = TwoNodes()
    plant.fault = FORBIDDEN
    await plant.until_asked()
    told = {(await plant.pass_time()).plan.kept.policies["green"] for _ in range(40)}
    assert len(plant.asked) > 2
    assert told == {(f"b is not emptied: {REFUSED}",)}


async def test_a_right_that_is_given_is_noticed_within_half_an_hour_and_nothing_is_waited_for_then() -> None:
    plant = TwoNodes()
    plant.fault = FORBIDDEN
    await plant.until_asked()
    # by then tries are half an hour apart
    await plant.pass_time(3700 // int(CYCLE))
    plant.fault, tried = None, len(plant.asked)
    await plant.pass_time(1800 // int(CYCLE))
    assert plant.cluster.view().nodes["b"].cordoned
    assert len(plant.asked) == tried + 1


async def test_an_api_server_that_does_not_answer_is_asked_again_in_the_next_cycle() -> None:
    plant = TwoNodes()
    plant.fault = Unreachable("no answer within 10 s")
    await plant.until_asked()
    await plant.pass_time(5)
    assert len(plant.asked) == 6
