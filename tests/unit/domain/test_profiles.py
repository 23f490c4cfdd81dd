"""Profiles between and outside their points, and the concurrency that an objective leaves."""

import pytest

from fallow.domain.profiles import Profile
from fallow.domain.units import Seconds
from tests.support.builders import BF16, profile

# 0.5 J/token at 10, 0.125 at 40
TWO = profile(BF16, (10, 800, 400), (40, 4800, 600))


@pytest.mark.parametrize(
    ("concurrency", "joules"),
    [(1, 0.5), (10, 0.5), (20, 0.25), (40, 0.125), (500, 0.125)],
    ids=["flat below", "at a point", "log-log between", "at the last point", "flat above"],
)
def test_energy_per_token_at_any_concurrency(concurrency: float, joules: float) -> None:
    assert TWO.joules_per_token(concurrency) == pytest.approx(joules)


def test_a_profile_without_points_knows_no_energy() -> None:
    assert profile(BF16).joules_per_token(10) is None


ITL = profile(BF16, (8, 800, 400, 0.01), (32, 2400, 600, 0.02), (128, 6000, 680, 0.05))
SILENT = profile(BF16, (8, 800, 400), (32, 2400, 600))


@pytest.mark.parametrize(
    ("declared", "itl", "concurrency"),
    [(ITL, 0.02, 32), (ITL, 1, 128), (ITL, 0.005, None), (SILENT, 1, None)],
    ids=["the largest within", "all of them", "none within", "latency was not measured"],
)
def test_the_objective_picks_the_largest_concurrency_that_meets_it(
    declared: Profile, itl: float, concurrency: float | None
) -> None:
    assert declared.concurrency_within(Seconds(itl)) == concurrency
