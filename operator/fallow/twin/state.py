"""The truth of the simulation as JSON: what no exporter shows, for tests, the demo and its summary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.gateway import Gateway
from fallow.twin.gpu import GpuDevice, Place
from fallow.twin.simulated import Energy, PodAccount, SimulatedPod
from fallow.twin.world import World


def describe(world: World, *, ttft: float | None = None, itl: float | None = None) -> dict[str, Any]:
    """Energies are exact up to `now`. Objectives in seconds add each service's attainment."""
    gpus = [_gpu(gpu) for gpu in world.fleet.gpus()]
    pods = [_pod(pod, world.now) for pod in world.fleet.pods.values()]
    return {
        "simulated": True,
        "started": world.started,
        "now": world.now,
        "cluster": {
            "watts": world.fleet.watts(),
            "joules": sum(gpu["joules"] for gpu in gpus) + world.fleet.gone_joules,
            "gpus": len(gpus),
            "free_gpus": sum(1 for gpu in gpus if not gpu["holders"]),
        },
        "services": [_service(world, key, gateway, ttft, itl) for key, gateway in sorted(world.gateways.items())],
        "pods": pods,
        "gpus": gpus,
    }


def account(world: World) -> dict[str, Any]:
    """True joules up to `now`: of each pod that is or was, each GPU, each node with and without its GPUs.

    Pods of a divided GPU share what it draws without work: under MIG by slices, in turns alike. The rest is nobody's.
    """
    fleet = world.fleet
    present = [_account(pod.account(), present=True) for pod in fleet.pods.values()]
    gone = [_account(pod, present=False) for pod in fleet.gone]
    nodes = [
        {
            "node": name,
            "gpu_joules": sum(gpu.joules for gpu in fleet.gpus_of(name)),
            "host_joules": host.joules,
            "host_watts": host.watts,
        }
        for name, host in fleet.hosts.items()
    ]
    gpu_joules = sum(gpu.joules for gpu in fleet.gpus()) + fleet.gone_joules
    held = sum(energy.total for energy in fleet.retired.values()) + sum(pod.energy.total for pod in fleet.pods.values())
    return {
        "simulated": True,
        "started": world.started,
        "now": world.now,
        "cluster": {
            "gpu_joules": gpu_joules,
            "host_joules": sum(host.joules for host in fleet.hosts.values()) + fleet.gone_host_joules,
            "unheld_joules": gpu_joules - held,
        },
        "nodes": nodes,
        "gpus": [
            {"uuid": gpu.uuid, "node": gpu.node, "index": gpu.index, "joules": gpu.joules} for gpu in fleet.gpus()
        ],
        "pods": [*present, *gone],
    }


def _account(pod: PodAccount, *, present: bool) -> dict[str, Any]:
    return {
        "namespace": pod.ref.namespace,
        "pod": pod.ref.name,
        "uid": pod.uid,
        "node": pod.node,
        "service": None if pod.service is None else pod.service.name,
        "variant": pod.variant,
        "present": present,
        "joules": _energy(pod.energy),
        "served": asdict(pod.served),
    }


def _energy(energy: Energy) -> dict[str, float]:
    return {
        "total": energy.total,
        "pulling": energy.pulling,
        "loading": energy.loading,
        "idle": energy.idle,
        "active": energy.active,
    }


def _service(world: World, key: ServiceKey, gateway: Gateway, ttft: float | None, itl: float | None) -> dict[str, Any]:
    pods = [pod for pod in world.fleet.pods.values() if pod.facts.service == key]
    engines = [pod.engine for pod in pods if pod.engine is not None]
    return {
        "namespace": key.namespace,
        "service": key.name,
        "arrivals": len(gateway.arrivals),
        "done": gateway.done,
        "failed": gateway.failed,
        "waiting": gateway.waiting,
        "in_flight": sum(engine.in_flight for engine in engines),
        "replicas": len(pods),
        "serving": sum(1 for pod in pods if pod.serving),
        "watts": sum(pod.watts(world.now) for pod in pods),
        "joules": _energy(world.energy(key)),
        "prompt_tokens": gateway.prompt_tokens,
        "generated_tokens": gateway.generated_tokens,
        "ttft_p50": quantile(gateway.ttft, 0.5),
        "ttft_p95": quantile(gateway.ttft, 0.95),
        "itl_p95": quantile([value for value in gateway.itl if value >= 0], 0.95),
        "attainment": gateway.attainment(ttft=ttft, itl=itl),
    }


def _pod(pod: SimulatedPod, now: float) -> dict[str, Any]:
    facts, engine = pod.facts, pod.engine
    described: dict[str, Any] = {
        "namespace": facts.ref.namespace,
        "pod": facts.ref.name,
        "uid": facts.uid,
        "node": facts.node,
        "address": facts.address,
        "service": None if facts.service is None else str(facts.service),
        "variant": facts.variant,
        "state": facts.phase.value,
        "watts": pod.watts(now),
        "joules": _energy(pod.energy),
        "gpus": [gpu.uuid for gpu in pod.gpus],
        "fault": pod.fault or None,
    }
    if engine is not None:
        described |= {
            "precision": engine.law.precision.value,
            "law": engine.law.source.value,
            "sleep": engine.state.value,
            "running": engine.running,
            "waiting": engine.waiting,
            "kv_usage": engine.kv_usage,
            "prompt_tokens": engine.counters.prompt_tokens,
            "generated_tokens": engine.counters.generated_tokens,
        }
    return described


def _gpu(gpu: GpuDevice) -> dict[str, Any]:
    return {
        "uuid": gpu.uuid,
        "node": gpu.node,
        "index": gpu.index,
        "model": gpu.spec.model_name,
        "watts": gpu.sample.watts,
        "joules": gpu.joules,
        "counter_joules": gpu.counter_joules,
        "sampled_counter_joules": gpu.sample.counter_joules,
        "sampled_at": gpu.sample.at,
        "holder": None if gpu.holder is None else str(gpu.holder),
        "holders": [str(holder) for holder in gpu.holders],
        "places": [_place(place) for place in gpu.places] if len(gpu.places) > 1 or gpu.mig else [],
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "resource": place.resource,
        "number": place.number,
        "profile": None if place.profile is None else place.profile.name,
        "holder": None if place.holder is None else str(place.holder),
        "busy": place.sample.busy_share,
    }


def quantile(values: object, share: float) -> float | None:
    """None without values."""
    seen = np.asarray(values, dtype=np.float64)
    return float(np.quantile(seen, share)) if seen.size else None
