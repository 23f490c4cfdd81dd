"""The names of the GPU series that Fallow reads, from dcgm-exporter and from the node agent, and their values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fallow.adapters.metrics.samples import MetricSpec, Sample, checked
from fallow.domain.figures import Missing
from fallow.domain.readings import ActivitySource
from fallow.domain.reasons import Reason

_GPU = frozenset({"gpu", "UUID", "modelName"})
_HOLDER = frozenset({"UUID", "namespace", "pod"})

POWER = MetricSpec("DCGM_FI_DEV_POWER_USAGE", "gauge", _GPU)
ENERGY = MetricSpec("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", _GPU)
ENGINE_ACTIVE = MetricSpec(ActivitySource.ENGINE_ACTIVE.value, "gauge", _GPU)
SM_ACTIVE = MetricSpec(ActivitySource.SM_ACTIVE.value, "gauge", _GPU)
GPU_UTIL = MetricSpec(ActivitySource.GPU_UTIL.value, "gauge", _GPU)
DCGM_METRICS = (POWER, ENERGY, ENGINE_ACTIVE, SM_ACTIVE, GPU_UTIL)

# GPU_I_ID is with the holder of a MIG instance; the agent is up by its source "kubelet" or "nvml"
AGENT_HOLDER = MetricSpec("fallow_agent_gpu_holder", "gauge", _HOLDER | {"container"})
AGENT_SM = MetricSpec(ActivitySource.PROCESS_SM.value, "gauge", _HOLDER)
AGENT_UP = MetricSpec("fallow_agent_up", "gauge", frozenset({"source"}))
AGENT_LIMIT = MetricSpec("fallow_agent_power_limit_watts", "gauge", frozenset({"UUID", "kind"}))
AGENT_CLOCK = MetricSpec("fallow_agent_sm_clock_hertz", "gauge", frozenset({"UUID", "kind"}))
AGENT_METRICS = (AGENT_HOLDER, AGENT_SM, AGENT_UP, AGENT_LIMIT, AGENT_CLOCK)

# DCGM's "blank" values (dcgm_structs.h), printed by very old exporters for what the GPU does not report.
_BLANK_DOUBLE = 140737488355328.0
_BLANK_INT64 = 9223372036854775792.0
_BLANKS = {ENERGY: _BLANK_INT64, GPU_UTIL: 2147483632.0}
# A ratio may exceed 1 by its rounding; more than that is no ratio.
_HIGHEST = {ENGINE_ACTIVE: 1.01, SM_ACTIVE: 1.01, AGENT_SM: 1.01, GPU_UTIL: 101.0}


def newest(samples: Sequence[Sample], spec: MetricSpec) -> tuple[Sample, float | Missing]:
    """The highest of the copies in the newest scrape; the sample is meaningless where the value is Missing."""
    named = [sample for sample in samples if sample.name == spec.sample]
    if not named:
        return samples[0], Missing(Reason.NO_SERIES, f"{spec.sample} is not exported for this GPU")
    at = max(sample.at for sample in named)
    copies = [sample for sample in named if sample.at == at]
    best: tuple[Sample, float] | None = None
    fault: Missing | None = None
    for sample in copies:
        read = value(sample, spec)
        if isinstance(read, Missing):
            fault = fault or read
        elif best is None or read > best[1]:
            best = (sample, read)
    if fault is not None or best is None:
        return copies[0], fault or Missing(Reason.NO_SERIES, f"{spec.sample} has no sample")
    return best


def value(sample: Sample, spec: MetricSpec) -> float | Missing:
    if math.isfinite(sample.value) and sample.value >= _BLANKS.get(spec, _BLANK_DOUBLE):
        return Missing(Reason.NOT_A_NUMBER, f"{sample.name} is DCGM's blank value: the GPU does not report it")
    return checked(sample, highest=_HIGHEST.get(spec, math.inf))
