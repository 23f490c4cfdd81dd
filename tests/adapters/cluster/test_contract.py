"""What every Cluster promises to the cycle, on Kubernetes' ways and in the fake that other tests use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.adapters.cluster.kubernetes import KubernetesCluster
from fallow.adapters.cluster.mirror import DEPLOYMENTS, SERVICES, Mirror
from fallow.domain.errors import Unreachable, WriteError
from fallow.domain.plans import ClearRequest, RunVariant
from fallow.domain.snapshots import ClusterView
from fallow.domain.workloads import Service, ServiceKey
from fallow.ports import Cluster
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi
from tests.support.cluster import FakeCluster

CHAT = ServiceKey("llm", "chat")
SERVICE_PATH = "/apis/fallow.dev/v1alpha1/namespaces/llm/inferenceservices/chat"
LEGACY_PATH = "/apis/apps/v1/namespaces/llm/deployments/legacy"


class Rig:
    """A cluster with one service that asks for 2 replicas through /scale; `break_with` makes every write fail."""

    def __init__(self, kind: str, *, adopted: bool = False, target: bool = True) -> None:
        body = raw.adopting() if adopted else raw.inference_service()
        body["spec"]["replicas"] = 2
        self._api = FakeApi()
        self._mirror = Mirror()
        self._mirror.put(SERVICES, body)
        self._api.hold(SERVICE_PATH, body)
        if adopted and target:
            legacy = raw.deployment("legacy", owner="", labels={"app": "legacy"})
            self._mirror.put(DEPLOYMENTS, legacy)
            self._api.hold(LEGACY_PATH, legacy)
        self._fake = FakeCluster(self._mirror.view())
        self._real = KubernetesCluster(self._api, self._mirror)
        self._is_fake = kind == "fake"

    @property
    def cluster(self) -> Cluster:
        return self._fake if self._is_fake else self._real

    @property
    def service(self) -> Service:
        return self.cluster.view().services[CHAT]

    def break_with(self, fault: WriteError) -> None:
        self._fake.fault = fault
        self._api.fault = fault


@pytest.fixture(params=["fake", "kubernetes"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def replicas(view: ClusterView) -> dict[str, int]:
    return {workload.variant: workload.replicas for workload in view.workloads}


async def test_a_change_is_seen_at_once(kind: str) -> None:
    rig = Rig(kind)
    outcome = await rig.cluster.apply(RunVariant(rig.service, "bf16", 2))

    assert (outcome.wrote, outcome.error) == (True, "")
    assert replicas(rig.cluster.view()) == {"bf16": 2}


async def test_a_change_that_makes_no_difference_is_not_sent(kind: str) -> None:
    rig = Rig(kind)
    await rig.cluster.apply(RunVariant(rig.service, "bf16", 2))
    outcome = await rig.cluster.apply(RunVariant(rig.service, "bf16", 2))

    assert (outcome.wrote, outcome.error) == (False, "")


async def test_variants_run_beside_each_other(kind: str) -> None:
    rig = Rig(kind)
    await rig.cluster.apply(RunVariant(rig.service, "bf16", 2))
    await rig.cluster.apply(RunVariant(rig.service, "fp8", 1))

    assert replicas(rig.cluster.view()) == {"bf16": 2, "fp8": 1}


async def test_a_failed_write_is_an_outcome_and_changes_nothing(kind: str) -> None:
    rig = Rig(kind)
    rig.break_with(Unreachable("no answer within 10 s"))
    outcome = await rig.cluster.apply(RunVariant(rig.service, "bf16", 2))

    assert (outcome.wrote, outcome.error) == (False, "no answer within 10 s")
    assert replicas(rig.cluster.view()) == {}


async def test_a_request_through_scale_is_cleared(kind: str) -> None:
    rig = Rig(kind)
    outcome = await rig.cluster.apply(ClearRequest(rig.service))

    assert outcome.wrote
    assert rig.service.requested is None


async def test_without_a_request_there_is_nothing_to_clear(kind: str) -> None:
    rig = Rig(kind)
    outcome = await rig.cluster.apply(ClearRequest(replace(rig.service, requested=None)))

    assert (outcome.wrote, outcome.error) == (False, "")


async def test_an_adopted_deployment_is_scaled(kind: str) -> None:
    rig = Rig(kind, adopted=True)
    outcome = await rig.cluster.apply(RunVariant(rig.service, "bf16", 3))

    assert outcome.wrote
    assert replicas(rig.cluster.view()) == {"bf16": 3}


async def test_a_target_that_does_not_exist_is_named(kind: str) -> None:
    rig = Rig(kind, adopted=True, target=False)
    outcome = await rig.cluster.apply(RunVariant(rig.service, "bf16", 3))

    assert "Deployment legacy does not exist in llm" in outcome.error
