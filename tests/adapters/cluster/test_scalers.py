"""HPAs and ScaledObjects: whose replicas they own, what their owner declared, and what is written to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.cluster.kubernetes import KubernetesCluster
from fallow.adapters.cluster.mirror import DEPLOYMENTS, HPAS, SCALED_OBJECTS, SERVICES, Mirror
from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.plans import KeepVariant, Outcome, RunVariant, SetFloor
from fallow.domain.snapshots import ClusterView, Workload
from fallow.domain.tuning import PLAIN, Tuning
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi

HPA = "/apis/autoscaling/v2/namespaces/llm/horizontalpodautoscalers/legacy-load"
SCALED_OBJECT = "/apis/keda.sh/v1alpha1/namespaces/llm/scaledobjects/queue"
DECLARED, SET = "fallow.dev/declared-minimum", "fallow.dev/set-minimum"
LEGACY = raw.deployment("legacy", owner="", labels={"app": "legacy"}, replicas=3)
OWNED = "/apis/apps/v1/namespaces/llm/deployments/chat-bf16"


def mirror_of(*objects: tuple[str, dict[str, Any]], service: dict[str, Any] | None = None) -> Mirror:
    mirror = Mirror()
    mirror.put(SERVICES, service or raw.adopting())
    mirror.put(DEPLOYMENTS, LEGACY)
    for kind, body in objects:
        mirror.put(kind, body)
    return mirror


def only(view: ClusterView) -> Workload:
    (workload,) = view.workloads
    return workload


def owners(*objects: tuple[str, dict[str, Any]]) -> list[str]:
    return [str(one) for one in only(mirror_of(*objects).view()).scalers]


def changed(minimum: int, declared: str, given: str) -> dict[str, Any]:
    return raw.hpa(minimum=minimum, annotations={DECLARED: declared, SET: given})


def test_an_hpa_on_an_adopted_deployment_owns_its_replicas() -> None:
    scaler = only(mirror_of((HPAS, raw.hpa(minimum=2, maximum=6))).view()).scaler

    assert scaler == Autoscaler(AutoscalerKind.HPA, "llm", "legacy-load", 2, 6)


def test_what_an_autoscaler_does_not_say_is_the_default_of_its_kind() -> None:
    hpa = only(mirror_of((HPAS, raw.hpa(minimum=None))).view()).scaler
    keda = only(mirror_of((SCALED_OBJECTS, raw.scaled_object())).view()).scaler

    assert hpa is not None
    assert hpa.minimum == 1
    assert keda is not None
    assert (keda.minimum, keda.maximum) == (0, 100)


def test_the_hpa_that_a_scaled_object_makes_is_no_second_owner() -> None:
    made = raw.hpa(name="keda-hpa-queue", **raw.owner("ScaledObject", "queue", "keda.sh/v1alpha1"))

    assert owners((HPAS, made), (SCALED_OBJECTS, raw.scaled_object())) == ["ScaledObject queue"]


def test_until_a_scaled_object_is_seen_its_hpa_tells_of_it() -> None:
    made = raw.hpa(name="keda-hpa-queue", **raw.owner("ScaledObject", "queue", "keda.sh/v1alpha1"))
    scaler = only(mirror_of((HPAS, made)).view()).scaler

    assert scaler is not None
    assert (str(scaler), scaler.seen) == ("ScaledObject queue", False)


def test_two_owners_of_one_deployment_are_both_seen() -> None:
    assert owners((HPAS, raw.hpa()), (SCALED_OBJECTS, raw.scaled_object())) == [
        "ScaledObject queue",
        "HorizontalPodAutoscaler legacy-load",
    ]


def test_an_hpa_on_the_service_is_a_second_owner_where_another_owns_its_deployment() -> None:
    on_service = raw.hpa("chat", kind="InferenceService")

    assert owners((HPAS, on_service)) == []
    assert len(owners((HPAS, on_service), (HPAS, raw.hpa()))) == 2


@pytest.mark.parametrize(
    "body",
    [
        raw.hpa("another"),
        raw.hpa(kind="StatefulSet"),
        raw.hpa(namespace="elsewhere"),
        raw.hpa(deletionTimestamp="2026-11-22T11:00:00Z"),
    ],
    ids=["another Deployment", "another kind", "another namespace", "being deleted"],
)
def test_autoscalers_of_something_else_own_nothing_here(body: dict[str, Any]) -> None:
    assert owners((HPAS, body)) == []


def test_a_controller_that_made_an_hpa_is_named() -> None:
    made = raw.hpa(**raw.owner("InferenceService", "legacy", "serving.kserve.io/v1beta1"))
    scaler = only(mirror_of((HPAS, made)).view()).scaler

    assert scaler is not None
    assert scaler.maker == "InferenceService legacy"


@pytest.mark.parametrize(
    ("notes", "paused"),
    [
        ({}, False),
        ({"autoscaling.keda.sh/paused": "true"}, True),
        ({"autoscaling.keda.sh/paused": "false"}, False),
        ({"autoscaling.keda.sh/paused-replicas": "0"}, True),
    ],
    ids=["nothing said", "paused", "no longer", "at a number"],
)
def test_a_scaled_object_may_be_paused(notes: dict[str, str], paused: bool) -> None:
    body = raw.scaled_object()
    body["metadata"]["annotations"] = notes
    scaler = only(mirror_of((SCALED_OBJECTS, body)).view()).scaler

    assert scaler is not None
    assert scaler.paused is paused


@pytest.mark.parametrize(
    ("body", "declared", "overruled"),
    [
        (raw.hpa(minimum=4), None, False),
        (changed(4, "2", "4"), 2, False),
        (changed(2, "2", "4"), 2, True),
        (changed(5, "2", "4"), None, False),
        (changed(4, "two", "4"), None, False),
    ],
    ids=["its owner's", "Fallow's", "put back to what was declared", "its owner's new word", "unreadable"],
)
def test_whose_word_a_minimum_is(body: dict[str, Any], declared: int | None, overruled: bool) -> None:
    scaler = only(mirror_of((HPAS, body)).view()).scaler

    assert scaler is not None
    assert (scaler.declared, scaler.overruled) == (declared, overruled)


def test_a_change_of_an_hpas_status_alone_makes_no_new_view() -> None:
    mirror = mirror_of((HPAS, raw.hpa()))
    before = mirror.view()
    mirror.put(HPAS, {**raw.hpa(resourceVersion="101"), "status": {"currentReplicas": 2}})

    assert mirror.view() is before


def test_a_deleted_hpa_owns_nothing_any_more() -> None:
    mirror = mirror_of((HPAS, raw.hpa()))
    assert only(mirror.view()).scalers
    mirror.drop(HPAS, raw.hpa())

    assert not only(mirror.view()).scalers


def test_of_an_autoscaler_no_more_than_its_identity_is_kept() -> None:
    kept = mirror_of((HPAS, raw.hpa(annotations={"big": "x" * 1000}))).get(HPAS, "llm", "legacy-load")

    assert kept is not None
    assert set(kept) == {"metadata"}
    assert "annotations" not in kept["metadata"]


def test_an_autoscaler_that_nobody_claims_any_more_is_a_leftover() -> None:
    mirror = mirror_of((HPAS, changed(4, "2", "4")))
    assert mirror.view().leftovers == ()
    mirror.drop(DEPLOYMENTS, LEGACY)
    assert mirror.view().leftovers == ()
    mirror.drop(SERVICES, raw.adopting())

    assert [one.owners for one in mirror.view().leftovers] == [2]


def test_a_service_that_cannot_be_read_still_claims_its_autoscaler() -> None:
    mirror = mirror_of((HPAS, changed(4, "2", "4")))
    broken = raw.adopting(resourceVersion="101")
    broken["spec"]["scaling"] = {"minReplicas": 9, "maxReplicas": 1}
    mirror.put(SERVICES, broken)

    assert mirror.view().leftovers == ()


class Bench:
    """An autoscaler of an adopted Deployment on an API server in memory."""

    def __init__(self, kind: str = HPAS, body: dict[str, Any] | None = None, *, dry_run: bool = False) -> None:
        self.kind, self.path = kind, HPA if kind == HPAS else SCALED_OBJECT
        self.api = FakeApi()
        self.api.hold(self.path, body or (raw.hpa(minimum=2) if kind == HPAS else raw.scaled_object(minReplicaCount=2)))
        self.mirror = mirror_of((kind, self.api.objects[self.path]))
        self.cluster = KubernetesCluster(self.api, self.mirror, dry_run=dry_run)

    @property
    def scaler(self) -> Autoscaler:
        found = only(self.mirror.view()).scaler
        assert found is not None
        return found

    @property
    def annotations(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.api.objects[self.path]["metadata"].get("annotations") or {}
        return found

    async def floor(self, minimum: int) -> Outcome:
        service = self.mirror.view().services[only(self.mirror.view()).service]
        return await self.cluster.apply(SetFloor(service, "bf16", self.scaler, minimum))


@pytest.mark.parametrize(
    ("kind", "name"), [(HPAS, "minReplicas"), (SCALED_OBJECTS, "minReplicaCount")], ids=["HPA", "ScaledObject"]
)
async def test_a_minimum_is_written_with_what_its_owner_declared(kind: str, name: str) -> None:
    bench = Bench(kind)
    outcome = await bench.floor(4)

    assert (outcome.wrote, outcome.error) == (True, "")
    assert bench.api.writes == [bench.path]
    assert bench.api.objects[bench.path]["spec"][name] == 4
    assert bench.annotations == {DECLARED: "2", SET: "4"}
    assert (bench.scaler.minimum, bench.scaler.declared) == (4, 2)


async def test_what_the_owner_declared_is_kept_through_further_changes() -> None:
    bench = Bench()
    await bench.floor(4)
    await bench.floor(3)

    assert bench.annotations == {DECLARED: "2", SET: "3"}


async def test_the_owners_own_minimum_leaves_no_trace() -> None:
    bench = Bench()
    await bench.floor(4)
    await bench.floor(2)

    assert bench.annotations == {}
    assert bench.scaler.declared is None


async def test_a_minimum_that_stands_is_not_written() -> None:
    bench = Bench()
    outcome = await bench.floor(2)

    assert (outcome.wrote, bench.api.writes) == (False, [])


async def test_an_owners_new_word_is_not_written_over() -> None:
    bench = Bench()
    decided = bench.scaler
    bench.api.edited(HPA, {"minReplicas": 7})
    outcome = await bench.floor(4)

    assert "decided on anew" in outcome.error
    assert bench.api.objects[HPA]["spec"]["minReplicas"] == 7
    assert decided == bench.scaler


async def test_an_owners_new_word_is_what_is_put_back_later() -> None:
    bench = Bench()
    await bench.floor(4)
    bench.mirror.put(HPAS, bench.api.edited(HPA, {"minReplicas": 7}))
    assert (bench.scaler.owners, bench.scaler.overruled) == (7, False)
    await bench.floor(6)

    assert bench.annotations == {DECLARED: "7", SET: "6"}


async def test_a_leftover_is_handed_back() -> None:
    bench = Bench()
    await bench.floor(4)
    bench.mirror.drop(SERVICES, raw.adopting())
    (leftover,) = bench.mirror.view().leftovers

    assert await bench.cluster.hand_back(leftover) == ""
    assert (bench.api.objects[HPA]["spec"]["minReplicas"], bench.annotations) == (2, {})
    assert bench.mirror.view().leftovers == ()


async def test_an_autoscaler_that_is_gone_is_an_outcome() -> None:
    bench = Bench()
    del bench.api.objects[HPA]

    assert "does not exist" in (await bench.floor(4)).error


async def test_a_dry_run_leaves_the_minimum() -> None:
    bench = Bench(dry_run=True)
    outcome = await bench.floor(4)

    assert (outcome.wrote, outcome.error, bench.api.writes) == (False, "", [])


class Own:
    """A Deployment that Fallow made, with an HPA over it."""

    def __init__(self) -> None:
        self.api, self.mirror = FakeApi(), Mirror()
        self.mirror.put(SERVICES, raw.inference_service())
        self.cluster = KubernetesCluster(self.api, self.mirror)
        self.service = next(iter(self.mirror.view().services.values()))

    async def start(self) -> None:
        await self.cluster.apply(RunVariant(self.service, "bf16", 2))
        self.mirror.put(HPAS, raw.hpa("chat-bf16"))
        self.api.calls.clear()

    async def keep(self, tuning: Tuning = PLAIN) -> Outcome:
        return await self.cluster.apply(KeepVariant(self.service, "bf16", tuning))


async def test_a_deployment_of_fallows_keeps_the_number_that_its_autoscaler_set() -> None:
    own = Own()
    await own.start()
    own.mirror.put(DEPLOYMENTS, own.api.edited(OWNED, {"replicas": 5}))
    outcome = await own.keep()

    assert (outcome.wrote, own.api.writes) == (False, [])
    assert own.api.objects[OWNED]["spec"]["replicas"] == 5


async def test_a_new_template_is_applied_with_the_latest_number_of_replicas() -> None:
    own = Own()
    await own.start()
    own.api.edited(OWNED, {"replicas": 5})
    outcome = await own.keep(Tuning(throttled=True))

    assert (outcome.wrote, outcome.error) == (True, "")
    assert own.api.objects[OWNED]["spec"]["replicas"] == 5


async def test_nothing_of_an_adopted_deployment_is_kept_or_made() -> None:
    bench = Bench()
    service = next(iter(bench.mirror.view().services.values()))
    outcome = await bench.cluster.apply(KeepVariant(replace(service), "bf16"))

    assert (outcome.wrote, bench.api.calls) == (False, [])
