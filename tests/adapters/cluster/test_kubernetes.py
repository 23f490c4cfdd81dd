"""What is sent to the API server, and what is not."""

from __future__ import annotations

from typing import Any

from fallow.adapters.cluster.kubernetes import RECHECK_SECONDS, KubernetesCluster
from fallow.adapters.cluster.mirror import DEPLOYMENTS, SERVICES, Mirror
from fallow.domain.plans import ClearRequest, Outcome, RunVariant
from fallow.domain.tuning import Tuning
from fallow.domain.workloads import Service, ServiceKey
from tests.adapters.cluster import raw
from tests.adapters.cluster.fake_api import FakeApi

DEPLOYMENT = "/apis/apps/v1/namespaces/llm/deployments/chat-bf16"
SERVICE = "/api/v1/namespaces/llm/services/chat"
BUDGET = "/apis/policy/v1/namespaces/llm/poddisruptionbudgets/chat"
OBJECT = "/apis/fallow.dev/v1alpha1/namespaces/llm/inferenceservices/chat"


class Bench:
    """A service on an API server in memory; `restart` forgets what the process knew and keeps the server."""

    def __init__(self, body: dict[str, Any] | None = None, *, dry_run: bool = False) -> None:
        self.api = FakeApi()
        self.body = body or raw.inference_service()
        self.now = 0.0
        self.api.hold(OBJECT, self.body)
        self._dry_run = dry_run
        self.mirror = Mirror()
        self.restart()

    def restart(self) -> None:
        self.mirror = Mirror()
        self.mirror.put(SERVICES, self.body)
        for path, live in self.api.objects.items():
            if "/deployments/" in path:
                # as lists bring it, without apiVersion and kind
                self.mirror.put(DEPLOYMENTS, {part: live[part] for part in ("metadata", "spec")})
        self.cluster = KubernetesCluster(self.api, self.mirror, dry_run=self._dry_run, clock=lambda: self.now)
        self.api.calls.clear()
        self.api.bodies.clear()

    @property
    def service(self) -> Service:
        return self.mirror.view().services[ServiceKey("llm", "chat")]

    async def run(self, replicas: int, variant: str = "bf16") -> Outcome:
        return await self.cluster.apply(RunVariant(self.service, variant, replicas))

    def disturb(self, change: dict[str, Any]) -> None:
        """Somebody else edits the Deployment's spec, and the watch brings it."""
        live = self.api.edited(DEPLOYMENT, change)
        self.mirror.put(DEPLOYMENTS, live)


async def test_the_service_and_its_budget_come_with_the_first_deployment() -> None:
    bench = Bench()
    await bench.run(1)

    assert bench.api.writes == [SERVICE, BUDGET, DEPLOYMENT]


async def test_another_number_of_replicas_is_one_write() -> None:
    bench = Bench()
    await bench.run(1)
    bench.api.calls.clear()
    await bench.run(3)

    assert bench.api.calls == [("apply", DEPLOYMENT)]


async def test_a_restart_writes_nothing() -> None:
    bench = Bench()
    await bench.run(2)
    bench.restart()
    outcome = await bench.run(2)

    assert bench.api.writes == []
    assert not outcome.wrote


async def test_an_edited_image_is_put_right_once() -> None:
    bench = Bench()
    await bench.run(1)
    live = bench.api.objects[DEPLOYMENT]["spec"]["template"]
    bench.api.calls.clear()
    containers = [{**live["spec"]["containers"][0], "image": "somebody/else:1"}]
    bench.disturb({"template": {**live, "spec": {**live["spec"], "containers": containers}}})
    await bench.run(1)
    await bench.run(1)

    assert bench.api.writes == [DEPLOYMENT]
    assert bench.api.objects[DEPLOYMENT]["spec"]["template"] == live


async def test_an_edited_image_is_found_after_a_restart() -> None:
    bench = Bench()
    await bench.run(1)
    bench.api.objects[DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]["image"] = "somebody/else:1"
    bench.restart()

    assert (await bench.run(1)).wrote


async def test_edited_replicas_are_put_right() -> None:
    bench = Bench()
    await bench.run(2)
    bench.disturb({"replicas": 7})
    await bench.run(2)

    assert bench.api.objects[DEPLOYMENT]["spec"]["replicas"] == 2


async def test_a_field_that_somebody_adds_is_left_alone() -> None:
    bench = Bench()
    await bench.run(1)
    bench.api.calls.clear()
    bench.disturb({"minReadySeconds": 5})
    await bench.run(1)

    assert bench.api.writes == []


async def test_clocks_that_are_to_fall_are_one_write_and_seen_in_the_view() -> None:
    bench = Bench()
    await bench.run(1)
    bench.api.calls.clear()
    for _ in range(2):
        await bench.cluster.apply(RunVariant(bench.service, "bf16", 1, Tuning(throttled=True)))

    assert bench.api.calls == [("apply", DEPLOYMENT)]
    assert [one.tuning.throttled for one in bench.cluster.view().workloads] == [True]


async def test_steps_that_are_to_have_fewer_tokens_are_one_write_and_seen_in_the_view() -> None:
    bench = Bench()
    await bench.run(1)
    bench.api.calls.clear()
    for tokens in (354, 354, None):
        await bench.cluster.apply(RunVariant(bench.service, "bf16", 1, Tuning(step_tokens=tokens)))
        assert [one.tuning.step_tokens for one in bench.cluster.view().workloads] == [tokens]

    assert bench.api.calls == [("apply", DEPLOYMENT)] * 2


async def test_a_changed_spec_is_applied() -> None:
    bench = Bench()
    await bench.run(1)
    bench.api.calls.clear()
    bench.body = raw.inference_service(spec={"engine": {"image": "vllm:2"}}, generation=2, resourceVersion="200")
    bench.mirror.put(SERVICES, bench.body)
    await bench.run(1)

    assert bench.api.writes == [DEPLOYMENT]


async def test_a_deleted_service_object_comes_back() -> None:
    bench = Bench()
    await bench.run(1)
    del bench.api.objects[SERVICE]
    bench.now = RECHECK_SECONDS
    await bench.run(1)

    assert SERVICE in bench.api.objects


async def test_a_variant_wanted_at_zero_that_never_ran_is_not_created() -> None:
    bench = Bench()
    await bench.run(0, "fp8")

    assert not any("chat-fp8" in path for path in bench.api.objects)


async def test_a_service_object_of_somebody_else_is_never_taken_over() -> None:
    bench = Bench()
    bench.api.hold(SERVICE, {"metadata": {"name": "chat", "uid": "x", "generation": 1}, "spec": {}})
    outcome = await bench.run(1)

    assert "Service chat exists in llm and does not belong to InferenceService chat" in outcome.error
    assert bench.api.writes == []


async def test_a_deployment_of_somebody_else_is_never_taken_over() -> None:
    bench = Bench()
    bench.api.hold(DEPLOYMENT, raw.deployment(owner="somebody"))
    outcome = await bench.run(1)

    assert "Deployment chat-bf16 exists" in outcome.error
    assert DEPLOYMENT not in bench.api.writes


async def test_an_adopted_deployment_gets_replicas_and_nothing_else() -> None:
    bench = Bench(raw.adopting())
    legacy = raw.deployment("legacy", owner="", labels={"app": "legacy"})
    bench.api.hold("/apis/apps/v1/namespaces/llm/deployments/legacy", legacy)
    bench.restart()
    await bench.run(3)

    assert bench.api.calls == [("patch", "/apis/apps/v1/namespaces/llm/deployments/legacy/scale")]
    assert bench.api.bodies == [{"spec": {"replicas": 3}}]


async def test_a_variant_that_left_the_spec_can_still_be_sent_away() -> None:
    bench = Bench()
    await bench.run(2, "fp8")
    bench.body = raw.inference_service(generation=2, resourceVersion="200")
    bench.body["spec"]["variants"] = bench.body["spec"]["variants"][:1]
    bench.mirror.put(SERVICES, bench.body)
    await bench.run(0, "fp8")

    assert bench.api.calls[-1] == ("patch", "/apis/apps/v1/namespaces/llm/deployments/chat-fp8/scale")
    assert bench.api.objects["/apis/apps/v1/namespaces/llm/deployments/chat-fp8"]["spec"]["replicas"] == 0


async def test_a_request_that_changed_meanwhile_is_not_cleared() -> None:
    bench = Bench(raw.inference_service(spec={"replicas": 2}))
    service = bench.service
    bench.api.objects[OBJECT]["spec"]["replicas"] = 3
    outcome = await bench.cluster.apply(ClearRequest(service))

    assert "testing value /spec/replicas failed" in outcome.error
    assert bench.api.objects[OBJECT]["spec"]["replicas"] == 3


async def test_an_overlay_that_cannot_be_merged_is_an_outcome() -> None:
    bench = Bench(raw.inference_service(spec={"template": {"spec": {"containers": [{"image": "x"}]}}}))
    outcome = await bench.run(1)

    assert "every entry of containers needs name" in outcome.error


async def test_a_dry_run_sends_nothing() -> None:
    bench = Bench(raw.inference_service(spec={"replicas": 2}), dry_run=True)
    outcomes = [await bench.run(1), await bench.cluster.apply(ClearRequest(bench.service))]

    assert bench.api.writes == []
    assert [(outcome.wrote, outcome.error) for outcome in outcomes] == [(False, ""), (False, "")]
