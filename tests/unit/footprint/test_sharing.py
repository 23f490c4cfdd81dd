"""A GPU that several hold: what each gets of an interval, between which bounds, and how it is told."""

from collections.abc import Sequence

import pytest

from fallow.domain.ledger import Account, Ledger, LineKey, LineKind
from fallow.domain.readings import GpuReading, Share
from fallow.domain.snapshots import Pod, Snapshot
from fallow.footprint.bookkeeping import book
from tests.support.metered import (
    CHAT_LINE,
    CODE_LINE,
    FREE,
    booked,
    engine,
    gpu,
    instance,
    node,
    opened,
    pod,
    snapshot,
    turn,
)

# an H100's watts: with nobody, with an engine loaded, and with one loaded at most
BARE, LOADED = 71.8, 121.6
AT_MOST = LOADED * 1.3
DESIGN = 500.0
CHAT, CODE, BATCH = "llm/chat-1", "llm/code-1", "batch/train-1"
BATCH_LINE = LineKey(LineKind.FOREIGN, "batch")
PODS = {one.ref: one for one in (pod("chat-1"), pod("code-1", "code"), pod("train-1", None, namespace="batch"))}
# the lowest and the highest that the meter may have meant by 5000 J
LOW, HIGH = 0.95 * 5000, 1.05 * 5000


def after(*looks: tuple[float, Sequence[Share]], pods: Sequence[Pod] = (), watts: float = DESIGN) -> Ledger:
    """The ledger after readings of one H100 at these seconds; its counter shows `watts` all along.

    The cluster knows the holders of each look, and as `pods` says where that differs.
    """
    known = {**PODS, **{one.ref: one for one in pods}}
    ledger = opened()
    for seconds, shares in looks:
        holders = [known[share.holder] for share in shares if share.holder in known]
        ledger = book(ledger, look(seconds, gpu(seconds, watts * seconds, watts, shares=shares), holders))
    return ledger


def look(seconds: float, reading: GpuReading, pods: Sequence[Pod] = ()) -> Snapshot:
    return snapshot(seconds, [reading], pods=pods)


def shared(*shares: Share, watts: float = DESIGN) -> Ledger:
    """Ten seconds in which nothing changed hands."""
    return after((0, shares), (10, shares), watts=watts)


def account(ledger: Ledger, line: LineKey) -> Account:
    return ledger.books[line].total.account


def bounds(ledger: Ledger, line: LineKey) -> tuple[float, float, float]:
    energy = account(ledger, line).energy
    return energy.low.value, energy.best.value, energy.high.value


# -- MIG


def test_instances_get_a_loaded_gpu_s_power_by_slices_and_work_by_activity_times_slices() -> None:
    ledger = shared(instance(1, "3g.40gb", CHAT, 0.5), instance(2, "4g.40gb", CODE, 0.25))
    work = (DESIGN - LOADED) * 10
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx(LOADED * 10 * 3 / 7 + work * 1.5 / 2.5),
        CODE_LINE: pytest.approx(LOADED * 10 * 4 / 7 + work * 1.0 / 2.5),
    }


def test_the_bare_power_of_free_instances_and_of_slices_in_no_instance_is_nobody_s() -> None:
    ledger = shared(instance(1, "3g.40gb", CHAT, 0.5), instance(2, "2g.20gb", None, 0.0))
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx((DESIGN - BARE) * 10 + BARE * 10 * 3 / 7),
        FREE: pytest.approx(BARE * 10 * 4 / 7),
    }


def test_instances_of_one_line_are_as_certain_as_a_whole_gpu() -> None:
    shares = [instance(1, "3g.40gb", CHAT, 0.5), instance(2, "4g.40gb", "llm/chat-2", None)]
    ledger = after((0, shares), (10, shares), pods=[pod("chat-2")])
    assert bounds(ledger, CHAT_LINE) == pytest.approx((LOW, 5000, HIGH))
    assert account(ledger, CHAT_LINE).apportioned.value == 0


def test_without_activity_instances_share_by_slices_and_may_have_done_all_the_work_or_none() -> None:
    ledger = shared(instance(1, "3g.40gb", CHAT), instance(2, "4g.40gb", CODE, 0.9))
    low, best, high = bounds(ledger, CHAT_LINE)
    bare = BARE * 10 * 3 / 7
    assert best == pytest.approx(5000 * 3 / 7)
    assert (low, high) == pytest.approx((0.9 * bare, bare + HIGH - BARE * 10))
    assert account(ledger, CHAT_LINE).apportioned.value == pytest.approx(best)
    assert account(ledger, CHAT_LINE).weighed.value == 0


def test_where_activity_is_measured_the_bounds_allow_five_times_the_watts_for_it() -> None:
    ledger = shared(instance(1, "3g.40gb", CHAT, 0.5), instance(2, "3g.40gb", CODE, 0.5), instance(3, "1g.10gb"))
    low, best, high = bounds(ledger, CHAT_LINE)
    bare, parked = BARE * 10 * 3 / 7, (AT_MOST - BARE) * 10
    assert best == pytest.approx(bare + (DESIGN - BARE) * 10 / 2)
    assert low == pytest.approx(0.9 * bare + (LOW - AT_MOST * 10) / 6)
    assert high == pytest.approx(bare + (HIGH - AT_MOST * 10) * 5 / 6 + parked)
    assert account(ledger, CHAT_LINE).weighed.value == pytest.approx(best)
    assert account(ledger, CHAT_LINE).apportioned.value == 0


def test_an_instance_without_work_beside_a_busy_one_may_have_drawn_what_a_loaded_gpu_does() -> None:
    ledger = shared(instance(1, "3g.40gb", CHAT, 0.0), instance(2, "4g.40gb", CODE, 0.8))
    low, best, high = bounds(ledger, CHAT_LINE)
    bare = BARE * 10 * 3 / 7
    assert best == pytest.approx(LOADED * 10 * 3 / 7)
    assert (low, high) == pytest.approx((0.9 * bare, bare + (AT_MOST - BARE) * 10))


def test_what_instances_without_any_activity_draw_is_shared_by_slices() -> None:
    ledger = shared(instance(1, "3g.40gb", CHAT, 0.0), instance(2, "4g.40gb", CODE, 0.0), watts=LOADED)
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx(LOADED * 10 * 3 / 7),
        CODE_LINE: pytest.approx(LOADED * 10 * 4 / 7),
    }


def test_pods_that_share_an_instance_share_its_part_alike() -> None:
    ledger = shared(
        instance(1, "3g.40gb", CHAT, 0.5), instance(1, "3g.40gb", CODE, 0.5), instance(2, "4g.40gb", BATCH, 0.5)
    )
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx(5000 * 1.5 / 7),
        CODE_LINE: pytest.approx(5000 * 1.5 / 7),
        BATCH_LINE: pytest.approx(5000 * 4 / 7),
    }


def test_one_instance_that_is_the_whole_gpu_is_booked_like_a_whole_gpu() -> None:
    ledger = shared(instance(0, "7g.80gb", CHAT, 0.5))
    assert bounds(ledger, CHAT_LINE) == pytest.approx((LOW, 5000, HIGH))
    assert ledger.gpus["GPU-a"].parts == ()


def test_an_a30_has_four_slices() -> None:
    shares = [instance(1, "2g.12gb", CHAT, 0.5)]
    ledger = opened()
    for seconds in (0, 10):
        reading = gpu(seconds, 0.0, 0.0, shares=shares, model="NVIDIA A30")
        ledger = book(ledger, look(seconds, reading))
    assert [(part.place, part.share) for part in ledger.gpus["GPU-a"].parts] == [("1", 0.5), ("-", 0.5)]


# -- in turns


def test_pods_in_turns_share_a_loaded_gpu_s_power_alike_and_work_by_their_share_of_the_time() -> None:
    ledger = shared(turn(CHAT, 0.6), turn(CODE, 0.2), turn(BATCH, 0.0))
    loaded, work = LOADED * 10 / 3, (DESIGN - LOADED) * 10
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx(loaded + work * 0.75),
        CODE_LINE: pytest.approx(loaded + work * 0.25),
        BATCH_LINE: pytest.approx(loaded),
    }


def test_without_every_pod_s_share_of_the_time_they_share_alike_and_it_is_said() -> None:
    ledger = shared(turn(CHAT, 0.6), turn(CODE))
    assert booked(ledger) == {CHAT_LINE: pytest.approx(2500), CODE_LINE: pytest.approx(2500)}
    for line in (CHAT_LINE, CODE_LINE):
        assert account(ledger, line).apportioned.value == pytest.approx(2500)
        low, _, high = bounds(ledger, line)
        assert (low, high) == pytest.approx((0.9 * BARE * 5, BARE * 5 + HIGH - BARE * 10))


def test_samples_far_apart_say_nothing_of_the_work_between_them() -> None:
    shares = (turn(CHAT, 0.9), turn(CODE, 0.1))
    ledger = after((0, shares), (301, shares))
    assert booked(ledger)[CHAT_LINE] == pytest.approx(booked(ledger)[CODE_LINE])
    assert account(ledger, CHAT_LINE).weighed.value == 0


# -- one after another


def test_a_pod_that_joins_has_a_part_from_its_start() -> None:
    pods = [pod("chat-1"), pod("code-1", "code", started=6)]
    ledger = book(opened(), look(0, gpu(0, 0.0, holder=CHAT), pods[:1]))
    ledger = book(ledger, look(10, gpu(10, BARE * 10, shares=[turn(CHAT, 0.5), turn(CODE, 0.5)]), pods))
    assert booked(ledger) == {CHAT_LINE: pytest.approx(BARE * 10 / 1.4), CODE_LINE: pytest.approx(BARE * 4 / 1.4)}
    assert account(ledger, CODE_LINE).apportioned.value > 0


def test_an_instance_that_is_taken_was_nobody_s_before_and_the_other_goes_on() -> None:
    ledger = after(
        (0, [instance(1, "3g.40gb", CHAT, 0.5), instance(2, "4g.40gb")]),
        (10, [instance(1, "3g.40gb", CHAT, 0.5), instance(2, "4g.40gb", CODE, 0.5)]),
        pods=[pod("code-1", "code", started=6)],
        watts=BARE,
    )
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx(BARE * 10 * 3 / 7),
        CODE_LINE: pytest.approx(BARE * 4 * 4 / 7),
        FREE: pytest.approx(BARE * 6 * 4 / 7),
    }


def test_where_the_instances_themselves_are_others_all_change_hands_in_the_middle() -> None:
    ledger = after(
        (0, [instance(1, "3g.40gb", CHAT, 0.5), instance(2, "4g.40gb", CODE)]),
        (10, [instance(0, "7g.80gb", BATCH, 0.5)]),
        watts=BARE,
    )
    assert booked(ledger) == {
        CHAT_LINE: pytest.approx(BARE * 5 * 3 / 7),
        CODE_LINE: pytest.approx(BARE * 5 * 4 / 7),
        BATCH_LINE: pytest.approx(BARE * 5),
    }


def test_a_pod_that_came_and_went_between_two_samples_has_its_time_where_the_cluster_saw_it() -> None:
    """The meters name nobody, neither before nor after; the pod is still in the cluster's view, on its way out."""
    ledger = book(opened(), look(0, gpu(0, 0.0), []))
    ledger = book(ledger, look(10, gpu(10, BARE * 10), [pod("chat-1", started=4)]))
    assert booked(ledger) == {FREE: pytest.approx(BARE * 4), CHAT_LINE: pytest.approx(BARE * 6)}


def test_while_the_meters_are_silent_the_cluster_says_when_a_holder_went() -> None:
    ledger = book(opened(), look(0, gpu(0, 0.0, holder=CHAT), [pod("chat-1")]))
    for seconds, pods in ((15, [pod("chat-1")]), (30, []), (45, [])):
        ledger = book(ledger, snapshot(seconds, pods=pods))
    ledger = book(ledger, look(90, gpu(90, BARE * 90), []))
    assert booked(ledger) == {CHAT_LINE: pytest.approx(BARE * 30), FREE: pytest.approx(BARE * 60)}


def test_of_two_pods_on_one_gpu_only_the_one_without_work_is_idle() -> None:
    ledger = opened()
    shares = [turn(CHAT, 0.0), turn(CODE, 0.9)]
    pods = [pod("chat-1", ready_since=-3600), pod("code-1", "code", ready_since=-3600)]
    for seconds in (0, 15, 30):
        engines = {"chat-1": engine(seconds, 50), "code-1": engine(seconds, seconds * 100, running=4)}
        reading = gpu(seconds, DESIGN * seconds, DESIGN, shares=shares, active=0.9)
        ledger = book(ledger, snapshot(seconds, [reading], pods=pods, engines=engines, nodes=[node(in_turns=True)]))
    chat, code = account(ledger, CHAT_LINE), account(ledger, CODE_LINE)
    assert chat.bare.value == pytest.approx(BARE * 30 / 2)
    assert chat.useful.value == pytest.approx(0, abs=1e-6)
    assert code.idle.value == 0


# -- several GPUs


def test_a_pod_over_several_gpus_has_all_of_them_and_a_service_all_its_pods() -> None:
    pods = [pod("chat-1", gpus=2), pod("chat-2", node="node-b")]
    ledger = opened()
    for seconds in (0, 10):
        readings = [gpu(seconds, 100.0 * seconds, uuid=uuid, holder=CHAT) for uuid in ("GPU-a", "GPU-b")]
        readings.append(gpu(seconds, 50.0 * seconds, uuid="GPU-c", node="node-b", holder="llm/chat-2"))
        ledger = book(ledger, snapshot(seconds, readings, pods=pods, nodes=[node(gpus=2), node("node-b")]))
    assert booked(ledger) == {CHAT_LINE: pytest.approx(2500)}


def test_parts_of_a_gpu_have_their_part_of_host_and_manufacture() -> None:
    pods = list(PODS.values())
    whole = book(opened(), look(0, gpu(0, 0.0, holder=CHAT), pods))
    whole = book(whole, look(10, gpu(10, 5000.0, holder=CHAT), pods))
    ledger = shared(instance(1, "3g.40gb", CHAT, 0.5), instance(2, "2g.20gb", CODE, 0.1))
    alone = account(whole, CHAT_LINE)
    for line, part in ((CHAT_LINE, 3 / 7), (CODE_LINE, 2 / 7), (FREE, 2 / 7)):
        assert account(ledger, line).host.best.value == pytest.approx(alone.host.best.value * part)
        assert account(ledger, line).embodied.best.value == pytest.approx(alone.embodied.best.value * part)
