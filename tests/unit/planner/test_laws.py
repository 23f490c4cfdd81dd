"""Laws of the plan, over random clusters: nothing is taken on doubt, a plan is content with its own result."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.arrivals import Arrivals, Uneven
from fallow.domain.figures import Missing
from fallow.domain.goals import Remedy
from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode, Policy, PowerRules, ShiftRules
from fallow.domain.readings import Readings
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import DemandPoint, Flow
from fallow.domain.units import Instant, Seconds, Watts
from fallow.domain.workloads import GivenUp, IdleState, ServiceMemory
from tests.support.builders import (
    BF16,
    CYCLE,
    FP8,
    NOW,
    PRECISION,
    WAKE,
    Running,
    Scene,
    held_series,
    point,
    policy,
    profile,
    readings,
    ref,
    service,
    zone,
)
from tests.unit.planner.asking import planned

FAULTS = st.sampled_from(
    [
        Missing(Reason.SOURCE_UNREACHABLE, "connection refused"),
        Missing(Reason.NOT_A_NUMBER, "nan"),
        Missing(Reason.BAD_ANSWER, "HTTP 500"),
        Missing(Reason.NO_SERIES, "no series"),
    ]
)
LOADS = st.floats(0, 200)
AGES = st.sampled_from([0.0, 15.0, 89.0, 91.0, 300.0, 86_400.0, -91.0, -86_400.0])
MOMENTS = st.none() | st.sampled_from([0, 60, 299, 301, 1799, 1801, 86_400, -3600]).map(lambda s: Instant(NOW - s))
PROFILES = tuple(
    profile(variant, (8, 800, 400, 0.01), (64, 3000, 600, 0.02), prefill_rate=20_000.0) for variant in (BF16, FP8)
)
CAPPED = replace(policy(precision=PRECISION), power=PowerRules(Watts(1_500), on_bind=(Remedy.PRECISION,)))
STEPPED = policy(precision=PRECISION, shift=ShiftRules((0.1, 0.5), Seconds(300)))
MODES = st.sampled_from([*(policy(mode, precision=PRECISION) for mode in Mode), CAPPED, STEPPED, None])
COUNTS, SHARES = st.integers(0, 8), st.none() | st.floats(0, 1)
MAYBE_COUNTS, MAYBE_LOADS = st.none() | COUNTS, st.none() | LOADS
GAPS = st.lists(st.sampled_from([CYCLE, CYCLE, CYCLE, 120.0]), max_size=60)
MEMORIES = st.builds(
    ServiceMemory,
    serving=st.sampled_from([None, "bf16", "fp8", "gone"]),
    switching_to=st.sampled_from([None, None, "bf16", "fp8", "gone"]),
    resting=st.booleans(),
    idle_state=st.sampled_from(IdleState),
    quiet_since=MOMENTS,
    changed_at=MOMENTS,
    request_seen=MAYBE_COUNTS,
    request_at=MOMENTS,
    wake_handled=st.sampled_from(["", "a"]),
    wake_started=MOMENTS,
    goal=st.none() | st.integers(1, 8),
    cap_since=MOMENTS,
    before=st.none() | st.integers(1, 8),
    given_up=st.none() | st.builds(GivenUp, st.just("fp8"), MOMENTS.filter(bool), st.integers(1, 4), st.just("late")),
)


@st.composite
def runs(draw: st.DrawFn) -> Running:
    replicas = draw(COUNTS)
    return Running(replicas, draw(st.integers(0, replicas)), draw(LOADS), draw(LOADS), draw(SHARES), draw(LOADS))


@st.composite
def histories(draw: st.DrawFn) -> tuple[DemandPoint, ...]:
    gaps = draw(GAPS)
    load, ready, rate = draw(LOADS), draw(COUNTS), draw(MAYBE_LOADS)
    times = [NOW - sum(gaps[index:]) for index in range(len(gaps))]
    flow = None if rate is None else Flow(rate, rate, rate, 500 * rate, 100 * rate)
    return tuple(point(Instant(at), load, ready, flow=flow) for at in times)


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    """Of an hour, as bursty as may be."""
    seconds, rate, swing = 3600.0, draw(LOADS), draw(st.floats(0, 1e6))
    came = seconds * rate
    cycles = Uneven(seconds, swing, draw(st.floats(-1e6, 1e6)), CYCLE)
    return Arrivals(seconds, came, came, came, came * draw(st.floats(0, 9e4)), came * draw(st.floats(0, 9e3)), cycles)


# made once: what is made anew for each example is looked through anew
VARIANTS = st.dictionaries(st.sampled_from(["bf16", "fp8", "gone"]), runs(), max_size=3)
WAKES, ANNOTATIONS = st.sampled_from([None, WAKE]), st.sampled_from(["", "a", "b"])
HISTORIES, ARRIVALS = st.none() | histories(), arrivals()
KNOWN, GRIDS = st.sampled_from([(), PROFILES]), FAULTS | st.floats(0, 900)
HELD = st.lists(st.floats(0, 9), max_size=2)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Anything that a cluster may hold, with fresh readings."""
    variants = draw(VARIANTS)
    minimum = draw(st.integers(0, 4))
    svc = service(
        BF16,
        FP8,
        minimum=minimum,
        maximum=draw(st.integers(max(minimum, 1), 8)),
        wake=draw(WAKES),
        requested=draw(MAYBE_COUNTS),
        wake_annotation=draw(ANNOTATIONS),
        target=None,
    )
    return Scene(
        service=svc,
        variants=variants,
        policy=draw(MODES),
        memory=draw(MEMORIES),
        history=draw(HISTORIES),
        profiles=draw(KNOWN),
        arrivals=draw(ARRIVALS),
        zone=zone(draw(GRIDS)),
        readings=readings(variants, waiting=[held_series(n) for n in draw(HELD)]),
    )


@st.composite
def broken(draw: st.DrawFn, seen: Readings, *, wakes: bool) -> Readings:
    """The same readings with at least one thing missing, stale or not a number."""
    breaks: list[Callable[[Readings], Readings]] = [
        lambda r: replace(r, engines={}, engine_fault=draw(FAULTS)),
        lambda r: replace(r, engines={}),
        lambda r: replace(r, gpus={}, gpu_fault=draw(FAULTS)),
        lambda r: replace(r, gpus={}),
        lambda r: replace(r, gpus={u: replace(g, power=draw(FAULTS)) for u, g in r.gpus.items()}),
        lambda r: replace(r, gpus={u: replace(g, activity=draw(FAULTS)) for u, g in r.gpus.items()}),
        lambda r: replace(r, gpus={u: replace(g, holder=None) for u, g in r.gpus.items()}),
        lambda r: replace(r, engines={p: replace(e, at=Instant(NOW - 91)) for p, e in r.engines.items()}),
        lambda r: replace(r, engines={p: replace(e, at=Instant(NOW + 91)) for p, e in r.engines.items()}),
    ]
    if wakes:
        breaks.append(lambda r: replace(r, waiting=(), waiting_fault=draw(FAULTS)))
        breaks.append(lambda r: replace(r, waiting=(held_series(0, Instant(NOW - 91)),)))
    for index in draw(st.lists(st.sampled_from(range(len(breaks))), min_size=1, max_size=3)):
        seen = breaks[index](seen)
    return seen


def owner_asks_for_less(scene: Scene) -> bool:
    """Stopped, above the limits, asked to run fewer, or with a variant that the spec no longer has."""
    svc, total = scene.service, sum(run.replicas for run in scene.variants.values())
    above = any(run.replicas > svc.scaling.max_replicas for run in scene.variants.values())
    gone = "gone" in scene.variants
    asked = svc.requested is not None and svc.requested < total
    return svc.requested == 0 or above or gone or asked


def ready(scene: Scene) -> int:
    return sum(run.is_ready for run in scene.variants.values())


BOTH = service(BF16, FP8, minimum=0, wake=WAKE)
SWITCHING = ServiceMemory(serving="bf16", switching_to="fp8", changed_at=Instant(NOW - 60))
SHRINKING = {
    "less load": Scene(service=BOTH, variants={"bf16": Running(4, running=9)}),
    "rest": Scene(service=BOTH, memory=ServiceMemory(quiet_since=Instant(NOW - 600))),
    "cut over": Scene(
        service=BOTH,
        variants={"bf16": Running(2, running=9), "fp8": Running(2, running=9)},
        memory=SWITCHING,
        policy=policy(precision=PRECISION),
        zone=zone(400),
    ),
    "give up": Scene(
        service=BOTH,
        variants={"bf16": Running(2, running=19), "fp8": Running(2, ready=1)},
        memory=replace(SWITCHING, changed_at=Instant(NOW - 1801)),
        policy=policy(precision=PRECISION),
    ),
    "call off": Scene(
        service=BOTH, variants={"bf16": Running(2, running=19), "fp8": Running(2, ready=1)}, memory=SWITCHING
    ),
    "a step": Scene(
        service=BOTH,
        variants={"bf16": Running(4, running=28), "fp8": Running(1, running=7)},
        memory=replace(SWITCHING, before=4),
        policy=STEPPED,
        zone=zone(400),
    ),
    "the way back of a step": Scene(
        service=BOTH,
        variants={"bf16": Running(4, running=36), "fp8": Running(2, running=18)},
        memory=replace(SWITCHING, before=4, given_up=GivenUp("fp8", Instant(NOW - 60), 1, "late")),
        policy=STEPPED,
        zone=zone(400),
    ),
    "stray variant": Scene(
        service=BOTH,
        variants={"bf16": Running(2, running=4), "fp8": Running(2, running=4)},
        memory=ServiceMemory(serving="bf16"),
    ),
}


def falls(scene: Scene) -> bool:
    plan = planned(scene)
    return any(plan.replicas[variant] < run.replicas for variant, run in scene.variants.items())


@pytest.mark.parametrize("kind", SHRINKING)
def test_with_every_signal_fresh_capacity_goes_by(kind: str) -> None:
    assert falls(SHRINKING[kind])


@pytest.mark.parametrize("kind", SHRINKING)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_capacity_is_taken_while_any_signal_is_missing(kind: str, data: st.DataObject) -> None:
    scene = SHRINKING[kind]
    assert not falls(replace(scene, readings=data.draw(broken(readings(scene.variants), wakes=True))))


@settings(max_examples=150, deadline=None)
@given(st.data(), scenes())
def test_no_capacity_is_taken_on_doubt_whatever_else_is_the_case(data: st.DataObject, scene: Scene) -> None:
    assert scene.readings is not None
    dim = replace(scene, readings=data.draw(broken(scene.readings, wakes=scene.service.scaling.wake is not None)))
    if not owner_asks_for_less(dim) and ready(dim) > 0:
        assert not falls(dim), planned(dim).standing


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_no_capacity_is_taken_from_a_service_without_a_ready_pod(scene: Scene) -> None:
    """Crashing pods are no sign of little load. A switch to a variant that cannot start is given up all the same, and a
    power cap holds: pods that load draw power too.
    """
    scene = replace(scene, variants={name: replace(run, ready=0) for name, run in scene.variants.items()})
    if owner_asks_for_less(scene):
        return
    plan = planned(scene)
    before = scene.variants.get(plan.serving, Running(0)).replicas
    assert plan.replicas.get(plan.serving, 0) >= before or plan.standing.reason is Reason.POWER_CAP


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_only_an_enforced_policy_takes_capacity_unless_the_owner_asked(scene: Scene) -> None:
    if (scene.policy and scene.policy.mode is Mode.ENFORCE) or owner_asks_for_less(scene):
        return
    if scene.memory.switching_to is not None:
        return
    assert not falls(scene), planned(scene).standing


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_the_same_snapshot_gives_the_same_plan(scene: Scene) -> None:
    assert planned(scene) == planned(scene)


@settings(max_examples=150, deadline=None)
@given(scenes())
def test_every_plan_explains_itself_and_keeps_within_the_limits(scene: Scene) -> None:
    plan = planned(scene)
    assert plan.standing.message
    assert all(condition.message for condition in plan.conditions)
    assert {c.type for c in plan.conditions} == {
        "Ready",
        "Serving",
        "Converged",
        "ObjectivesMet",
        "MetricsFresh",
        "PolicyApplied",
    }
    assert all(count >= 0 for count in plan.replicas.values())
    grown = {v: n for v, n in plan.replicas.items() if n > scene.variants.get(v, Running(0)).replicas}
    assert all(count <= scene.service.scaling.max_replicas for count in grown.values())
    if plan.decision is None:
        assert plan.replicas == {variant: run.replicas for variant, run in scene.variants.items()}


def applied(scene: Scene, plan: ServicePlan) -> Scene:
    """The same instant, one cycle on: what was planned runs and is ready, and carries the same load."""
    load = sum(run.running for run in scene.variants.values() if run.is_ready)
    total = max(sum(plan.replicas.values()), 1)
    variants = {variant: Running(count, running=load * count / total) for variant, count in plan.replicas.items()}
    return replace(scene, variants=variants, memory=plan.memory, readings=None, history=scene.history)


@pytest.mark.parametrize("rules", [policy(), policy(precision=PRECISION)], ids=["replicas", "and tiers"])
@settings(max_examples=60, deadline=None)
@given(replicas=st.integers(1, 8), load=st.floats(0.5, 100), grams=st.floats(0, 900))
def test_a_plan_applied_to_its_own_result_asks_for_nothing_more(
    rules: Policy, replicas: int, load: float, grams: float
) -> None:
    """Dwell and windows are long over: whatever still moves then would move for ever."""
    memory = ServiceMemory(serving="bf16", changed_at=Instant(NOW - 86_400))
    scene = Scene(
        service=service(BF16, FP8),
        variants={"bf16": Running(replicas, running=load)},
        policy=rules,
        memory=memory,
        zone=zone(grams),
    )
    seen: list[dict[str, int]] = []
    for _ in range(24):
        plan = planned(scene)
        seen.append(dict(plan.replicas))
        rested = replace(plan.memory, changed_at=Instant(NOW - 86_400) if not plan.memory.switching_to else NOW)
        before, scene = scene, applied(replace(scene, history=None), replace(plan, memory=rested))
        # the next plan would be the same one
        if scene == before:
            seen += [seen[-1]] * 2
            break
    assert seen[-1] == seen[-2] == seen[-3], seen
    final = sum(seen[-1].values())
    assert final * 10 >= min(load, 80)


def test_readings_of_other_services_change_nothing() -> None:
    scene = Scene(variants={"bf16": Running(4, running=9)})
    seen = readings(scene.variants)
    foreign = {ref("other", "elsewhere"): replace(next(iter(seen.engines.values())), running=500.0)}
    crowded = replace(scene, readings=replace(seen, engines={**seen.engines, **foreign}))
    assert planned(crowded) == planned(scene)
