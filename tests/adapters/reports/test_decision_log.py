"""The decision log: one line per change."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from fallow.adapters.reports.decision_log import LogReporter
from fallow.domain.plans import Cordon, CordonNode, Outcome, RunVariant, SetFloor, ShieldPod
from fallow.domain.units import Instant
from tests.adapters.reports.scenes import GROW, READY, REST, mirror, report, stale
from tests.support.builders import CHAT, NOW, ref, scaler, service

EMPTY = CordonNode("gpu-3", Cordon.EMPTY, Instant(NOW), "green", "1 of its 8 GPUs are in use")


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fallow.decisions")


async def test_a_quiet_cycle_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    reporter = LogReporter()
    for _ in range(3):
        await reporter.report(report())

    assert caplog.messages == []


@pytest.mark.parametrize(
    ("told", "line"),
    [
        pytest.param(
            {"decision": GROW, "replicas": {"bf16": 3}},
            "llm/chat ScaleUp to bf16 3 (Replicas, QueueGrowing, policy green): 12 waiting",
            id="decision",
        ),
        pytest.param(
            {"decision": REST, "replicas": {"bf16": 0}},
            "llm/chat would Rest to bf16 0 (Rest, IdleLongEnough, policy green): quiet for 600 s; saves 122 W",
            id="proposal",
        ),
        pytest.param(
            {"outcomes": (Outcome(RunVariant(service(), "bf16", 2), wrote=False, error="403 no"),)},
            "llm/chat was not changed (bf16 to 2): 403 no",
            id="failed-write",
        ),
        pytest.param(
            {"decision": GROW, "replicas": {"bf16": 3}, "scalers": {"bf16": scaler(1)}},
            "llm/chat ScaleUp to bf16 at least 3 (Replicas, QueueGrowing, policy green): 12 waiting",
            id="minimum",
        ),
        pytest.param(
            {"outcomes": (Outcome(SetFloor(service(), "bf16", scaler(1), 4), wrote=False, error="403 no"),)},
            "llm/chat was not changed (minimum of HorizontalPodAutoscaler load to 4): 403 no",
            id="failed-minimum",
        ),
        pytest.param(
            {"outcomes": (Outcome(ShieldPod(CHAT, ref("chat-x"), "1", up=False), wrote=False, error="403 no"),)},
            "llm/chat was not changed (shield no longer chat-x): 403 no",
            id="failed-shield",
        ),
        pytest.param(
            {"outcomes": (Outcome(EMPTY, wrote=False, error="403 no"),)},
            "node gpu-3 was not changed (is emptied): 403 no",
            id="failed-cordon",
        ),
    ],
)
async def test_a_change_is_one_line(caplog: pytest.LogCaptureFixture, told: dict[str, Any], line: str) -> None:
    reporter, held = LogReporter(), mirror()
    await reporter.report(report(held, **told))
    await reporter.report(report(held, **told))

    assert caplog.messages == [line]


async def test_that_a_node_is_emptied_is_told_when_it_is_written(caplog: pytest.LogCaptureFixture) -> None:
    for as_json in (False, True):
        await LogReporter(as_json=as_json).report(report(outcomes=(Outcome(EMPTY, wrote=True),)))

    assert caplog.messages[0] == "node gpu-3 is emptied (policy green): 1 of its 8 GPUs are in use"
    assert json.loads(caplog.messages[1])["node"] == "gpu-3"


async def test_a_lost_signal_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    reporter = LogReporter()
    await reporter.report(report())
    await reporter.report(report(conditions=(READY, stale())))

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "llm/chat MetricsFresh is False (StaleSeries): vLLM series are not from the last 90 s")
    ]


async def test_json_holds_the_same_facts(caplog: pytest.LogCaptureFixture) -> None:
    await LogReporter(as_json=True).report(report(decision=REST, replicas={"bf16": 0}))
    facts = json.loads(caplog.messages[0])

    assert (facts["service"], facts["action"], facts["replicas"]) == ("llm/chat", "Rest", {"bf16": 0})
    assert (facts["savesWatts"], facts["proposal"], facts["at"]) == (122, True, "2027-01-15T08:00:00+00:00")
