"""Metrics pages in the shape of vLLM 0.32 and dcgm-exporter 4.8, from the few numbers a test is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

BOUNDS = ("0.1", "0.5", "+Inf")


@dataclass(frozen=True)
class Engine:
    """One engine of a vLLM pod. `omit` leaves metrics out, `rename` gives them an older name."""

    running: float = 0
    waiting: float = 0
    kv: float = 0.0
    prompt: float = 100
    generated: float = 200
    cached: float = 10
    finished: float = 5
    aborted: float = 0
    iterations: float = 50
    flops: float = 6e12
    read: float = 2e11
    wrote: float = 1e11
    awake: float = 1
    ttft: tuple[float, ...] = (1, 2, 3)
    itl: tuple[float, ...] = (4, 5, 6)
    rank: str = "0"
    model: str = "chat"
    omit: frozenset[str] = frozenset()
    rename: dict[str, str] = field(default_factory=dict)


def engine_page(*engines: Engine) -> str:
    return "".join(line for engine in engines for line in _engine_lines(engine))


def _engine_lines(engine: Engine) -> Iterable[str]:
    own = f'engine="{engine.rank}",model_name="{engine.model}"'
    families: list[tuple[str, str, list[tuple[str, str, float]]]] = [
        ("vllm:num_requests_running", "gauge", [("", own, engine.running)]),
        ("vllm:num_requests_waiting", "gauge", [("", own, engine.waiting)]),
        ("vllm:kv_cache_usage_perc", "gauge", [("", own, engine.kv)]),
        (
            "vllm:engine_sleep_state",
            "gauge",
            [
                ("", f'{own},sleep_state="awake"', engine.awake),
                ("", f'{own},sleep_state="weights_offloaded"', 1 - engine.awake),
            ],
        ),
        ("vllm:prompt_tokens_total", "counter", [("", own, engine.prompt)]),
        ("vllm:prompt_tokens_cached_total", "counter", [("", own, engine.cached)]),
        ("vllm:generation_tokens_total", "counter", [("", own, engine.generated)]),
        (
            "vllm:request_success_total",
            "counter",
            [
                ("", f'{own},finished_reason="stop"', engine.finished),
                ("", f'{own},finished_reason="abort"', engine.aborted),
            ],
        ),
        ("vllm:iteration_tokens_total", "histogram", [("_count", own, engine.iterations)]),
        ("vllm:estimated_flops_per_gpu_total", "counter", [("", own, engine.flops)]),
        ("vllm:estimated_read_bytes_per_gpu_total", "counter", [("", own, engine.read)]),
        ("vllm:estimated_write_bytes_per_gpu_total", "counter", [("", own, engine.wrote)]),
        ("vllm:time_to_first_token_seconds", "histogram", _buckets(own, engine.ttft)),
        ("vllm:request_time_per_output_token_seconds", "histogram", _buckets(own, engine.itl)),
        ("vllm:num_preemptions_total", "counter", [("", own, 7)]),
    ]
    for name, kind, samples in families:
        if name in engine.omit:
            continue
        shown = engine.rename.get(name, name)
        yield f"# HELP {shown} text\n# TYPE {shown} {kind}\n"
        for suffix, labels, value in samples:
            yield f"{shown}{suffix}{{{labels}}} {_number(value)}\n"


def _buckets(own: str, counts: tuple[float, ...]) -> list[tuple[str, str, float]]:
    return [("_bucket", f'{own},le="{bound}"', count) for bound, count in zip(BOUNDS, counts, strict=True)]


@dataclass(frozen=True)
class Gpu:
    """One block of dcgm-exporter lines. `holder` is (namespace, pod); None leaves a value out.

    `instance` is a MIG instance's number, `copy` that of a copy in turns under --kubernetes-virtual-gpus.
    """

    uuid: str = "GPU-1"
    watts: float | None = 300.0
    millijoules: float | None = 5_000_000
    active: float | None = 0.5
    sm: float | None = 0.4
    util: float | None = 80
    holder: tuple[str, str] | None = None
    host: str | None = "node-a"
    host_label: str = "hostname"
    instance: str | None = None
    profile: str = "1g.10gb"
    copy: str | None = None
    model: str = "NVIDIA H100 80GB HBM3"


def gpu_page(*gpus: Gpu) -> str:
    values: dict[str, tuple[str, Callable[[Gpu], float | None]]] = {
        "DCGM_FI_DEV_POWER_USAGE": ("gauge", lambda gpu: gpu.watts),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("counter", lambda gpu: gpu.millijoules),
        "DCGM_FI_DEV_GPU_UTIL": ("gauge", lambda gpu: gpu.util),
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": ("gauge", lambda gpu: gpu.active),
        "DCGM_FI_PROF_SM_ACTIVE": ("gauge", lambda gpu: gpu.sm),
        "DCGM_FI_DEV_GPU_TEMP": ("gauge", lambda _: 40),
    }
    text = ""
    for name, (kind, value_of) in values.items():
        text += f"# HELP {name} text\n# TYPE {name} {kind}\n"
        for gpu in gpus:
            value = value_of(gpu)
            if value is not None:
                text += f"{name}{{{_gpu_labels(gpu)}}} {_number(value)}\n"
    return text


def _gpu_labels(gpu: Gpu) -> str:
    labels = {"gpu": "0", "UUID": gpu.uuid, "device": "nvidia0", "modelName": gpu.model}
    if gpu.instance is not None:
        labels |= {"GPU_I_PROFILE": gpu.profile, "GPU_I_ID": gpu.instance}
    if gpu.host is not None:
        labels[gpu.host_label] = gpu.host
    if gpu.holder is not None:
        labels |= {"container": "main", "namespace": gpu.holder[0], "pod": gpu.holder[1]}
    if gpu.copy is not None:
        labels["vgpu"] = gpu.copy
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def agent_page(*holders: tuple[str, str, str], sm: Mapping[str, float] | None = None, uuid: str = "GPU-1") -> str:
    """The node agent's page: holders as (MIG instance or nothing, namespace, pod), shares of the GPU's time by pod."""
    text = '# TYPE fallow_agent_up gauge\nfallow_agent_up{source="kubelet"} 1.0\n'
    text += "# TYPE fallow_agent_gpu_holder gauge\n"
    for instance, namespace, pod in holders:
        own = f'UUID="{uuid}",GPU_I_ID="{instance}",namespace="{namespace}",pod="{pod}",container="main"'
        text += f"fallow_agent_gpu_holder{{{own}}} 1.0\n"
    text += "# TYPE fallow_agent_process_sm_utilization_ratio gauge\n"
    for pod, ratio in (sm or {}).items():
        own = f'UUID="{uuid}",namespace="llm",pod="{pod}"'
        text += f"fallow_agent_process_sm_utilization_ratio{{{own}}} {_number(ratio)}\n"
    return text


def _number(value: float) -> str:
    """As exporters print it: NaN and +Inf, integers plain."""
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(value, repr(value))
