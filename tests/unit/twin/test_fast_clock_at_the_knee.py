"""The fast clock against the event engine where attainment begins to fall: prompts alone, answers alone, both on one
engine, and a cache that is full.
"""

from __future__ import annotations

import pytest

from bench.clocks.nearness import kept
from fallow.twin.physics.engine import EngineLimits
from tests.support.clocks import Load, both_clocks

# A KV connector hands a decode engine what others computed.
HANDED_OVER = EngineLimits(prefix_hit_share=0.99)


@pytest.mark.parametrize(
    ("rate", "prompt", "replicas", "seconds"),
    [
        pytest.param(4.7, 2048, 1, 300, id="at 60 % of one replica's knee"),
        pytest.param(7.9, 2048, 1, 300, id="at one replica's knee"),
        pytest.param(18.2, 2048, 2, 200, id="at 95 % of two replicas' knee"),
        pytest.param(44, 2048, 4, 200, id="at four replicas' knee"),
        pytest.param(48, 2048, 4, 300, id="beyond four replicas' knee"),
        pytest.param(95, 2048, 8, 150, id="at eight replicas' knee"),
        pytest.param(39.5, 1155, 2, 200, id="shorter ones at two replicas' knee"),
        pytest.param(84, 1155, 4, 150, id="shorter ones at four replicas' knee"),
    ],
)
def test_prompts_alone_are_in_time_as_on_the_event_engine(
    rate: float, prompt: float, replicas: int, seconds: int
) -> None:
    event, fast = both_clocks(Load(rate, prompt, 1, replicas, seconds, cv=0.96, ttft=1.0))

    assert kept(fast) == pytest.approx(event.attainment, abs=0.015)
    assert fast.after.totals.joules.sum() == pytest.approx(event.energy.value, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "prompt", "output", "replicas", "seconds"),
    [
        pytest.param(47, 2048, 28, 1, 60, id="short ones at 60 % of the knee"),
        pytest.param(79, 2048, 28, 1, 80, id="short ones at the knee"),
        pytest.param(345, 2048, 28, 4, 40, id="short ones at four replicas' knee"),
        pytest.param(22.9, 1155, 211, 1, 300, id="at the knee"),
        pytest.param(97.5, 1155, 211, 4, 100, id="at four replicas' knee"),
    ],
)
def test_answers_alone_are_in_time_as_on_the_event_engine(
    rate: float, prompt: float, output: float, replicas: int, seconds: int
) -> None:
    event, fast = both_clocks(Load(rate, prompt, output, replicas, seconds, itl=0.025, limits=HANDED_OVER))

    assert kept(fast) == pytest.approx(event.attainment, abs=0.01)
    assert fast.after.totals.joules.sum() == pytest.approx(event.energy.value, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "prompt", "output", "replicas", "seconds"),
    [
        pytest.param(1.23, 2048, 28, 1, 600, id="short answers"),
        pytest.param(11.1, 2048, 28, 4, 200, id="short answers on four replicas"),
        pytest.param(7.6, 1155, 211, 1, 300, id="long ones"),
        pytest.param(35.7, 1155, 211, 4, 200, id="long ones on four replicas"),
    ],
)
def test_at_the_knee_both_roles_on_one_engine_are_in_time_as_on_the_event_engine(
    rate: float, prompt: float, output: float, replicas: int, seconds: int
) -> None:
    event, fast = both_clocks(Load(rate, prompt, output, replicas, seconds, ttft=1.0, itl=0.025))

    assert kept(fast) == pytest.approx(event.attainment, abs=0.012)
    assert fast.after.totals.joules.sum() == pytest.approx(event.energy.value, rel=0.015)


@pytest.mark.parametrize(
    ("rate", "prompt", "output", "replicas", "seconds"),
    [
        pytest.param(0.9, 6000, 1500, 1, 600, id="long prompts, with room"),
        pytest.param(1.4, 6000, 1500, 1, 900, id="long prompts"),
        pytest.param(5.6, 6000, 1500, 4, 400, id="long prompts on four replicas"),
        pytest.param(1.8, 1000, 3000, 1, 900, id="long answers, each computed again twice"),
    ],
)
def test_a_full_cache_lets_as_many_in_and_computes_as_much_again_as_the_event_engine(
    rate: float, prompt: float, output: float, replicas: int, seconds: int
) -> None:
    event, fast = both_clocks(Load(rate, prompt, output, replicas, seconds, ttft=2.0, itl=0.05))

    assert kept(fast) == pytest.approx(event.attainment, abs=0.02)
    assert fast.after.totals.done.sum() == pytest.approx(event.done, rel=0.05)
    assert fast.after.totals.joules.sum() == pytest.approx(event.energy.value, rel=0.01)
