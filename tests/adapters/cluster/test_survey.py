"""One look at a cluster by lists alone: whose pods hold GPUs, and what was declared about their number."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.cluster import client as client_module
from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.survey import survey
from fallow.domain.errors import Refused, Unreachable
from fallow.domain.readings import PodRef
from fallow.domain.windows import Scaled, WorkloadRef

JSON = dict[str, Any]


class Server:
    """Lists of objects by path; a number is the status of a refusal. Lists may come in pages."""

    def __init__(self) -> None:
        self.lists: dict[str, list[JSON] | int] = {"/api/v1/pods": []}
        self.page = 500
        self.texts: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, request.headers["Accept"]))
        if request.path in self.texts:
            return web.Response(body=self.texts[request.path])
        items = self.lists.get(request.path, 404)
        if isinstance(items, int):
            return web.json_response({"kind": "Status", "code": items, "message": "forbidden"}, status=items)
        start = int(request.query.get("continue", 0))
        end = start + min(self.page, int(request.query["limit"]))
        metadata = {"continue": str(end)} if end < len(items) else {}
        return web.json_response({"metadata": metadata, "items": items[start:end]})


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubernetesApi]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with ApiClient(configuration) as api_client:
        yield KubernetesApi(api_client, 2.0)
    await runner.cleanup()


def named(name: str, *, owner: tuple[str, str] | None = None, **more: object) -> JSON:
    owners = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {"metadata": {"name": name, "namespace": "llm", "ownerReferences": owners, **more}}


def pod(
    name: str,
    *,
    owner: tuple[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    container: Mapping[str, Any] | None = None,
    gpus: int = 1,
) -> JSON:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    body = named(name, owner=owner, labels=dict(labels or {}), annotations=dict(annotations or {}))
    body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    body["spec"] = {"nodeName": "gpu-1", "containers": [{"resources": resources, **(container or {})}]}
    body["status"] = {"phase": "Running", "podIP": "10.0.0.1"}
    return body


def owners(server: Server) -> None:
    """A Deployment's, a KServe service's, a Notebook's and a CronJob's chains."""
    server.lists |= {
        "/apis/apps/v1/replicasets": [
            named("chat-7d9f", owner=("Deployment", "chat")),
            named("rag-predictor-5c4", owner=("Deployment", "rag-predictor")),
        ],
        "/apis/apps/v1/deployments": [named("chat"), named("rag-predictor", owner=("InferenceService", "rag"))],
        "/apis/apps/v1/statefulsets": [named("lab", owner=("Notebook", "lab"))],
        "/apis/batch/v1/jobs": [named("nightly-28", owner=("CronJob", "nightly"))],
    }


@pytest.mark.parametrize(
    ("owner", "labels", "expected"),
    [
        pytest.param(("ReplicaSet", "chat-7d9f"), {}, ("Deployment", "chat"), id="Deployment"),
        pytest.param(("ReplicaSet", "rag-predictor-5c4"), {}, ("InferenceService", "rag"), id="KServe by its owners"),
        pytest.param(
            ("ReplicaSet", "gone"),
            {"serving.kserve.io/inferenceservice": "rag"},
            ("InferenceService", "rag"),
            id="KServe by its label",
        ),
        pytest.param(("ReplicaSet", "x"), {"fallow.dev/service": "docs"}, ("InferenceService", "docs"), id="Fallow"),
        pytest.param(("StatefulSet", "lab"), {}, ("Notebook", "lab"), id="Notebook"),
        pytest.param(("Job", "nightly-28"), {}, ("CronJob", "nightly"), id="CronJob"),
        pytest.param(("PyTorchJob", "train"), {}, ("PyTorchJob", "train"), id="a custom kind"),
        pytest.param(("Node", "gpu-1"), {}, ("Pod", "x-0"), id="a static pod"),
        pytest.param(None, {}, ("Pod", "x-0"), id="nobody's"),
    ],
)
async def test_a_holder_is_called_what_a_person_calls_it(
    server: Server, api: KubernetesApi, owner: tuple[str, str] | None, labels: dict[str, str], expected: tuple[str, str]
) -> None:
    owners(server)
    server.lists["/api/v1/pods"] = [pod("x-0", owner=owner, labels=labels)]
    found = await survey(api)
    assert found.pods[PodRef("llm", "x-0")].workload == WorkloadRef("llm", *expected)


async def test_a_pod_that_is_gone_is_called_after_its_controller(server: Server, api: KubernetesApi) -> None:
    owners(server)
    found = await survey(api)
    assert found.workload_of(PodRef("llm", "chat-7d9f-q2x1z")) == WorkloadRef("llm", "Deployment", "chat")
    assert found.workload_of(PodRef("llm", "chat-6666-q2x1z")) == WorkloadRef("llm", "Deployment", "chat")
    assert found.workload_of(PodRef("llm", "lab-0")) == WorkloadRef("llm", "Notebook", "lab")
    assert found.workload_of(PodRef("llm", "who-knows")) == WorkloadRef("llm", "Pod", "who-knows")


@pytest.mark.parametrize(
    ("container", "annotations", "expected"),
    [
        pytest.param({"image": "vllm/vllm-openai:v0.11"}, {}, (True, 8000, None), id="by its image"),
        pytest.param(
            {"command": ["vllm", "serve", "m"], "args": ["--port", "8200", "--max-num-seqs=64"]},
            {},
            (True, 8200, 64),
            id="flags",
        ),
        pytest.param(
            {"command": ["sh", "-c", "exec vllm serve m --max-num-seqs 32"]}, {}, (True, 8000, 32), id="within a shell"
        ),
        pytest.param({"image": "tgi"}, {"prometheus.io/port": "9000"}, (False, 9000, None), id="an annotated port"),
        pytest.param({"image": "jupyter"}, {}, (False, None, None), id="a notebook"),
    ],
)
async def test_an_engine_is_known_with_its_port_and_its_batch(
    server: Server,
    api: KubernetesApi,
    container: dict[str, Any],
    annotations: dict[str, str],
    expected: tuple[bool, int | None, int | None],
) -> None:
    server.lists["/api/v1/pods"] = [pod("x-0", container=container, annotations=annotations)]
    found = (await survey(api)).pods[PodRef("llm", "x-0")]
    assert (found.is_engine, found.port, found.max_num_seqs) == expected


@pytest.mark.parametrize(
    ("path", "body", "workload", "expected"),
    [
        pytest.param(
            "/apis/autoscaling/v2/horizontalpodautoscalers",
            {**named("chat"), "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "chat"}, "minReplicas": 2}},
            ("Deployment", "chat"),
            Scaled(2, "HorizontalPodAutoscaler chat (minimum 2)"),
            id="HPA",
        ),
        pytest.param(
            "/apis/autoscaling/v2/horizontalpodautoscalers",
            {**named("rag"), "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "rag-predictor"}}},
            ("InferenceService", "rag"),
            Scaled(1, "HorizontalPodAutoscaler rag (minimum 1)"),
            id="HPA of KServe, by default",
        ),
        pytest.param(
            "/apis/keda.sh/v1alpha1/scaledobjects",
            {**named("chat"), "spec": {"scaleTargetRef": {"name": "chat"}}},
            ("Deployment", "chat"),
            Scaled(0, "ScaledObject chat (minimum 0)"),
            id="KEDA, to zero",
        ),
        pytest.param(
            "/apis/serving.kserve.io/v1beta1/inferenceservices",
            {**named("rag"), "spec": {"predictor": {"minReplicas": 3}}},
            ("InferenceService", "rag"),
            Scaled(3, "minReplicas 3"),
            id="KServe",
        ),
        pytest.param(
            "/apis/fallow.dev/v1alpha1/inferenceservices",
            {**named("docs"), "spec": {"scaling": {"minReplicas": 1, "targetConcurrency": 100}}},
            ("InferenceService", "docs"),
            Scaled(1, "scaling.minReplicas 1", 100.0),
            id="Fallow",
        ),
        pytest.param(
            "/apis/fallow.dev/v1alpha1/inferenceservices",
            {**named("docs"), "spec": {"scaling": {"minReplicas": 1}, "targetRef": {"name": "chat"}}},
            ("Deployment", "chat"),
            Scaled(1, "scaling.minReplicas 1"),
            id="what Fallow adopted",
        ),
    ],
)
async def test_declared_minimums_are_found(
    server: Server, api: KubernetesApi, path: str, body: JSON, workload: tuple[str, str], expected: Scaled
) -> None:
    owners(server)
    server.lists[path] = [body]
    assert (await survey(api)).scaled[WorkloadRef("llm", *workload)] == expected


async def test_an_exporter_s_pod_is_found_by_node(server: Server, api: KubernetesApi) -> None:
    server.lists["/api/v1/pods"] = [pod("nvidia-dcgm-exporter-x", gpus=0, labels={"app": "nvidia-dcgm-exporter"})]
    assert (await survey(api)).exporters["gpu-1"].address == "10.0.0.1"


async def test_a_large_cluster_is_read_in_pages(
    server: Server, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PAGE_OBJECTS", 2)
    server.lists["/api/v1/pods"] = [pod(f"x-{number}", gpus=number % 2) for number in range(7)]
    assert len((await survey(api)).pods) == 3
    assert sum(path == "/api/v1/pods" for _, path, _ in server.asked) == 4


async def test_nothing_is_written_and_of_owners_only_names_are_asked_for(server: Server, api: KubernetesApi) -> None:
    owners(server)
    await survey(api)
    assert {method for method, _, _ in server.asked} == {"GET"}
    assert all("PartialObjectMetadataList" in accept for _, path, accept in server.asked if "/apps/" in path)


async def test_a_right_that_is_missing_is_told_and_the_rest_is_seen(server: Server, api: KubernetesApi) -> None:
    server.lists |= {"/api/v1/nodes": 403, "/api/v1/pods": [pod("x-0")]}
    found = await survey(api)
    assert len(found.pods) == 1
    (fault,) = found.faults
    assert "/api/v1/nodes: 403 forbidden" in fault.detail


async def test_without_pods_there_is_no_survey(server: Server, api: KubernetesApi) -> None:
    server.lists["/api/v1/pods"] = 403
    with pytest.raises(Refused, match="403"):
        await survey(api)


async def test_devices_by_claims_are_told(server: Server, api: KubernetesApi) -> None:
    claimed = pod("x-0", gpus=0)
    claimed["spec"]["resourceClaims"] = [{"name": "gpu"}]
    server.lists["/api/v1/pods"] = [claimed]
    assert any("resource claims" in fault.detail for fault in (await survey(api)).faults)


async def test_a_page_comes_through_the_proxy_as_text(server: Server, api: KubernetesApi) -> None:
    server.texts["/proxy/metrics"] = b"up 1\n"
    assert await api.text("/proxy/metrics") == "up 1\n"


async def test_a_page_without_end_is_refused(
    server: Server, api: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_PAGE", 1000)
    server.texts["/proxy/metrics"] = b"x" * 2000
    with pytest.raises(Refused, match="longer than 1000"):
        await api.text("/proxy/metrics")


async def test_a_page_that_is_not_there_is_refused(api: KubernetesApi) -> None:
    with pytest.raises(Refused, match="404"):
        await api.text("/nowhere")


async def test_an_api_server_that_is_away_is_unreachable() -> None:
    configuration = Configuration()
    configuration.host = "http://127.0.0.1:9"
    async with ApiClient(configuration) as api_client:
        with pytest.raises(Unreachable):
            await survey(KubernetesApi(api_client, 1.0))
