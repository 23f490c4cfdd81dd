"""One GPU, one line: which interval is booked, by which method, exactly once."""

from dataclasses import replace

import pytest

from fallow.domain.ledger import Ledger, LineKind
from fallow.domain.snapshots import Node
from fallow.domain.units import Joules
from fallow.footprint.bookkeeping import book
from tests.support.metered import CHAT_LINE, FREE, booked, gpu, later, node, opened, pod, snapshot

HELD = "llm/chat-1"


def after(*steps: tuple[float, float | None, float | None]) -> Ledger:
    """The ledger after readings (seconds, joules, watts) of one GPU that a pod of the service holds."""
    ledger = opened()
    for seconds, joules, watts in steps:
        ledger = book(ledger, snapshot(seconds, [gpu(seconds, joules, watts, holder=HELD)], pods=[pod("chat-1")]))
    return ledger


def total(ledger: Ledger) -> tuple[float, float, float]:
    energy = ledger.books[CHAT_LINE].total.account.energy
    return energy.low.value, energy.best.value, energy.high.value


def test_a_gpu_seen_first_only_gets_a_mark() -> None:
    ledger = after((0, 5000.0, 300.0))
    assert booked(ledger) == {}
    assert ledger.gpus["GPU-a"].joules == Joules(5000)


def test_the_counter_difference_is_booked_with_the_meter_s_bounds() -> None:
    assert total(after((0, 5000.0, 300.0), (15, 9500.0, 300.0))) == pytest.approx((4275, 4500, 4725))


def test_power_does_not_matter_where_there_is_a_counter() -> None:
    assert total(after((0, 5000.0, 300.0), (15, 9500.0, 699.0)))[1] == pytest.approx(4500)


def test_without_a_counter_power_is_integrated_with_wide_bounds() -> None:
    assert total(after((0, None, 200.0), (10, None, 400.0))) == pytest.approx((1950, 3000, 4050))


def test_power_samples_far_apart_are_bounded_by_what_the_gpu_can_draw() -> None:
    low, best, high = total(after((0, None, 200.0), (1000, None, 200.0)))
    assert (low, best, high) == pytest.approx((71_800, 200_000, 700_000))


def test_a_gap_without_readings_is_covered_by_the_next_difference() -> None:
    ledger = after((0, 1000.0, 300.0), (15, None, None), (30, None, None), (45, 14500.0, 300.0))
    assert total(ledger)[1] == pytest.approx(13_500)


def test_a_silent_gpu_that_is_absent_keeps_its_mark() -> None:
    ledger = after((0, 1000.0, 300.0))
    kept = book(ledger, snapshot(15))
    assert kept.gpus["GPU-a"].joules == Joules(1000)
    assert booked(kept) == {}


def test_a_counter_that_is_silent_for_a_moment_is_waited_for() -> None:
    ledger = after((0, 1000.0, 300.0), (15, None, 500.0), (30, None, 500.0), (45, 10_000.0, 500.0))
    low, best, high = total(ledger)
    assert (low, best, high) == pytest.approx((8550, 9000, 9450))


def test_a_counter_that_stays_silent_is_replaced_by_power_and_never_mixed_in_again() -> None:
    ledger = after((0, 1000.0, 300.0), (150, None, 300.0))
    assert total(ledger) == pytest.approx((29_250, 45_000, 60_750))
    returned = book(ledger, snapshot(165, [gpu(165, 99_000.0, 300.0, holder=HELD)], pods=[pod("chat-1")]))
    assert total(returned)[1] == pytest.approx(45_000 + 4500)
    again = book(returned, snapshot(180, [gpu(180, 103_500.0, 300.0, holder=HELD)], pods=[pod("chat-1")]))
    assert total(again)[1] == pytest.approx(45_000 + 4500 + 4500)


def modelled(ledger: Ledger) -> float:
    return ledger.books[CHAT_LINE].total.account.modelled.value


def test_a_counter_that_began_anew_books_what_it_counted_since_and_models_the_time_before() -> None:
    ledger = after((0, 900_000.0, 300.0), (60, 3000.0, 300.0))
    low, best, high = total(ledger)
    assert (low, best) == pytest.approx((2850, 3000 + 50 * 300))
    assert high == pytest.approx(3150 + 60 * 700 - 3000)
    assert modelled(ledger) == pytest.approx(50 * 300)
    assert ledger.resets == 1


def test_a_counter_that_began_anew_at_zero_models_the_time_before_and_goes_on() -> None:
    ledger = after((0, 900_000.0, 300.0), (15, 0.0, 300.0), (30, 4500.0, 300.0))
    assert total(ledger)[1] - modelled(ledger) == pytest.approx(4500)
    assert modelled(ledger) == pytest.approx(14 * 300)
    assert ledger.resets == 1


def test_a_counter_of_32_bits_that_runs_over_is_taken_for_one_that_began_anew() -> None:
    """Which of the two it was cannot be seen; the truth, 15 s at 400 W, lies within the bounds either way."""
    turn = 2**32 / 1e3
    ledger = after((0, turn - 2000, 400.0), (15, 4000.0, 400.0))
    low, best, high = total(ledger)
    assert low <= 6000 <= high
    assert best == pytest.approx(6000)
    assert modelled(ledger) == pytest.approx(2000)


@pytest.mark.parametrize("absent", [[node("node-b")], [replace(node(), ready=False)]], ids=["gone", "not ready"])
def test_of_a_machine_that_was_off_nothing_is_booked_before_its_counter_began_anew(absent: list[Node]) -> None:
    ledger = book(after((0, 900_000.0, 300.0)), snapshot(60, nodes=absent))
    seen = snapshot(36_000, [gpu(36_000, 3000.0, 300.0, holder=HELD)], pods=[pod("chat-1")])
    low, best, high = total(book(ledger, seen))
    assert (low, best) == pytest.approx((2850, 3000))
    assert high >= 36_000 * 700


def test_a_machine_that_was_away_and_never_off_is_booked_by_its_counter() -> None:
    ledger = book(after((0, 1000.0, 300.0)), snapshot(60, nodes=[node("node-b")]))
    seen = snapshot(3600, [gpu(3600, 1_081_000.0, 300.0, holder=HELD)], pods=[pod("chat-1")])
    assert total(book(ledger, seen))[1] == pytest.approx(1_080_000)


def test_energy_by_power_is_marked_as_modelled_and_energy_by_counter_is_not() -> None:
    assert modelled(after((0, None, 200.0), (10, None, 400.0))) == pytest.approx(3000)
    assert modelled(after((0, 5000.0, 300.0), (15, 9500.0, 300.0))) == 0


def test_what_nobody_measured_for_more_than_a_week_is_not_modelled() -> None:
    week = 7 * 86_400
    assert total(after((0, None, 200.0), (3 * week, None, 200.0)))[1] == pytest.approx(week * 200)


def test_a_clock_that_jumped_ahead_does_not_make_a_gpu_held_for_a_year() -> None:
    """The host's share and the manufacture go by time; the counter says how long it can have been."""
    year = 365 * 86_400.0
    ledger = after((0, 1000.0, 300.0), (year, 5500.0, 300.0))
    account = ledger.books[CHAT_LINE].total.account
    assert account.energy.best.value == pytest.approx(4500)
    assert account.host.best.value < 200 * 150


def test_a_sample_from_the_future_is_not_used() -> None:
    ledger = after((0, 1000.0, 300.0))
    ahead = snapshot(15, [gpu(5000, 5500.0, 300.0, holder=HELD)], pods=[pod("chat-1")])
    assert book(ledger, ahead).gpus["GPU-a"].joules == Joules(1000)
    assert book(ledger, ahead).books == {}


def test_an_older_sample_under_a_newer_time_is_left_to_the_next_difference() -> None:
    ledger = after((0, 9_000_000.0, 300.0), (15, 8_999_000.0, 300.0), (30, 9_009_000.0, 300.0))
    assert total(ledger)[1] == pytest.approx(9000)
    assert ledger.resets == 0


def test_a_falling_counter_that_claims_too_much_is_not_believed() -> None:
    ledger = after((0, 9_000_000.0, 300.0), (15, 5_000_000.0, 300.0))
    assert total(ledger)[1] == pytest.approx(4500)
    assert ledger.resets == 1


def test_an_absurd_jump_is_replaced_by_power() -> None:
    assert total(after((0, 1000.0, 300.0), (15, 9.2e15, 300.0)))[1] == pytest.approx(4500)


@pytest.mark.parametrize("second", [(0, 2000.0, 300.0), (-15, 2000.0, 300.0)], ids=["same time", "earlier time"])
def test_a_sample_that_is_not_newer_books_nothing(second: tuple[float, float, float]) -> None:
    ledger = after((0, 1000.0, 300.0), second, (15, 5500.0, 300.0))
    assert total(ledger)[1] == pytest.approx(4500)


def test_the_same_snapshot_twice_is_booked_once() -> None:
    ledger = after((0, 1000.0, 300.0))
    seen = snapshot(15, [gpu(15, 5500.0, 300.0, holder=HELD)], pods=[pod("chat-1")])
    once = book(ledger, seen)
    assert booked(book(once, seen)) == booked(once) == {CHAT_LINE: pytest.approx(4500)}


def test_a_stored_ledger_resumes_without_loss_or_repetition() -> None:
    stored = after((0, 1000.0, 300.0), (15, 5500.0, 300.0))
    forgotten = book(stored, snapshot(30, [gpu(30, 10_000.0, 300.0, holder=HELD)], pods=[pod("chat-1")]))
    assert booked(forgotten)[CHAT_LINE] == pytest.approx(9000)
    resumed = book(stored, snapshot(300, [gpu(300, 91_000.0, 300.0, holder=HELD)], pods=[pod("chat-1")]))
    assert booked(resumed)[CHAT_LINE] == pytest.approx(90_000)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_counter_that_is_no_number_counts_as_silent(value: float) -> None:
    assert total(after((0, 1000.0, 300.0), (15, value, 300.0), (30, 10_000.0, 300.0)))[1] == pytest.approx(9000)


def test_the_clock_of_the_ledger_does_not_step_back() -> None:
    assert book(opened(30), snapshot(0)).at == later(30)


def test_a_ledger_from_a_wrong_clock_returns_to_the_present() -> None:
    assert book(opened(90_000), snapshot(0)).at == later(0)


def test_after_a_wrong_clock_the_counter_s_difference_is_booked_at_once() -> None:
    ahead = after((90_000, 1000.0, 300.0))
    seen = snapshot(0, [gpu(0, 5500.0, 300.0, holder=HELD)], pods=[pod("chat-1")])
    assert total(book(replace(ahead, at=later(90_000)), seen))[1] == pytest.approx(4500)


def test_an_old_sample_that_is_asked_for_by_a_clock_that_is_behind_books_nothing() -> None:
    """A source that remembers answers a wrong clock with the samples of then."""
    ledger = after((0, 9_000_000.0, 300.0))
    behind = book(ledger, snapshot(-100_000, [gpu(-100_005, 1_000_000.0, 300.0, holder=HELD)], pods=[pod("chat-1")]))
    assert behind.books == {}
    assert behind.gpus["GPU-a"].joules == Joules(9_000_000)
    back = book(behind, snapshot(15, [gpu(15, 9_004_500.0, 300.0, holder=HELD)], pods=[pod("chat-1")]))
    assert total(back)[1] == pytest.approx(4500)


def test_a_gpu_without_a_counter_waits_until_a_wrong_clock_is_over() -> None:
    ledger = replace(after((90_000, None, 300.0)), at=later(90_000))
    seen = snapshot(0, [gpu(0, None, 300.0, holder=HELD)], pods=[pod("chat-1")])
    assert book(ledger, seen).books == {}


def test_marks_of_gpus_that_left_with_their_node_are_dropped_after_a_week() -> None:
    ledger = book(opened(), snapshot(0, [gpu(0, 1000.0)]))
    week = 7 * 86_400
    elsewhere = [node("node-b")]
    assert "GPU-a" in book(ledger, snapshot(week, nodes=elsewhere)).gpus
    assert "GPU-a" not in book(ledger, snapshot(week + 1, nodes=elsewhere)).gpus
    assert "GPU-a" in book(ledger, snapshot(week + 1)).gpus


def test_an_empty_gpu_is_booked_on_the_line_of_nobody() -> None:
    ledger = book(opened(), snapshot(0, [gpu(0, 1000.0)]))
    assert booked(book(ledger, snapshot(15, [gpu(15, 2000.0)]))) == {FREE: pytest.approx(1000)}
    assert FREE.kind is LineKind.UNALLOCATED
