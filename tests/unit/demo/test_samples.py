"""The demo's manifests are valid, and what the demo says about them is what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.demo.grid import CLEAN, DIRTY, Grid
from e2e.demo.story import NAMESPACE, PROFILES, SAMPLES
from e2e.demo.summary import CHAT, DOCS, HOW_COMPARED, MAX_NUM_SEQS, OBJECTIVES
from fallow.adapters.carbon.file import FileCarbon
from fallow.api import mapping
from fallow.api.kinds import kind_named
from fallow.api.reading import energy_policy, grid_zone, inference_service
from fallow.domain.figures import Missing
from fallow.domain.units import GramsPerKWh, Instant
from fallow.domain.workloads import Service, ServiceKey


def objects() -> Iterator[dict[str, Any]]:
    files = [*sorted((SAMPLES / "demo").glob("*.yaml")), *(SAMPLES / name for name in PROFILES)]
    for file in files:
        yield from yaml.safe_load_all(file.read_text())


OURS = [thing for thing in objects() if thing["apiVersion"].startswith("fallow.dev/")]


def only(kind: str) -> dict[str, Any]:
    (found,) = [thing for thing in OURS if thing["kind"] == kind]
    return found


@pytest.fixture(params=[CHAT, DOCS], ids=str)
def service(request: pytest.FixtureRequest) -> Service:
    key: ServiceKey = request.param
    raw = next(thing for thing in OURS if thing["kind"] == "InferenceService" and thing["metadata"]["name"] == key.name)
    return mapping.service(inference_service(raw), {})


@pytest.mark.parametrize("thing", OURS, ids=lambda thing: f"{thing['kind']}-{thing['metadata']['name']}")
def test_every_object_of_the_demo_is_valid(thing: dict[str, Any]) -> None:
    kind_named(thing["kind"]).model.model_validate(thing)


def test_objectives_are_those_of_the_manifests(service: Service) -> None:
    assert service.key.namespace == NAMESPACE
    assert service.objectives.ttft_p95 == OBJECTIVES[service.key].ttft
    assert service.objectives.itl_p95 == OBJECTIVES[service.key].itl


def test_the_replayed_engines_run_as_many_sequences(service: Service) -> None:
    assert (service.reference.max_concurrency or 256) == MAX_NUM_SEQS[service.key]


def test_the_sizing_that_is_told_is_the_one_of_chat() -> None:
    raw = next(thing for thing in OURS if thing["metadata"]["name"] == CHAT.name)
    target = raw["spec"]["scaling"]["targetConcurrency"]
    assert f"its peak takes at {target} requests in flight each" in HOW_COMPARED


async def test_the_forecast_turns_dirty_and_clean_again_when_it_says(tmp_path: Path) -> None:
    source = mapping.zone(grid_zone(only("GridZone"))).source
    read, grid = FileCarbon(tmp_path), Grid(tmp_path / source.parameters["name"])
    for grams, before in ((DIRTY, CLEAN), (CLEAN, DIRTY)):
        turns = grid.forecast(grams)
        for at, there in ((turns - 1, before), (turns + 1, grams), (turns + 60, grams)):
            found = await read.intensity(Instant(at), source)
            assert not isinstance(found, Missing)
            assert found.grams.best == GramsPerKWh(there)


def test_a_clean_grid_is_below_the_tier_and_the_dirty_one_is_past_it() -> None:
    rules = mapping.policy(energy_policy(only("EnergyPolicy"))).precision
    assert rules is not None
    above = max(tier.above.value for tier in rules.tiers)
    assert above * (1 - rules.hysteresis) > CLEAN
    assert above < DIRTY
