"""Reads a window of the past from a Prometheus HTTP API: range queries whose number and size do not grow with time.

A window is cut into about a hundred slots. Counters are read at the slots' edges, with the times of their samples, so
that energy is the exact difference over the exact time; gauges as their means over each slot.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fallow.adapters.metrics import dcgm, promql, vllm
from fallow.adapters.metrics.engine_window import EngineSeries, engine_slots
from fallow.adapters.metrics.gpu_window import GpuSeries, Signal, gpu_windows
from fallow.adapters.metrics.prometheus import EngineLabels
from fallow.adapters.metrics.prometheus_api import Access, Grid, PrometheusApi, Question
from fallow.adapters.metrics.samples import Sample
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.units import Instant, Seconds
from fallow.domain.windows import Survey, Window

SLOTS = 96
AT_ONCE = 6
# how finely "was a request running?" is asked within a slot
LOOKS_PER_SLOT = 30

_Matrix = list[promql.Series]
