"""The audit of small clusters: who is accused, with what evidence, how surely; totals; and what is told as not seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Figure, Missing
from fallow.domain.readings import ActivitySource, PodRef
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Seconds
from fallow.domain.windows import EnergyMethod, EngineSlot, GpuSlot, HoldingPod, Scaled, Survey, WorkloadRef
from fallow.footprint.audit.report import Audit, Line, audit
from fallow.footprint.audit.rows import UNNAMED
from fallow.footprint.audit.uses import Use
from fallow.footprint.audit.words import Confidence
from tests.support.windows import (
    BARE,
    CHAT,
    CHAT_DEPLOYMENT,
    CONTEXT,
    DAY_SLOTS,
    QUIET,
    RATES,
    gpu,
    gpu_slot,
    holding,
    served,
    survey,
    tenure,
    window,
)

NOTEBOOK = WorkloadRef("lab", "Notebook", "forgotten")
LAB = PodRef("lab", "forgotten-0")


def only(said: Audit) -> Line:
    (line,) = said.lines
    return line


def day(slot: GpuSlot, engine: EngineSlot | None = None, pod: HoldingPod | None = None, **more: object) -> Audit:
    """A whole day of one GPU that did the same all the time."""
    pod = pod or holding()
    seen = window(gpu(slot, count=DAY_SLOTS), engines={pod.ref: engine} if engine else {}, count=DAY_SLOTS)
    return audit(seen, survey(pod, **more), RATES)  # type: ignore[arg-type]


def test_an_engine_that_nobody_asked_is_found_with_its_evidence() -> None:
    (finding,) = day(gpu_slot(), QUIET).findings
    assert (finding.use, finding.workload, finding.confidence) == (Use.LOADED_IDLE, CHAT_DEPLOYMENT, Confidence.HIGH)
    assert finding.evidence == "0 requests in 24 h, 122 W mean, activity 0%"
    assert finding.waste.energy.best.kilowatt_hours == pytest.approx(CONTEXT * 24 / 1000)


def test_a_forgotten_notebook_is_found_without_any_engine_metric() -> None:
    (finding,) = day(gpu_slot(CONTEXT, tenure(LAB)), pod=holding(LAB, NOTEBOOK)).findings
    assert (finding.use, finding.workload) == (Use.LOADED_IDLE, NOTEBOOK)
    assert finding.evidence == "no work in 24 h, 122 W mean, activity 0%"
    assert finding.confidence is Confidence.HIGH


def test_a_gpu_that_nobody_holds_is_found() -> None:
    said = audit(window(gpu(gpu_slot(BARE, tenure(None)))), survey(), RATES)
    (finding,) = said.findings
    assert (finding.use, finding.workload, finding.confidence) == (Use.UNALLOCATED, None, Confidence.HIGH)
    assert finding.evidence == "no pod held it for 2 h, 72 W mean, activity 0%"


def test_an_engine_that_is_busy_without_a_token_is_found() -> None:
    (finding,) = day(gpu_slot(310, tenure(activity=1.0)), QUIET).findings
    assert (finding.use, finding.confidence) == (Use.SPINNING, Confidence.MEDIUM)
    assert finding.evidence == "0 tokens in 24 h from a vLLM engine that is busy, 310 W mean, activity 100%"


def test_an_engine_with_room_in_its_batch_is_found_and_its_capacity_named() -> None:
    engine = served(running=4, kv_usage=0.02)
    (unknown,) = day(gpu_slot(400, tenure(activity=1.0)), engine).findings
    assert (unknown.use, unknown.confidence) == (Use.UNDER_FILLED, Confidence.LOW)
    assert unknown.evidence.startswith("4.0 of 256 requests in work, vLLM's default, KV cache 2%")
    (known,) = day(gpu_slot(400, tenure(activity=1.0)), engine, holding(max_num_seqs=16)).findings
    assert known.confidence is Confidence.MEDIUM
    assert known.evidence.startswith("4.0 of 16 requests in work, KV cache 2%")


@pytest.mark.parametrize(
    ("watts", "activity", "engine"),
    [
        pytest.param(500, 0.95, served(), id="a full engine"),
        pytest.param(600, 0.9, None, id="training"),
        pytest.param(130, 0.02, EngineSlot(requests=2, tokens=500, running=0.02, busy=0.02), id="seldom asked"),
    ],
)
def test_who_works_or_was_just_asked_is_not_accused(watts: float, activity: float, engine: EngineSlot | None) -> None:
    assert day(gpu_slot(watts, tenure(activity=activity)), engine).findings == ()


def test_who_stands_by_as_declared_is_shown_and_not_accused() -> None:
    seen = window(gpu(gpu_slot()), engines={CHAT: QUIET})
    said = audit(seen, survey(holding(), scaled={CHAT_DEPLOYMENT: Scaled(1, "minReplicas 1")}), RATES)
    assert said.findings == ()
    assert only(said).shares[Use.STANDBY] == 1.0
    assert only(said).evidence == "0 requests in 2 h, 122 W mean, activity 0%, kept by minReplicas 1"


def test_a_declared_minimum_that_nobody_asked_for_a_day_is_accused_and_named() -> None:
    (finding,) = day(gpu_slot(), QUIET, scaled={CHAT_DEPLOYMENT: Scaled(2, "HorizontalPodAutoscaler chat")}).findings
    assert finding.use is Use.LOADED_IDLE
    assert finding.evidence.endswith("kept by HorizontalPodAutoscaler chat")


def test_holders_that_took_turns_have_a_line_each_by_their_time() -> None:
    slots = {
        0: gpu_slot(CONTEXT, tenure(CHAT, weight=0.25, time=0.25), tenure(None, weight=0.75, time=0.75)),
        1: gpu_slot(BARE, tenure(None)),
    }
    known = replace(survey(), controllers={("llm", "chat-7d9f"): CHAT_DEPLOYMENT})
    lines = audit(window(gpu(slots), count=2), known, RATES).lines
    assert {(line.workload, line.share_of_time) for line in lines} == {(CHAT_DEPLOYMENT, 0.125), (None, 0.875)}
    daily = sum(line.per_day.energy.best.kilowatt_hours for line in lines)
    assert daily == pytest.approx((CONTEXT + BARE) / 2 * 24 / 1000)


def test_a_pod_on_two_gpus_has_its_requests_counted_once() -> None:
    second = gpu(gpu_slot(), "GPU-2", count=DAY_SLOTS)
    once = EngineSlot(requests=1, tokens=0, running=0)
    engines = {CHAT: {slot: once if slot == 0 else QUIET for slot in range(DAY_SLOTS)}}
    seen = window(gpu(gpu_slot(), count=DAY_SLOTS), second, engines=engines, count=DAY_SLOTS)
    (finding,) = audit(seen, survey(holding(gpus=2), gpus=2), RATES).findings
    assert len(finding.lines) == 2
    assert finding.evidence.startswith("1 request in 24 h")


def test_pods_of_one_deployment_are_one_finding_and_gone_ones_keep_its_name() -> None:
    gone = PodRef("llm", "chat-7d9f-gone1")
    gpus = (gpu(gpu_slot()), gpu(gpu_slot(CONTEXT, tenure(gone)), "GPU-2"))
    known = replace(survey(holding(), gpus=2), controllers={("llm", "chat-7d9f"): CHAT_DEPLOYMENT})
    (finding,) = audit(window(*gpus, engines={CHAT: QUIET, gone: QUIET}), known, RATES).findings
    assert (finding.workload, len(finding.lines)) == (CHAT_DEPLOYMENT, 2)


def test_where_the_exporter_names_nobody_kubernetes_word_is_taken_if_it_is_clear() -> None:
    seen = window(gpu(gpu_slot(CONTEXT, tenure(None))))
    said = audit(seen, survey(holding()), RATES)
    assert only(said).workload == CHAT_DEPLOYMENT
    assert any("Kubernetes' word" in one.what for one in said.unseen)


def test_a_pod_that_started_just_now_does_not_hide_that_a_gpu_was_nobody_s() -> None:
    named, free = gpu(gpu_slot()), gpu(gpu_slot(BARE, tenure(None)), "GPU-2")
    begun = replace(holding(LAB, NOTEBOOK), started=window().end)
    said = audit(window(named, free), survey(holding(), begun, gpus=2), RATES)
    assert {one.use for one in said.findings} == {Use.LOADED_IDLE, Use.UNALLOCATED}


def test_where_nobody_can_say_who_holds_a_gpu_nobody_is_accused() -> None:
    other = holding(LAB, NOTEBOOK)
    seen = window(gpu(gpu_slot(CONTEXT, tenure(None))), gpu(gpu_slot(CONTEXT, tenure(None)), "GPU-2"))
    said = audit(seen, survey(holding(), other, gpus=2), RATES)
    assert said.findings == ()
    assert {line.workload for line in said.lines} == {UNNAMED}
    assert said.totals.uses[Use.UNKNOWN].energy == said.totals.per_day.energy


def test_work_on_a_gpu_that_no_pod_holds_is_not_called_unallocated() -> None:
    said = audit(window(gpu(gpu_slot(400, tenure(None, activity=0.9)))), survey(), RATES)
    assert said.findings == ()
    assert only(said).shares[Use.UNKNOWN] == 1.0
    assert "outside Kubernetes" in only(said).evidence


def test_energy_counted_while_nothing_else_was_seen_is_unknown() -> None:
    gap = replace(gpu_slot(), watts=None, peak=None, tenures=())
    said = audit(window(gpu({0: gap, 1: gpu_slot(BARE, tenure(None))}), count=2), survey(), RATES)
    assert said.totals.uses[Use.UNKNOWN].energy.best.value > 0


def test_instances_of_a_gpu_are_lines_of_their_own() -> None:
    held = tenure(CHAT, part="3g.40gb #1", weight=0.75, activity=0.9)
    free = tenure(None, part="1g.10gb #7", weight=0.25)
    said = audit(window(gpu(gpu_slot(300, held, free))), survey(), RATES)
    assert [(one.use, one.lines[0].row.key.part) for one in said.findings] == [(Use.UNALLOCATED, "1g.10gb #7")]
    assert said.totals.gpus == 1


def test_an_instance_has_its_own_watts_and_the_time_it_was_held() -> None:
    idle, works = (
        tenure(CHAT, part="1g.10gb #7", weight=0.25),
        tenure(LAB, part="3g.40gb #1", weight=0.75, activity=0.9),
    )
    said = audit(window(gpu(gpu_slot(BARE + 200, idle, works))), survey(), RATES)
    line = next(one for one in said.lines if one.row.key.part == "1g.10gb #7")
    assert line.watts.value == pytest.approx(BARE / 4)
    assert line.evidence == "no work in 2 h, 18 W mean, activity 0%"
    assert line.share_of_time == 1.0


def test_who_rests_on_a_gpu_used_in_turns_is_accused_of_its_part_of_the_baseline_only() -> None:
    slot = gpu_slot(600, tenure(CHAT, 0.9, weight=0.5, in_turns=True), tenure(LAB, 0.9, weight=0.5, in_turns=True))
    said = audit(window(gpu(slot), engines={CHAT: QUIET}), survey(holding(), holding(LAB, NOTEBOOK)), RATES)
    (finding,) = said.findings
    assert (finding.use, finding.workload) == (Use.LOADED_IDLE, CHAT_DEPLOYMENT)
    assert finding.watts.value == pytest.approx(CONTEXT / 2)


def test_where_a_node_s_labels_tell_of_copies_no_engine_is_accused_of_another_s_activity() -> None:
    known = survey(holding())
    shared = replace(known.nodes["gpu-1"], labels={"nvidia.com/gpu.replicas": "4"})
    seen = window(gpu(gpu_slot(500, tenure(activity=1.0))), engines={CHAT: QUIET})
    assert Use.SPINNING not in {one.use for one in audit(seen, replace(known, nodes={"gpu-1": shared}), RATES).findings}


def test_a_pod_on_two_instances_of_a_gpu_does_not_hide_a_free_one() -> None:
    two = [tenure(CHAT, part=f"2g.20gb #{number}", weight=0.3, activity=0.9) for number in (3, 5)]
    free = tenure(None, part="2g.20gb #7", weight=0.4)
    said = audit(window(gpu(gpu_slot(300, *two, free))), survey(holding(gpus=2)), RATES)
    assert [one.use for one in said.findings] == [Use.UNALLOCATED]


@pytest.mark.parametrize(
    ("slot", "count", "expected"),
    [
        pytest.param(gpu_slot(), DAY_SLOTS, Confidence.HIGH, id="a day, profiling activity and watts"),
        pytest.param(gpu_slot(), 1, Confidence.MEDIUM, id="a quarter of an hour"),
        pytest.param(
            gpu_slot(CONTEXT, tenure(source=ActivitySource.GPU_UTIL)), DAY_SLOTS, Confidence.MEDIUM, id="utilisation"
        ),
        pytest.param(gpu_slot(CONTEXT, tenure(activity=None)), DAY_SLOTS, Confidence.LOW, id="watts alone"),
        pytest.param(gpu_slot(method=EnergyMethod.POWER), DAY_SLOTS, Confidence.MEDIUM, id="power, no counter"),
    ],
)
def test_confidence_follows_signals_and_time(slot: GpuSlot, count: int, expected: Confidence) -> None:
    said = audit(window(gpu(slot, count=count), count=count), survey(holding()), RATES)
    assert said.findings[0].confidence is expected


def test_a_gpu_seen_for_half_of_the_window_is_judged_with_less_confidence_and_told() -> None:
    slots = dict.fromkeys(range(DAY_SLOTS // 2 - 1), gpu_slot())
    said = audit(window(gpu(slots), count=DAY_SLOTS), survey(holding()), RATES)
    assert said.findings[0].confidence is Confidence.LOW
    assert only(said).per_day.energy.best.kilowatt_hours == pytest.approx(CONTEXT * 24 / 1000)
    assert any("seen for 49%" in one.what for one in said.unseen)


def test_money_and_carbon_are_energy_times_pue_times_their_rate() -> None:
    rates = replace(
        RATES,
        intensity=Figure(GramsPerKWh(300), GramsPerKWh(400), GramsPerKWh(500)),
        price_per_kwh=0.5,
        currency="EUR",
    )
    waste = audit(window(gpu(gpu_slot())), survey(holding()), rates).totals.waste
    kwh = CONTEXT * 24 / 1000
    assert waste.money is not None
    assert waste.carbon is not None
    assert waste.money.best.value == pytest.approx(kwh * 1.2 * 0.5)
    assert waste.money.low.value == pytest.approx(kwh * 0.95 * 1.1 * 0.5)
    assert waste.carbon.high.value == pytest.approx(kwh * 1.05 * 1.4 * 500)


def test_without_rates_money_and_carbon_are_not_known() -> None:
    waste = audit(window(gpu(gpu_slot())), survey(holding()), RATES).totals.waste
    assert (waste.money, waste.carbon) == (None, None)


def test_a_namespace_shows_its_own_holders_only() -> None:
    gpus = (gpu(gpu_slot()), gpu(gpu_slot(CONTEXT, tenure(LAB)), "GPU-2"), gpu(gpu_slot(BARE, tenure(None)), "GPU-3"))
    said = audit(window(*gpus), survey(holding(), holding(LAB, NOTEBOOK)), RATES, namespaces=("lab",))
    assert [line.workload for line in said.lines] == [NOTEBOOK]
    assert said.totals.gpus == 1


@pytest.mark.parametrize(
    ("known", "text"),
    [
        pytest.param(
            survey(nodes=("gpu-1", "gpu-2")), "1 GPU node without any DCGM series", id="a node without exporter"
        ),
        pytest.param(survey(gpus=8), "1 node of which some GPUs have no series", id="GPUs that are missing"),
        pytest.param(survey(nodes=("other",), gpus=0), "this cluster does not know", id="another cluster's GPUs"),
        pytest.param(survey(holding(is_engine=True)), "1 vLLM pod without engine metrics", id="an engine not scraped"),
        pytest.param(
            Survey(faults=(Missing(Reason.BAD_ANSWER, "Kubernetes: list nodes: 403"),)),
            "403",
            id="a right that is missing",
        ),
    ],
)
def test_blind_spots_are_told_with_what_to_do(known: Survey, text: str) -> None:
    told = audit(window(gpu(gpu_slot())), known, RATES).unseen
    found = [one for one in told if text in one.what]
    assert found
    assert found[0].to_do


def test_a_cluster_seen_whole_has_no_blind_spots() -> None:
    seen = window(gpu(gpu_slot(500, tenure(activity=0.9))), engines={CHAT: served()})
    assert audit(seen, survey(holding(is_engine=True)), RATES).unseen == ()


tenures = st.lists(
    st.builds(
        tenure,
        st.sampled_from([CHAT, LAB, None]),
        st.none() | st.floats(0, 1),
        weight=st.floats(0.1, 1),
        part=st.sampled_from(["", "1g.10gb #7", "2g.20gb #3"]),
        tensor=st.none() | st.floats(0, 1),
        memory=st.none() | st.floats(0, 1),
    ),
    max_size=3,
)


@st.composite
def slots(draw: st.DrawFn) -> GpuSlot:
    found = draw(tenures)
    total = sum(one.weight for one in found)
    shared = tuple(replace(one, weight=one.weight / total) for one in found)
    slot = gpu_slot(
        draw(st.floats(0, 1000)), seconds=Seconds(draw(st.floats(1, 900))), method=draw(st.sampled_from(EnergyMethod))
    )
    return replace(slot, tenures=shared)


engine_slots = st.builds(
    EngineSlot,
    requests=st.floats(0, 10),
    tokens=st.floats(0, 100),
    running=st.floats(0, 300),
    busy=st.none() | st.floats(0, 1),
    kv_usage=st.none() | st.floats(0, 1),
)
numbers = st.integers(0, 5)


@given(
    gpus=st.lists(st.dictionaries(numbers, slots(), max_size=6), max_size=3),
    engines=st.dictionaries(st.sampled_from([CHAT, LAB]), st.dictionaries(numbers, engine_slots, max_size=6)),
    floor=st.none() | st.integers(0, 2),
)
def test_the_parts_of_all_lines_are_all_energy_that_was_counted(
    gpus: list[dict[int, GpuSlot]],
    engines: dict[PodRef, dict[int, EngineSlot]],
    floor: int | None,
) -> None:
    seen = window(*(gpu(found, f"GPU-{number}") for number, found in enumerate(gpus)), engines=engines, count=6)
    said = audit(seen, survey(holding(), scaled={CHAT_DEPLOYMENT: Scaled(floor)}), RATES)
    counted = sum(slot.energy.value for found in gpus for slot in found.values())
    assert said.totals.observed.best.value == pytest.approx(counted, rel=1e-9, abs=1e-6)
    uses = sum(figure.energy.best.value for figure in said.totals.uses.values())
    assert uses == pytest.approx(said.totals.per_day.energy.best.value, rel=1e-9, abs=1e-6)
    for line in said.lines:
        assert sum(line.shares.values()) == pytest.approx(1.0 if line.energy.best.value > 0 else 0.0)
        assert line.waste.energy.best.value <= line.per_day.energy.best.value * (1 + 1e-9)
