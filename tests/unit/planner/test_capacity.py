"""What one replica carries: the owner's number, else what was measured within the objective, else the engine limit."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.app.simulation.priors import profile_of
from fallow.domain.arrivals import Arrivals, Uneven
from fallow.domain.profiles import Profile
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives, Variant
from fallow.planner.capacity import MOST_PACE, in_work, pace, profile_for, rate_within, replica_capacity
from fallow.twin.calibration.asking import Described, Work, query_of
from fallow.twin.calibration.store import shipped
from fallow.twin.simulation.predicting import predicted_table
from fallow.twin.simulation.sizing import carried
from tests.support.builders import BF16, FP8, H100, L4, profile, service

MEASURED = profile(BF16, (8, 800, 400, 0.01), (32, 2400, 600, 0.02), (128, 6000, 680, 0.05))
FAST = Objectives(Seconds(1), Seconds(0.025))
WITHOUT_ITL = profile(BF16, (8, 800, 400), (128, 6000, 680))


@pytest.mark.parametrize(
    ("declared", "itl", "known", "limit", "expected", "origin"),
    [
        (10, None, MEASURED, None, 10, "scaling.targetConcurrency"),
        (500, None, None, None, 256, "scaling.targetConcurrency"),
        (None, 0.02, MEASURED, None, 25.6, "within objectives.itl"),
        (None, 0.02, MEASURED, 10, 8, "within objectives.itl"),
        (None, 0.001, MEASURED, None, 6.4, "objectives.itl is met nowhere"),
        (None, 0.02, WITHOUT_ITL, None, 102.4, "ModelProfile bf16-"),
        (None, None, MEASURED, None, 102.4, "ModelProfile bf16-"),
        (None, None, MEASURED, 50, 40, "ModelProfile bf16-"),
        (None, None, None, None, 204.8, "the engine's concurrency limit"),
        (None, 0.02, None, 20, 16, "the engine's concurrency limit"),
    ],
    ids=[
        "declared",
        "declared above what the engine takes",
        "measured within the objective",
        "the variant's own limit is lower",
        "an objective that no measured concurrency meets",
        "a profile without latency",
        "no objective",
        "no objective and the variant's own limit",
        "nothing known",
        "only the variant's own limit known",
    ],
)
def test_a_replica_carries(
    declared: float | None, itl: float | None, known: Profile | None, limit: int | None, expected: float, origin: str
) -> None:
    wanted = Objectives(itl_p95=None if itl is None else Seconds(itl))
    found = replica_capacity(
        service(concurrency=declared, objectives=wanted), replace(BF16, max_concurrency=limit), known, headroom=0.2
    )
    assert found.concurrency == pytest.approx(expected)
    assert origin in found.origin


def test_the_measured_token_rate_goes_with_the_measured_concurrency() -> None:
    wanted = Objectives(itl_p95=Seconds(0.02))
    assert replica_capacity(service(concurrency=None, objectives=wanted), BF16, MEASURED, 0.2).tokens_per_second == 2400


ON_L4 = replace(MEASURED, name="l4", gpu_product=L4)
FOR_L4 = replace(BF16, products=(L4,))


@pytest.mark.parametrize(
    ("variant", "profiles", "product", "found"),
    [
        (BF16, (MEASURED, ON_L4), H100, MEASURED),
        (BF16, (MEASURED, ON_L4), L4, ON_L4),
        (BF16, (MEASURED, ON_L4), None, None),
        (BF16, (ON_L4,), None, ON_L4),
        (BF16, (ON_L4,), H100, None),
        (FOR_L4, (MEASURED, ON_L4), H100, ON_L4),
        (FOR_L4, (MEASURED, ON_L4), None, ON_L4),
        (FP8, (MEASURED,), H100, None),
        (replace(BF16, gpus=2), (MEASURED,), H100, None),
        (replace(BF16, precision="bf16"), (MEASURED,), H100, MEASURED),
    ],
    ids=[
        "of the product it runs on",
        "of another product it runs on",
        "none, where the product is not known",
        "the only one, where the product is not known",
        "none of another product",
        "of the product the variant asks for, whatever runs now",
        "of the product the variant asks for",
        "none of another model",
        "none of another number of GPUs",
        "precision in any case",
    ],
)
def test_the_profile_is_that(
    variant: Variant, profiles: tuple[Profile, ...], product: str | None, found: Profile | None
) -> None:
    assert profile_for(variant, profiles, product) is found


@pytest.mark.parametrize(("prompt", "output"), [(2048, 28), (1155, 211), (100, 1000)])
def test_the_rate_within_objectives_is_that_of_the_closed_form_over_whole_batches(prompt: float, output: float) -> None:
    """A profile has a few points of the table; the twin's own sizing has all of its batches."""
    query = query_of(Described(name="meta-llama/Llama-3.1-8B-Instruct"), Work(gpu="H100", precision="BF16"), shipped())
    table = predicted_table(query)
    known = profile_of(BF16, H100, table)
    found = rate_within(known, prompt, output, Seconds(0.025), table.slots)

    assert found == pytest.approx(carried(table, prompt, output, 0.025).rate, rel=0.02)


def test_prompts_take_from_what_a_replica_answers() -> None:
    known = replace(MEASURED, prefill_rate=10_000.0)
    few, many = (rate_within(known, prompt, 100, Seconds(0.06), 128) for prompt in (1, 1000))
    assert few is not None
    assert many is not None
    assert few == pytest.approx(1 / (100 * 0.05 / 128 + 1e-4), rel=0.01)
    assert many < 0.75 * few


@given(st.floats(1, 5000), st.floats(1, 2000), st.floats(0.011, 0.2))
def test_a_point_where_steps_do_not_bend_changes_no_rate(prompt: float, output: float, itl: float) -> None:
    known = profile(BF16, (8, 800, 400, 0.01), (128, 6000, 680, 0.05), prefill_rate=10_000.0)
    finer = profile(
        BF16, (8, 800, 400, 0.01), (37, 2000, 500, 0.0196667), (128, 6000, 680, 0.05), prefill_rate=10_000.0
    )
    one, other = (rate_within(of, prompt, output, Seconds(itl), 128) for of in (known, finer))
    assert one == pytest.approx(other, rel=1e-5)


@given(st.floats(1, 5000), st.floats(1, 2000))
def test_what_a_prompt_takes_besides_its_tokens_counts_as_so_many_more(prompt: float, output: float) -> None:
    known = replace(MEASURED, prefill_rate=10_000.0)
    beside = replace(known, prompt_seconds=0.002)
    found = rate_within(beside, prompt, output, Seconds(0.05), 128)
    assert found == pytest.approx(rate_within(known, prompt + 20, output, Seconds(0.05), 128))


def test_an_objective_that_no_batch_meets_leaves_one_request_after_another() -> None:
    known = replace(MEASURED, prefill_rate=10_000.0)
    assert rate_within(known, 1000, 100, Seconds(0.001), 128) == pytest.approx(1 / (100 * 0.01 + 0.1))


def test_the_engine_s_limit_bounds_the_rate() -> None:
    known = replace(MEASURED, prefill_rate=10_000.0)
    limited, free = (rate_within(known, 1, 100, None, limit) for limit in (8, 128))
    assert limited is not None
    assert free is not None
    assert limited < free / 2


@pytest.mark.parametrize("known", [MEASURED, replace(MEASURED, points=(), prefill_rate=10_000.0)])
def test_a_profile_without_prefill_or_points_tells_no_rate(known: Profile) -> None:
    assert rate_within(known, 1000, 100, None, 128) is None


def seen(rate: float, gap: float, *, replicas: float = 2, prompt: float = 1000, output: float = 100) -> Arrivals:
    """An hour of requests whose tokens came `gap` seconds apart, as many in work as Little's law has it."""
    requests, share = rate * 3600, rate * prompt / 10_000.0 / replicas
    return Arrivals(
        3600, requests, requests, requests, requests * prompt, requests * output, Uneven(every=15),
        working=requests * output * gap + share / (1 - share) * replicas * 3600, replicas=replicas * 3600,
    )  # fmt: skip


@pytest.mark.parametrize("slower", [0.8, 1.0, 1.3])
def test_how_much_slower_steps_are_than_in_the_profile_is_told_by_the_requests_in_work(slower: float) -> None:
    known, rate, batch = replace(MEASURED, prefill_rate=10_000.0), 4.0, 8.0
    # at a batch of eight a step is 10 ms in the profile; 4 prompts a second take a fifth of each of two replicas
    gap = 0.010 * slower / (1 - 0.2)
    output = batch * 2 / (rate * gap)

    assert pace(known, seen(rate, gap, output=output)) == pytest.approx(slower)
    told = replica_capacity(service(objectives=FAST), BF16, known, 0.2, seen(rate, gap, output=output))
    assert told.requests_per_second == pytest.approx(rate_within(known, 1000, output, FAST.itl_p95, 256, slower))


@pytest.mark.parametrize(
    "few",
    [
        Arrivals(),
        seen(0.01, 0.02),
        replace(seen(4, 0.02), working=0.0, replicas=0.0),
        replace(seen(4, 0.02), working=1.0),
        seen(12, 0.02, output=10),
    ],
    ids=["nothing", "next to nothing", "an older version's books", "hardly anything in work", "mostly prompts"],
)
def test_where_little_was_seen_steps_are_as_long_as_the_profile_says(few: Arrivals) -> None:
    assert pace(replace(MEASURED, prefill_rate=10_000.0), few) == 1.0


def test_the_length_of_steps_is_told_by_the_engines_that_serve_alone() -> None:
    """Those before them made ten times as many tokens."""
    known, alone = replace(MEASURED, prefill_rate=10_000.0), seen(4, 0.015, output=60)
    mixed = replace(alone, prompt=alone.prompt * 10, output=alone.output * 10)
    now = replace(mixed, computed=alone.prompt, made=alone.output)
    assert pace(known, now) == pace(known, alone)
    assert pace(known, mixed) < pace(known, alone)


def test_requests_in_work_are_those_at_which_a_replica_keeps_up() -> None:
    known = replace(MEASURED, prefill_rate=10_000.0)
    # a batch of eight takes 10 ms a step: 1000 tokens computed and 100 answered
    rate = 1 / (100 * 0.010 / 8 + 0.1)
    assert in_work(known, 1000, 100, 128, rate) == pytest.approx(8 + rate * 0.1)
    half = in_work(known, 1000, 100, 128, 0.05)
    assert half == pytest.approx(0.05 * (100 * 0.01 + 0.1) + 0.05 * 0.1, rel=0.05)
    assert in_work(known, 1000, 100, 128, 1000) is None
    assert in_work(MEASURED, 1000, 100, 128, rate) is None


def test_steps_are_never_believed_to_be_more_than_twice_as_long() -> None:
    assert pace(replace(MEASURED, prefill_rate=10_000.0), seen(4, 0.5)) == MOST_PACE
