"""The real vLLM 0.32.0 pages, read through both sources; and each metric that Fallow reads is found in them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fallow.adapters.metrics import dcgm, vllm
from fallow.adapters.metrics.samples import MetricSpec
from fallow.domain.figures import Missing
from fallow.domain.readings import EngineReading, Operations
from fallow.footprint.roofline import done_between
from tests.adapters.metrics.pages import Gpu, gpu_page
from tests.adapters.metrics.rigs import POD, DirectRig, PrometheusRig, World

DATA = Path(os.environ.get("FALLOW_DATA", Path(__file__).parents[4] / "shared" / "data"))
CAPTURES = DATA / "vllm-0.32"

needs_captures = pytest.mark.skipif(
    not CAPTURES.is_dir(), reason=f"real vLLM captures are not at {CAPTURES}; FALLOW_DATA names another folder"
)


@pytest.fixture(params=["prometheus", "direct"])
async def rig(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PrometheusRig | DirectRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        yield await (PrometheusRig if request.param == "prometheus" else DirectRig).start(stack)


async def captured(rig: PrometheusRig | DirectRig, name: str) -> EngineReading:
    readings = await rig.read(World(engines={POD: (CAPTURES / f"{name}.prom").read_text()}))
    assert not readings.pod_faults
    return readings.engines[POD]


@needs_captures
async def test_a_busy_engine_shows_its_queue_and_counters(rig: PrometheusRig | DirectRig) -> None:
    busy = await captured(rig, "busy")

    assert (busy.running, busy.waiting) == (128, 172)
    assert busy.kv_usage == pytest.approx(0.022218, abs=1e-6)
    assert (busy.prompt_tokens, busy.generated_tokens, busy.cached_prompt_tokens) == (991, 33281, 0)
    assert (busy.requests, busy.iterations) == (12, 330)
    assert (busy.asleep, busy.model_name) == (False, "tiny")


@needs_captures
async def test_latencies_of_a_busy_engine_keep_their_own_bounds(rig: PrometheusRig | DirectRig) -> None:
    busy = await captured(rig, "busy")

    assert busy.ttft is not None
    assert busy.itl is not None
    assert (len(busy.ttft.bounds), busy.ttft.bounds[0], busy.ttft.bounds[-1]) == (23, 0.001, float("inf"))
    assert (busy.ttft.counts[7], busy.ttft.counts[-1]) == (23, 140)
    assert (len(busy.itl.bounds), busy.itl.counts[-1]) == (20, busy.requests)


@needs_captures
@pytest.mark.parametrize(
    ("name", "requests", "asleep"), [("idle", 12, False), ("after", 312, False), ("sleeping", 12, True)]
)
async def test_engines_without_work_are_told_apart(
    rig: PrometheusRig | DirectRig, name: str, requests: float, asleep: bool
) -> None:
    reading = await captured(rig, name)

    assert (reading.running, reading.waiting, reading.kv_usage) == (0, 0, 0)
    assert (reading.requests, reading.asleep) == (requests, asleep)


@needs_captures
async def test_without_the_flag_the_estimates_of_flops_stand_at_zero_while_tokens_come(
    rig: PrometheusRig | DirectRig,
) -> None:
    """These engines ran without --enable-mfu-metrics: a zero there is no measure of anything."""
    idle, busy = await captured(rig, "idle"), await captured(rig, "busy")

    assert busy.generated_tokens > idle.generated_tokens
    assert idle.operations == busy.operations == Operations(0, 0)
    done = done_between(idle, busy)
    assert isinstance(done, Missing)
    assert "start the engine with --enable-mfu-metrics" in done.detail


@needs_captures
@pytest.mark.parametrize("spec", vllm.READ_METRICS, ids=lambda spec: spec.sample)
@pytest.mark.parametrize("name", ["idle", "busy", "after", "sleeping"])
def test_each_metric_read_exists_in_the_real_page_with_its_type_and_labels(name: str, spec: MetricSpec) -> None:
    page = (CAPTURES / f"{name}.prom").read_text()

    assert f"# TYPE {spec.family} {spec.type}\n" in page
    labels = {
        frozenset(sample.labels)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == spec.sample
    }
    assert labels == {spec.labels}


@pytest.mark.parametrize("spec", dcgm.READ_METRICS, ids=lambda spec: spec.sample)
def test_each_dcgm_metric_read_is_told_by_the_pages_of_these_tests(spec: MetricSpec) -> None:
    """These pages stand in for dcgm-exporter: they must not show less than what is read."""
    page = gpu_page(Gpu())

    assert f"# TYPE {spec.family} {spec.type}\n" in page
    line = next(line for line in page.splitlines() if line.startswith(spec.sample))
    assert all(f'{label}="' in line for label in spec.labels)
