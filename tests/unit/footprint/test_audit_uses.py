"""What one GPU did with one slot's energy: which signals accuse, and which alone may not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.units import Joules, Seconds, Watts
from fallow.domain.windows import EnergyMethod, EngineSlot, GpuSlot, Tenure
from fallow.footprint.audit.uses import Holder, Use, Verdict, filled, shares, verdict, working_split
from fallow.footprint.hardware import hardware_of
from tests.support.windows import CHAT, CONTEXT, H100, QUIET, SLOT, gpu_slot, served, tenure

PIPES_STILL = {"tensor": 0.0, "memory": 0.0}


@pytest.mark.parametrize(
    ("watts", "signals", "expected"),
    [
        pytest.param(CONTEXT, {"activity": 0.0}, Verdict.STILL, id="no activity, context watts"),
        pytest.param(CONTEXT, {"activity": 0.02}, Verdict.STILL, id="a keep-alive kernel"),
        pytest.param(CONTEXT, {"activity": None}, Verdict.STILL, id="activity not exported, context watts"),
        pytest.param(350, {"activity": None}, Verdict.WORKED, id="activity not exported, real watts"),
        pytest.param(350, {"activity": 0.0}, Verdict.WORKED, id="watts say what activity missed"),
        pytest.param(CONTEXT, {"activity": 0.3}, Verdict.WORKED, id="some activity"),
        pytest.param(600, {"activity": 1.0, "tensor": 0.4, "memory": 0.5}, Verdict.WORKED, id="training"),
        pytest.param(600, {"activity": 1.0, **PIPES_STILL}, Verdict.WORKED, id="all watts, pipes not counted"),
        pytest.param(208, {"activity": 1.0, **PIPES_STILL}, Verdict.SPUN, id="a kernel that polls"),
        pytest.param(208, {"activity": 1.0}, Verdict.WORKED, id="busy, low watts, pipes not exported"),
        pytest.param(140, {"activity": 1.0}, Verdict.SPUN, id="busy at the watts of rest"),
        pytest.param(208, {"activity": 1.0, "tensor": 0.0, "memory": 0.3}, Verdict.WORKED, id="memory moves"),
        pytest.param(208, {"activity": 1.0, "sm": 0.6, **PIPES_STILL}, Verdict.WORKED, id="many multiprocessors"),
        pytest.param(208, {"activity": 0.5, **PIPES_STILL}, Verdict.WORKED, id="busy half the time"),
    ],
)
def test_a_pod_that_is_no_engine_is_judged_by_activity_and_watts_together(
    watts: float, signals: dict[str, float | None], expected: Verdict
) -> None:
    holds = tenure(**signals)  # type: ignore[arg-type]
    assert verdict(gpu_slot(watts, holds), holds, Holder(None), H100) is expected


HANGS = EngineSlot(requests=0, tokens=0, running=3, busy=1.0)


@pytest.mark.parametrize(
    ("engine", "silent", "activity", "expected"),
    [
        pytest.param(served(), False, 1.0, Verdict.WORKED, id="requests"),
        pytest.param(QUIET, False, 0.0, Verdict.STILL, id="quiet now"),
        pytest.param(QUIET, True, 0.0, Verdict.STILL, id="never asked"),
        pytest.param(QUIET, True, 1.0, Verdict.SPUN, id="busy without a token in the window"),
        pytest.param(QUIET, False, 1.0, Verdict.STILL, id="busy for once, between tokens"),
        pytest.param(HANGS, True, None, Verdict.SPUN, id="requests that hang"),
        pytest.param(HANGS, False, 0.9, Verdict.WORKED, id="a long prompt"),
    ],
)
def test_an_engine_is_judged_by_its_own_counters(
    engine: EngineSlot, silent: bool, activity: float | None, expected: Verdict
) -> None:
    holds = tenure(activity=activity)
    assert verdict(gpu_slot(300, holds), holds, Holder(engine, silent=silent), H100) is expected


def test_watts_of_a_shared_gpu_accuse_and_acquit_none_of_its_holders() -> None:
    still, works = tenure(part="1g.10gb #7"), tenure(activity=0.9, part="3g.40gb #1")
    slot = gpu_slot(500, still, works)
    assert verdict(slot, still, Holder(None), H100) is Verdict.STILL
    assert verdict(slot, works, Holder(None), H100) is Verdict.WORKED


def test_nothing_is_said_of_a_part_without_any_signal() -> None:
    silent = tenure(activity=None, part="1g.10gb #7")
    assert verdict(gpu_slot(500, silent), silent, Holder(None), H100) is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("engine", "capacity", "expected"),
    [
        (served(running=64), 256, 0.25),
        (served(running=64, kv_usage=0.8), 256, 0.8),
        (served(running=4, waiting=2), 256, 1.0),
        (served(running=512), 256, 1.0),
        (served(running=64, engines=2), 64, 0.5),
        (EngineSlot(requests=1, tokens=1, running=8, busy=0.25), 64, 0.5),
    ],
)
def test_an_engine_is_as_full_as_its_batch_or_its_cache_while_it_works(
    engine: EngineSlot, capacity: float, expected: float
) -> None:
    assert filled(engine, capacity) == pytest.approx(expected)


def split(watts: float, engine: EngineSlot, capacity: float, activity: float | None = None) -> dict[Use, float]:
    parts = working_split(watts * SLOT, SLOT, Watts(CONTEXT), Holder(engine, capacity), activity)
    return {use: joules / SLOT for use, joules in parts.items() if joules > 1e-6}


def test_room_in_the_batch_wastes_that_share_of_the_loaded_baseline() -> None:
    half = split(400, served(running=8), 16)
    assert half == pytest.approx({Use.UNDER_FILLED: CONTEXT / 2, Use.USEFUL: 400 - CONTEXT / 2})


def test_a_batch_filled_to_seven_tenths_counts_as_full() -> None:
    assert split(400, served(running=11.2), 16) == pytest.approx({Use.USEFUL: 400})


def test_time_between_requests_is_standby_not_room_in_the_batch() -> None:
    seldom = EngineSlot(requests=1, tokens=300, running=0.1, busy=0.1)
    parts = split(130, seldom, 1)
    assert parts[Use.STANDBY] == pytest.approx(CONTEXT * 0.9)
    assert Use.UNDER_FILLED not in parts


def test_requests_too_short_for_a_scrape_are_seen_by_the_gpu_s_activity() -> None:
    unseen = EngineSlot(requests=500, tokens=5000, running=0, busy=0)
    parts = split(300, unseen, 16, activity=0.6)
    assert parts == pytest.approx({Use.STANDBY: CONTEXT * 0.4, Use.USEFUL: 300 - CONTEXT * 0.4})


@given(
    watts=st.floats(0, 1000),
    running=st.floats(0, 600),
    busy=st.none() | st.floats(0, 1),
    kv_usage=st.none() | st.floats(0, 1),
    activity=st.none() | st.floats(0, 1),
    capacity=st.floats(1, 512),
)
def test_the_parts_of_a_working_slot_are_its_energy_and_none_is_negative(
    watts: float, running: float, busy: float | None, kv_usage: float | None, activity: float | None, capacity: float
) -> None:
    engine = EngineSlot(requests=1, tokens=1, running=running, busy=busy, kv_usage=kv_usage)
    parts = working_split(watts * SLOT, SLOT, Watts(CONTEXT), Holder(engine, capacity), activity)
    assert sum(parts.values()) == pytest.approx(watts * SLOT)
    assert all(joules >= -1e-6 for joules in parts.values())


def test_a_gpu_in_parts_is_shared_bare_by_slices_and_the_rest_by_activity() -> None:
    small = Tenure(CHAT, "1g.10gb #7", 0.25, activity=0.0)
    large = Tenure(CHAT, "3g.40gb #1", 0.75, activity=0.5)
    slot = GpuSlot(Seconds(100), Joules(100 * 271.8), EnergyMethod.COUNTER, tenures=(small, large))
    bare = 71.8 / 271.8
    assert shares(slot, hardware_of(H100)) == pytest.approx((bare / 4, bare * 3 / 4 + 1 - bare))


def test_without_everyone_s_activity_a_gpu_is_shared_by_slices() -> None:
    parts = (Tenure(CHAT, "1g.10gb #7", 0.25), Tenure(None, "3g.40gb #1", 0.75, activity=0.5))
    slot = GpuSlot(Seconds(100), Joules(30_000), EnergyMethod.COUNTER, tenures=parts)
    assert shares(slot, hardware_of(H100)) == (0.25, 0.75)
