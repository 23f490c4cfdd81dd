"""Whose energy it is: by the named holder, by the node's pods where none is named, and in parts when it changed."""

import pytest

from fallow.domain.ledger import LineKey, LineKind
from fallow.footprint.bookkeeping import book
from tests.support.metered import (
    CHAT_LINE,
    CODE_LINE,
    FREE,
    LOST,
    booked,
    gpu,
    node,
    opened,
    pod,
    snapshot,
)

BATCH = LineKey(LineKind.FOREIGN, "batch")
# of an H100 that nobody uses, W
BARE = 71.8


@pytest.mark.parametrize(
    ("holder", "pods", "line"),
    [
        ("llm/chat-1", [pod("chat-1")], CHAT_LINE),
        ("batch/train-1", [pod("train-1", None, namespace="batch")], BATCH),
        ("batch/unseen", [], BATCH),
        (None, [], FREE),
        (None, [pod("chat-1")], CHAT_LINE),
        (None, [pod("chat-1", node="node-b")], FREE),
        (None, [pod("chat-1", scheduled=False)], FREE),
    ],
    ids=[
        "a service's pod",
        "a pod of no service",
        "a pod that the cluster does not know",
        "nobody",
        "no name, and one pod must hold it",
        "no name, and the pod is elsewhere",
        "no name, and the pod is not scheduled",
    ],
)
def test_a_gpu_is_booked_on_the_line_of_its_holder(holder: str | None, pods: list, line: LineKey) -> None:  # type: ignore[type-arg]
    ledger = book(opened(), snapshot(0, [gpu(0, 0.0, holder=holder)], pods=pods))
    ledger = book(ledger, snapshot(10, [gpu(10, 1000.0, holder=holder)], pods=pods))
    assert booked(ledger) == {line: pytest.approx(1000)}


@pytest.mark.parametrize(
    ("pods", "lines"),
    [
        ([pod("chat-1"), pod("chat-2")], {CHAT_LINE: 2000}),
        ([pod("chat-1", gpus=2)], {CHAT_LINE: 2000}),
        ([pod("chat-1"), pod("code-1", "code")], {LOST: 2000}),
        ([pod("chat-1", gpus=3)], {LOST: 2000}),
        ([pod("chat-1")], {CHAT_LINE: 2000 - BARE * 10, FREE: BARE * 10}),
    ],
    ids=["all of one service", "all of one pod", "of two services", "more than the GPUs", "fewer than the GPUs"],
)
def test_gpus_without_a_name_go_to_the_line_that_must_hold_them(pods: list, lines: dict[LineKey, float]) -> None:  # type: ignore[type-arg]
    def seen(seconds: float, joules: float) -> list:  # type: ignore[type-arg]
        return [gpu(seconds, joules, uuid="GPU-a"), gpu(seconds, joules, uuid="GPU-b")]

    ledger = book(opened(), snapshot(0, seen(0, 0.0), pods=pods, nodes=[node(gpus=2)]))
    ledger = book(ledger, snapshot(10, seen(10, 1000.0), pods=pods, nodes=[node(gpus=2)]))
    assert booked(ledger) == {line: pytest.approx(joules) for line, joules in lines.items()}


def test_beside_a_named_gpu_the_rest_is_nobody_s() -> None:
    pods = [pod("chat-1")]

    def seen(seconds: float, joules: float) -> list:  # type: ignore[type-arg]
        return [gpu(seconds, joules, uuid="GPU-a", holder="llm/chat-1"), gpu(seconds, joules, uuid="GPU-b")]

    ledger = book(opened(), snapshot(0, seen(0, 0.0), pods=pods))
    ledger = book(ledger, snapshot(10, seen(10, 1000.0), pods=pods))
    assert booked(ledger) == {CHAT_LINE: pytest.approx(1000), FREE: pytest.approx(1000)}


def change(
    before: str | None,
    after: str | None,
    *,
    started: float = -3600,
    now: list | None = None,  # type: ignore[type-arg]
) -> dict[LineKey, float]:
    """Lines of 1000 J over 10 s in which the holder changed from one to another."""
    first = [pod(before.split("/")[1], before.split("/")[1].split("-")[0])] if before else []
    second = (
        now
        if now is not None
        else ([pod(after.split("/")[1], after.split("/")[1].split("-")[0], started=started)] if after else [])
    )
    ledger = book(opened(), snapshot(0, [gpu(0, 0.0, holder=before)], pods=first))
    return booked(book(ledger, snapshot(10, [gpu(10, 1000.0, holder=after)], pods=second)))


def test_the_time_before_a_new_holder_s_start_stays_on_the_old_line() -> None:
    assert change("llm/chat-1", "llm/code-1", started=3) == {
        CHAT_LINE: pytest.approx(300),
        CODE_LINE: pytest.approx(700),
    }


def test_a_holder_named_late_gets_the_whole_interval() -> None:
    assert change(None, "llm/chat-1", started=-5) == {CHAT_LINE: pytest.approx(1000)}


def test_a_holder_that_went_at_an_unknown_time_had_the_gpu_for_half_of_it_and_did_all_the_work() -> None:
    empty = BARE * 10 / 2
    assert change("llm/chat-1", None) == {CHAT_LINE: pytest.approx(1000 - empty), FREE: pytest.approx(empty)}


def test_a_pod_that_is_gone_but_still_named_stays_on_its_line() -> None:
    assert change("llm/chat-1", "llm/chat-1", now=[]) == {CHAT_LINE: pytest.approx(1000)}


def test_another_pod_of_the_same_line_changes_nothing() -> None:
    assert change("llm/chat-1", "llm/chat-2", started=5) == {CHAT_LINE: pytest.approx(1000)}
