"""Prompts in pieces: what a replica carries so, and when its engines are replaced for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, ScalingRules
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Flow
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Objectives, ServiceMemory
from fallow.planner.capacity import Capacity
from fallow.planner.crests import Crests
from fallow.planner.pieces import FULL, PIECE, held, in_pieces, whole
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.constants import Gpu
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.pods import EngineFacts, NodeFacts
from fallow.twin.rates import Piecewise
from fallow.twin.replay import Objectives as Asked
from fallow.twin.replay import Replicas, replay
from fallow.twin.traffic import GeneratedTraffic, Lengths
from tests.support.builders import BF16, CHAT, NOW, Running, Scene, guards, policy, profile, service, watched
from tests.unit.planner.asking import planned
from tests.unit.planner.test_crests import like

# 8B in BF16 on H100, much as the twin has it
KNOWN = profile(BF16, (1, 143, 300, 0.007), (8, 1081, 400, 0.0074), (64, 5333, 600, 0.012), prefill_rate=24_651.0)
OBJECTIVES = Objectives(Seconds(1), Seconds(0.025))
SERVICE = service(concurrency=None, objectives=OBJECTIVES, minimum=1, maximum=20)
CODE, CHATS = like(10, prompt=2048, output=28), like(2, prompt=1263, output=206)
ON = replace(policy(), scaling=ScalingRules(limits_steps=True))
OFF = replace(policy(), scaling=ScalingRules(limits_steps=False))
TOKENS = 354
WHOLE = "--no-enable-chunked-prefill"


@given(st.floats(200, 8000), st.floats(5, 500), st.floats(0.015, 0.1))
def test_no_step_with_a_piece_is_longer_than_the_objective(prompt: float, output: float, itl: float) -> None:
    wanted = replace(SERVICE, objectives=Objectives(Seconds(1), Seconds(itl)))
    recent = like(5, prompt=prompt, output=output)
    found = in_pieces(wanted, BF16, KNOWN, recent)
    if found is None:
        return
    assert KNOWN.prefill_rate is not None
    batch = found.rate * output * itl * FULL
    assert 0.007 + PIECE + (found.tokens - batch) / KNOWN.prefill_rate <= itl
    # and a replica whose steps have so many tokens is believed to carry as much
    capacity = held(Capacity(8, "test"), wanted, BF16, KNOWN, recent, found.tokens)
    assert capacity.requests_per_second == pytest.approx(found.rate, rel=0.1)


def test_short_answers_between_long_prompts_gain_and_long_answers_do_not() -> None:
    for recent, gains in ((CODE, True), (CHATS, False)):
        found, plain = in_pieces(SERVICE, BF16, KNOWN, recent), whole(SERVICE, BF16, KNOWN, recent, 8)
        assert found is not None
        assert plain is not None
        assert (found.within(OBJECTIVES, 8) > plain) is gains


@pytest.mark.parametrize("chunk", [None, TOKENS])
def test_what_is_carried_on_eight_replicas_is_near_what_the_event_engine_carries(chunk: int | None) -> None:
    """At the rate that is reckoned to leave a hundredth late it leaves no more than three there."""
    found, plain = in_pieces(SERVICE, BF16, KNOWN, CODE), whole(SERVICE, BF16, KNOWN, CODE, 8)
    assert found is not None
    assert plain is not None
    rate = 8 * (plain if chunk is None else found.within(OBJECTIVES, 8))
    rows = GeneratedTraffic(Piecewise(((0.0, rate),)), Lengths(2048, 0.9), Lengths(28, 0.9), seed=3).until(120)
    limits = EngineLimits() if chunk is None else EngineLimits(chunk_tokens=chunk)
    event = replay(
        [NodeFacts("n", "n", "", Gpu.H100, 8)],
        [Replicas(CHAT, EngineFacts("m", "m", Precision.BF16, limits=limits), 8)],
        {CHAT: rows},
        seconds=120,
        objectives={CHAT: Asked(1.0, 0.025)},
    ).services[0]
    assert event.attainment is not None
    assert event.attainment > 0.97


@pytest.mark.parametrize(
    ("known", "objectives"),
    [
        pytest.param(replace(KNOWN, prefill_rate=None), OBJECTIVES, id="no prefill rate"),
        pytest.param(KNOWN, Objectives(Seconds(1)), id="no objective for gaps"),
        pytest.param(KNOWN, Objectives(None, Seconds(0.009)), id="an objective that leaves no room for prompts"),
    ],
)
def test_where_steps_cannot_be_chosen_none_are(known: Any, objectives: Objectives) -> None:
    assert in_pieces(replace(SERVICE, objectives=objectives), BF16, known, CODE) is None


@given(st.floats(1, 40), st.floats(0.1, 5))
def test_the_longer_requests_may_wait_the_fewer_replicas_do_and_never_fewer_than_the_rate_asks_for(
    dispersion: float, patience: float
) -> None:
    found = [Crests(like(dispersion), 20.0, 5.0, 1.0, 1e-4, wait).now for wait in (patience * 2, patience)]
    assert 4 <= found[0] <= found[1]


def scene(**more: Any) -> Scene:
    plain = Scene(
        service=SERVICE,
        policy=ON,
        variants={"bf16": Running(8, running=24)},
        profiles=(KNOWN,),
        arrivals=like(10, rate=16, prompt=2048, output=28),
        history=watched(24, 8, desired=8),
    )
    return replace(plain, **more)


def told(plan: ServicePlan) -> tuple[str, Reason, dict[str, int]]:
    return plan.standing.action, plan.standing.reason, dict(plan.step_tokens)


def test_engines_are_replaced_by_such_that_take_prompts_in_pieces() -> None:
    plan = planned(scene())
    action, reason, tokens = told(plan)
    assert (action, reason) == ("LimitSteps", Reason.STEP_TOKENS)
    assert tokens["bf16"] == pytest.approx(TOKENS, abs=25)
    assert plan.decision is not None
    assert "requests/s in pieces and" in plan.decision.message
    assert plan.decision.saves is not None
    assert (dict(plan.replicas), plan.memory.changed_at) == ({"bf16": 8}, NOW)
    assert plan.tuning("bf16").step_tokens == tokens["bf16"]


def test_engines_whose_steps_are_right_stay() -> None:
    assert told(planned(scene(step_tokens=TOKENS)))[0::2] == ("Hold", {"bf16": TOKENS})


def test_another_mix_asks_for_other_steps() -> None:
    action, _, tokens = told(planned(scene(step_tokens=180)))
    assert action == "LimitSteps"
    assert tokens["bf16"] == pytest.approx(TOKENS, abs=25)


@pytest.mark.parametrize("more", [{"arrivals": CHATS}, {"policy": OFF}], ids=["long answers", "the policy's word"])
def test_pieces_end_where_they_do_not_pay_or_are_not_wanted(more: dict[str, Any]) -> None:
    assert told(planned(scene(step_tokens=TOKENS, **more))) == ("FreeSteps", Reason.STEP_TOKENS, {})


@pytest.mark.parametrize("tokens", [None, TOKENS])
@pytest.mark.parametrize(
    "rules",
    [None, replace(OFF, mode=Mode.OBSERVE), replace(ON, mode=Mode.RECOMMEND)],
    ids=["no policy", "it observes", "it recommends"],
)
def test_without_a_policy_that_acts_steps_stay_as_they_are(rules: Any, tokens: int | None) -> None:
    plan = planned(scene(policy=rules, step_tokens=tokens))
    assert plan.tuning("bf16").step_tokens == tokens


def test_a_policy_that_recommends_says_what_it_would_cost_and_keeps_what_was_approved() -> None:
    recommended = replace(ON, mode=Mode.RECOMMEND)
    plan = planned(scene(policy=recommended))
    assert plan.pending is not None
    assert plan.pending.risk == "engines are replaced; a prompt waits for its turn, and takes longer alone"
    said = replace(SERVICE, approved=plan.pending.proposed.id)
    after = planned(scene(policy=recommended, memory=plan.memory, service=said))
    tokens = after.tuning("bf16").step_tokens
    assert tokens == pytest.approx(TOKENS, abs=25)
    next_one = planned(scene(policy=recommended, memory=after.memory, service=said, step_tokens=tokens))
    assert (next_one.tuning("bf16").step_tokens, next_one.pending) == (tokens, None)


@pytest.mark.parametrize(
    "change",
    [
        {"variants": {"bf16": Running(8, ready=7, running=24)}},
        {"history": watched(24, 8, desired=8, seconds=120)},
        {"memory": ServiceMemory(serving="bf16", changed_at=Instant(NOW - 10))},
    ],
    ids=["a replica is starting", "it was just begun", "something was just done"],
)
def test_every_guard_can_say_no(change: dict[str, Any]) -> None:
    plan = planned(scene(**change))
    assert (plan.standing.action, plan.step_tokens) == ("Hold", {})


def test_where_prompts_are_in_time_in_no_way_nothing_is_done() -> None:
    hasty = replace(SERVICE, objectives=Objectives(Seconds(0.05), Seconds(0.0125)))
    assert planned(scene(service=hasty)).standing.action == "Hold"


def test_a_prompt_that_takes_longer_than_its_objective_alone_is_carried_at_no_rate() -> None:
    hasty = Objectives(Seconds(0.1), Seconds(0.025))
    found = in_pieces(replace(SERVICE, objectives=hasty), BF16, KNOWN, CODE)
    assert found is not None
    assert found.own > 0.1
    assert [found.within(hasty, replicas) for replicas in (1, 8, 64)] == [0.0, 0.0, 0.0]


def test_a_service_at_its_least_replicas_gains_nothing_by_it() -> None:
    kept = replace(SERVICE, scaling=replace(SERVICE.scaling, min_replicas=8))
    assert planned(scene(service=kept)).standing.action == "Hold"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"service": replace(SERVICE, target="legacy")}, "Deployment legacy is adopted"),
        (
            {"service": replace(SERVICE, variants=(replace(BF16, args=("--max-num-batched-tokens=2048",)),))},
            "its own arguments have --max-num-batched-tokens",
        ),
        (
            {
                "service": replace(
                    SERVICE, template={"spec": {"containers": [{"args": ["--no-enable-chunked-prefill"]}]}}
                )
            },
            f"its own arguments have {WHOLE}",
        ),
        ({"service": replace(SERVICE, objectives=Objectives(Seconds(1)))}, "it has no objectives.itl"),
        ({"profiles": ()}, "no ModelProfile with prefillTokensPerSecond"),
        ({"profiles": (replace(KNOWN, prefill_rate=None),)}, "no ModelProfile with prefillTokensPerSecond"),
    ],
)
def test_what_cannot_be_chosen_says_what_to_write(change: dict[str, Any], words: str) -> None:
    plan = planned(scene(**change))
    assert plan.step_tokens == {}
    assert words in next(one for one in plan.silences if one.startswith("the tokens of a step are not limited: "))


def test_while_engines_are_replaced_a_replica_is_believed_to_carry_what_it_does_whole() -> None:
    """Fewer do once all work in pieces, and not before."""
    rules = replace(ON, guards=guards(objective_veto=False))
    flow = Flow(16, 16, 16, 16 * 2048, 16 * 28)
    working = scene(step_tokens=TOKENS, policy=rules, history=watched(24, 8, desired=8, flow=flow)).snapshot()
    workloads = tuple(replace(one, rolling=True) for one in working.cluster.workloads)
    rolling = replace(working, cluster=replace(working.cluster, workloads=workloads))

    assert "7.1/s a replica within objectives" in planned(working).standing.message
    assert "8.53/s a replica within objectives" in planned(rolling).standing.message
