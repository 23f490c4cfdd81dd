"""Events: each change once, and never a flood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.reports.events import BURST, EventReporter
from fallow.domain.errors import Unreachable
from fallow.domain.plans import Condition, Cordon, CordonNode, Outcome, RunVariant, ShieldPod
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Watts
from tests.adapters.reports.scenes import FRESH, GROW, READY, REST, Sink, mirror, report, stale
from tests.support.builders import CHAT, NOW, ref, scaler

STARTING = Condition("Converged", status=False, reason=Reason.STARTING, message="bf16 1 of 2 ready")
CONVERGED = Condition("Converged", status=True, reason=Reason.ALL_READY, message="bf16 2")


class Post:
    """An Event reporter; `tell` is one cycle and gives the Events that it sent."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.held = mirror()
        self.reporter = EventReporter(self.sink, "operator-0")

    async def tell(self, now: float = NOW, **changes: Any) -> list[dict[str, Any]]:
        before = len(self.sink.sent)
        await self.reporter.report(report(self.held, now=now, **changes))
        return self.sink.sent[before:]


async def test_a_quiet_cycle_is_silent() -> None:
    post = Post()

    assert await post.tell() + await post.tell(NOW + 15) == []


async def test_a_decision_is_told_with_numbers_on_its_service() -> None:
    post = Post()
    (event,) = await post.tell(decision=GROW, replicas={"bf16": 3})

    assert (event["action"], event["reason"], event["type"]) == ("ScaleUp", "QueueGrowing", "Normal")
    assert event["note"] == "ScaleUp: 12 waiting; runs bf16 3 (lever Replicas, policy green)"
    assert event["regarding"]["kind"] == "InferenceService"
    assert (event["regarding"]["namespace"], event["regarding"]["name"]) == (CHAT.namespace, CHAT.name)
    assert post.sink.paths == ["/apis/events.k8s.io/v1/namespaces/llm/events"]


async def test_of_an_autoscalers_minimum_it_is_told_that_it_may_run_more() -> None:
    (event,) = await Post().tell(decision=GROW, replicas={"bf16": 3}, scalers={"bf16": scaler(1)})

    assert event["note"] == "ScaleUp: 12 waiting; runs bf16 at least 3 (lever Replicas, policy green)"


async def test_a_proposal_says_that_nothing_was_done() -> None:
    (event,) = await Post().tell(decision=REST, replicas={"bf16": 0})

    assert event["note"] == "Rest: quiet for 600 s; would run bf16 0, saves 122 W (lever Rest, policy green)"


async def test_what_draws_more_is_no_saving() -> None:
    (event,) = await Post().tell(decision=replace(GROW, saves=Watts(-90)), replicas={"bf16": 3})

    assert event["note"] == "ScaleUp: 12 waiting; runs bf16 3, costs 90 W (lever Replicas, policy green)"


async def test_a_decision_is_told_once() -> None:
    post = Post()
    await post.tell(decision=GROW)

    assert await post.tell(NOW + 15, decision=GROW) == []


async def test_a_lost_signal_is_a_warning_and_its_return_is_not() -> None:
    post = Post()
    await post.tell()
    (lost,) = await post.tell(NOW + 15, conditions=(READY, stale()))
    (found,) = await post.tell(NOW + 30, conditions=(READY, FRESH))

    assert (lost["type"], lost["reason"]) == ("Warning", "StaleSeries")
    assert (found["type"], found["reason"]) == ("Normal", "Fresh")


async def test_waiting_for_replicas_is_not_told_but_their_arrival_is() -> None:
    post = Post()
    await post.tell(conditions=(CONVERGED,))
    waiting = await post.tell(NOW + 15, conditions=(STARTING,))
    arrived = await post.tell(NOW + 30, conditions=(CONVERGED,))

    assert waiting == []
    assert [event["note"] for event in arrived] == ["Converged is True: bf16 2"]


async def test_a_failed_write_is_a_warning() -> None:
    post = Post()
    change = RunVariant(post.held.view().services[CHAT], "bf16", 2)
    (event,) = await post.tell(outcomes=(Outcome(change, wrote=False, error="403 forbidden"),))

    assert (event["type"], event["reason"], event["note"]) == ("Warning", "WriteFailed", "403 forbidden")


async def test_that_a_node_is_emptied_is_told_of_its_policy() -> None:
    post = Post()
    change = CordonNode("gpu-3", Cordon.EMPTY, Instant(NOW), "green", "1 of its 8 GPUs are in use")
    (event,) = await post.tell(outcomes=(Outcome(change, wrote=True),))

    assert (event["action"], event["reason"], event["type"]) == ("EmptyNode", "EmptiesNode", "Normal")
    assert event["note"] == "gpu-3: 1 of its 8 GPUs are in use"
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("EnergyPolicy", "green")


async def test_of_two_failed_writes_that_of_the_replicas_is_told() -> None:
    post = Post()
    run = RunVariant(post.held.view().services[CHAT], "bf16", 2)
    shield = ShieldPod(CHAT, ref("chat-x"), "1", up=True)
    failed = (Outcome(run, wrote=False, error="no replicas"), Outcome(shield, wrote=False, error="no shield"))
    (event,) = await post.tell(outcomes=failed)
    (other,) = await post.tell(outcomes=failed[1:])

    assert (event["note"], other["note"]) == ("no replicas", "no shield")


async def test_a_flapping_service_cannot_flood_the_api_server() -> None:
    post = Post()
    for step in range(100):
        await post.tell(NOW + step, decision=GROW, replicas={"bf16": step})

    assert BURST <= len(post.sink.sent) <= BURST + 2


async def test_every_event_has_a_name_of_its_own() -> None:
    post = Post()
    for step in range(5):
        await post.tell(decision=GROW, replicas={"bf16": step})

    assert len({event["metadata"]["name"] for event in post.sink.sent}) == 5


async def test_an_unreachable_api_server_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    post = Post()
    post.sink.fault = Unreachable("no answer within 10 s")
    await post.tell(decision=GROW)

    assert "an Event for llm/chat was not sent: no answer within 10 s" in caplog.text
