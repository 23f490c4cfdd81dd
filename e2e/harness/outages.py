"""Faults of exporters and engines, each in a service of its own, lived through beside a healthy service."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import Scene, quick_template, service, steady
from e2e.harness.stack import Stack

JSON = dict[str, Any]

REPLICAS = 2
# About seven requests in flight, so that two replicas are needed while it lasts and none afterwards.
SCALING = {"minReplicas": 0, "maxReplicas": REPLICAS, "targetConcurrency": 4}
LOAD = steady(8)
HEALTHY = "healthy"
PATIENCE = 14


@dataclass(frozen=True, slots=True)
class Fault:
    """`family` and `mode` as the twin's control takes them; `words` are what MetricsFresh must say."""

    family: str
    mode: str
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.family}-{self.mode.replace('_', '-')}"

    def begin(self, scene: Scene, namespace: str) -> None:
        if self.family == "dcgm":
            scene.stack.faults({"dcgm": {"node": self.node(scene, namespace), "mode": self.mode}})
            return
        for name in pods_of(scene, namespace, self.name):
            scene.stack.faults({"vllm": {"pod": f"{namespace}/{name}", "mode": self.mode}})

    def look(self, scene: Scene, namespace: str) -> None:
        """A page freezes when it is first read; it shall show the load."""
        addresses = [f"{scene.address_of(self.node(scene, namespace))}:9400"]
        if self.family == "vllm":
            pods = scene.pods.all(namespace)
            addresses = [f"{pods[name]['status']['podIP']}:8000" for name in pods_of(scene, namespace, self.name)]
        for address in addresses:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
                page.read()

    def node(self, scene: Scene, namespace: str) -> str:
        spec = (scene.services.get(namespace, self.name) or {})["spec"]
        return str(spec["template"]["spec"]["nodeSelector"]["kubernetes.io/hostname"])


@dataclass(frozen=True, slots=True)
class Outage:
    """What was seen from the first fault to the rest of the healthy service."""

    scene: Scene
    namespace: str
    levels: dict[str, list[int]]
    conditions: dict[str, JSON]


def pods_of(scene: Scene, namespace: str, name: str) -> list[str]:
    return [pod for pod in scene.pods.all(namespace) if pod.startswith(f"{name}-")]


@contextmanager
def staged(cluster: Cluster, namespace: str, faults: Sequence[Fault], *, direct: bool, max_age: int) -> Iterator[Scene]:
    """A service for each fault, and a healthy one, on a node of its own each."""
    settings = {"cycle_interval": 1, "status_interval": 2, "estimation_window": 10}
    names = [HEALTHY, *(fault.name for fault in faults)]
    with (
        Stack(cluster, operator_settings=settings, direct_scrape=direct) as stack,
        Scene(stack, nodes=len(names), gpus=REPLICAS) as scene,
    ):
        # values are known to stand still after a whole estimation window
        patience: JSON = {
            "idle": {"after": f"{PATIENCE}s"},
            "scaling": {"upWindow": "2s", "downWindow": f"{PATIENCE}s"},
        }
        guards = {"dwell": "3s", "metricsMaxAge": f"{max_age}s", "maxStepPerMinute": "4x"}
        scene.namespace(namespace, guards=guards, **patience)
        scene.put(
            *(
                service(namespace, name, scaling=SCALING, template=quick_template(node=node))
                for name, node in zip(names, scene.nodes, strict=True)
            )
        )
        yield scene


def under_load(scene: Scene, namespace: str, names: Sequence[str]) -> None:
    for name in names:
        scene.stack.traffic(namespace, name, LOAD)
    for name in names:
        scene.until_running(namespace, name, REPLICAS)
        scene.until(lambda name=name: is_fresh(scene, namespace, name), f"fresh metrics of {name}")  # type: ignore[misc]


def is_fresh(scene: Scene, namespace: str, name: str) -> bool:
    return bool(scene.condition(namespace, name, "MetricsFresh").get("status") == "True")


def silence(scene: Scene, namespace: str, names: Sequence[str]) -> None:
    for name in names:
        scene.stack.traffic(namespace, name, None)


def lived_through(scene: Scene, namespace: str, faults: Sequence[Fault]) -> Outage:
    """All faults at once, each in a service of its own."""
    names = [HEALTHY, *(fault.name for fault in faults)]
    under_load(scene, namespace, names)
    began = time.time()
    try:
        for fault in faults:
            fault.begin(scene, namespace)
        for fault in faults:
            if fault.mode == "frozen":
                fault.look(scene, namespace)
        silence(scene, namespace, names)
        for fault in faults:
            told(scene, namespace, fault.name, fault.words)
        scene.until_running(namespace, HEALTHY, 0)
        return Outage(
            scene,
            namespace,
            {name: scene.replicas_over_time(namespace, name, since=began) for name in names},
            {name: scene.condition(namespace, name, "MetricsFresh") for name in names},
        )
    finally:
        scene.stack.faults(None)


def told(scene: Scene, namespace: str, name: str, words: Sequence[str]) -> None:
    def names_it() -> bool:
        found = scene.condition(namespace, name, "MetricsFresh")
        text = f"{found.get('reason')} {found.get('message')}"
        return found.get("status") == "False" and all(word in text for word in words)

    scene.until(names_it, f"MetricsFresh of {name} to be False and to say {words}")


def woken(scene: Scene, namespace: str, names: Sequence[str], word: str) -> None:
    for name in names:
        scene.cluster.kubectl("annotate", f"fis/{name}", f"fallow.dev/wake={word}", "--overwrite", "-n", namespace)
    for name in names:
        scene.until(lambda name=name: scene.ready(namespace, name) >= 1, f"{name} to wake")  # type: ignore[misc]


def cycles(scene: Scene) -> float:
    return scene.metric("fallow_cycles") or 0.0
