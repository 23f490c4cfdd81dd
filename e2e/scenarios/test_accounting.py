"""The books against the meters: killed three times under load, Fallow has booked every joule once, and every token.

At both ends the exporters are frozen, so that both sides look at the very same counter values. Between two of them the
booked differences telescope: what may differ is the rounding of sums in floating point, far below the meters' own
resolution of 1 mJ per GPU.
"""

from __future__ import annotations

import random
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.harness.cluster import Cluster
from e2e.harness.errors import CommandError, HarnessError
from e2e.harness.scenes import LENGTHS, PRODUCT, Scene, quick_template, service, steady
from e2e.harness.stack import OPERATOR_NAMESPACE, Stack

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]

SEED = 20_260_101
STORED_EVERY = 5
KILLS = 3
NAMESPACE = "books"
GPUS = 12
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
RESOLUTION = 1e-3
# Pods are dated in whole seconds, meters are read every second, and a GPU draws up to 700 W meanwhile.
PER_HANDOVER = 3 * 700.0


@dataclass(slots=True)
class Totals:
    """Every counter of the operator as last seen, with each fall of one, whatever process showed it."""

    scene: Scene
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)
    fallen: dict[tuple[str, ...], float] = field(default_factory=dict)
    whole: list[float] = field(default_factory=list)
    looks: int = 0

    def look(self) -> None:
        try:
            families = self.scene.stack.operator_metrics()
        except (OSError, HarnessError):
            return  # it is down, or on its way up
        self.looks += 1
        for family in families.values():
            if family.type != "counter" or family.name in OF_THE_PROCESS:
                continue
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                if sample.value < self.seen.get(key, 0.0):
                    self.fallen[sample.name, *sorted(sample.labels.values())] = self.seen[key] - sample.value
                self.seen[key] = sample.value
        self.whole.append(self.sum("fallow_gpu_energy_joules_total", bound="best"))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def looked() -> bool:
            self.look()
            return condition()

        self.scene.until(looked, what)

    def sum(self, name: str, **labels: str) -> float:
        wanted = labels.items()
        return sum(value for (known, own), value in self.seen.items() if known == name and wanted <= dict(own).items())


# These count what one process did.
OF_THE_PROCESS = {"fallow_cycles", "fallow_decisions", "fallow_workload_writes"}


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the run left behind: counters at both ends, the totals, and the twin's own account.

    `levels`: replicas of "steady" while it had its load; a window after that one may go.
    """

    scene: Scene
    totals: Totals
    before: dict[str, float]
    after: dict[str, float]
    truth: dict[str, JSON]
    levels: list[int]


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": 2, "ledger_interval": STORED_EVERY}
    with Stack(cluster, operator_settings=settings) as stack, Scene(stack, nodes=3, gpus=GPUS // 3) as scene:
        stack.stop_operator()
        cluster.kubectl("delete", "configmap", "fallow-ledger", "-n", OPERATOR_NAMESPACE, "--ignore-not-found")
        yield scene


@pytest.fixture(scope="module")
def booked(scene: Scene) -> Ledger:
    """Three kills at random moments while pods come and go, and a SIGTERM."""
    stack, totals, chance = scene.stack, Totals(scene), random.Random(SEED)
    before = frozen(scene)
    scene.until(lambda: seen_by_prometheus(scene) == before, "Prometheus to have read every GPU")
    stack.start_operator()
    totals.until(lambda: totals.looks > 0 and bool(totals.seen), "the first cycle")
    stack.faults(None)
    scene.namespace(NAMESPACE)
    scene.put(
        service(NAMESPACE, "steady", scaling={"minReplicas": 1, "maxReplicas": 2, "targetConcurrency": 4}),
        service(NAMESPACE, "wave", scaling={"minReplicas": 1, "maxReplicas": 3}, replicas=1),
    )
    stack.traffic(NAMESPACE, "steady", steady(8))
    stack.traffic(NAMESPACE, "wave", {"rate": {"constant": 4}, "cv": 2.0, **LENGTHS})
    totals.until(lambda: scene.ready(NAMESPACE, "steady") == 2, "the load to be served")
    for number in range(KILLS):
        more = 3 if number % 2 == 0 else 0
        scene.scale(NAMESPACE, "wave", more)
        stack.faults({"dcgm": {"node": scene.nodes[number], "mode": "no_pod_labels"}})
        # pods come while Fallow is down; one that ended then would take along what it served since the last look
        totals.until(lambda more=more: moved(scene, more), "the wave to move")  # type: ignore[misc]
        foreign(scene, number)
        passed = chance.uniform(0.5, 4.0)
        pause(totals, passed)
        stack.kill_operator()
        if number:
            scene.cluster.kubectl("delete", "pod", f"foreign-{number - 1}", "-n", NAMESPACE, "--wait=false")
        stack.faults(None)
        pause(totals, chance.uniform(0.5, 3.0))
        stack.start_operator()
        done = totals.looks
        totals.until(lambda done=done: totals.looks > done and is_going(scene), "cycles after the restart")  # type: ignore[misc]
    stack.stop_operator()
    pause(totals, 1.0)
    stack.start_operator()
    done = totals.looks
    totals.until(lambda: totals.looks > done and is_going(scene), "cycles after the last restart")
    levels = scene.replicas_over_time(NAMESPACE, "steady")
    for name in ("steady", "wave"):
        stack.traffic(NAMESPACE, name, None)
    totals.until(
        lambda: not any(one["in_flight"] + one["waiting"] for one in truths(scene).values()), "the last answer"
    )
    after = frozen(scene)
    totals.until(lambda: seen_by_prometheus(scene) == after, "Prometheus to have read the last values")
    # a cycle takes a second, and what is told is what is stored
    goal = cycles(scene) + STORED_EVERY + 3
    totals.until(lambda: cycles(scene) >= goal, "the last values to be stored")
    return Ledger(scene, totals, before, after, truths(scene), levels)


def pause(totals: Totals, seconds: float) -> None:
    """Lets a random time pass: the moment of a kill is not to be any moment that somebody chose."""
    waited: list[int] = []

    def over() -> bool:
        waited.append(1)
        return len(waited) * 0.2 >= seconds

    totals.until(over, "time to pass")


def moved(scene: Scene, replicas: int) -> bool:
    left = any(name.startswith("wave-") for name in scene.pods.all(NAMESPACE))
    return scene.replicas(NAMESPACE, "wave") == replicas and (replicas > 0 or not left)


def is_going(scene: Scene) -> bool:
    return cycles(scene) >= 2


def cycles(scene: Scene) -> float:
    return scene.metric("fallow_cycles") or 0.0


def truths(scene: Scene) -> dict[str, JSON]:
    return {one["service"]: one for one in scene.stack.twin_state()["services"] if one["namespace"] == NAMESPACE}


def frozen(scene: Scene) -> dict[str, float]:
    """Freezes every exporter and gives the joules of its counters by GPU."""
    scene.stack.faults({"dcgm": {"node": "*", "mode": "frozen"}})
    found: dict[str, float] = {}
    for node in scene.nodes:
        with urllib.request.urlopen(f"http://{scene.address_of(node)}:9400/metrics", timeout=10) as page:
            for family in text_string_to_metric_families(page.read().decode()):
                found |= {s.labels["UUID"]: s.value / 1e3 for s in family.samples if s.name.startswith(ENERGY)}
    assert len(found) == GPUS
    return found


def seen_by_prometheus(scene: Scene) -> dict[str, float]:
    found = scene.ask_prometheus(f'{ENERGY}{{node=~"{"|".join(scene.nodes)}"}}')
    return {series["metric"]["UUID"]: float(series["value"][1]) / 1e3 for series in found}


def foreign(scene: Scene, number: int) -> None:
    """A pod that is nobody's business and holds a GPU."""
    container = {"name": "training", "image": "training", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    annotations = {**quick_template()["metadata"]["annotations"], "twin.fallow.dev/watts": "300"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"foreign-{number}", "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"containers": [container], "nodeSelector": {"nvidia.com/gpu.product": PRODUCT}},
    }
    try:
        scene.put(pod)
    except CommandError as error:
        raise HarnessError(f"foreign-{number} was not made: {error}") from error


def test_the_lines_add_up_to_the_meters(booked: Ledger) -> None:
    metered = sum(booked.after[uuid] - joules for uuid, joules in booked.before.items())
    lines = {kind: booked.totals.sum("fallow_gpu_energy_joules_total", line=kind, bound="best") for kind in LINES}
    print(f"metered {metered:.3f} J, booked less metered {sum(lines.values()) - metered:.9f} J, by line {lines}")
    assert abs(sum(lines.values()) - metered) < GPUS * RESOLUTION
    assert all(value > 0 for value in lines.values())


LINES = ("service", "foreign", "unallocated", "unattributed")


@pytest.mark.parametrize("name", ["steady", "wave"])
def test_tokens_and_requests_are_the_engines_own(booked: Ledger, name: str) -> None:
    truth, totals = booked.truth[name], booked.totals
    of_it = {"namespace": NAMESPACE, "service": name}
    assert truth["failed"] == 0
    assert totals.sum("fallow_requests_total", **of_it) == truth["done"]
    for kind in ("prompt", "generated"):
        assert totals.sum("fallow_tokens_total", kind=kind, **of_it) == truth[f"{kind}_tokens"]


def test_the_status_tells_the_same_totals(booked: Ledger) -> None:
    scene, truth = booked.scene, booked.truth["steady"]

    def total() -> JSON:
        found: JSON = scene.status(NAMESPACE, "steady")["footprint"]["total"]
        return found

    scene.until(lambda: total()["requests"] == truth["done"], "the last requests in the status")
    assert total()["tokens"] == {"prompt": truth["prompt_tokens"], "generated": truth["generated_tokens"]}
    shown = total()["energyWh"]["best"] * 3600
    booked_joules = booked.totals.sum(
        "fallow_gpu_energy_joules_total", bound="best", namespace=NAMESPACE, service="steady"
    )
    assert shown == pytest.approx(booked_joules, rel=1e-2)


def test_energy_is_on_the_line_of_the_service_that_used_it(booked: Ledger) -> None:
    """Only handovers are uncertain, and what was hidden behind missing labels."""
    hidden = booked.totals.sum("fallow_gpu_energy_joules_total", line="unattributed", bound="best")
    pods = {change.key for change in booked.scene.pods.changes(NAMESPACE)}
    for name, truth in booked.truth.items():
        mine = booked.totals.sum("fallow_gpu_energy_joules_total", bound="best", namespace=NAMESPACE, service=name)
        print(f"{name}: booked {mine:.0f} J, used {truth['joules']['total']:.0f} J")
        handovers = 2 * sum(1 for _, pod in pods if pod.startswith(f"{name}-"))
        assert abs(mine - truth["joules"]["total"]) <= handovers * PER_HANDOVER + hidden


def test_no_total_ever_fell(booked: Ledger) -> None:
    """What changed hands while Fallow was down is divided by estimate, but nothing is shown before it is stored."""
    totals = booked.totals
    print(f"{totals.looks} looks, fallen: {totals.fallen}")
    assert totals.looks > 10 * KILLS
    assert all(later >= earlier - RESOLUTION for earlier, later in pairwise(totals.whole))
    assert {key: fall for key, fall in totals.fallen.items() if fall > RESOLUTION} == {}


def test_no_restart_took_a_replica_away(booked: Ledger) -> None:
    assert booked.levels == sorted(booked.levels)
    assert booked.levels[-1] == 2
