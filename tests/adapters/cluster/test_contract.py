"""What every Cluster promises to the cycle, on Kubernetes' ways and in the fake that other tests use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.adapters.cluster.kubernetes import KubernetesCluster
from fallow.adapters.cluster.mirror import DEPLOYMENTS, HPAS, NODES, PODS, SERVICES, Mirror
from fallow.domain.autoscalers import Autoscaler
from fallow.domain.errors import Refused, Unreachable, WriteError
from fallow.domain.plans import (
    ClearRequest,
    Cordon,
    CordonNode,
    KeepVariant,
    Outcome,
    RunVariant,
    SetFloor,
    ShieldPod,
)
from fallow.domain.readings import PodRef
from fallow.domain.snapshots import ClusterView, Node, Shield
from fallow.domain.units import Instant
from fallow.domain.workloads import Service, ServiceKey
from fallow.ports import Cluster
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi
from tests.support.cluster import FakeCluster

CHAT = ServiceKey("llm", "chat")
AT = Instant(1_772_323_200.0)
SERVICE_PATH = "/apis/fallow.dev/v1alpha1/namespaces/llm/inferenceservices/chat"
HPA_PATH = "/apis/autoscaling/v2/namespaces/llm/horizontalpodautoscalers/legacy-load"
POD_PATH = "/api/v1/namespaces/llm/pods/chat-bf16-x"
NODE_PATH = "/api/v1/nodes/node-a"
POD = PodRef("llm", "chat-bf16-x")
LEGACY_PATH = "/apis/apps/v1/namespaces/llm/deployments/legacy"


class Rig:
    """A cluster with one service that asks for 2 replicas through /scale; `break_with` makes every write fail."""

    def __init__(self, kind: str, *, adopted: bool = False, target: bool = True, scaled: bool = False) -> None:
        body = raw.adopting() if adopted else raw.inference_service()
        body["spec"]["replicas"] = 2
        self._api = FakeApi()
        self._mirror = Mirror()
        self._mirror.put(SERVICES, body)
        self._api.hold(SERVICE_PATH, body)
        self._mirror.put(PODS, raw.pod(ready=False))
        self._api.hold(POD_PATH, raw.pod(ready=False))
        self._mirror.put(NODES, raw.node())
        self._api.hold(NODE_PATH, raw.node())
        if adopted and target:
            legacy = raw.deployment("legacy", owner="", labels={"app": "legacy"})
            self._mirror.put(DEPLOYMENTS, legacy)
            self._api.hold(LEGACY_PATH, legacy)
        if scaled:
            self._mirror.put(HPAS, raw.hpa(minimum=2))
            self._api.hold(HPA_PATH, raw.hpa(minimum=2))
        self._fake = FakeCluster(self._mirror.view())
        self._real = KubernetesCluster(self._api, self._mirror)
        self._is_fake = kind == "fake"

    @property
    def cluster(self) -> Cluster:
        return self._fake if self._is_fake else self._real

    @property
    def service(self) -> Service:
        return self.cluster.view().services[CHAT]

    @property
    def scaler(self) -> Autoscaler:
        (workload,) = self.cluster.view().workloads
        (found,) = workload.scalers
        return found

    async def floor(self, minimum: int) -> Outcome:
        return await self.cluster.apply(SetFloor(self.service, "bf16", self.scaler, minimum))

    async def shield(self, *, up: bool, uid: str = "pod-chat-bf16-x") -> Outcome:
        return await self.cluster.apply(ShieldPod(CHAT, POD, uid, up))

    @property
    def shielded(self) -> Shield:
        return self.cluster.view().pods[POD].shield

    async def cordon(self, to: Cordon) -> Outcome:
        return await self.cluster.apply(CordonNode("node-a", to, AT, "green", "why"))

    @property
    def node(self) -> Node:
        return self.cluster.view().nodes["node-a"]

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

    assert (outcome.wrote, outcome.error, outcome.refused) == (False, "no answer within 10 s", False)
    assert replicas(rig.cluster.view()) == {}


async def test_a_write_that_is_refused_says_so(kind: str) -> None:
    rig = Rig(kind)
    rig.break_with(Refused("403 forbidden"))

    assert (await rig.cluster.apply(RunVariant(rig.service, "bf16", 2))).refused
    assert (await rig.cordon(Cordon.EMPTY)).refused


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


async def test_an_autoscalers_minimum_is_set_and_what_its_owner_declared_is_kept(kind: str) -> None:
    rig = Rig(kind, adopted=True, scaled=True)
    outcome = await rig.floor(4)

    assert (outcome.wrote, outcome.error) == (True, "")
    assert (rig.scaler.minimum, rig.scaler.declared, rig.scaler.owners) == (4, 2, 2)
    assert replicas(rig.cluster.view()) == {"bf16": 1}


async def test_a_minimum_that_stands_is_not_sent(kind: str) -> None:
    assert not (await Rig(kind, adopted=True, scaled=True).floor(2)).wrote


async def test_a_minimum_is_handed_back(kind: str) -> None:
    rig = Rig(kind, adopted=True, scaled=True)
    await rig.floor(4)

    assert await rig.cluster.hand_back(rig.scaler) == ""
    assert (rig.scaler.minimum, rig.scaler.declared) == (2, None)


async def test_a_minimum_that_cannot_be_written_is_an_outcome(kind: str) -> None:
    rig = Rig(kind, adopted=True, scaled=True)
    await rig.floor(4)
    rig.break_with(Unreachable("no answer within 10 s"))

    assert (await rig.floor(5)).error == "no answer within 10 s"
    assert await rig.cluster.hand_back(rig.scaler) == "no answer within 10 s"
    assert rig.scaler.minimum == 4


async def test_what_an_autoscaler_runs_is_kept(kind: str) -> None:
    rig = Rig(kind, adopted=True, scaled=True)
    outcome = await rig.cluster.apply(KeepVariant(rig.service, "bf16"))

    assert (outcome.wrote, outcome.error) == (False, "")


async def test_a_shield_is_put_up_once_and_comes_off_once(kind: str) -> None:
    rig = Rig(kind)
    written, seen = [], []
    for up in (True, True, False, False, True):
        written.append((await rig.shield(up=up)).wrote)
        seen.append(rig.shielded)

    assert written == [True, False, True, False, False]
    assert seen == [Shield.UP, Shield.UP, Shield.OVER, Shield.OVER, Shield.OVER]


async def test_a_pod_that_has_no_shield_loses_none(kind: str) -> None:
    rig = Rig(kind)

    assert not (await rig.shield(up=False)).wrote
    assert rig.shielded is Shield.NONE


async def test_another_pod_of_the_same_name_is_not_shielded(kind: str) -> None:
    rig = Rig(kind)
    outcome = await rig.shield(up=True, uid="the-one-before")

    assert (outcome.wrote, outcome.error) == (False, "")
    assert rig.shielded is Shield.NONE


async def test_a_shield_that_cannot_be_written_is_an_outcome(kind: str) -> None:
    rig = Rig(kind)
    rig.break_with(Unreachable("no answer within 10 s"))

    assert (await rig.shield(up=True)).error == "no answer within 10 s"
    assert rig.shielded is Shield.NONE


@pytest.mark.parametrize(("to", "since"), [(Cordon.KEEP, AT), (Cordon.FREE, None)])
async def test_a_node_is_cordoned_once_and_opened_once(kind: str, to: Cordon, since: Instant | None) -> None:
    rig = Rig(kind)
    assert [(await rig.cordon(Cordon.EMPTY)).wrote for _ in range(2)] == [True, False]
    assert (rig.node.cordoned, rig.node.emptying) == (True, AT)
    assert [(await rig.cordon(to)).wrote for _ in range(2)] == [True, False]
    assert (rig.node.cordoned, rig.node.emptying, rig.node.kept_since) == (False, None, since)


async def test_a_cordon_that_cannot_be_written_is_an_outcome_of_its_policy(kind: str) -> None:
    rig = Rig(kind)
    rig.break_with(Unreachable("no answer within 10 s"))
    outcome = await rig.cordon(Cordon.EMPTY)

    assert (outcome.error, outcome.key) == ("no answer within 10 s", ServiceKey("", "green"))
    assert not rig.node.cordoned
