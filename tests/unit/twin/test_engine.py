"""The engine: measured energy per token, honest counters, and the life of a request."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.engine import Engine, EngineLimits, EngineState
from fallow.twin.physics.requests import FinishReason, Request
from tests.support.twin import an_engine, submitted

# Batch and J per output token of Llama-3.1-8B BF16, ML.ENERGY v3, H100 SXM; its prompts by the calibration.
MEASURED = [(8, 0.455), (16, 0.263), (32, 0.165), (64, 0.119), (128, 0.095), (256, 0.077)]


@pytest.mark.parametrize(("batch", "joules"), MEASURED)
def test_a_steady_batch_costs_what_was_measured_per_token(batch: int, joules: float) -> None:
    engine = an_engine()
    lengths = [250, 330, 390, 450, 530]
    for index in range(batch):
        submitted(engine, prompt=92, output=lengths[index % 5] * (index + 1) // batch + 1)
    now = 0.0
    before = (0.0, 0)
    while now < 30.0:
        now += 0.1
        engine.advance(now)
        for _ in engine.take_finished():
            submitted(engine, at=now, prompt=92, output=lengths[engine.counters.finished[FinishReason.STOP] % 5])
        if now < 10.0:
            before = (engine.joules, engine.counters.generated_tokens)
    per_token = (engine.joules - before[0]) / (engine.counters.generated_tokens - before[1])
    assert per_token == pytest.approx(joules, rel=0.04)


def test_one_request_has_the_times_of_the_law() -> None:
    engine = an_engine()
    request = submitted(engine, at=1.0, prompt=2700, output=101)
    engine.advance(10.0)
    prefill, step = (
        engine.law.step_seconds(0, 0) + engine.law.prefill_seconds(2700, 1),
        engine.law.step_seconds(1, 2750),
    )
    assert request.ttft == pytest.approx(prefill)
    assert request.mean_itl == pytest.approx(step, rel=1e-3)
    assert request.finished == pytest.approx(1.0 + prefill + 100 * step, rel=1e-3)
    assert engine.counters.generated_tokens == 101


def test_counters_agree_with_each_other() -> None:
    engine = an_engine(limits=EngineLimits(prefix_hit_share=0.5))
    requests = [submitted(engine, at=index * 0.05, prompt=320, output=40) for index in range(60)]
    engine.advance(60.0)
    counters = engine.counters
    assert counters.finished[FinishReason.STOP] == 60
    assert counters.generated_tokens == 60 * 40
    assert counters.prompt_tokens == counters.cache_queries == 60 * 320
    assert counters.cached_tokens == counters.cache_hits == 60 * 160
    assert counters.ttft.count == counters.e2e.count == 60
    assert counters.itl.count == counters.generated_tokens - 60
    assert counters.iterations.total == counters.generated_tokens + counters.prompt_tokens
    assert counters.itl.total == pytest.approx(sum((r.finished or 0) - (r.first_token or 0) for r in requests))
    assert engine.kv_usage == 0
    assert engine.in_flight == 0


def test_no_more_run_than_allowed() -> None:
    engine = an_engine(limits=EngineLimits(max_num_seqs=4))
    for _ in range(10):
        submitted(engine, output=200)
    engine.advance(0.5)
    assert (engine.running, engine.waiting) == (4, 6)


def small_cache(tokens: int) -> Engine:
    engine = an_engine(limits=EngineLimits(max_model_len=40000))
    engine.law = replace(engine.law, kv_tokens=tokens)
    return engine


def test_a_prompt_waits_until_it_fits_into_the_cache() -> None:
    engine = small_cache(20_000)
    first = submitted(engine, prompt=15_000, output=1000)
    second = submitted(engine, prompt=10_000, output=10)
    engine.advance(2.0)
    assert (engine.running, engine.waiting) == (1, 1)
    engine.abort(first)
    engine.advance(10.0)
    assert second.reason is FinishReason.STOP


def test_answers_that_outgrow_the_cache_preempt_the_youngest_which_is_computed_again() -> None:
    engine = small_cache(2_000)
    requests = [submitted(engine, at=0.01 * number, prompt=400, output=900) for number in range(4)]
    engine.advance(120.0)
    counters = engine.counters
    assert counters.preempted > 0
    assert requests[0].preempted == 0
    assert requests[3].preempted > 0
    assert [request.reason for request in requests] == [FinishReason.STOP] * 4
    assert counters.generated_tokens == 4 * 900
    assert counters.ttft.count == 4
    assert counters.preemptions.total == counters.preempted
    assert engine.kv_usage == 0


@given(lengths=st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_whatever_is_preempted_every_token_is_made_once(lengths: list[tuple[int, int]]) -> None:
    engine = small_cache(2_000)
    requests = [submitted(engine, prompt=prompt, output=output) for prompt, output in lengths]
    engine.advance(600.0)
    assert all(request.reason is FinishReason.STOP for request in requests)
    assert engine.counters.generated_tokens == sum(request.output for request in requests)
    assert engine.kv_usage == 0


def test_lengths_are_cut_to_the_models_limit() -> None:
    engine = an_engine(limits=EngineLimits(max_model_len=2048))
    request = submitted(engine, prompt=5000, output=5000)
    assert request.prompt + request.output == 2048


def test_an_idle_engine_draws_context_watts() -> None:
    engine = an_engine()
    engine.advance(100.0)
    assert engine.joules == pytest.approx(100 * 121.7)
    assert engine.joules == engine.idle_joules


def test_sleep_aborts_what_runs_and_draws_context_watts() -> None:
    engine = an_engine()
    request = submitted(engine, output=1000)
    engine.advance(1.0)
    engine.sleep(1)
    before = engine.joules
    engine.advance(11.0)
    assert request.reason is FinishReason.ABORT
    assert engine.generated(request) == request.generated > 0
    assert engine.joules - before == pytest.approx(10 * 121.7)
    assert engine.asleep


def test_a_waking_engine_serves_what_came_meanwhile() -> None:
    engine = an_engine()
    engine.sleep(1)
    engine.advance(5.0)
    request = submitted(engine, at=5.0)
    seconds = engine.wake()
    engine.advance(5.0 + seconds / 2)
    assert engine.state is EngineState.WAKING
    engine.advance(30.0)
    assert request.first_token is not None
    assert request.first_token > 5.0 + seconds
    assert engine.counters.wakes.count == 1


def test_level_two_wakes_later_than_level_one() -> None:
    light, deep = an_engine(), an_engine()
    light.sleep(1)
    deep.sleep(2)
    assert deep.wake() > light.wake() > 0


def test_level_zero_only_holds_the_queue() -> None:
    engine = an_engine()
    running = submitted(engine, output=20)
    engine.advance(0.05)
    engine.sleep(0)
    held = submitted(engine, at=0.05)
    engine.advance(5.0)
    assert running.finished is not None
    assert held.admitted is None
    engine.wake()
    engine.advance(10.0)
    assert held.finished is not None


def test_tensor_parallel_counts_energy_of_all_its_gpus() -> None:
    engine = an_engine("70b", Precision.BF16, gpus=4)
    engine.advance(10.0)
    assert engine.joules == pytest.approx(4 * 121.7 * 10)


ARRIVALS = st.lists(
    st.tuples(
        st.floats(0, 20, allow_nan=False),
        st.integers(1, 3000),
        st.integers(1, 400),
    ),
    max_size=40,
)
TICKS = st.lists(st.floats(0.001, 3.0, allow_nan=False), min_size=1, max_size=40)


def counted(engine: Engine) -> list[float]:
    counters = engine.counters
    return [
        engine.joules,
        engine.idle_joules,
        counters.prompt_tokens,
        counters.generated_tokens,
        counters.iterations.count,
        counters.ttft.count,
        counters.itl.total,
        counters.flops,
        counters.read_bytes,
        counters.busy_seconds,
        *counters.finished.values(),
    ]


@settings(max_examples=60, deadline=None)
@given(arrivals=ARRIVALS, ticks=TICKS)
def test_counters_never_fall_and_power_stays_between_idle_and_the_board(
    arrivals: list[tuple[float, int, int]], ticks: list[float]
) -> None:
    engine = an_engine()
    for at, prompt, output in sorted(arrivals):
        engine.submit(Request(at, prompt, output), at)
    now = 0.0
    for step in ticks:
        before = counted(engine)
        now += step
        engine.advance(now)
        after = counted(engine)
        assert all(late >= early for early, late in zip(before, after, strict=True))
        mean = (after[0] - before[0]) / step
        assert 121.6 <= mean <= 700.1
        assert engine.now == pytest.approx(now)


@settings(max_examples=40, deadline=None)
@given(arrivals=ARRIVALS, ticks=TICKS)
def test_no_request_is_lost_or_served_twice(arrivals: list[tuple[float, int, int]], ticks: list[float]) -> None:
    engine = an_engine()
    requests = [Request(at, prompt, output) for at, prompt, output in sorted(arrivals)]
    for request in requests:
        engine.submit(request, request.created)
    ended = []
    now = 0.0
    for step in ticks:
        now += step
        engine.advance(now)
        ended += engine.take_finished()
    engine.advance(now + 10_000)
    ended += engine.take_finished()
    assert len(ended) == len({id(request) for request in ended}) == len(requests)
    assert engine.counters.generated_tokens == sum(request.output for request in requests)


@settings(max_examples=30, deadline=None)
@given(arrivals=ARRIVALS, ticks=TICKS)
def test_how_often_it_is_advanced_changes_nothing(arrivals: list[tuple[float, int, int]], ticks: list[float]) -> None:
    coarse, fine = an_engine(), an_engine()
    for engine in (coarse, fine):
        for at, prompt, output in sorted(arrivals):
            engine.submit(Request(at, prompt, output), at)
    now = 0.0
    for step in ticks:
        now += step
        fine.advance(now)
    coarse.advance(now)
    assert coarse.joules == pytest.approx(fine.joules, rel=1e-6)
    assert abs(coarse.counters.generated_tokens - fine.counters.generated_tokens) <= len(arrivals)


def test_the_clocks_of_an_idle_engine_fall_after_its_last_request_and_rise_with_the_next() -> None:
    plain, throttled = an_engine(), an_engine(throttles=True)
    first = [submitted(one, at=10.0, prompt=2700, output=101) for one in (plain, throttled)]
    later = [submitted(one, at=13.0, prompt=2700, output=101) for one in (plain, throttled)]
    draws = []
    for now in (2.0, 4.0, 10.5, 12.5, 20.0):
        for one in (plain, throttled):
            one.advance(now)
        draws.append(throttled.watts())
    gpu = throttled.law.gpu
    assert draws[2] > gpu.context
    assert (draws[0], draws[1], draws[3], draws[4]) == (gpu.context, gpu.bare, gpu.context, gpu.bare)
    ttft = [one.ttft for one in (*first, *later)]
    assert ttft[1] == pytest.approx((ttft[0] or 0.0) + gpu.ramp)
    assert ttft[3] == pytest.approx(ttft[2])
    assert first[1].mean_itl == pytest.approx(first[0].mean_itl)
    assert plain.joules > throttled.joules


@given(arrivals=st.lists(st.floats(0.0, 60.0), max_size=6))
@settings(max_examples=30, deadline=None)
def test_clocks_that_fall_never_take_more_and_lose_no_joule(arrivals: list[float]) -> None:
    plain, throttled = an_engine(), an_engine(throttles=True)
    for engine in (plain, throttled):
        for at in sorted(arrivals):
            submitted(engine, at=at, prompt=300, output=60)
        engine.advance(80.0)
    gpu = throttled.law.gpu
    busy = throttled.joules - throttled.idle_joules
    assert throttled.joules <= plain.joules + 1e-6
    assert gpu.bare * 80.0 <= throttled.idle_joules + busy
    assert throttled.counters.generated_tokens == plain.counters.generated_tokens == 60 * len(arrivals)
