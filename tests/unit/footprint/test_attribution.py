"""Whose energy it is: by the named holders, by what the node's pods asked for where none is named, in succession."""

from typing import Any

import pytest

from fallow.domain.ledger import LineKey, LineKind
from fallow.domain.readings import GpuReading
from fallow.domain.snapshots import Pod
from fallow.footprint.attribution import holdings, own_gpus
from fallow.footprint.bookkeeping import book
from tests.support.metered import (
    CHAT_LINE,
    CODE_LINE,
    FREE,
    LOST,
    booked,
    gpu,
    instance,
    node,
    opened,
    pod,
    snapshot,
    turn,
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


# -- what pods asked for, where GPUs are handed out in parts


def lines_of(
    gpus: list[GpuReading], pods: list[Pod], *, in_turns: bool = False, physical: int = 0, seconds: float = 0
) -> dict[str, list[tuple[LineKey, Any]]]:
    """By GPU: its lines with the part of the GPU that each has."""
    seen = snapshot(seconds, gpus, pods=pods, nodes=[node(gpus=physical or len(gpus), in_turns=in_turns)])
    return {uuid: [(one.line, pytest.approx(one.share)) for one in held] for uuid, held in holdings(seen, {}).items()}


CHAT_1 = pod("chat-1", instances={"1g.10gb": 1})
CODE_3 = pod("code-1", "code", instances={"3g.40gb": 1})


def test_instances_without_a_name_go_to_the_line_that_asked_for_their_profile() -> None:
    shares = [instance(1, "3g.40gb"), instance(7, "1g.10gb"), instance(8, "3g.40gb", "batch/train-1")]
    found = lines_of([gpu(0, shares=shares)], [CHAT_1, CODE_3])
    assert found == {"GPU-a": [(CODE_LINE, 3 / 7), (CHAT_LINE, 1 / 7), (BATCH, 3 / 7)]}


def test_of_alike_instances_of_which_a_line_holds_some_it_has_as_many_and_the_rest_is_nobody_s() -> None:
    found = lines_of([gpu(0, shares=[instance(7), instance(8), instance(9)])], [CHAT_1])
    each = [(CHAT_LINE, 1 / 7 / 3), (FREE, 1 / 7 * 2 / 3)]
    assert found == {"GPU-a": [*each, *each, *each, (FREE, 4 / 7)]}


def test_instances_that_two_lines_may_hold_are_nobody_knows_whose() -> None:
    other = pod("code-1", "code", instances={"1g.10gb": 1})
    found = lines_of([gpu(0, shares=[instance(7), instance(8)])], [CHAT_1, other])
    assert found == {"GPU-a": [(LOST, 1 / 7), (LOST, 1 / 7), (FREE, 5 / 7)]}


def test_where_all_gpus_are_divided_alike_pods_ask_for_instances_as_if_they_were_gpus() -> None:
    pods = [pod("chat-1", gpus=2), pod("code-1", "code")]
    shares = [instance(1, "3g.40gb"), instance(2, "3g.40gb"), instance(3, "1g.10gb", "llm/code-1")]
    assert lines_of([gpu(0, shares=shares)], pods) == {
        "GPU-a": [(CHAT_LINE, 3 / 7), (CHAT_LINE, 3 / 7), (CODE_LINE, 1 / 7)]
    }


def test_a_whole_gpu_beside_divided_ones_is_asked_for_as_such() -> None:
    gpus = [gpu(0, uuid="GPU-a"), gpu(0, uuid="GPU-b", shares=[instance(0, "7g.80gb")])]
    assert lines_of(gpus, [pod("chat-1")]) == {"GPU-a": [(CHAT_LINE, 1)], "GPU-b": [(FREE, 1)]}


def test_all_pods_on_a_node_s_only_gpu_share_it_though_labels_name_one() -> None:
    pods = [pod("chat-1"), pod("code-1", "code"), pod("train-1", None, namespace="batch", copies=1)]
    assert lines_of([gpu(0, holder="llm/code-1")], pods, in_turns=True) == {
        "GPU-a": [(CODE_LINE, 1), (CHAT_LINE, 1), (BATCH, 1)]
    }


def test_on_several_gpus_in_turns_a_pod_without_a_name_puts_those_with_one_name_in_doubt() -> None:
    gpus = [gpu(0, uuid="GPU-a", holder="llm/chat-1"), gpu(0, uuid="GPU-b", holder="llm/chat-2")]
    named = [pod("chat-1"), pod("chat-2")]

    def found(*hidden: Pod) -> dict[str, list[tuple[LineKey, float]]]:
        return lines_of(gpus, [*named, *hidden], in_turns=True)

    assert found(pod("code-1", "code")) == {"GPU-a": [(LOST, 1)], "GPU-b": [(LOST, 1)]}
    certain = {"GPU-a": [(CHAT_LINE, 1)], "GPU-b": [(CHAT_LINE, 1)]}
    assert found(pod("chat-3")) == certain
    assert found(pod("code-1", "code", started=-30)) == certain


def test_labels_that_list_sharers_are_believed_where_they_name_one() -> None:
    gpus = [
        gpu(0, uuid="GPU-a", shares=[turn("llm/chat-1"), turn("batch/train-1")]),
        gpu(0, uuid="GPU-b", holder="llm/chat-2"),
    ]
    pods = [pod("chat-1"), pod("chat-2"), pod("train-1", None, namespace="batch"), pod("code-1", "code")]
    assert lines_of(gpus, pods, in_turns=True) == {
        "GPU-a": [(CHAT_LINE, 1), (BATCH, 1)],
        "GPU-b": [(CHAT_LINE, 1)],
    }


@pytest.mark.parametrize(
    ("names", "share"), [(["chat-1"], 0.5), (["chat-1", "chat-2"], 1.0), (["chat-1", "chat-2", "chat-3"], 1.0)]
)
def test_gpus_in_turns_without_any_name_go_to_the_only_line_as_far_as_its_pods_reach(
    names: list[str], share: float
) -> None:
    gpus = [gpu(0, uuid="GPU-a"), gpu(0, uuid="GPU-b")]
    line = [(CHAT_LINE, share)] + ([(FREE, 0.5)] if share < 1 else [])
    found = lines_of(gpus, [pod(name, copies=1) for name in names], in_turns=True)
    assert found == {"GPU-a": line, "GPU-b": line}


def test_with_a_gpu_out_of_sight_nothing_is_certain_of_the_others() -> None:
    assert lines_of([gpu(0)], [pod("chat-1")], physical=2) == {"GPU-a": [(CHAT_LINE, 1)]}
    assert lines_of([gpu(0, uuid="GPU-a"), gpu(0, uuid="GPU-b")], [pod("chat-1")], physical=3) == {
        "GPU-a": [(LOST, 1)],
        "GPU-b": [(LOST, 1)],
    }


def test_a_sharer_that_is_gone_but_still_named_stays_on_its_line() -> None:
    pods = [pod("chat-1"), pod("code-1", "code")]
    shares = [turn("llm/chat-1", 0.5), turn("llm/code-1", 0.5)]
    ledger = book(opened(), snapshot(0, [gpu(0, 0.0, shares=shares)], pods=pods))
    ledger = book(ledger, snapshot(10, [gpu(10, 1000.0, shares=shares)], pods=pods[:1]))
    assert booked(ledger) == {CHAT_LINE: pytest.approx(500), CODE_LINE: pytest.approx(500)}


def test_where_copies_are_handed_out_a_pod_named_alone_may_not_be_alone() -> None:
    chat = pod("chat-1")
    readings = [gpu(0, 0.0, holder="llm/chat-1")]
    assert own_gpus(snapshot(0, readings, pods=[chat]), chat) == tuple(readings)
    assert own_gpus(snapshot(0, readings, pods=[chat], nodes=[node(in_turns=True)]), chat) == ()
