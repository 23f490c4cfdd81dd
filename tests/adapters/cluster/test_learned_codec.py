"""What was learned and each service's baseline survive a restart, and take little room."""

import gzip
import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.adapters.cluster.learned_codec import (
    counterfactual_rows,
    counterfactuals,
    habit_rows,
    habits,
    learned,
    learned_rows,
)
from fallow.adapters.cluster.ledger_codec import decode, encode
from fallow.domain.arrivals import Arrivals, Uneven
from fallow.domain.counterfactual import BaselineKind, BaselineRule, Counterfactual, Demand, Terms
from fallow.domain.figures import Figure
from fallow.domain.habits import Habits
from fallow.domain.lateness import Lateness
from fallow.domain.learned import Learned, LoadBin, Placement, Starts, StepMoments
from fallow.domain.ledger import Ledger
from fallow.domain.units import Instant, Joules
from fallow.domain.workloads import ServiceKey
from fallow.footprint.bins import load_points
from fallow.footprint.steps import step_model
from tests.support import learning
from tests.support.learning import PLACEMENT, Traffic, engine_windows
from tests.support.metered import NOON

words = st.text(min_size=1, max_size=8)
keys = st.builds(ServiceKey, words, words)
numbers = st.floats(0, 1e12, allow_subnormal=False)
rules = st.builds(
    BaselineRule,
    st.sampled_from(BaselineKind),
    st.none() | st.integers(1, 99),
    st.none() | numbers.map(lambda value: Figure.exact(Joules(value))),
    words,
)
terms = st.builds(Terms, rules, words, st.integers(0, 9), st.integers(1, 99), numbers, st.none() | numbers)
followers = st.builds(
    Counterfactual,
    terms,
    st.integers(1, 9),
    numbers.map(Instant),
    st.integers(0, 99),
    words,
    st.builds(Demand, numbers, numbers, numbers),
)


@settings(deadline=None)
@given(st.dictionaries(keys, followers, max_size=3))
def test_baselines_return_as_they_were(known: dict[ServiceKey, Counterfactual]) -> None:
    ledger = Ledger(NOON, NOON, counterfactuals=known)
    assert counterfactuals(json.loads(json.dumps(counterfactual_rows(ledger)))) == known


uneven = st.builds(Uneven, numbers, numbers, numbers, numbers, st.none() | numbers, st.none() | numbers)
arrivals = st.builds(Arrivals, *[numbers] * 6, uneven, uneven, *[numbers] * 7, st.integers(0, 3))
known_habits = st.builds(Habits, arrivals, st.builds(Lateness, st.floats(-2, 7), numbers))


@settings(deadline=None)
@given(st.dictionaries(keys, known_habits, max_size=3))
def test_habits_return_to_six_digits_without_what_the_next_cycle_is_no_neighbour_of(
    known: dict[ServiceKey, Habits],
) -> None:
    again = habits(json.loads(json.dumps(habit_rows(Ledger(NOON, NOON, habits=known)))))
    assert again.keys() == known.keys()
    for key, one in known.items():
        now, then = again[key].arrivals, one.arrivals
        assert (now.cycles.rate, now.spans.change, now.open_requests) == (None, None, 0.0)
        for name in ("seconds", "requests", "began", "answered", "prompt", "output", "working", "replicas", "highest"):
            assert getattr(now, name) == pytest.approx(getattr(then, name), rel=1e-5)
        for mine, its in ((now.cycles, then.cycles), (now.spans, then.spans)):
            found = (mine.seconds, mine.squares, mine.returned, mine.every)
            assert found == pytest.approx((its.seconds, its.squares, its.returned, its.every), rel=1e-5)
        assert again[key].lateness.lenience == pytest.approx(one.lateness.lenience, rel=1e-5)


def test_a_ledger_from_before_habits_were_kept_has_none() -> None:
    raw = json.loads(gzip.decompress(encode(Ledger(NOON, NOON))))
    del raw["habits"]
    assert decode(gzip.compress(json.dumps(raw).encode())).habits == {}


def test_a_model_is_the_same_after_a_restart() -> None:
    known = learning.learned(engine_windows(Traffic(1.5, 0.5), hours=1.0))
    again = decode(encode(Ledger(NOON, NOON, learned={PLACEMENT: known}))).learned[PLACEMENT]
    before, after = step_model(known, PLACEMENT), step_model(again, PLACEMENT)
    assert type(before) is type(after)
    assert again.gpus == known.gpus
    assert again.steps is not None
    assert known.steps is not None
    assert again.steps.information == pytest.approx(known.steps.information, rel=1e-8)
    assert again.steps.solution == pytest.approx(known.steps.solution, rel=1e-6)
    for index, one in known.bins.items():
        assert again.bins[index].energy == pytest.approx(one.energy, rel=1e-5)


def test_a_placement_that_only_idled_is_kept() -> None:
    known = {PLACEMENT: Learned(2, Instant(60), idle_watts=243.2, idle_windows=7)}
    assert learned(learned_rows(Ledger(NOON, NOON, learned=known))) == known


def load_bin(noise: Callable[[float], float], number: int) -> LoadBin:
    windows, energy, seconds, prompts, tokens, iterations, requests, scatter = (noise(1e6) for _ in range(8))
    at = Instant(NOON + 60 * number)
    return LoadBin(windows, energy, seconds, prompts, tokens, iterations, requests, scatter, at)


def test_a_bin_comes_back_with_its_scatter_and_its_time_and_starts_do() -> None:
    bins = {3: LoadBin(40, 9e5, 2400, 1e6, 3e5, 3e4, 900, 123.456, Instant(NOON - 60))}
    known = Learned(1, NOON, bins=bins, starts=Starts(3, 180, 2, 40_000, 1500))
    assert decode(encode(Ledger(NOON, NOON, learned={PLACEMENT: known}))).learned == {PLACEMENT: known}


def test_a_bin_from_before_scatter_was_kept_is_uncertain_to_a_tenth_and_as_old_as_its_placement() -> None:
    rows = learned_rows(
        Ledger(NOON, NOON, learned={PLACEMENT: Learned(1, NOON, bins={3: LoadBin(generated_tokens=1)})})
    )
    rows[0][-1] = [[3, 40.0, 3e5, 2400.0, 1e6, 3e5, 3e4, 900.0]]
    one = learned(rows)[PLACEMENT].bins[3]
    assert one.at == NOON
    (point,) = load_points({3: one})
    assert 0.03 < (point.joules_per_token.high.value / point.joules_per_token.best.value - 1.05) + 0.03 < 0.06


def test_a_thousand_variants_and_services_take_little_room() -> None:
    chance = random.Random(3)

    def noise(size: float) -> float:
        return chance.uniform(0.1, 1.0) * size

    known, rules = {}, {}
    for number in range(1000):
        key = ServiceKey(f"team-{number % 50}", f"service-{number}")
        moments = StepMoments(
            information=tuple(noise(10.0**place) for place in range(-4, 6)),
            solution=tuple(noise(1) for _ in range(4)),
            windows=200,
            spread=noise(0.01),
            judged=200,
            since=Instant(NOON + number),
        )
        bins = {index: load_bin(noise, number) for index in range(4)}
        known[Placement(key, "bf16", "NVIDIA-H100-80GB-HBM3")] = Learned(1, NOON, noise(130), 50, moments, bins)
        demand = Demand(noise(1e9), noise(6e5), noise(1e4))
        rules[key] = Counterfactual(Terms(BaselineRule(), "bf16", 0, 8, noise(100)), 1, NOON, 3, "H100", demand)
    size = len(encode(Ledger(NOON, NOON, learned=known, counterfactuals=rules)))
    print(f"1,000 variants learned and 1,000 baselines: {size} bytes")  # noqa: T201 - quoted in docs/decisions/ledger.md
    assert size < 400_000
