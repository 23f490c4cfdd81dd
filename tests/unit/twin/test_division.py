"""GPUs in parts: MIG instances and copies in turns, what they draw, and what dcgm-exporter and the node agent show."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.readings import PodRef
from fallow.twin.agent_metrics import agent_metrics
from fallow.twin.behaviours import Behaviour
from fallow.twin.calibration.tasks import Precision
from fallow.twin.dcgm_metrics import dcgm_metrics
from fallow.twin.fleet import Fleet
from fallow.twin.physics.calibrated import law_for
from fallow.twin.physics.constants import GPUS, Gpu
from fallow.twin.physics.laws import DoesNotFit
from fallow.twin.physics.parts import part_of, profile_from
from fallow.twin.physics.requests import Request
from fallow.twin.pods import SHARED_RESOURCE, Division, ExporterFacts, PodPhase
from tests.support.twin import a_foreign_pod, a_node, a_pod, engine_facts, instances, submitted

H100 = GPUS[Gpu.H100]
MIG_1G, MIG_3G = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
SMALL = engine_facts(Precision.INT4)


def fleet_of(division: Division, *, gpus: int = 1, virtual_gpus: bool = False) -> Fleet:
    fleet = Fleet(now=0.0)
    fleet.put_node(a_node(gpus=gpus, division=division, virtual_gpus=virtual_gpus))
    return fleet


def taken(fleet: Fleet, name: str, namespace: str = "demo") -> float:
    return fleet.pods[PodRef(namespace, name)].energy.total


def lines(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"{name}{{")]


@pytest.mark.parametrize(
    ("name", "compute", "memory"),
    [("1g.10gb", 1 / 7, 1 / 8), ("1g.20gb", 1 / 7, 2 / 8), ("3g.40gb", 3 / 7, 4 / 8), ("7g.80gb", 1, 1)],
)
def test_a_profile_has_sevenths_of_the_compute_and_eighths_of_the_memory(
    name: str, compute: float, memory: float
) -> None:
    profile = profile_from(name)
    assert profile is not None
    part = part_of(H100, profile)
    assert part.flops / H100.flops == pytest.approx(compute)
    assert part.tdp / H100.tdp == pytest.approx(compute)
    assert (part.memory / H100.memory, part.bandwidth / H100.bandwidth) == (memory, memory)


@pytest.mark.parametrize("name", ["", "gpu", "8g.80gb", "3g", "0g.10gb"])
def test_what_is_no_profile_is_none(name: str) -> None:
    assert profile_from(name) is None


def test_seven_instances_with_all_the_work_draw_what_the_whole_gpu_does() -> None:
    whole = law_for(Gpu.H100, "8b", Precision.INT4, 1)
    seventh = law_for(Gpu.H100, "8b", Precision.INT4, 1, part=profile_from("1g.10gb"))
    assert 7 * seventh.watts(8) == pytest.approx(whole.watts(56))
    assert 7 * seventh.watts(0) == pytest.approx(H100.context)
    assert seventh.step_seconds(8) > whole.step_seconds(8)


def test_a_model_that_is_too_large_for_an_instance_does_not_fit() -> None:
    with pytest.raises(DoesNotFit):
        law_for(Gpu.H100, "8b", Precision.BF16, 1, part=profile_from("1g.10gb"))


def test_instances_without_a_holder_draw_their_bare_watts_and_belong_to_nobody() -> None:
    fleet = fleet_of(instances("3g.40gb", "3g.40gb"))
    fleet.put_pod(a_pod("a", resource=MIG_3G))
    fleet.advance(70.0)
    idle = 3 / 7 * H100.context
    assert taken(fleet, "a") == pytest.approx(70 * idle)
    assert next(fleet.gpus()).joules == pytest.approx(70 * (idle + 4 / 7 * H100.bare))


def test_a_pod_takes_an_instance_of_the_profile_it_asked_for() -> None:
    fleet = fleet_of(instances("3g.40gb", "1g.10gb", gpus=2), gpus=2)
    for name, resource in (("a", MIG_1G), ("b", MIG_3G), ("c", MIG_1G), ("d", MIG_1G)):
        fleet.put_pod(a_pod(name, resource=resource, engine=SMALL))
    held = {
        str(place.holder): (gpu.index, place.number) for gpu in fleet.gpus() for place in gpu.places if place.holder
    }
    assert held == {"demo/a": (0, 7), "demo/b": (0, 1), "demo/c": (1, 7)}
    assert not fleet.pods[PodRef("demo", "d")].places


def test_dcgm_repeats_the_boards_power_for_each_instance_and_tells_its_own_activity() -> None:
    fleet = fleet_of(instances("3g.40gb", "1g.10gb"))
    fleet.put_pod(a_pod("a", resource=MIG_3G))
    engine = fleet.pods[PodRef("demo", "a")].engine
    assert engine is not None
    submitted(engine, output=5000)
    fleet.advance(10.0)
    fleet.take_samples()
    text = dcgm_metrics(fleet.gpus())
    gpu = next(fleet.gpus())
    first, second = lines(text, "DCGM_FI_PROF_GR_ENGINE_ACTIVE")
    assert first == (
        f'DCGM_FI_PROF_GR_ENGINE_ACTIVE{{gpu="0",UUID="{gpu.uuid}",pci_bus_id="00000000:17:00.0",device="nvidia0",'
        'modelName="NVIDIA H100 80GB HBM3",GPU_I_PROFILE="3g.40gb",GPU_I_ID="1",Hostname="gpu-1",'
        'DCGM_FI_DRIVER_VERSION="580.126.09",container="main",namespace="demo",pod="a"} 1.000000'
    )
    assert 'GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"' in second
    assert second.endswith('580.126.09"} 0.000000')
    for name in ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"):
        assert len({line.rsplit(" ", 1)[1] for line in lines(text, name)}) == 1
        assert len(lines(text, name)) == 2
    assert "GPU_UTIL" not in text


def in_turns(*, virtual_gpus: bool = False, resource: str = "nvidia.com/gpu") -> Fleet:
    """Two pods on one GPU: one works, one does not."""
    fleet = fleet_of(Division(copies=4, resource=resource), virtual_gpus=virtual_gpus)
    for name in ("busy", "idle"):
        fleet.put_pod(a_pod(name, resource=resource))
    engine = fleet.pods[PodRef("demo", "busy")].engine
    assert engine is not None
    submitted(engine, output=5000)
    fleet.advance(10.0)
    fleet.take_samples()
    return fleet


def test_holders_of_a_gpu_in_turns_share_what_it_draws_without_work_and_pay_for_their_own() -> None:
    fleet = in_turns()
    active = law_for(Gpu.H100, "8b", Precision.BF16, 1).watts(1, 800)  # its context in the mean of ten seconds
    assert taken(fleet, "idle") == pytest.approx(10 * H100.context / 2)
    assert taken(fleet, "busy") == pytest.approx(10 * (H100.context / 2 + active - H100.context), rel=0.01)
    assert taken(fleet, "idle") + taken(fleet, "busy") == pytest.approx(next(fleet.gpus()).joules)


def test_engines_that_share_a_gpu_in_turns_are_slower_and_together_draw_no_more() -> None:
    def served(count: int) -> tuple[float, float]:
        fleet = fleet_of(Division(copies=4))
        for index in range(count):
            fleet.put_pod(a_pod(str(index)))
        engines = [pod.engine for pod in fleet.pods.values() if pod.engine is not None]
        for engine in engines:
            submitted(engine, output=5000)
        for tenth in range(1, 101):
            fleet.advance(tenth / 10)
        return engines[0].counters.generated_tokens, next(fleet.gpus()).joules

    alone, crowded = served(1), served(2)
    assert crowded[0] == pytest.approx(alone[0] / 2, rel=0.02)
    assert crowded[1] == pytest.approx(alone[1], rel=0.02)


def test_copies_are_spread_over_the_gpus() -> None:
    fleet = fleet_of(Division(copies=2), gpus=2)
    for name in ("a", "b", "c"):
        fleet.put_pod(a_pod(name))
    assert [[str(holder) for holder in gpu.holders] for gpu in fleet.gpus()] == [["demo/a", "demo/c"], ["demo/b"]]


def test_without_virtual_gpus_dcgm_names_one_pod_of_those_that_share() -> None:
    rows = lines(dcgm_metrics(in_turns().gpus()), "DCGM_FI_DEV_POWER_USAGE")
    assert len(rows) == 1
    assert 'pod="idle"}' in rows[0]


def test_with_virtual_gpus_dcgm_repeats_everything_for_each_pod() -> None:
    text = dcgm_metrics(in_turns().gpus(), exporter=ExporterFacts(virtual_gpus=True))
    for name in ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"):
        rows = lines(text, name)
        assert len({row.rsplit(" ", 1)[1] for row in rows}) == 1
        assert ['pod="busy",vgpu="0"' in rows[0], 'pod="idle",vgpu="1"' in rows[1]] == [True, True]


@pytest.mark.parametrize("division", [Division(), Division(copies=2), instances("3g.40gb", "1g.10gb")])
def test_an_exporter_that_does_not_ask_the_kubelet_names_no_pods(division: Division) -> None:
    fleet = fleet_of(division)
    fleet.put_pod(a_pod("a", resource="nvidia.com/mig-3g.40gb" if division.instances else "nvidia.com/gpu"))
    assert "pod=" in dcgm_metrics(fleet.gpus())
    assert "pod=" not in dcgm_metrics(fleet.gpus(), exporter=ExporterFacts(kubernetes=False))


def test_renamed_copies_have_no_pod_labels_unless_the_exporter_knows_their_name() -> None:
    fleet = in_turns(resource=SHARED_RESOURCE)
    known = ExporterFacts(resource_names=frozenset({SHARED_RESOURCE}))
    assert "pod=" not in dcgm_metrics(fleet.gpus())
    assert "pod=" not in dcgm_metrics(fleet.gpus(), exporter=ExporterFacts(virtual_gpus=True))
    assert "pod=" in dcgm_metrics(fleet.gpus(), exporter=known)


def test_the_agent_tells_who_of_those_that_share_used_the_gpu() -> None:
    fleet = in_turns()
    uuid = next(fleet.gpus()).uuid
    text = agent_metrics(fleet.gpus())
    shares = lines(text, "fallow_agent_process_sm_utilization_ratio")
    assert len(shares) == 1
    assert f'{{UUID="{uuid}",namespace="demo",pod="busy"}}' in shares[0]
    assert 0.95 < float(shares[0].rsplit(" ", 1)[1]) <= 1
    assert len(lines(text, "fallow_agent_gpu_holder")) == 2


def test_the_agent_tells_instances_by_number_and_nothing_of_their_time() -> None:
    fleet = fleet_of(instances("3g.40gb"))
    fleet.put_pod(a_pod("a", resource=MIG_3G))
    text = agent_metrics(fleet.gpus())
    assert lines(text, "fallow_agent_process_sm_utilization_ratio") == []
    assert 'GPU_I_ID="1",' in lines(text, "fallow_agent_gpu_holder")[0]


@pytest.mark.parametrize(
    ("behaviour", "busy", "low", "high"),
    [
        (Behaviour.NOTEBOOK, 0, H100.context, H100.context),
        (Behaviour.TRAINING, 80, 0.7 * H100.tdp, 0.96 * H100.tdp),
        (Behaviour.SPIN, 100, 0.2 * H100.tdp, 0.4 * H100.tdp),
    ],
)
def test_planted_waste_looks_as_it_does_in_the_field(behaviour: Behaviour, busy: int, low: float, high: float) -> None:
    fleet = fleet_of(Division())
    fleet.put_pod(a_foreign_pod("x", behaviour))
    for second in range(1, 11):
        fleet.advance(second)
        fleet.take_samples()
        sample = next(fleet.gpus()).sample
        assert low <= sample.watts * 1.0001
        assert sample.watts <= high * 1.0001
        assert busy <= sample.busy_share * 100 + 1e-6
    assert taken(fleet, "x", "lab") == pytest.approx(next(fleet.gpus()).joules)


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "loading", "pulling", "draining", "remove", "request", "sleep", "train", "declare"]),
        st.integers(0, 3),
        st.floats(0.01, 3.0, allow_nan=False),
    ),
    min_size=1,
    max_size=25,
)
DIVISIONS = [Division(), Division(copies=3), instances("3g.40gb", "3g.40gb", gpus=2), instances("1g.20gb", gpus=2)]


@settings(max_examples=60, deadline=None)
@given(division=st.sampled_from(DIVISIONS), acts=ACTS)
def test_pods_and_what_nobody_holds_add_up_to_each_counter(
    division: Division, acts: list[tuple[str, int, float]]
) -> None:
    fleet = fleet_of(division, gpus=2)
    resource = next(fleet.gpus()).places[0].resource
    begin, free = sum(gpu.counter_joules for gpu in fleet.gpus()), 0.0
    for what, index, seconds in acts:
        ref = PodRef("demo", f"chat-{index}")
        engine = fleet.pods[ref].engine if ref in fleet.pods else None
        if what == "remove":
            fleet.remove_pod(ref)
        elif what == "request" and engine is not None:
            engine.submit(Request(fleet.now, 500, 200), fleet.now)
        elif what == "sleep" and engine is not None:
            engine.sleep(1)
        elif what == "train":
            fleet.put_pod(a_foreign_pod(str(index), Behaviour.TRAINING, resource=resource))
        elif what == "declare":
            fleet.put_pod(a_foreign_pod(str(index), watts=300, activity=0.5, resource=resource))
        elif what in {*PodPhase}:
            fleet.put_pod(a_pod(ref.name, PodPhase(what), resource=resource, engine=SMALL))
        free += seconds * sum(gpu.unheld_watts for gpu in fleet.gpus())
        fleet.advance(fleet.now + seconds)
        fleet.take_samples()
        for gpu in fleet.gpus():
            assert gpu.spec.bare * 0.999 <= gpu.sample.watts <= gpu.spec.tdp * 1.2
    held = sum(energy.total for energy in fleet.retired.values()) + sum(p.energy.total for p in fleet.pods.values())
    assert sum(gpu.counter_joules for gpu in fleet.gpus()) - begin == pytest.approx(held + free, rel=1e-9, abs=1e-6)
