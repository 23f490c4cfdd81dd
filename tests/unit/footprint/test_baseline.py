"""What a GPU draws at rest: learned only while it certainly rests, from its counter, with the constants as prior."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.adapters.cluster.ledger_codec import decode, encode
from fallow.domain.ledger import Baseline, Ledger, Level, Rest
from fallow.domain.units import Watts
from fallow.footprint.baseline import MEMORY, PRIOR, learned, levels
from fallow.footprint.bookkeeping import book
from fallow.footprint.hardware import UNKNOWN, hardware_of
from tests.support.metered import engine, gpu, later, opened, pod, snapshot

H100 = hardware_of("NVIDIA H100 80GB HBM3")
HELD = "llm/chat-1"
Step = Callable[[float, float], dict[str, object]]


def after(
    watts: float,
    minutes: float,
    *,
    ledger: Ledger | None = None,
    start: float = 0,
    every: float = 15,
    refresh: float = 30,
    held: bool = True,
    active: float | None = 0.0,
    tokens_per_second: float = 0,
    running: float = 0,
    ready_since: float | None = -3600,
    asleep: bool = False,
    engines: bool = True,
) -> Ledger:
    """The books after a GPU drew this for a while; its exporter renews the counter only now and then."""
    ledger, pods = ledger or opened(start), [pod("chat-1", ready=ready_since is not None, ready_since=ready_since)]
    mark = ledger.gpus.get("GPU-a")
    joules = mark.joules.value if mark and mark.joules else 5e6
    began = mark.at - later(0) if mark else start
    for step in range(1, int(minutes * 60 / every) + 1):
        seconds = start + step * every
        counted = joules + watts * max(seconds // refresh * refresh - began, 0)
        seen = [gpu(seconds, counted, watts, holder=HELD if held else None, active=active)]
        told = engine(seconds, 1000 + tokens_per_second * seconds, running=running, asleep=asleep)
        ledger = book(
            ledger,
            snapshot(seconds, seen, pods=pods if held else (), engines={"chat-1": told} if held and engines else {}),
        )
    return ledger


def known(ledger: Ledger) -> Baseline:
    return ledger.baselines.get("GPU-a", Baseline())


def test_a_loaded_engine_without_work_teaches_its_level() -> None:
    level = known(after(141.0, 30)).loaded
    assert level is not None
    assert level.watts.value == pytest.approx(141, rel=0.01)
    assert known(after(141.0, 30)).bare is None


def test_an_empty_gpu_teaches_its_bare_level() -> None:
    ledger = after(83.0, 30, held=False)
    assert known(ledger).bare is not None
    assert known(ledger).loaded is None
    assert known(ledger).bare == Level(known(ledger).bare.watts, 2, known(ledger).bare.since)  # type: ignore[union-attr]


def test_a_counter_that_is_renewed_seldom_teaches_no_level_of_zero() -> None:
    """Read every 15 s and renewed every 30 s, every second difference is zero and the others are twice the power."""
    level = known(after(120.0, 60)).loaded
    assert level is not None
    assert level.watts.value == pytest.approx(120, rel=0.001)


@pytest.mark.parametrize(
    "state",
    [
        {"active": 0.2},
        {"running": 2.0},
        {"tokens_per_second": 5.0},
        {"ready_since": None},
        {"engines": False},
        {"asleep": True},
    ],
    ids=["active", "requests running", "tokens counted", "still loading", "engine not read", "asleep"],
)
def test_nothing_is_learned_unless_the_loaded_engine_certainly_rests(state: dict[str, float | None]) -> None:
    assert known(after(130.0, 60, **state)) == Baseline()  # type: ignore[arg-type]


def test_an_empty_gpu_never_lowers_the_level_of_a_loaded_one() -> None:
    loaded = after(140.0, 60)
    emptied = after(70.0, 120, ledger=loaded, start=3600, held=False)
    assert known(emptied).loaded == known(loaded).loaded
    assert known(emptied).bare is not None


def test_a_restart_under_load_learns_no_wrong_idle() -> None:
    """Kepler took the lowest power since its start, so a restart under load made idle what was work (#2384, #2388)."""
    rested = after(121.0, 60)
    again = decode(encode(rested))
    working = after(520.0, 240, ledger=again, start=3600, active=0.9, running=8.0, tokens_per_second=900)
    assert known(working).loaded is not None
    assert known(working).loaded.watts.value == pytest.approx(121, abs=0.1)  # type: ignore[union-attr]


def test_a_first_start_under_load_leaves_the_constants() -> None:
    working = after(520.0, 240, active=0.9, running=8.0, tokens_per_second=900)
    assert levels(working.baselines.get("GPU-a"), H100).loaded == H100.context


def test_a_rest_across_a_restart_is_watched_anew() -> None:
    half = after(130.0, 9)
    assert half.watches
    assert decode(encode(half)).watches == {}


def test_what_draws_too_much_for_rest_is_not_believed_where_activity_is_not_read() -> None:
    assert known(after(400.0, 60, active=None)) == Baseline()
    assert known(after(140.0, 60, active=None)).loaded is not None


def test_a_burst_between_two_looks_does_not_move_the_level() -> None:
    ledger = after(130.0, 40)
    mark = ledger.gpus["GPU-a"]
    assert mark.joules is not None
    # a job that nobody saw: 20 kJ within one interval, at no activity at either end
    burst = replace(ledger, gpus={"GPU-a": replace(mark, joules=mark.joules * (1 - 20_000 / mark.joules.value))})
    later_on = after(130.0, 40, ledger=burst, start=2400)
    level = known(later_on).loaded
    assert level is not None
    assert level.watts.value == pytest.approx(130, rel=0.02)


def test_with_few_samples_the_constants_count() -> None:
    baseline = learned(None, Rest.LOADED, Watts(150), later(0))
    expected = (150 + PRIOR * H100.context.value) / (1 + PRIOR)
    assert levels(baseline, H100).loaded.value == pytest.approx(expected)
    assert levels(None, H100).loaded == H100.context


def test_an_assumed_constant_counts_less_than_a_measured_one() -> None:
    baseline = learned(None, Rest.BARE, Watts(40), later(0))
    assert levels(baseline, UNKNOWN).bare.value == pytest.approx((40 + 20) / 2)


def test_a_new_level_is_learned_slowly_and_in_the_end() -> None:
    baseline: Baseline | None = None
    for _ in range(500):
        baseline = learned(baseline, Rest.LOADED, Watts(120), later(0))
    once = learned(baseline, Rest.LOADED, Watts(160), later(0))
    assert once.loaded is not None
    assert once.loaded.watts.value == pytest.approx(120 + 40 / MEMORY)
    drifted = once
    for _ in range(3 * MEMORY):
        drifted = learned(drifted, Rest.LOADED, Watts(160), later(0))
    assert drifted.loaded is not None
    assert drifted.loaded.watts.value == pytest.approx(160, rel=0.02)


def test_a_gpu_that_is_forgotten_takes_its_level_with_it() -> None:
    ledger = after(83.0, 30, held=False)
    assert "GPU-a" not in replace(ledger, gpus={}).gpus
    assert book(replace(ledger, gpus={}), snapshot(1860)).baselines == {}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(Rest), st.floats(1, 2000)), max_size=30),
    st.sampled_from(["NVIDIA H100 80GB HBM3", "Tesla-T4", "unheard of"]),
)
def test_bare_is_at_most_loaded_and_both_lie_among_what_was_seen(seen: list[tuple[Rest, float]], name: str) -> None:
    hardware, baseline = hardware_of(name), None
    for rest, watts in seen:
        baseline = learned(baseline, rest, Watts(watts), later(0))
    known_levels = levels(baseline, hardware)
    assert known_levels.bare <= known_levels.loaded
    loaded = [watts for rest, watts in seen if rest is Rest.LOADED]
    span = [hardware.context.value, *loaded]
    assert min(span) * 0.999 <= known_levels.loaded.value <= max(span) * 1.001
