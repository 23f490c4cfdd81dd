"""`python -m e2e.harness exec -- python -m bench.reaction`: how soon a live operator asks for replicas.

Loads that grow tenfold within a second, and requests at the door of resting services, at any moment of the operator's
cycle; all its intervals are the defaults. The API server, the operator and Prometheus are real, the GPUs simulated.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from e2e.harness.cluster import Cluster
from e2e.harness.scenes import Scene, service, steady
from e2e.harness.stack import GATEWAY_PORT, Stack

NAMESPACE = "reaction"
CYCLE = 15.0
LOW, HIGH = steady(3), steady(30)
GROWS = {"minReplicas": 1, "maxReplicas": 3, "targetConcurrency": 8}
# Seconds: for a load to be met, and for a service to be small or at rest again.
MET, BACK = 120.0, 300.0
POLL = 0.02


def sleeps(name: str) -> dict[str, object]:
    selector = {"namespace": NAMESPACE, "service": name}
    return {"minReplicas": 0, "maxReplicas": 1, "wake": {"metric": "gateway_requests_waiting", "selector": selector}}


def steps(scene: Scene, name: str, count: int) -> list[float]:
    """Seconds from each step in the load until more replicas are asked for."""
    took = []
    for number in range(count):
        scene.stack.traffic(NAMESPACE, name, LOW)
        scene.until_running(NAMESPACE, name, 1, BACK)
        pause(number, name)
        began = time.monotonic()
        scene.stack.traffic(NAMESPACE, name, HIGH)
        took.append(since(began, lambda: scene.replicas(NAMESPACE, name) > 1))
    return took


def wakes(scene: Scene, name: str, count: int) -> list[float]:
    """Seconds from each first request until a replica is asked for."""
    took = []
    for number in range(count):
        scene.until(lambda: scene.replicas(NAMESPACE, name) == 0, f"{name} to rest", BACK)
        pause(number, name)
        asked = threading.Thread(target=lambda: scene.stack.complete(NAMESPACE, name, "Is anybody there?"))
        began = time.monotonic()
        asked.start()
        took.append(since(began, lambda: scene.replicas(NAMESPACE, name) == 1))
        asked.join(MET)
    return took


def pause(number: int, name: str) -> None:
    """So that steps come at any moment of a cycle."""
    time.sleep(random.Random(f"{name} {number}").uniform(2.0, 2.0 + CYCLE))


def since(began: float, seen: Callable[[], bool]) -> float:
    while not seen():
        if time.monotonic() - began > MET:
            return MET
        time.sleep(POLL)
    return time.monotonic() - began


def row(what: str, took: Sequence[float]) -> str:
    middle, late = np.percentile(took, (50, 95))
    return f"| {what} | {len(took)} | {middle:.1f} | {late:.1f} | {max(took):.1f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.reaction", description=__doc__)
    parser.add_argument("--services", type=int, default=5, help="of each sort, side by side")
    parser.add_argument("--rounds", type=int, default=10, help="steps of each service")
    asked = parser.parse_args(arguments)
    growing = [f"growing-{number}" for number in range(asked.services)]
    sleeping = [f"sleeping-{number}" for number in range(asked.services)]
    settings = {"gateways": [f"http://127.0.0.1:{GATEWAY_PORT}/metrics"]}
    with (
        Cluster(scrape_seconds=1.0) as cluster,
        Stack(cluster, operator_settings=settings) as stack,
        Scene(stack, nodes=(3 * asked.services + asked.services) // 8 + 1) as scene,
    ):
        guards = {"dwell": "3s", "metricsMaxAge": "60s", "maxStepPerMinute": "4x"}
        scene.namespace(NAMESPACE, guards=guards)
        scene.put(
            *(service(NAMESPACE, name, scaling=GROWS) for name in growing),
            *(service(NAMESPACE, name, scaling=sleeps(name)) for name in sleeping),
        )
        with ThreadPoolExecutor(2 * asked.services) as pool:
            grown = [pool.submit(steps, scene, name, asked.rounds) for name in growing]
            woken = [pool.submit(wakes, scene, name, asked.rounds) for name in sleeping]
            took = [[seconds for one in each for seconds in one.result()] for each in (grown, woken)]
    print("| seconds until replicas are asked for | times | median | p95 | most |")
    print("|---|---|---|---|---|")
    print(row("a load ten times as large", took[0]))
    print(row("a request at the door of a resting service", took[1]))


if __name__ == "__main__":
    main()
