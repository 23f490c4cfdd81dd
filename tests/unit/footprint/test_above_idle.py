"""What work takes above loaded idle, carried from the concurrency at which it was measured to another."""

from __future__ import annotations

import pytest

from fallow.footprint.above_idle import Effort, effort_at

MEASURED = Effort(concurrency=6.0, joules=0.5, reach=0.01, standing=0.1, prompts=10.0)


def falling(concurrency: float) -> float:
    return 1.0 / concurrency


@pytest.mark.parametrize(("prompt", "joules"), [(0.0, 0.25), (0.03, 0.3 + 0.1), (0.05, 0.5), (0.2, 0.5)])
def test_the_share_of_prompts_is_the_same_at_any_concurrency(prompt: float, joules: float) -> None:
    """Ten prompt tokens to one of the answer: 0.3 J of the 0.5 at 0.03 each. They are never more than all of it."""
    found = effort_at((MEASURED,), 12.0, falling, prompt)
    assert found is not None
    assert found.joules == pytest.approx(joules)


def test_too_far_away_nothing_is_known() -> None:
    assert effort_at((MEASURED,), 13.0, falling) is None
