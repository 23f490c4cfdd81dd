"""The twin's pages against a real vLLM 0.32 and against what dcgm-exporter is known to write."""

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fallow.domain.readings import PodRef
from fallow.twin.dcgm_metrics import dcgm_metrics
from fallow.twin.fleet import Fleet
from fallow.twin.physics.engine import Engine, EngineLimits
from fallow.twin.pods import PodPhase
from fallow.twin.vllm_metrics import vllm_metrics
from tests.support.twin import a_node, a_pod, an_engine, engine_facts, submitted

CAPTURES = Path(os.environ.get("FALLOW_DATA", Path(__file__).parents[3] / ".." / "shared" / "data")) / "vllm-0.32"

needs_captures = pytest.mark.skipif(
    not CAPTURES.is_dir(), reason=f"no captures of a real vLLM in {CAPTURES}; set FALLOW_DATA to their folder"
)

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# What an operator reads; the twin must expose at least these.
READ = [
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:engine_sleep_state",
    "vllm:cache_config_info",
    "vllm:prompt_tokens_total",
    "vllm:prompt_tokens_cached_total",
    "vllm:prompt_tokens_by_source_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:iteration_tokens_total",
    "vllm:num_preemptions_total",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:estimated_flops_per_gpu_total",
    "vllm:estimated_read_bytes_per_gpu_total",
    "vllm:estimated_write_bytes_per_gpu_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
]


@dataclass
class Page:
    """A /metrics answer taken apart without any library, so that order and spelling count."""

    types: dict[str, str] = field(default_factory=dict)
    explanations: dict[str, str] = field(default_factory=dict)
    label_names: dict[str, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    label_values: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    numbers: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> "Page":
        page = cls()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                page.types[name] = kind
            elif line.startswith("# HELP "):
                _, _, name, explanation = line.split(" ", 3)
                page.explanations[name] = explanation
            else:
                match = SAMPLE.match(line)
                assert match, line
                pairs = LABEL.findall(match[2] or "")
                page.label_names[match[1]].add(tuple(name for name, _ in pairs))
                for name, value in pairs:
                    values = page.label_values[(match[1], name)]
                    if value not in values:
                        values.append(value)
                page.numbers.append(match[3])
        return page


def slept_engine() -> Engine:
    """Has seen everything that adds series: work, sleep and wake. Its model is as short as that of the captures."""
    engine = an_engine(limits=EngineLimits(max_model_len=1024))
    for index in range(5):
        submitted(engine, at=index * 0.1)
    engine.advance(10.0)
    engine.sleep(1)
    engine.wake()
    engine.advance(20.0)
    return engine


def ours(engine: Engine | None = None) -> Page:
    return Page.read(vllm_metrics(engine_facts(), engine or slept_engine(), started=1_795_364_200.25))


def real() -> Page:
    return Page.read((CAPTURES / "sleeping.prom").read_text())


@needs_captures
def test_every_family_exists_in_a_real_vllm_with_the_same_type_and_explanation() -> None:
    twin, captured = ours(), real()
    assert {name: captured.types.get(name) for name in twin.types} == twin.types
    assert {name: captured.explanations.get(name) for name in twin.explanations} == twin.explanations


@needs_captures
def test_every_series_has_the_labels_of_a_real_vllm_in_the_same_order() -> None:
    twin, captured = ours(), real()
    assert {name: captured.label_names.get(name) for name in twin.label_names} == twin.label_names


@needs_captures
def test_families_come_in_the_order_of_a_real_vllm() -> None:
    twin, captured = ours(), real()
    assert list(twin.types) == [name for name in captured.types if name in twin.types]


@needs_captures
def test_every_vllm_family_of_a_real_one_is_there() -> None:
    assert [name for name in real().types if name.startswith("vllm:") and name not in ours().types] == []


@needs_captures
def test_enumerated_labels_and_buckets_have_the_values_of_a_real_vllm() -> None:
    twin, captured = ours(), real()
    enumerated = [
        key for key in twin.label_values if key[1] in {"le", "finished_reason", "source", "sleep_state", "reason"}
    ]
    assert len(enumerated) > 15
    assert {key: twin.label_values[key] for key in enumerated} == {
        key: captured.label_values[key] for key in enumerated
    }


@needs_captures
def test_an_engine_that_never_slept_exposes_what_an_idle_vllm_does() -> None:
    captured = Page.read((CAPTURES / "idle.prom").read_text())
    assert set(ours(an_engine()).types) <= set(captured.types)
    assert {name for name in captured.types if name.startswith("vllm:")} <= set(ours(an_engine()).types)


@pytest.mark.parametrize("name", READ)
def test_what_an_operator_reads_is_there(name: str) -> None:
    assert name in ours().types


def test_numbers_are_floats_as_go_writes_them() -> None:
    assert [text for text in ours().numbers if not re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?|\+Inf|NaN", text)] == []
    text = vllm_metrics(engine_facts(), slept_engine(), started=1_795_364_200.25)
    assert 'vllm:generation_tokens_total{engine="0",model_name="chat"} 250.0\n' in text
    assert "process_start_time_seconds 1.79536420025e+09\n" in text


def test_the_page_is_read_by_prometheus_own_parser() -> None:
    families = {
        f.name: f for f in text_string_to_metric_families(vllm_metrics(engine_facts(), slept_engine(), started=1.0))
    }
    buckets = [s for s in families["vllm:time_to_first_token_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets[-1].labels["le"] == "+Inf"
    assert [s.value for s in buckets] == sorted(s.value for s in buckets)
    assert buckets[-1].value == 5


def test_broken_gauges_are_nan_and_counters_are_not() -> None:
    text = vllm_metrics(engine_facts(), slept_engine(), started=1.0, broken_gauges=True)
    assert 'vllm:num_requests_running{engine="0",model_name="chat"} NaN\n' in text
    assert 'vllm:generation_tokens_total{engine="0",model_name="chat"} 250.0\n' in text


def test_a_model_name_is_escaped() -> None:
    facts = engine_facts()
    odd = type(facts)(facts.model, 'a"b\\c', facts.precision)
    assert 'model_name="a\\"b\\\\c"' in vllm_metrics(odd, an_engine(), started=1.0)


def a_fleet() -> Fleet:
    fleet = Fleet(now=0.0)
    fleet.put_node(a_node(gpus=2))
    fleet.put_pod(a_pod())
    fleet.advance(10.0)
    fleet.take_samples()
    return fleet


def lines_of(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"{name}{{")]


def test_a_dcgm_line_is_spelled_as_the_exporter_does() -> None:
    fleet = a_fleet()
    gpu = fleet.gpus_of("gpu-1")[0]
    held, free = lines_of(dcgm_metrics(fleet.gpus()), "DCGM_FI_DEV_POWER_USAGE")
    assert held == (
        f'DCGM_FI_DEV_POWER_USAGE{{gpu="0",UUID="{gpu.uuid}",pci_bus_id="00000000:17:00.0",device="nvidia0",'
        'modelName="NVIDIA H100 80GB HBM3",Hostname="gpu-1",DCGM_FI_DRIVER_VERSION="580.126.09",'
        'container="main",namespace="demo",pod="chat-0"} 121.700000'
    )
    assert "pod=" not in free
    assert free.endswith(" 71.800000")


def test_energy_is_a_counter_in_whole_millijoules() -> None:
    fleet = a_fleet()
    text = dcgm_metrics(fleet.gpus())
    assert "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n" in text
    value = lines_of(text, "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION")[0].rsplit(" ", 1)[1]
    assert int(value) == int(fleet.gpus_of("gpu-1")[0].counter_joules * 1000)


def test_the_default_fields_are_there_and_attributes_are_sorted() -> None:
    text = dcgm_metrics(a_fleet().gpus())
    for name in ("SM_CLOCK", "MEM_CLOCK", "GPU_TEMP", "GPU_UTIL", "FB_USED", "FB_FREE", "XID_ERRORS"):
        assert len(lines_of(text, f"DCGM_FI_DEV_{name}")) == 2
    for name in ("GR_ENGINE_ACTIVE", "PIPE_TENSOR_ACTIVE", "DRAM_ACTIVE"):
        assert len(lines_of(text, f"DCGM_FI_PROF_{name}")) == 2
    assert 'container="main",err_code="0",err_msg="No Error",namespace="demo"' in text


def test_newer_exporters_write_hostname_small() -> None:
    assert ',hostname="gpu-1",' in dcgm_metrics(a_fleet().gpus(), hostname_label="hostname")


def test_pod_labels_may_be_missing_and_values_broken() -> None:
    assert "pod=" not in dcgm_metrics(a_fleet().gpus(), pod_labels=False)
    broken = dcgm_metrics(a_fleet().gpus(), broken=True)
    assert all(line.endswith(" NaN") for line in broken.splitlines() if not line.startswith("#"))


def test_a_busy_gpu_says_so_and_an_idle_one_with_a_model_does_not() -> None:
    fleet = a_fleet()
    idle = lines_of(dcgm_metrics(fleet.gpus()), "DCGM_FI_DEV_GPU_UTIL")[0]
    engine = fleet.pods[PodRef("demo", "chat-0")].engine
    assert engine is not None
    for _ in range(16):
        submitted(engine, at=10.0, output=2000)
    fleet.advance(12.0)
    fleet.take_samples()
    sample = fleet.gpus_of("gpu-1")[0].sample
    assert idle.endswith(" 0")
    assert lines_of(dcgm_metrics(fleet.gpus()), "DCGM_FI_DEV_GPU_UTIL")[0].endswith(" 100")
    assert sample.dram_active > sample.tensor_active > 0
    assert fleet.pods[PodRef("demo", "chat-0")].facts.phase is PodPhase.READY
