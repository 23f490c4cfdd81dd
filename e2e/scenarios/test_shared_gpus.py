"""GPUs in parts and hosts with meters: each line has its truth within its bounds; all lines are the meters' joules.

MIG instances, time-slicing, exporters that name nobody, RAPL and Kepler, a zone for each node. An auditor adds up with
kubectl and jq what docs/how-to/add-up.md says, word by word.

The exporters are silent where the books begin and frozen where they end, so that both sides have the same counters.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.locations import REPOSITORY
from e2e.harness.nodes import Shape, annotated, in_instances, in_turns
from e2e.harness.prometheus import DCGM_PORT, KEPLER_PORT, RAPL_PORT
from e2e.harness.scenes import API, PRODUCT, Scene, planted, quick_template, service, steady, variant
from e2e.harness.stack import OPERATOR_NAMESPACE, Stack

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]

SECONDS = 40
STORED_EVERY = 5
NAMESPACE = "parts"
INSTANCES = {"3g.40gb": 2, "2g.20gb": 2, "1g.10gb": 2}
# by zone, each of one node: its GPUs, and what is special about it
NODES: Mapping[str, tuple[int, tuple[Shape, ...]]] = {
    "whole": (4, (annotated(host_meter="rapl"),)),
    "instances": (2, (in_instances(INSTANCES), annotated(host_meter="kepler"))),
    "turns": (2, (in_turns(3), annotated(host_meter="rapl", agent="true"))),
    "unnamed": (2, (annotated(host_meter="both", kubernetes="false"),)),
    "contested": (2, (annotated(host_meter="none", kubernetes="false"),)),
}
GPUS = sum(gpus for gpus, _ in NODES.values())
METERED = ("whole", "instances", "turns", "unnamed")
# by namespace, each of one pod: where it is, what it does, and what it asks for
FOREIGN = {
    "whole-poller": ("whole", "spin", "gpu"),
    "mig-vllm": ("instances", "half-filled", "mig-3g.40gb"),
    "mig-training": ("instances", "training", "mig-2g.20gb"),
    "mig-poller": ("instances", "spin", "mig-2g.20gb"),
    "mig-notebook": ("instances", "notebook", "mig-1g.10gb"),
    "turn-vllm": ("turns", "half-filled", "gpu"),
    "turn-training": ("turns", "training", "gpu"),
    "turn-notebook": ("turns", "notebook", "gpu"),
    "lone-training": ("unnamed", "training", "gpu"),
    "one-training": ("contested", "training", "gpu"),
    "two-notebook": ("contested", "notebook", "gpu"),
}
# by name: where its replicas are, how many, and requests a second
SERVICES = {"chat": ("whole", 2, 10), "small": ("instances", 1, 3), "draft": ("turns", 1, 3)}
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
HOST_NAMES = ("node_rapl_package_joules_total", "node_rapl_dram_joules_total", "kepler_node_cpu_joules_total")
# a millijoule of each GPU, a microjoule of each host's registers
RESOLUTION, HOST_RESOLUTION = 1e-3, 1e-5
AMOUNTS = ("energyWh", "hostEnergyWh", "facilityEnergyWh", "carbonGrams", "waterMillilitres", "embodiedGrams")


class Line(NamedTuple):
    kind: str
    zone: str
    namespace: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class Meters:
    """Joules of the counters as Prometheus has them: of each GPU, and of a node's CPUs and memory; by zone."""

    gpus: Mapping[str, Mapping[str, float]]
    hosts: Mapping[str, float]

    def since(self, zone: str, before: Meters) -> float:
        return sum(joules - before.gpus[zone][uuid] for uuid, joules in self.gpus[zone].items())


@dataclass(frozen=True, slots=True)
class Booked:
    """Both ends of the run, the books by bound (J at the GPU, J of hosts), and what kubectl and jq say of them."""

    scene: Scene
    before: Meters
    after: Meters
    truth: Mapping[Line, float]
    energy: Mapping[Line, Mapping[str, float]]
    host: Mapping[Line, Mapping[str, float]]
    folder: Path

    @property
    def metered(self) -> float:
        return sum(self.after.since(zone, self.before) for zone in NODES)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    settings = {"cycle_interval": 1, "status_interval": STORED_EVERY, "ledger_interval": STORED_EVERY}
    # what the exporters tell is never older than this, so truth and counters are of the same moment
    scenario = {"sampleSeconds": 0.2}
    with Stack(cluster, scenario=scenario, operator_settings=settings) as stack, Scene(stack, nodes=0) as scene:
        cluster.scrape_also("fallow", [stack.operator_metrics_address])
        yield scene
        cluster.scrape_also("fallow", [])


@pytest.fixture(scope="module")
def booked(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Booked:
    nodes = {zone: scene.add_node(gpus, *shapes) for zone, (gpus, shapes) in NODES.items()}
    populate(scene, nodes)
    expected = len(FOREIGN) + sum(replicas for _, replicas, _ in SERVICES.values())
    scene.until(lambda: ready(scene) == expected, f"{expected} pods to be ready")
    before, true_before = begin(scene, nodes)
    until = scene.stack.twin_state()["now"] + SECONDS
    scene.until(lambda: scene.stack.twin_state()["now"] >= until, "time to pass", SECONDS + 60)
    after, true_after = end(scene, nodes)
    folder = tmp_path_factory.mktemp("books")
    scene.until(lambda: fetched(scene, folder, true_after["now"] + 3), "statuses of one moment after the end")
    return Booked(
        scene,
        before,
        after,
        truths(true_before, true_after, nodes),
        lines(scene, "fallow_gpu_energy_joules"),
        lines(scene, "fallow_host_energy_joules"),
        folder,
    )


def populate(scene: Scene, nodes: Mapping[str, str]) -> None:
    scene.put(*(grid_zone(zone, node, 100.0 + 50 * number) for number, (zone, node) in enumerate(nodes.items())))
    for name in FOREIGN:
        scene.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    scene.put(
        *(
            planted(name, name, behaviour, resource=f"nvidia.com/{resource}", node=nodes[zone])
            for name, (zone, behaviour, resource) in FOREIGN.items()
        )
    )
    scene.namespace(NAMESPACE)
    for name, (zone, replicas, rate) in SERVICES.items():
        scaling = {"minReplicas": replicas, "maxReplicas": replicas}
        template, variants = quick_template(node=nodes[zone]), [variant("BF16")]
        if zone == "instances":
            limits = {"nvidia.com/gpu": None, "nvidia.com/mig-3g.40gb": "1"}
            template["spec"]["containers"] = [{"name": "vllm", "resources": {"limits": limits}}]
        if zone == "turns":
            variants[0]["gpus"]["products"] = [f"{PRODUCT}-SHARED"]
        scene.put(service(NAMESPACE, name, scaling=scaling, template=template, variants=variants))
        scene.stack.traffic(NAMESPACE, name, steady(rate))


def grid_zone(name: str, node: str, grams: float) -> JSON:
    spec = {
        "nodeSelector": {"matchLabels": {"kubernetes.io/hostname": node}},
        "intensity": {"source": "Static", "static": {"gramsPerKWh": grams}},
        "wueSite": 0.2,
        "wueSource": 1.6,
    }
    return {"apiVersion": API, "kind": "GridZone", "metadata": {"name": name}, "spec": spec}


def ready(scene: Scene) -> int:
    return sum(pod["state"] == "ready" for pod in scene.stack.twin_state()["pods"])


def begin(scene: Scene, nodes: Mapping[str, str]) -> tuple[Meters, JSON]:
    """New books while no exporter answers: they begin at the last values that Prometheus has."""
    stack = scene.stack
    scene.until(lambda: len(uuids(meters(scene, nodes))) == GPUS, "Prometheus to have read every GPU")
    scene.until(lambda: meters(scene, nodes).hosts.keys() == set(METERED), "Prometheus to have read every host")
    faults(scene, "down")
    truth = stack.twin_energy()
    answering = f'up{{job=~"dcgm-exporter|node-exporter|kepler",node=~"{"|".join(nodes.values())}"}} == 1'
    scene.until(lambda: not scene.ask_prometheus(answering), "Prometheus to find no exporter")
    stack.stop_operator()
    scene.cluster.kubectl("delete", "configmap", "fallow-ledger", "-n", OPERATOR_NAMESPACE)
    stack.start_operator()
    scene.until(lambda: cycles(scene) >= 2, "the first cycles")
    before = meters(scene, nodes)
    stack.faults(None)
    return before, truth


def end(scene: Scene, nodes: Mapping[str, str]) -> tuple[Meters, JSON]:
    """Frozen at values that Prometheus has read and the operator has booked and told."""
    faults(scene, "frozen")
    for zone, node in nodes.items():
        address = scene.address_of(node)
        # whoever asks first gets the page that stays
        for port in (DCGM_PORT, KEPLER_PORT if zone == "instances" else RAPL_PORT):
            if zone in METERED or port == DCGM_PORT:
                urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=10).close()
    truth = scene.stack.twin_energy()
    frozen_at = truth["now"]
    oldest = "|".join([ENERGY, *HOST_NAMES])
    scene.until(
        lambda: float(scene.ask_prometheus(f'min(timestamp({{__name__=~"{oldest}"}}))')[0]["value"][1]) > frozen_at,
        "Prometheus to have read the last values",
    )
    # a cycle takes a second, and what is told is what is stored
    goal = cycles(scene) + STORED_EVERY + 3
    scene.until(lambda: cycles(scene) >= goal, "the last values to be stored")
    return meters(scene, nodes), truth


def faults(scene: Scene, mode: str) -> None:
    scene.stack.faults({family: {"node": "*", "mode": mode} for family in ("dcgm", "host")})


def cycles(scene: Scene) -> float:
    return scene.metric("fallow_cycles") or 0.0


def meters(scene: Scene, nodes: Mapping[str, str]) -> Meters:
    zone_of = {node: zone for zone, node in nodes.items()}
    gpus: dict[str, dict[str, float]] = defaultdict(dict)
    rapl: dict[str, float] = defaultdict(float)
    kepler: dict[str, float] = defaultdict(float)
    names = "|".join([ENERGY, *HOST_NAMES])
    for series in scene.ask_prometheus(f'last_over_time({{__name__=~"{names}"}}[2m])'):
        labels, value = series["metric"], float(series["value"][1])
        zone = zone_of.get(labels["node"])
        if zone is None:
            continue
        if labels["__name__"] == ENERGY:
            gpus[zone][labels["UUID"]] = value / 1e3
        else:
            (kepler if labels["__name__"].startswith("kepler") else rapl)[zone] += value
    return Meters(gpus, {**rapl, **kepler})


def uuids(found: Meters) -> set[str]:
    return {uuid for gpus in found.gpus.values() for uuid in gpus}


def truths(before: JSON, after: JSON, nodes: Mapping[str, str]) -> dict[Line, float]:
    """True joules of every line; of the contested node nobody can tell whose they are."""
    zone_of = {node: zone for zone, node in nodes.items()}
    found: dict[Line, float] = defaultdict(float)
    for sign, account in ((-1, before), (1, after)):
        for node in account["nodes"]:
            zone = zone_of.get(node["node"])
            if zone is None:
                continue  # a node of another scenario, whose metering has not ended yet
            found[Line("unattributed" if zone == "contested" else "unallocated", zone)] += sign * node["gpu_joules"]
        for pod in account["pods"]:
            zone = zone_of.get(pod["node"])
            if zone is not None and zone != "contested":
                kind = "service" if pod["service"] else "foreign"
                used = sign * pod["joules"]["total"]
                found[Line(kind, zone, pod["namespace"], pod["service"] or "")] += used
                found[Line("unallocated", zone)] -= used
    return {line: joules for line, joules in found.items() if abs(joules) > RESOLUTION}


def lines(scene: Scene, name: str) -> dict[Line, dict[str, float]]:
    """What the operator's metrics say, by bound."""
    found: dict[Line, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for sample in scene.stack.operator_metrics()[name].samples:
        if sample.name.endswith("_total"):
            label = sample.labels
            line = Line(label["line"], label["zone"], label["namespace"], label["service"])
            found[line][label["bound"]] += sample.value
    return found


def recipe() -> tuple[str, str]:
    """The first block of commands of the page: what kubectl fetches, and what jq makes of it."""
    block: list[str] = []
    for text in (REPOSITORY / "docs" / "how-to" / "add-up.md").read_text().splitlines():
        if text.startswith("    ") or (block and not text):
            block.append(text[4:])
        elif block:
            break
    fetching = [text for text in block if text.startswith("kubectl ")]
    return "\n".join(fetching), "\n".join(text for text in block if text not in fetching)


def run(commands: str, folder: Path, **environment: str) -> str:
    command = ["bash", "-eu", "-o", "pipefail", "-c", commands]
    surroundings = {**os.environ, **environment}
    done = subprocess.run(
        command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fetched(scene: Scene, folder: Path, since: float) -> bool:
    """Fetches the statuses; whether all show the books of one moment, after this time."""
    run(recipe()[0], folder, KUBECONFIG=str(scene.cluster.kubeconfig))
    services, zones = statuses(folder)
    shown = {one["asOf"] for one in [*services, *zones.values()]}
    complete = len(services) == len(SERVICES) and len(zones) == len(NODES)
    return complete and len(shown) == 1 and datetime.fromisoformat(shown.pop()).timestamp() >= since


def statuses(folder: Path) -> tuple[list[JSON], dict[str, JSON]]:
    services = json.loads((folder / "services.json").read_text())["items"]
    zones = json.loads((folder / "zones.json").read_text())["items"]
    found = {one["metadata"]["name"]: one.get("status", {}).get("footprint") for one in zones}
    return (
        [footprint for one in services if (footprint := one.get("status", {}).get("footprint"))],
        {name: footprint for name, footprint in found.items() if footprint},
    )


def by_jq(folder: Path, amount: str) -> list[Any]:
    """Everything that the page's jq commands print."""
    text, found = run(recipe()[1].replace("energyWh", amount), folder).strip(), []
    while text:
        value, length = json.JSONDecoder().raw_decode(text)
        found.append(value)
        text = text[length:].lstrip()
    return found


def by_python(folder: Path, amount: str) -> list[Any]:
    """The same sums from the same files."""
    services, zones = statuses(folder)

    def best(amounts: JSON) -> float:
        return float(amounts[amount]["best"])

    mine = sum(best(one["total"]) for one in services)
    others = sum(best(part) for one in zones.values() for kind, part in one["lines"].items() if kind != "services")
    everything = sum(best(one["total"]) for one in zones.values())
    each = [
        {"zone": name, "total": best(one["total"]), "lines": sum(best(part) for part in one["lines"].values())}
        for name, one in zones.items()
    ]
    moments = sorted({one["asOf"] for one in [*services, *zones.values()]})
    summary = {"services": mine, "others": others, "cluster": everything, "difference": mine + others - everything}
    return [moments, *each, summary]


def added_up(folder: Path, amount: str = "energyWh") -> list[Any]:
    if shutil.which("jq"):
        return by_jq(folder, amount)
    print("jq is missing here: the same sums of the same files in Python")
    return by_python(folder, amount)


def test_all_lines_together_are_the_meters_joules(booked: Booked) -> None:
    """Counters in millijoules telescope; what is left is rounding."""
    total = sum(bounds["best"] for bounds in booked.energy.values())
    print(f"metered {booked.metered:.3f} J, lines less metered {total - booked.metered:.9f} J")
    assert abs(total - booked.metered) < GPUS * RESOLUTION
    assert {line.kind for line in booked.energy} == {"service", "foreign", "unallocated", "unattributed"}


@pytest.mark.parametrize("zone", NODES)
def test_a_node_s_lines_are_its_own_meters_joules(booked: Booked, zone: str) -> None:
    mine = sum(bounds["best"] for line, bounds in booked.energy.items() if line.zone == zone)
    metered = booked.after.since(zone, booked.before)
    print(f"{zone}: metered {metered:.3f} J, lines less metered {mine - metered:.9f} J")
    assert abs(mine - metered) < GPUS * RESOLUTION


@pytest.mark.parametrize("zone", NODES)
def test_the_truth_of_every_line_lies_within_its_bounds(booked: Booked, zone: str) -> None:
    true = {line: joules for line, joules in booked.truth.items() if line.zone == zone}
    mine = {line: bounds for line, bounds in booked.energy.items() if line.zone == zone}
    for line in sorted({*true, *mine}):
        known, bounds = true.get(line, 0.0), mine.get(line, {"low": 0.0, "best": 0.0, "high": 0.0})
        name = f"{line.zone} {line.kind} {line.namespace} {line.service}"
        print(f"{name:44} true {known:9.1f} J, booked {bounds['low']:9.1f} {bounds['best']:9.1f} {bounds['high']:9.1f}")
    outside = {
        line: (known, dict(mine.get(line, {})))
        for line, known in true.items()
        if line not in mine or not mine[line]["low"] <= known <= mine[line]["high"]
    }
    assert outside == {}
    assert mine.keys() == true.keys()


@pytest.mark.parametrize("zone", METERED)
def test_a_node_s_host_energy_is_its_meter_s_difference(booked: Booked, zone: str) -> None:
    mine = sum(bounds["best"] for line, bounds in booked.host.items() if line.zone == zone)
    metered = booked.after.hosts[zone] - booked.before.hosts[zone]
    print(f"{zone}: host metered {metered:.6f} J, lines less metered {mine - metered:.9f} J")
    assert metered > 0
    assert abs(mine - metered) < HOST_RESOLUTION


@pytest.mark.parametrize("zone", ["instances", "turns"])
def test_what_is_shared_is_split_by_what_was_measured(booked: Booked, zone: str) -> None:
    scene = booked.scene
    measured = scene.metric("fallow_shared_energy_joules", zone=zone, split="measured") or 0.0
    by_rule = scene.metric("fallow_shared_energy_joules", zone=zone, split="rule") or 0.0
    print(f"{zone}: split by measurement {measured:.0f} J, by rule {by_rule:.0f} J")
    assert measured > 0
    assert by_rule < 0.1 * measured


@pytest.mark.parametrize("amount", AMOUNTS)
def test_kubectl_and_jq_add_the_lines_up_to_the_cluster(booked: Booked, amount: str) -> None:
    moments, *zones, summary = added_up(booked.folder, amount)
    print(json.dumps([moments, *zones, summary]))
    assert len(moments) == 1
    assert {one["zone"] for one in zones} == NODES.keys()
    assert all(one["lines"] == pytest.approx(one["total"], rel=1e-6) for one in zones)
    assert summary["cluster"] > 0
    assert abs(summary["difference"]) <= 1e-6 * summary["cluster"]


def test_what_jq_adds_up_is_what_the_meters_counted(booked: Booked) -> None:
    cluster = added_up(booked.folder)[-1]["cluster"] * 3600
    print(f"jq {cluster:.6f} J, metered {booked.metered:.6f} J, {cluster / booked.metered - 1:+.1e}")
    assert cluster == pytest.approx(booked.metered, rel=1e-6)


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is missing: the sums above were made in Python")
@pytest.mark.parametrize("amount", AMOUNTS)
def test_jq_and_python_add_up_alike(booked: Booked, amount: str) -> None:
    *others, summary = by_jq(booked.folder, amount)
    *expected, told = by_python(booked.folder, amount)
    assert others[0] == expected[0]
    for one, other in zip(others[1:], expected[1:], strict=True):
        assert one == {**other, "lines": pytest.approx(other["lines"]), "total": pytest.approx(other["total"])}
    assert {**summary, "difference": 0} == pytest.approx({**told, "difference": 0})


def test_prometheus_has_the_same_sum(booked: Booked) -> None:
    found = booked.scene.ask_prometheus('sum(fallow_gpu_energy_joules_total{bound="best"})')
    assert float(found[0]["value"][1]) == pytest.approx(booked.metered, rel=1e-9)
