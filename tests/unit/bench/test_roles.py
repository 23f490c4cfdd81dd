"""Prefill and decode apart on the scoreboard: the same requests twice, and one row of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scoreboard.roles import CACHED, Apart, joined
from bench.scoreboard.work import weeks

SHARES = st.floats(0.0, 1.0)


def row(attainment: float, tokens: float = 1000.0, joules: float = 500.0) -> dict[str, Any]:
    return {
        "controller": "one",
        "trace": "coding, apart",
        "seed": 1,
        "energy_joules": joules,
        "good_tokens": tokens * attainment,
        "requests": 100,
        "attainment": attainment,
        "replica_hours": 2.0,
        "carbon_g": 3.0,
        "decisions": 4,
        "starts": 5,
        "joules_per_good_token": None,
        "schedule_oracle_joules": 800.0,
        "over_schedule_oracle": 0.0,
    }


def test_the_same_requests_are_prompts_once_and_answers_once() -> None:
    whole, _ = weeks((1,), 0.02)
    apart = Apart(whole)
    count = len(whole.services)
    before, after = whole.block(60, 120), apart.block(60, 120)
    for rows in (slice(0, count), slice(count, 2 * count)):
        assert np.array_equal(after.arrivals[rows], before.arrivals)
        assert np.array_equal(after.prompt[rows], before.prompt)
    assert (after.output[:count] == 1).all()
    assert np.array_equal(after.output[count:], before.output)
    assert apart.spread.cached.tolist() == [0.0] * count + [CACHED] * count
    assert apart.spread.output_cv[:count].tolist() == [0.0] * count
    assert len(set(apart.services)) == 2 * count


@given(SHARES, SHARES)
def test_in_time_are_those_who_are_late_in_neither(prompts: float, answers: float) -> None:
    found = joined(row(prompts, tokens=100.0), row(answers))
    assert found["attainment"] <= min(prompts, answers) + 1e-9
    assert 1 - found["attainment"] <= (1 - prompts) + (1 - answers) + 1e-9
    assert found["good_tokens"] == pytest.approx(1000.0 * found["attainment"])
    assert (found["energy_joules"], found["over_schedule_oracle"]) == (1000.0, 0.25)
    assert (found["replica_hours"], found["starts"], found["requests"]) == (4.0, 10, 100)
