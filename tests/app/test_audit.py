"""`fallow audit` from the twin's pages to the answer: waste is found, the total is true, and input is checked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console
from typer.testing import CliRunner

from fallow.adapters.metrics.engine_window import EngineSignal
from fallow.adapters.metrics.gpu_window import Signal
from fallow.app.audit import inputs, plain, screen
from fallow.app.audit.look import Where, run_audit
from fallow.app.audit.options import Sort, View, Way
from fallow.app.cli import app
from fallow.domain.units import Instant, Seconds
from fallow.footprint.audit.report import Audit
from fallow.footprint.audit.uses import Use
from fallow.twin.physics.requests import Request
from fallow.twin.vllm_metrics import vllm_metrics
from tests.accounting.stage import Stage, node
from tests.adapters.metrics.range_server import RangeServer
from tests.adapters.metrics.rigs import serve
from tests.support.kubeconfig import kubeconfig_for

START, LENGTH, EVERY = 1_800_000_000.0, 600, 15
READ = tuple({signal.value for signal in (*Signal, *EngineSignal)})
VLLM = {"twin.fallow.dev/engine": "vllm"}
# name of the pod, its annotations for the twin, its labels
PODS: tuple[tuple[str, dict[str, str], dict[str, str]], ...] = (
    ("busy", {**VLLM, "twin.fallow.dev/clients": "14"}, {}),
    ("seldom", VLLM, {}),
    ("standby", VLLM, {"fallow.dev/service": "standby", "app.kubernetes.io/managed-by": "fallow"}),
    ("loaded", {"twin.fallow.dev/behaviour": "loaded"}, {}),
    ("half", {"twin.fallow.dev/behaviour": "half-filled"}, {}),
    ("lab", {"twin.fallow.dev/behaviour": "notebook"}, {"notebook-name": "forgotten"}),
    ("poller", {"twin.fallow.dev/behaviour": "spin"}, {}),
    ("training", {"twin.fallow.dev/behaviour": "training"}, {}),
)
WASTE = {
    ("unallocated", ""),
    ("loaded-idle", "Pod loaded"),
    ("under-filled", "Pod half"),
    ("loaded-idle", "Notebook forgotten"),
    ("spinning", "Pod poller"),
}


@dataclass
class Plant:
    """What two servers show of ten simulated minutes, and the joules that the GPUs really took."""

    prometheus: RangeServer
    lists: dict[str, list[dict[str, Any]]]
    pages: dict[str, str]
    true_joules: dict[str, float]

    async def kubernetes(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.pages:
            return web.Response(text=self.pages[request.path])
        if request.path not in self.lists:
            return web.json_response({"code": 404}, status=404)
        return web.json_response({"metadata": {}, "items": self.lists[request.path]})


@pytest.fixture(scope="module")
def plant() -> Plant:
    bodies = [node("gpu-1", "10.1.0.1", {"nvidia.com/gpu": 10}, zone="a", gpus=10)]
    stage = Stage(bodies, started=START, sample_seconds=1, slice_seconds=1)
    refs = {}
    for name, does, labels in PODS:
        args = ["--model", "Qwen/Qwen3-8B", *(["--max-num-seqs", "16"] if name == "busy" else [])]
        ref = refs[name] = stage.create(
            "lab", name, "gpu-1", "nvidia.com/gpu", 1, annotations=does, labels=labels, args=args
        )
        stage.start(ref)
        stage.ready(ref)
    server = RangeServer()
    before: dict[str, float] = {}
    for at in range(60, 60 + LENGTH + 1, EVERY):
        if at % 120 == 60:
            stage.world.ask_pod(stage.world.fleet.pods[refs["seldom"]], Request(stage.now, 100, 100))
        stage.world.advance(START + at)
        before = before or {gpu.uuid: gpu.joules for gpu in stage.world.fleet.gpus()}
        _scrape(stage, server)
    now = {gpu.uuid: gpu.joules for gpu in stage.world.fleet.gpus()}
    scaling = {"minReplicas": 1, "maxReplicas": 2}
    declared = {"metadata": {"namespace": "lab", "name": "standby"}, "spec": {"scaling": scaling}}
    return Plant(
        server,
        {
            "/api/v1/nodes": bodies,
            "/api/v1/pods": list(stage._pods.values()),
            "/apis/fallow.dev/v1alpha1/inferenceservices": [declared],
        },
        {"/api/v1/nodes/gpu-1:9400/proxy/metrics": stage._dcgm(stage.world.fleet.nodes["gpu-1"], None)},
        {uuid: joules - before[uuid] for uuid, joules in now.items()},
    )


def _scrape(stage: Stage, server: RangeServer) -> None:
    page = _needed(stage._dcgm(stage.world.fleet.nodes["gpu-1"], None))
    server.scrape(page, {"job": "dcgm", "instance": "10.1.0.1:9400"}, stage.now, honor_labels=True)
    for ref, pod in stage.world.fleet.pods.items():
        if pod.engine is not None and pod.facts.engine is not None:
            page = _needed(vllm_metrics(pod.facts.engine, pod.engine, started=START))
            target = {"job": "vllm", "instance": f"{ref.name}:8000", "namespace": ref.namespace, "pod": ref.name}
            server.scrape(page, target, stage.now)


def _needed(page: str) -> str:
    """Parsing pages whole would take most of the test's time."""
    return "".join(f"{line}\n" for line in page.splitlines() if line.startswith(READ))


@pytest.fixture
async def where(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Where]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        prometheus = await serve(stack, plant.prometheus.handle, ("127.0.0.1",))
        api = await serve(stack, plant.kubernetes, ("127.0.0.1",))
        yield Where(kubeconfig_for(tmp_path, api), prometheus_url=f"http://127.0.0.1:{prometheus}")


RATES = inputs.rates(price=0.3, currency="EUR", intensity="", zone="DE", pue="1.2")


@pytest.fixture
async def said(where: Where) -> Audit:
    told: list[str] = []
    found = await run_audit(where, RATES, window=Seconds(LENGTH), until=Instant(START + 60 + LENGTH), told=told.append)
    assert told
    return found


async def test_each_planted_waste_is_found_and_nobody_else_is_accused(said: Audit) -> None:
    holders = [(one.use.value, one.workload) for one in said.findings]
    assert {(use, f"{who.kind} {who.name.split('-')[0]}" if who else "") for use, who in holders} == WASTE


async def test_the_total_is_the_true_energy(said: Audit, plant: Plant) -> None:
    assert said.totals.observed.best.value == pytest.approx(sum(plant.true_joules.values()), rel=0.01)
    by_uuid: dict[str, float] = {}
    for line in said.lines:
        by_uuid[line.row.key.uuid] = by_uuid.get(line.row.key.uuid, 0) + line.energy.best.value
    assert by_uuid == pytest.approx(plant.true_joules, rel=0.01)


async def test_json_csv_and_screen_tell_the_same(said: Audit) -> None:
    told = plain.as_json(said)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    table = list(csv.DictReader(io.StringIO(plain.as_csv(said))))
    assert [row["uuid"] for row in table] == [line["uuid"] for line in told["gpus"]]
    console = Console(width=118, record=True, file=io.StringIO())
    screen.show(said, View(), console)
    text = console.export_text()
    assert all(len(line) <= 118 for line in text.splitlines())
    for finding in told["findings"]:
        assert finding["kind"] in text
    assert f"{told['totals']['watts']:,.0f}" in text


async def test_every_field_is_described_and_every_use_has_a_row(said: Audit) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "audit.md").read_text()

    def names(told: object) -> set[str]:
        if isinstance(told, list):
            return set().union(*(names(one) for one in told))
        if not isinstance(told, dict):
            return set()
        return set(told).union(*(names(one) for one in told.values()))

    fields = names(plain.as_json(said)) - {"schema", "money", *(use.value for use in Use)}
    assert {name for name in fields if name not in page} == set()
    assert all(f"| {use.value} |" in page for use in Use)


async def test_the_uses_of_the_totals_add_up(said: Audit) -> None:
    totals = plain.as_json(said)["totals"]
    assert sum(use["share"] for use in totals["uses"].values()) == pytest.approx(1)
    kwh = sum(use["per_day"]["energy_kwh"]["best"] for use in totals["uses"].values())
    assert kwh == pytest.approx(totals["per_day"]["energy_kwh"]["best"])


@pytest.mark.parametrize("sort", list(Sort))
async def test_the_screen_sorts_shortens_and_leaves_out(said: Audit, sort: Sort) -> None:
    console = Console(width=118, record=True, file=io.StringIO())
    screen.show(said, View(top=2, sort=sort, min_waste_kwh=2.0), console)
    text = console.export_text()
    assert "and 3 more: --top 0 shows all" in text
    assert "training" not in text


async def test_without_prometheus_the_cluster_is_watched(where: Where, plant: Plant) -> None:
    """The page stands still here, so that only the way to it is seen: no time passes between two equal counters."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    clock = iter(START + number for number in range(0, 900, 5))
    watching = Where(where.kubeconfig, way=Way.PROXY, watch=Seconds(60))
    found = await run_audit(watching, RATES, window=Seconds(60), pause=pause, clock=lambda: next(clock))
    assert pauses == [5] * 12
    assert len(found.lines) == len(plant.true_joules)
    assert "by way of the API server" in found.source


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--window", "yesterday"], "--window 'yesterday' cannot be read; write a window such as 1h, 24h or 7d"),
        (["--window", "1s"], "--window '1s' is out of range"),
        (["--watch", "0"], "--watch '0' is out of range"),
        (["--until", "noon"], "--until 'noon' is no time; write it as 2026-03-01T12:00 (UTC)"),
        (["--zone", "XX"], "--zone 'XX': the dataset has no zone XX"),
        (["--zone", "DE", "--intensity", "300"], "give --intensity or --zone, not both"),
        (["--intensity", "dirty"], "--intensity 'dirty' cannot be read"),
        (["--currency", "EUR"], "--currency says nothing without --price-per-kwh"),
        (["--pue", "0.5"], "--pue '0.5' is out of range"),
        (["--matcher", "west"], "--matcher 'west' has no name and value; write NAME=VALUE"),
        (["--matcher", "a-b=c", "--prometheus-url", "http://localhost:9"], "'a-b' is no label name"),
        (["--prometheus-url", "localhost"], "'localhost' is no address of Prometheus"),
        (["--kubeconfig", "/nowhere/kubeconfig"], "no cluster to ask"),
    ],
)
def test_what_cannot_be_used_says_what_to_write(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(app, ["audit", *arguments])
    assert result.exit_code == 2
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_cluster_that_does_not_answer_is_told_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", "--kubeconfig", str(kubeconfig_for(tmp_path, 9))])
    assert result.exit_code == 1
    assert "Kubernetes cannot be asked" in result.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"intensity": "300"}, (270, 300, 330)),
        ({"intensity": "300:380"}, (300, 340, 380)),
        ({"intensity": "0.34kg/kWh"}, (306, 340, 374)),
    ],
)
def test_an_intensity_has_bounds(given: dict[str, str], expected: tuple[float, float, float]) -> None:
    found = inputs.rates(**{"price": None, "currency": "", "intensity": "", "zone": "", "pue": "", **given}).intensity  # type: ignore[arg-type]
    assert found is not None
    assert (found.low.value, found.best.value, found.high.value) == pytest.approx(expected)
