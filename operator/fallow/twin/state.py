"""The truth of the simulation as JSON: what no exporter shows, for tests, the demo and its summary."""

from __future__ import annotations

from typing import Any

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.fleet import Energy, SimulatedPod
from fallow.twin.gateway import Gateway
from fallow.twin.gpu import GpuDevice
from fallow.twin.world import World


def describe(world: World, *, ttft: float | None = None, itl: float | None = None) -> dict[str, Any]:
    """Energies are exact up to `now`. Objectives in seconds add each service's attainment."""
    gpus = [_gpu(gpu) for gpu in world.fleet.gpus()]
    pods = [_pod(pod) for pod in world.fleet.pods.values()]
    return {
        "simulated": True,
        "started": world.started,
        "now": world.now,
        "cluster": {
            "watts": world.fleet.watts(),
            "joules": sum(gpu["joules"] for gpu in gpus) + world.fleet.gone_joules,
            "gpus": len(gpus),
            "free_gpus": sum(1 for gpu in gpus if gpu["holder"] is None),
        },
        "services": [_service(world, key, gateway, ttft, itl) for key, gateway in sorted(world.gateways.items())],
        "pods": pods,
        "gpus": gpus,
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
        "watts": sum(pod.watts() for pod in pods),
        "joules": _energy(world.energy(key)),
        "prompt_tokens": gateway.prompt_tokens,
        "generated_tokens": gateway.generated_tokens,
        "ttft_p50": quantile(gateway.ttft, 0.5),
        "ttft_p95": quantile(gateway.ttft, 0.95),
        "itl_p95": quantile([value for value in gateway.itl if value >= 0], 0.95),
        "attainment": gateway.attainment(ttft=ttft, itl=itl),
    }


def _pod(pod: SimulatedPod) -> dict[str, Any]:
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
        "watts": pod.watts(),
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
    }


def quantile(values: object, share: float) -> float | None:
    """None without values."""
    seen = np.asarray(values, dtype=np.float64)
    return float(np.quantile(seen, share)) if seen.size else None
