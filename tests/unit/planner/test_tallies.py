"""What two variants that serve side by side did: whole lives of the new one's engines, the window of the old one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.domain.policies import ShiftRules
from fallow.domain.readings import EngineReading, Histogram
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Objectives, ServiceMemory
from fallow.planner.tallies import tallies
from tests.support.builders import BF16, CHAT, FP8, NOW, Running, Scene, engine, policy, ref, service

RULES = policy(shift=ShiftRules((0.1,)))
MEMORY = ServiceMemory(serving="bf16", switching_to="fp8", before=2)
TIMED = service(BF16, FP8, objectives=Objectives(ttft_p95=Seconds(1.0)))


def did(requests: float, failed: float | None = 0.0, late: float = 0.0) -> EngineReading:
    ttft = Histogram((1.0, float("inf")), (requests - late, requests))
    return engine(requests=requests, failed=failed, ttft=ttft)


def seen(before: dict[str, EngineReading], now: dict[str, EngineReading], memory: ServiceMemory = MEMORY) -> Snapshot:
    """Two pods of BF16 and one of FP8."""
    one = Scene(service=TIMED, variants={"bf16": Running(2), "fp8": Running(1)}, memory=memory).snapshot()
    earlier, read = (
        replace(readings, engines={ref(name): reading for name, reading in engines.items()})
        for readings, engines in ((replace(one.readings, at=Instant(NOW - 120)), before), (one.readings, now))
    )
    return replace(one, readings=read, earlier=earlier)


def test_the_new_one_counts_from_the_start_of_its_engines_and_the_old_one_over_the_window() -> None:
    before = {"bf16-0": did(1000, 10, 50), "bf16-1": did(2000, 20, 60), "fp8-0": did(40, 1, 2)}
    now = {"bf16-0": did(1100, 11, 55), "bf16-1": did(2050, 20, 60), "fp8-0": did(90, 3, 7)}
    found = tallies(seen(before, now), TIMED, RULES)
    assert (found["fp8"].requests, found["fp8"].failed, found["fp8"].late) == (90, 3, {"TTFT": (7, 90)})
    assert (found["bf16"].requests, found["bf16"].failed, found["bf16"].late) == (150, 1, {"TTFT": (5, 150)})


def test_a_pod_of_the_old_one_that_was_not_read_at_the_start_is_left_out_and_one_that_began_anew_counts_from_zero() -> (
    None
):
    found = tallies(seen({"bf16-0": did(1000, 10, 50)}, {"bf16-0": did(30, 1, 2), "bf16-1": did(2050)}), TIMED, RULES)
    assert set(found) == {"bf16"}
    assert (found["bf16"].requests, found["bf16"].failed, found["bf16"].late) == (30, 1, {"TTFT": (2, 30)})


def test_failures_that_one_engine_does_not_count_are_not_known() -> None:
    before = {"bf16-0": did(10), "bf16-1": did(10)}
    found = tallies(seen(before, {"bf16-0": did(20, 1), "bf16-1": did(20, None)}), TIMED, RULES)
    assert found["bf16"].failed is None


@pytest.mark.parametrize("memory", [replace(MEMORY, before=None), ServiceMemory(serving="bf16")])
def test_nothing_is_counted_but_for_a_switch_by_steps(memory: ServiceMemory) -> None:
    one = seen({"bf16-0": did(10)}, {"bf16-0": did(20), "fp8-0": did(20)}, memory)
    assert tallies(one, TIMED, RULES) == {}
    assert tallies(replace(one, cluster=replace(one.cluster, memories={CHAT: MEMORY})), TIMED, policy()) == {}
