"""From a scenario to what is run: declared objects, a fleet, a demand and a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import ceil, inf
from pathlib import Path
from typing import Any

import yaml

from fallow.api import mapping, reading
from fallow.api.durations import seconds
from fallow.app.simulation.faults import faults_of
from fallow.app.simulation.grid import series_of, simulated, zones_of
from fallow.app.simulation.priors import profile_of
from fallow.app.simulation.scenario import Nodes, Scenario, ScenarioError, Starting
from fallow.app.simulation.traffic import Past, demand_of, replayed
from fallow.domain.policies import Policy
from fallow.domain.profiles import Profile
from fallow.domain.units import Instant
from fallow.domain.workloads import Service, ServiceKey, Variant
from fallow.domain.zones import Zone
from fallow.planner.capacity import profile_for
from fallow.twin.calibration.asking import Described, Unusable, Work, query_of
from fallow.twin.calibration.hardware import GpuType, UnknownGpu, gpu_named
from fallow.twin.calibration.models import UnknownModel
from fallow.twin.calibration.predict import DoesNotFit, Query
from fallow.twin.calibration.store import shipped
from fallow.twin.calibration.tasks import WEIGHT_BYTES
from fallow.twin.physics.parts import NAMED_BY, profiles_of
from fallow.twin.physics.parts import Profile as Instance
from fallow.twin.simulation.demand import Demand
from fallow.twin.simulation.grid import GridSeries
from fallow.twin.simulation.ports import Declared
from fallow.twin.simulation.predicting import bare_watts, predicted_table
from fallow.twin.simulation.setup import (
    HIGHEST_CLOCK,
    NodeKind,
    PowerOff,
    ServiceSetup,
    Setup,
    Sleep,
    Start,
    VariantSetup,
)
from fallow.twin.simulation.sizing import Survey, carried, reference_table, survey
from fallow.twin.simulation.table import EngineTable

# GPUs of nodes that do not say how many they have
GPUS_A_NODE = 8
# B/s at which weights are read: assumed, of a local disk; and what starting vLLM takes besides (docs/methodology.md)
READ_RATE, ENGINE_SECONDS = 2e9, 25.0


@dataclass(frozen=True, slots=True)
class Assembled:
    """All that a run needs; `services` and `setup` are in the order of the demand."""

    setup: Setup
    demand: Demand
    seen: Survey
    grid: Mapping[str, GridSeries]
    declared: Declared
    began: Instant


def assembled(scenario: Scenario, folder: Path, past: Past | None = None) -> Assembled:
    """With `past` it is replayed instead of `traffic`. Raises ScenarioError, which says what to write instead."""
    objects = _objects(scenario, folder)
    if past is not None:
        demand: Demand = replayed(past, objects.services.values(), seed=scenario.seed)
    elif scenario.traffic:
        demand = demand_of(scenario, folder)
    else:
        raise ScenarioError("traffic: is empty; say what arrives, or replay the past with --from-prometheus")
    services = [_declared_as(objects.services, key) for key in demand.services]
    if scenario.sleep is not None and not any(service.engine.sleep_mode for service in services):
        raise ScenarioError("sleep: no service with traffic has an engine that can: write spec.engine.sleepMode: true")
    kinds = tuple(_kind(nodes) for nodes in scenario.nodes)
    seen = survey(demand)
    tables = {
        (service.key, variant.name, kind.product): _table(service, variant, kind, partial(seen.as_asked, index))
        for index, service in enumerate(services)
        for variant in service.variants
        for kind in kinds
        if not variant.products or kind.product in variant.products
    }
    setup = Setup(
        nodes=kinds,
        services=tuple(_service(one, tables, kinds, scenario) for one in services),
        power_off=None
        if scenario.power_off is None
        else PowerOff(float(seconds(scenario.power_off.after)), float(seconds(scenario.power_off.boot))),
        faults=faults_of(scenario, demand.services),
        spreads=scenario.scheduler == "Spread",
    )
    setup = _begun(setup, seen, demand)
    profiles = list(objects.profiles)
    for service in services:
        for variant in service.variants:
            for kind in kinds:
                table = tables.get((service.key, variant.name, kind.product))
                if table is not None and profile_for(variant, profiles, kind.product) is None:
                    profiles.append(profile_of(variant, kind.product, table[0]))
    zones = zones_of(objects.zones, kinds)
    return Assembled(
        setup=setup,
        demand=demand,
        seen=seen,
        grid={zone.name: series_of(zone, scenario.grid.get(zone.name), folder) for zone in zones},
        declared=Declared(
            services,
            objects.policies,
            [simulated(zone) for zone in zones],
            profiles,
        ),
        began=Instant(datetime.fromisoformat(scenario.began).timestamp()),
    )


@dataclass(slots=True)
class _Objects:
    services: dict[ServiceKey, Service]
    policies: list[Policy]
    zones: list[Zone]
    profiles: list[Profile]


def _objects(scenario: Scenario, folder: Path) -> _Objects:
    found = _Objects({}, [], [], [])
    for name in scenario.manifests:
        path = folder / name
        try:
            documents = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
        except OSError as error:
            raise ScenarioError(f"manifests: {path} cannot be read ({error.strerror})") from error
        except yaml.YAMLError as error:
            raise ScenarioError(f"manifests: {path} is not YAML ({error})") from error
        for raw in documents:
            _take(found, raw, path)
    if not found.services:
        raise ScenarioError("manifests: none of them holds an InferenceService")
    return found


def _take(found: _Objects, raw: Mapping[str, Any], path: Path) -> None:
    raw = {**raw, "metadata": {"namespace": "default", **raw.get("metadata", {})}}
    try:
        match raw.get("kind"):
            case "InferenceService":
                labels = {"kubernetes.io/metadata.name": raw["metadata"]["namespace"], "fallow.dev/enforce": "true"}
                service = mapping.service(reading.inference_service(raw), labels)
                found.services[service.key] = service
            case "EnergyPolicy":
                raw["metadata"].pop("namespace")
                found.policies.append(mapping.policy(reading.energy_policy(raw)))
            case "GridZone":
                raw["metadata"].pop("namespace")
                found.zones.append(mapping.zone(reading.grid_zone(raw)))
            case "ModelProfile":
                raw["metadata"].pop("namespace")
                found.profiles.append(mapping.profile(reading.model_profile(raw)))
            case other:
                raise ScenarioError(f"manifests: {path} holds a {other}; only Fallow's kinds are simulated")
    except reading.InvalidObject as error:
        raise ScenarioError(f"manifests: {path}: {error}") from error


def _declared_as(services: Mapping[ServiceKey, Service], key: ServiceKey) -> Service:
    if key not in services:
        known = ", ".join(str(one) for one in services)
        raise ScenarioError(f"traffic.{key}: no manifest declares this InferenceService; declared are {known}")
    return services[key]


def _kind(nodes: Nodes) -> NodeKind:
    gpu, part = _divided(nodes.product)
    zone = nodes.zone or "home"
    if part is None:
        # one pod's limit or clock would be that of all who share the GPU: nobody sets any
        alone = nodes.copies == 1
        return NodeKind(
            nodes.product,
            f"NVIDIA {gpu.name}",
            bare_watts(gpu),
            (nodes.gpus or GPUS_A_NODE) * nodes.copies,
            nodes.count,
            zone,
            design=gpu.design if alone else None,
            clock=HIGHEST_CLOCK if alone else None,
            copies=nodes.copies,
        )
    each = part.most_on(gpu.memory)
    offered = nodes.gpus or GPUS_A_NODE * each
    if offered % each:
        less, more = offered - offered % each, offered - offered % each + each
        boards = f"{less} for {less // each} GPUs or {more} for {more // each}" if less else f"{more} for one GPU"
        raise ScenarioError(
            f"nodes.gpus: {offered} instances of {part.name} do not divide whole GPUs, which have {each} each: write"
            f" {boards}"
        )
    # power limits and clocks are of boards: nobody sets those of an instance
    return NodeKind(
        nodes.product,
        f"NVIDIA {gpu.name} MIG {part.name}",
        bare_watts(gpu, part),
        offered,
        nodes.count,
        zone,
        slices=part.slices,
        on_board=each,
    )


def _divided(product: str) -> tuple[GpuType, Instance | None]:
    """The GPU that a product names, and the instances of it."""
    board, _, name = product.partition("-MIG-")
    # as GPU feature discovery names GPUs of which copies are handed out
    plain = board.removeprefix("NVIDIA-").removesuffix("-SHARED")
    try:
        gpu = gpu_named(plain.replace("-", " "))
    except UnknownGpu:
        try:
            gpu = gpu_named(plain.split("-")[0])
        except UnknownGpu as error:
            raise ScenarioError(f"nodes.product: {error}") from error
    if not name:
        return gpu, None
    known = profiles_of(gpu.name)
    if not known:
        raise ScenarioError(
            f"nodes.product: {product}: MIG divides no {gpu.name} here: write {board}, or instances of one of"
            f" {', '.join(NAMED_BY)}"
        )
    if name not in known:
        raise ScenarioError(
            f"nodes.product: {gpu.name} has no MIG profile {name}: write {board}-MIG- and one of {', '.join(known)}"
        )
    return gpu, known[name]


def _table(
    service: Service, variant: Variant, kind: NodeKind, as_asked: Callable[[Query], Query]
) -> tuple[EngineTable, Query]:
    """With the lengths of the service's own requests; the query is of the model's usual ones, and tells its start."""
    name, (gpu, part) = variant.model or service.model, _divided(kind.product)
    if part is not None and variant.gpus > 1:
        raise ScenarioError(
            f"{service.key}, variant {variant.name}: a replica uses one MIG instance, not {variant.gpus}: write"
            " gpus.count: 1 with a larger profile, or whole GPUs in gpus.products"
        )
    if kind.in_turns and variant.gpus > 1:
        raise ScenarioError(
            f"{service.key}, variant {variant.name}: a replica uses one copy of a GPU in turns, not {variant.gpus}:"
            " write gpus.count: 1, or name products of nodes without copies in gpus.products"
        )
    try:
        query = query_of(
            Described(name=name), Work(gpu=gpu.name, gpus=variant.gpus, precision=variant.precision), shipped()
        )
    except (UnknownModel, Unusable) as error:
        raise ScenarioError(f"{service.key}, variant {variant.name}: {error}") from error
    try:
        table = predicted_table(as_asked(query), slots=variant.max_concurrency or 256, part=part)
    except DoesNotFit as error:
        raise ScenarioError(f"{service.key}, variant {variant.name}: {error}") from error
    return table, query


def _service(
    service: Service,
    tables: Mapping[tuple[ServiceKey, str, str], tuple[EngineTable, Query]],
    kinds: Sequence[NodeKind],
    scenario: Scenario,
) -> ServiceSetup:
    variants = []
    for variant in service.variants:
        own = {
            kind.product: tables[service.key, variant.name, kind.product]
            for kind in kinds
            if (service.key, variant.name, kind.product) in tables and kind.gpus >= variant.gpus
        }
        if not own:
            wanted = ", ".join(variant.products)
            raise ScenarioError(
                f"{service.key}, variant {variant.name}: no nodes have {variant.gpus} GPUs of {wanted}; add some"
            )
        query = next(iter(own.values()))[1]
        variants.append(
            VariantSetup(
                variant.name,
                variant.gpus,
                {product: table for product, (table, _) in own.items()},
                _start(scenario.start, query),
            )
        )
    objectives, sleep = service.objectives, scenario.sleep
    return ServiceSetup(
        key=service.key,
        variants=tuple(variants),
        ttft=float(objectives.ttft_p95 or inf),
        itl=float(objectives.itl_p95 or inf),
        minimum=service.scaling.min_replicas,
        maximum=service.scaling.max_replicas,
        start_replicas=max(service.scaling.min_replicas, 1),
        grace=float(service.engine.termination_grace),
        sleep=None
        if sleep is None or not service.engine.sleep_mode
        else Sleep(float(seconds(sleep.after)), sleep.level),
    )


def _start(declared: Starting, query: Query) -> Start:
    weights = query.model.parameters * WEIGHT_BYTES[query.precision]
    load = ENGINE_SECONDS + weights / READ_RATE if declared.load is None else float(seconds(declared.load))
    return Start(float(seconds(declared.pull)), load, float(seconds(declared.compile_)), declared.sigma)


def _begun(setup: Setup, seen: Survey, demand: Demand) -> Setup:
    """As many replicas as the first minutes need, so that no controller begins in a hole."""
    services = []
    for index, one in enumerate(setup.services):
        of = carried(
            reference_table(setup, one),
            float(seen.prompt[index] * (1.0 - demand.spread.cached[index])),
            float(seen.output[index]),
            one.itl,
        )
        needed = ceil(float(seen.start[index]) / of.rate / 0.8)
        services.append(replace(one, start_replicas=max(one.minimum, min(needed, one.maximum))))
    return replace(setup, services=tuple(services))
