"""The host's share: by the node's own meter where there is one, to all of its GPUs alike, each joule once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.adapters.cluster.ledger_codec import decode, encode
from fallow.domain.ledger import HostMark, Ledger, LineKey
from fallow.domain.readings import HostMeter, HostReading
from fallow.domain.units import Joules
from fallow.footprint.bookkeeping import book
from fallow.footprint.host import MEMORY_RANGES, PACKAGE_RANGES, READABLE
from tests.support.metered import CHAT_LINE, CODE_LINE, FREE, LOST, gpu, host, later, node, opened, pod, snapshot

PODS = [pod("chat-1"), pod("code-1", "code")]
PACKAGE_END = PACKAGE_RANGES[-1]


def seen(seconds: float, *meters: HostReading, gpus: int = 4, read: int = 4):  # type: ignore[no-untyped-def] # noqa: ANN201
    """A node whose first GPU a pod of chat holds, the second one of code, and nobody the others."""
    held = ("llm/chat-1", "llm/code-1", None, None)
    readings = [
        gpu(seconds, 100 * seconds, 100.0, uuid=f"GPU-{index}", holder=held[index], node="node-a")
        for index in range(read)
    ]
    return snapshot(seconds, readings, pods=PODS, nodes=[node(gpus=gpus)], hosts=meters)


def hosts(ledger: Ledger) -> dict[LineKey, float]:
    return {
        line: joules for line, one in ledger.books.items() if (joules := round(one.total.account.host.best.value, 6))
    }


def total(ledger: Ledger) -> float:
    return sum(one.total.account.host.best.value for one in ledger.books.values())


def test_a_node_s_meter_is_shared_out_to_all_of_its_gpus_alike() -> None:
    ledger = book(opened(), seen(0, host(0, 1000, 2000)))
    ledger = book(ledger, seen(15, host(15, 3000, 4000)))
    assert hosts(ledger) == {CHAT_LINE: 1000, CODE_LINE: 1000, FREE: 2000}


def test_without_a_meter_declared_watts_stand_in() -> None:
    ledger = book(book(opened(), seen(0)), seen(10))
    assert hosts(ledger) == {CHAT_LINE: 1500, CODE_LINE: 1500, FREE: 3000}


def test_the_meter_takes_over_where_it_begins_to_be_read() -> None:
    ledger = book(opened(), seen(0))
    ledger = book(ledger, seen(10, host(10, 500)))
    assert total(ledger) == pytest.approx(6000)
    ledger = book(ledger, seen(20, host(20, 1300)))
    assert total(ledger) == pytest.approx(6000 + 800)


def test_a_measured_host_is_bounded_by_what_its_meter_does_not_see() -> None:
    ledger = book(opened(), seen(0, host(0, 0)))
    ledger = book(ledger, seen(10, host(10, 2000)))
    figure = ledger.books[CHAT_LINE].total.account.host
    # fans, network cards and supplies are in the declared 290 W for each GPU
    assert (figure.low.value, figure.best.value, figure.high.value) == pytest.approx((475, 500, 2900))


def test_the_same_reading_twice_is_booked_once() -> None:
    ledger = book(opened(), seen(0, host(0, 1000)))
    ledger = book(ledger, seen(15, host(15, 3000)))
    assert total(book(ledger, seen(15, host(15, 3000)))) == total(ledger)
    assert total(book(ledger, seen(30, host(15, 3000)))) == total(ledger)


def test_a_meter_that_is_silent_for_a_moment_is_waited_for() -> None:
    ledger = book(opened(), seen(0, host(0, 1000)))
    ledger = book(ledger, seen(15))
    assert total(ledger) == 0
    assert total(book(ledger, seen(30, host(30, 4000)))) == pytest.approx(3000)


def test_a_meter_that_stays_silent_is_replaced_by_declared_watts_and_not_counted_later() -> None:
    ledger = book(opened(), seen(0, host(0, 1000)))
    for seconds in range(15, 315, 15):
        ledger = book(ledger, seen(seconds))
    assert total(ledger) == pytest.approx(4 * 150 * 300)
    ledger = book(ledger, seen(315, host(315, 90_000)))
    assert total(ledger) == pytest.approx(4 * 150 * 315)
    assert total(book(ledger, seen(330, host(330, 93_000)))) == pytest.approx(4 * 150 * 315 + 3000)


@pytest.mark.parametrize(
    ("name", "end"), [*(("package", end) for end in PACKAGE_RANGES), *(("dram", end) for end in MEMORY_RANGES)]
)
def test_a_register_that_ran_over_its_end_is_followed(name: str, end: float) -> None:
    ledger = book(opened(), seen(0, host(0, end - 1000, name=name)))
    assert total(book(ledger, seen(15, host(15, 1500, name=name)))) == pytest.approx(2500)


def test_a_node_that_was_started_anew_is_not_taken_for_a_register_s_end() -> None:
    ledger = book(opened(), seen(0, host(0, 180_000)))
    ledger = book(ledger, seen(15, host(15, 1500)))
    assert total(ledger) == pytest.approx(4 * 150 * 15)
    assert total(book(ledger, seen(30, host(30, 4500)))) == pytest.approx(4 * 150 * 15 + 3000)


def test_registers_say_nothing_of_a_time_in_which_they_may_have_run_over_twice() -> None:
    gap = READABLE + 30
    ledger = book(opened(), seen(0, host(0, 1000)))
    assert total(book(ledger, seen(gap, host(gap, 9000)))) == pytest.approx(4 * 150 * gap)


def test_kepler_counts_on_and_is_believed_across_a_gap() -> None:
    ledger = book(opened(), seen(0, host(0, 1000, meter=HostMeter.KEPLER)))
    ledger = book(ledger, seen(900, host(900, 300_000, meter=HostMeter.KEPLER)))
    assert total(ledger) == pytest.approx(299_000)


@pytest.mark.parametrize(
    "other",
    [host(15, 4000, meter=HostMeter.KEPLER), host(15, 4000, 4000), host(15, 4000, name="dram"), host(15, 9e9)],
    ids=["another meter", "one counter more", "other counters", "more than a node can draw"],
)
def test_a_meter_that_cannot_be_compared_gives_way_to_declared_watts(other: HostReading) -> None:
    ledger = book(opened(), seen(0, host(0, 1000)))
    ledger = book(ledger, seen(15, other))
    assert total(ledger) == pytest.approx(4 * 150 * 15)
    assert ledger.hosts["node-a"] == HostMark(later(15), other.counters, other.meter)


def test_gpus_that_are_not_read_keep_their_part_of_the_host() -> None:
    ledger = book(opened(), seen(0, host(0, 0)))
    ledger = book(ledger, seen(15, host(15, 4000), read=2))
    assert hosts(ledger) == {CHAT_LINE: 1000, CODE_LINE: 1000, FREE: 2000}


def test_gpus_that_were_never_read_are_nobody_knows_whose() -> None:
    ledger = book(opened(), seen(0, host(0, 0), gpus=8))
    ledger = book(ledger, seen(15, host(15, 8000), gpus=8))
    assert hosts(ledger)[LOST] == 4000
    assert total(ledger) == pytest.approx(8000)


def test_a_node_whose_gpus_are_silent_waits_with_them() -> None:
    ledger = book(opened(), seen(0, host(0, 0)))
    ledger = book(ledger, seen(60, host(60, 7000), read=0))
    assert total(ledger) == 0
    assert total(book(ledger, seen(100, host(100, 9000)))) == pytest.approx(9000)


def test_a_stored_ledger_goes_on_from_its_host_marks() -> None:
    ledger = book(opened(), seen(0, host(0, 1000)))
    stored = decode(encode(ledger))
    book(ledger, seen(15, host(15, 3000)))
    assert total(book(stored, seen(30, host(30, 6000)))) == pytest.approx(5000)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(1, 100),
            st.floats(0, 500),
            st.booleans(),
            st.lists(st.sampled_from([None, "llm/chat-1", "llm/code-1", "batch/x"]), min_size=4, max_size=4),
            st.lists(st.booleans(), min_size=4, max_size=4),
        ),
        min_size=2,
        max_size=12,
    ),
    st.sampled_from(HostMeter),
)
def test_the_lines_together_hold_what_the_meter_counted(
    steps: list[tuple[float, float, bool, list[str | None], list[bool]]], meter: HostMeter
) -> None:
    """Over any course of holders, silent GPUs and registers that run over; the meter itself is read in time."""
    ledger, now, joules, shown = opened(), 0.0, 200_000.0, 0.0
    for index, (dt, watts, newer, held, read) in enumerate(steps):
        now, joules = now + dt, joules + watts * dt
        always = index in {0, len(steps) - 1}
        readings = [
            gpu(now, 100 * now, uuid=f"GPU-{number}", holder=holder)
            for number, holder in enumerate(held)
            if read[number] or always or number == 0
        ]
        counter = joules % PACKAGE_END if meter is HostMeter.RAPL else joules
        late = newer or always or now - shown > 15
        meters = [HostReading("node-a", {"package": Joules(counter)}, later(now), meter)] if late else []
        shown = now if late else shown
        ledger = book(ledger, snapshot(now, readings, pods=PODS, nodes=[node(gpus=4)], hosts=meters))
    used = joules - 200_000.0 - steps[0][0] * steps[0][1]
    assert total(ledger) == pytest.approx(used, rel=1e-9, abs=1e-6)
