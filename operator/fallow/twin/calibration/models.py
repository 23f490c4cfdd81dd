"""Models by their shape: what a decode step must read and compute. Known models, and what is usual for a size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What one step costs. `parameters` and `active` are counts; a dense model has all of them active.

    `cache_layers` keep the whole context, `window_layers` its last `window` tokens; `state_bytes` are kept per sequence
    whatever its length (state-space layers). `cache_heads` times `head_dim` is the width of K, and of V. `dense_layers`
    of a mixture have no experts.
    """

    parameters: float
    active: float
    layers: float
    hidden: float
    cache_heads: float
    head_dim: float
    cache_layers: float
    window_layers: float = 0.0
    window: float = 0.0
    experts: float = 0.0
    experts_per_token: float = 0.0
    state_bytes: float = 0.0
    dense_layers: float = 0.0

    @property
    def mixture(self) -> bool:
        """A mixture of experts reads some of its weights only."""
        return self.active < self.parameters

    @property
    def touched(self) -> float:
        """Share of the routed experts that one token takes; 1 in a dense model."""
        if not self.mixture:
            return 1.0
        return min(self.experts_per_token / self.experts, 0.9 * self.active / self.parameters)

    @property
    def routed(self) -> float:
        """Parameters in routed experts, from active = shared + touched x routed."""
        return (self.parameters - self.active) / (1.0 - self.touched) if self.mixture else 0.0

    @property
    def mixture_layers(self) -> float:
        return self.layers - self.dense_layers if self.mixture else 0.0

    def cache_copies(self, gpus: float) -> float:
        """How many GPUs keep the same part of the KV cache: vLLM gives each of them at least one head of K and V."""
        return max(1.0, gpus / self.cache_heads)

    def cache_bytes(self, context: float) -> float:
        """KV cache and state of one sequence, 16 bit, B."""
        per_token = 2.0 * 2.0 * self.cache_heads * self.head_dim
        return per_token * (self.cache_layers * context + self.window_layers * min(context, self.window))


# Usual layers by size: least squares on the published shapes of 18 dense models (1.2 to 405 billion, scatter 13 %) and
# 21 mixtures of experts (7 to 1,000 billion, scatter 23 %).
DENSE_LAYERS = (2.850, 0.343)
MIXTURE_LAYERS = (2.502, 0.277)
USUAL_EXPERTS = 128.0
USUAL_TOUCHED = 1 / 16


def usual_shape(parameters: float, active: float) -> ModelShape:
    """The shape that is usual for a size, where nothing else is known."""
    billions = parameters / 1e9
    if active < parameters:
        base, slope = MIXTURE_LAYERS
        layers = exp(base + slope * log(billions))
        touched = min(USUAL_TOUCHED, 0.7 * active / parameters)
        return ModelShape(
            parameters, active, layers, 3500.0 * (active / 10e9) ** 0.4, 4.0, 128.0, layers,
            experts=USUAL_EXPERTS, experts_per_token=touched * USUAL_EXPERTS,
        )  # fmt: skip
    base, slope = DENSE_LAYERS
    layers = exp(base + slope * log(billions))
    return ModelShape(parameters, active, layers, 4096.0 * (billions / 8.0) ** 0.4, 8.0, 128.0, layers)


def _dense(
    billions: float,
    layers: int,
    hidden: int,
    heads: int = 8,
    head_dim: int = 128,
    *,
    full: int | None = None,
    window: int = 0,
) -> ModelShape:
    """`full` layers of attention see everything, the others `window` tokens, or are no attention where it is 0."""
    local = layers - full if full is not None and window else 0
    return ModelShape(
        billions * 1e9, billions * 1e9, layers, hidden, heads, head_dim, layers if full is None else full, local, window
    )


def _mixture(
    billions: float,
    active: float,
    layers: int,
    hidden: int,
    *,
    experts: int,
    each: int,
    heads: int = 4,
    head_dim: int = 128,
) -> ModelShape:
    return ModelShape(
        billions * 1e9, active * 1e9, layers, hidden, heads, head_dim, layers,
        experts=experts, experts_per_token=each,
    )  # fmt: skip


_QWEN3_8B = _dense(8.2, 36, 4096)
_QWEN3_30B = _mixture(30.5, 3.3, 48, 2048, experts=128, each=8)
_QWEN3_235B = _mixture(235, 22, 94, 4096, experts=128, each=8)
_LLAMA_70B = _dense(70.6, 80, 8192)
# Multi-head latent attention keeps 576 numbers per layer and token instead of K and V; the first layers are dense.
_DEEPSEEK = replace(_mixture(671, 37, 61, 7168, experts=256, each=8, heads=1, head_dim=288), dense_layers=3)
# Every second layer is dense.
_MAVERICK = replace(_mixture(400, 17, 48, 5120, experts=128, each=1, heads=8), dense_layers=24)
_GPT_OSS_120B = replace(
    _mixture(117, 5.1, 36, 2880, experts=128, each=4, heads=8, head_dim=64),
    cache_layers=18,
    window_layers=18,
    window=128,
)
_GPT_OSS_20B = replace(
    _mixture(20.9, 3.6, 24, 2880, experts=32, each=4, heads=8, head_dim=64),
    cache_layers=12,
    window_layers=12,
    window=128,
)
# Hybrids: few layers of attention; the others keep 128 heads x 80 x 128 numbers of 32 bit, read and written each step.
_NEMOTRON_12B = replace(_dense(12.3, 62, 5120, full=6), state_bytes=28 * 128 * 80 * 128 * 4 * 2.0)
_NEMOTRON_9B = replace(_dense(8.9, 56, 4480, full=4), state_bytes=27 * 128 * 80 * 128 * 4 * 2.0)

# Shapes from the models' published configurations.
PRESETS: dict[str, ModelShape] = {
    "meta-llama/Llama-3.1-8B-Instruct": _dense(8.03, 32, 4096),
    "meta-llama/Llama-3.1-70B-Instruct": _LLAMA_70B,
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_70B,
    "meta-llama/Llama-3.1-405B-Instruct": _dense(405.9, 126, 16384),
    "meta-llama/Llama-3.2-1B-Instruct": _dense(1.24, 16, 2048, head_dim=64),
    "meta-llama/Llama-3.2-3B-Instruct": _dense(3.21, 28, 3072),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": _mixture(109, 17, 48, 5120, experts=16, each=1, heads=8),
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": _MAVERICK,
    "Qwen/Qwen3-4B": _dense(4.0, 36, 2560),
    "Qwen/Qwen3-8B": _QWEN3_8B,
    "Qwen/Qwen3-14B": _dense(14.8, 40, 5120),
    "Qwen/Qwen3-32B": _dense(32.8, 64, 5120),
    "Qwen/Qwen3-VL-8B-Instruct": _QWEN3_8B,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": _QWEN3_30B,
    "Qwen/Qwen3-30B-A3B-Thinking-2507": _QWEN3_30B,
    "Qwen/Qwen3-Coder-30B-A3B-Instruct": _QWEN3_30B,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": _QWEN3_30B,
    "Qwen/Qwen3-Omni-30B-A3B-Instruct": _QWEN3_30B,
    "Qwen/Qwen3-235B-A22B-Instruct-2507": _QWEN3_235B,
    "Qwen/Qwen3-235B-A22B-Thinking-2507": _QWEN3_235B,
    "Qwen/Qwen3-VL-235B-A22B-Instruct": _QWEN3_235B,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": _mixture(480, 35, 62, 6144, experts=160, each=8, heads=8),
    "Qwen/Qwen2.5-7B-Instruct": _dense(7.6, 28, 3584, heads=4),
    "Qwen/Qwen2.5-72B-Instruct": _dense(72.7, 80, 8192),
    "google/gemma-3-4b-it": _dense(4.3, 34, 2560, heads=4, head_dim=256, full=5, window=1024),
    "google/gemma-3-12b-it": _dense(12.2, 48, 3840, head_dim=256, full=8, window=1024),
    "google/gemma-3-27b-it": _dense(27.4, 62, 5376, heads=16, full=10, window=1024),
    "mistralai/Mistral-Small-24B-Instruct-2501": _dense(23.6, 40, 5120),
    "mistralai/Mixtral-8x7B-Instruct-v0.1": _mixture(46.7, 12.9, 32, 4096, experts=8, each=2, heads=8),
    "microsoft/phi-4": _dense(14.7, 40, 5120, heads=10),
    "deepseek-ai/DeepSeek-R1-0528": _DEEPSEEK,
    "deepseek-ai/DeepSeek-V3.1": _DEEPSEEK,
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": _NEMOTRON_9B,
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2": _NEMOTRON_12B,
    "nvidia/NVIDIA-Nemotron-Nano-12B-v2-VL-BF16": _NEMOTRON_12B,
    "openai/gpt-oss-20b": _GPT_OSS_20B,
    "openai/gpt-oss-120b": _GPT_OSS_120B,
}


class UnknownModel(ValueError):
    """No preset has this name."""


def preset_named(name: str) -> str:
    """The full name of a preset, with or without its organisation and -FP8; raises UnknownModel."""
    wanted = name.lower().removesuffix("-fp8")
    for known in PRESETS:
        full = known.lower().removesuffix("-fp8")
        if wanted in {full, full.split("/")[1]}:
            return known
    raise UnknownModel(
        f"{name!r} is no model that is known here: describe it with --params and --active-params, or write one of "
        + ", ".join(PRESETS)
    )
