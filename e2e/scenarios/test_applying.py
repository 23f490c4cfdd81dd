"""The cluster adapter and the status reporter on a real API server: what they write, and that they stop writing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from kubernetes.aio import client, config

from e2e.harness.cluster import Cluster
from e2e.harness.errors import CommandError
from e2e.harness.locations import REPOSITORY
from e2e.harness.process import wait_for
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.kubernetes import KubernetesCluster
from fallow.adapters.cluster.mirror import DEPLOYMENTS, POLICIES, PROFILES, SERVICES, ZONES, Mirror
from fallow.adapters.cluster.resync import PATHS
from fallow.adapters.reports.events import EventReporter
from fallow.adapters.reports.status import StatusReporter
from fallow.app.exporting import as_yaml, exported
from fallow.domain.learned import Learned, LoadBin, Placement, Starts
from fallow.domain.ledger import Ledger
from fallow.domain.plans import ClearRequest, Outcome, RunVariant
from fallow.domain.readings import Readings
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Service, ServiceKey, ServiceMemory
from fallow.domain.zones import ZoneReading
from fallow.planner.decide import decide
from fallow.planner.estimate import Concluded, Taught, conclude, estimate, teach
from tests.support.builders import intensity

pytestmark = pytest.mark.cluster

SAMPLES = REPOSITORY / "docs" / "samples"
NOW = Instant(1_800_000_000.0)
KINDS = (SERVICES, POLICIES, ZONES, PROFILES, DEPLOYMENTS)


class Bench:
    """An adapter with a mirror that is filled from lists, as the watches of a starting operator fill it."""

    def __init__(self, cluster: Cluster, api: KubernetesApi, namespace: str) -> None:
        self.cluster, self.api, self.namespace = cluster, api, namespace
        self.mirror = Mirror()
        self.memories: dict[ServiceKey, ServiceMemory] = {}
        self.adapter = KubernetesCluster(api, self.mirror)

    async def restart(self) -> None:
        self.mirror = Mirror()
        self.memories = {}
        await self.see()
        self.adapter = KubernetesCluster(self.api, self.mirror)

    async def see(self) -> None:
        for kind in KINDS:
            listed = await self.api.get(PATHS[kind]) or {}
            for item in listed["items"]:
                if item["metadata"].get("namespace", self.namespace) == self.namespace:
                    self.mirror.put(kind, item)

    @property
    def service(self) -> Service:
        return self.mirror.view().services[ServiceKey(self.namespace, "chat")]

    async def run(self, variant: str, replicas: int) -> Outcome:
        return await self.adapter.apply(RunVariant(self.service, variant, replicas))

    def get(self, kind: str, name: str = "chat") -> dict[str, Any]:
        return self.cluster.get(kind, name, "-n", self.namespace)

    def patch(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        text = yaml.safe_dump(patch)
        self.cluster.kubectl("patch", kind, name, "-n", self.namespace, "--type=merge", "-p", text)

    async def settle(self) -> CycleReport:
        """Carry out what the planner wants until it wants nothing more."""
        for service, plan in ((self.service, part) for part in self.report().plan.services.values()):
            for variant, replicas in plan.replicas.items():
                await self.adapter.apply(RunVariant(service, variant, replicas))
            self.memories[plan.key] = plan.memory
        return self.report()

    def report(self, now: Instant = NOW) -> CycleReport:
        view = replace(self.mirror.view(), memories={**self.mirror.view().memories, **self.memories})
        zones = {zone.name: ZoneReading(zone, intensity(300, now)) for zone in view.zones}
        snapshot = Snapshot(at=now, cluster=view, readings=Readings(at=now), zones=zones)
        estimates = estimate(snapshot, Concluded())
        return CycleReport(snapshot, estimates, decide(snapshot, estimates), (), None, Seconds(0.1))


def served(cluster: Cluster) -> bool:
    try:
        return bool(cluster.kubectl("get", "fis,epol,gz,mprof", "-A", "-o", "name") or True)
    except CommandError:
        return False


@pytest.fixture
async def bench(cluster: Cluster, kube_namespace: str) -> AsyncIterator[Bench]:
    cluster.apply(REPOSITORY / "crds")
    wait_for(lambda: served(cluster), "the kinds to be served", 60)
    sample = yaml.safe_load((SAMPLES / "inferenceservice-chat.yaml").read_text())
    sample["metadata"]["namespace"] = kube_namespace
    cluster.apply(sample)
    configuration = client.Configuration()
    chosen = str(cluster.kubeconfig)
    await config.load_kube_config(config_file=chosen, client_configuration=configuration)  # type: ignore[no-untyped-call]
    async with client.ApiClient(configuration) as connection:
        made = Bench(cluster, KubernetesApi(connection), kube_namespace)
        await made.restart()
        yield made


async def test_a_service_gets_what_it_needs_and_loses_it_with_its_end(bench: Bench) -> None:
    variant = bench.service.reference.name
    outcome = await bench.run(variant, 2)
    made = {kind: bench.get(kind) for kind in ("service", "poddisruptionbudget")}

    assert (outcome.wrote, outcome.error) == (True, "")
    assert bench.get("deployment", f"chat-{variant}")["spec"]["replicas"] == 2
    assert made["poddisruptionbudget"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"

    bench.cluster.kubectl("delete", "fis", "chat", "-n", bench.namespace)
    listing = ("deployment,service,poddisruptionbudget", "-n", bench.namespace)
    wait_for(lambda: not bench.cluster.get(*listing)["items"], "what the service owned to be collected", 60)


async def test_neither_a_second_time_nor_a_restart_writes_again(bench: Bench) -> None:
    variants = [variant.name for variant in bench.service.variants]
    for variant in variants:
        await bench.run(variant, 1)
    again = [await bench.run(variant, 1) for variant in variants]
    await bench.restart()
    after = [await bench.run(variant, 1) for variant in variants]

    assert [(outcome.wrote, outcome.error) for outcome in again + after] == [(False, "")] * 2 * len(variants)


async def test_an_edited_image_and_edited_replicas_are_put_right(bench: Bench) -> None:
    variant = bench.service.reference.name
    name = f"chat-{variant}"
    await bench.run(variant, 1)
    before = bench.get("deployment", name)["spec"]["template"]
    container = {**before["spec"]["containers"][0], "image": "somebody/else:1"}
    bench.patch("deployment", name, {"spec": {"replicas": 4, "template": {"spec": {"containers": [container]}}}})
    await bench.see()
    outcomes = [await bench.run(variant, 1), await bench.run(variant, 1)]

    assert [outcome.wrote for outcome in outcomes] == [True, False]
    assert bench.get("deployment", name)["spec"]["replicas"] == 1
    assert bench.get("deployment", name)["spec"]["template"] == before


async def test_a_label_that_somebody_adds_is_left_alone(bench: Bench) -> None:
    variant = bench.service.reference.name
    await bench.run(variant, 1)
    bench.patch("deployment", f"chat-{variant}", {"metadata": {"labels": {"team": "search"}}})
    await bench.see()

    assert not (await bench.run(variant, 1)).wrote
    assert bench.get("deployment", f"chat-{variant}")["metadata"]["labels"]["team"] == "search"


async def test_an_adopted_deployment_keeps_everything_but_its_replicas(bench: Bench) -> None:
    adopting = yaml.safe_load((SAMPLES / "inferenceservice-adopted.yaml").read_text())
    adopting["metadata"] = {"name": "adopting", "namespace": bench.namespace}
    target = adopting["spec"]["targetRef"]["name"]
    bench.cluster.kubectl("create", "deployment", target, "--image=vllm", "-n", bench.namespace)
    bench.cluster.apply(adopting)
    await bench.see()
    before = bench.get("deployment", target)
    service = bench.mirror.view().services[ServiceKey(bench.namespace, "adopting")]
    outcome = await bench.adapter.apply(RunVariant(service, service.reference.name, 3))
    after = bench.get("deployment", target)

    assert outcome.wrote
    assert after["spec"] == before["spec"] | {"replicas": 3}
    assert after["metadata"].get("labels") == before["metadata"].get("labels")


async def test_a_request_through_scale_is_removed_once(bench: Bench) -> None:
    bench.cluster.kubectl("scale", "fis", "chat", "--replicas=1", "-n", bench.namespace)
    await bench.see()
    stale = replace(bench.service, requested=2)
    refused = await bench.adapter.apply(ClearRequest(stale))
    cleared = await bench.adapter.apply(ClearRequest(bench.service))

    assert not refused.wrote
    assert refused.error
    assert cleared.wrote
    assert "replicas" not in bench.get("fis")["spec"]
    assert bench.service.requested is None


async def test_a_status_is_accepted_whole_and_written_once(bench: Bench) -> None:
    for sample in ("energypolicy-recommend", "gridzone-static", "modelprofile-llama-3.1-8b-bf16-h100"):
        bench.cluster.apply(SAMPLES / f"{sample}.yaml")
    await bench.see()
    reporter = StatusReporter(bench.api, bench.mirror)
    await reporter.report(await bench.settle())
    first = {kind: bench.cluster.get(kind)["items"] for kind in ("epol", "gz", "mprof")} | {"fis": [bench.get("fis")]}
    await reporter.report(bench.report(Instant(NOW + 15)))
    second = {kind: bench.cluster.get(kind)["items"] for kind in ("epol", "gz", "mprof")} | {"fis": [bench.get("fis")]}

    assert first == second
    status = first["fis"][0]["status"]
    assert {part["type"] for part in status["conditions"]} >= {"Ready", "Serving", "Converged", "MetricsFresh"}
    assert status["selector"] == "fallow.dev/service=chat"
    assert first["gz"][0]["status"]["intensity"]["gramsPerKWh"]["best"] == 300


async def test_what_was_learned_is_accepted_and_what_is_exported_of_it_too(bench: Bench) -> None:
    bench.cluster.apply(SAMPLES / "modelprofile-llama-3.1-8b-bf16-h100.yaml")
    await bench.see()
    (profile,) = bench.mirror.view().profiles
    bins = {level: _minutes(2.5 * 2**level) for level in (1, 3)}
    learned = Learned(1, NOW, idle_watts=121, idle_windows=9, bins=bins, starts=Starts(2, 150, 2, 40_000))
    placement = Placement(bench.service.key, bench.service.reference.name, profile.gpu_product)
    books = Ledger(NOW, NOW, learned={placement: learned})

    def report(now: Instant) -> CycleReport:
        plain = bench.report(now)
        known = conclude(books, None, teach(books, plain.snapshot.cluster, Taught()))
        return replace(plain, estimates=estimate(plain.snapshot, known))

    reporter = StatusReporter(bench.api, bench.mirror)
    for cycle in range(2):
        await reporter.report(report(Instant(NOW + 15 * cycle)))
    first = bench.cluster.get("mprof", profile.name)
    await reporter.report(report(Instant(NOW + 30)))

    assert bench.cluster.get("mprof", profile.name) == first
    status = first["status"]
    assert [point["concurrency"] for point in status["points"]] == [5, 20]
    assert {part["type"] for part in status["conditions"]} == {"Ready", "PointsAgree"}
    assert (status["contextWatts"], status["load"]) == (121, {"seconds": 75, "joules": 20_000})

    bench.cluster.apply(as_yaml(exported([first], [], "test", "2027-01-15")))
    spec = bench.cluster.get("mprof", profile.name)["spec"]
    assert [point["concurrency"] for point in spec["points"] if point["source"] == "Learned"] == [5, 20]


def _minutes(batch: float) -> LoadBin:
    """Half an hour at so many requests at once, at 0.4 J/token."""
    tokens = 30 * 60 * 80 * batch
    return LoadBin(30, 0.4 * tokens, 1800, tokens, tokens, tokens / batch, tokens / 200, at=NOW)


async def test_a_status_survives_a_restart_without_a_write(bench: Bench) -> None:
    await StatusReporter(bench.api, bench.mirror).report(await bench.settle())
    before = bench.get("fis")
    await bench.restart()
    await StatusReporter(bench.api, bench.mirror).report(bench.report(Instant(NOW + 15)))

    assert bench.get("fis") == before


async def test_an_event_is_found_beside_its_object(bench: Bench) -> None:
    reporter = EventReporter(bench.api, "operator-0")
    await reporter.report(bench.report())
    seen = bench.cluster.kubectl("describe", "fis", "chat", "-n", bench.namespace)

    assert "FirstStart" in seen
