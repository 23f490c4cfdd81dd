"""The kinds on a real API server: what it accepts, what it refuses and in which words, how kubectl shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.harness.cluster import Cluster
from e2e.harness.errors import CommandError
from e2e.harness.locations import REPOSITORY
from e2e.harness.process import wait_for
from fallow.api.conditions import Condition, moment
from fallow.api.inference_service_status import Idle, InferenceServiceStatus, ServiceSummary
from fallow.api.kinds import KINDS
from fallow.api.objects import Kind
from fallow.domain.units import Instant
from tests.api.samples import SAMPLES, WrongObject, sample, sample_names, wrong_objects
from tests.api.schemas import fields

pytestmark = pytest.mark.cluster

LIMIT = 60.0
API = "/apis/fallow.dev/v1alpha1"
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module", autouse=True)
def kinds(cluster: Cluster) -> None:
    cluster.apply(REPOSITORY / "crds")
    # `kubectl wait` stops with an accessor error on a definition that has no conditions yet
    wait_for(lambda: all(_states(cluster, kind).get("Established") == "True" for kind in KINDS), "the kinds", LIMIT)
    wait_for(lambda: _published(cluster), "the kinds in the API server's own OpenAPI document", LIMIT)


@pytest.fixture
def chat(cluster: Cluster, kube_namespace: str) -> Iterator[str]:
    """An InferenceService named chat in a namespace of the test's own, which is returned."""
    cluster.kubectl("create", "-n", kube_namespace, "-f", str(SAMPLES / "inferenceservice-chat.yaml"))
    yield kube_namespace
    cluster.kubectl("delete", "fis", "--all", "-n", kube_namespace, "--wait=false")


def _document(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "--raw", f"/openapi/v3{API}"))
    return found


def _states(cluster: Cluster, kind: Kind) -> dict[str, str]:
    found = cluster.get("crd", kind.crd_name).get("status", {}).get("conditions") or []
    return {entry["type"]: entry["status"] for entry in found}


def _published(cluster: Cluster) -> bool:
    try:
        known = _document(cluster)["components"]["schemas"]
    except CommandError:
        return False
    return all(any(name.endswith(f".{kind.name}") for name in known) for kind in KINDS)


def _refusal(cluster: Cluster, *arguments: str, text: str | None = None) -> str:
    with pytest.raises(CommandError) as refused:
        cluster.kubectl(*arguments, input=text)
    return str(refused.value)


@every_kind
def test_definition_is_established_and_structural(cluster: Cluster, kind: Kind) -> None:
    states = _states(cluster, kind)

    assert states["Established"] == "True"
    assert states["NamesAccepted"] == "True"
    assert states.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize("name", sample_names())
def test_sample_is_accepted(cluster: Cluster, name: str) -> None:
    said = cluster.kubectl("create", "--validate=strict", "--dry-run=server", "-f", str(SAMPLES / f"{name}.yaml"))

    assert "created (server dry run)" in said


@pytest.mark.parametrize("wrong", wrong_objects(), ids=lambda wrong: wrong.name)
def test_wrong_object_is_refused_with_what_to_write(cluster: Cluster, wrong: WrongObject) -> None:
    said = _refusal(
        cluster, "create", "--validate=strict", "--dry-run=server", "-f", "-", text=yaml.safe_dump(wrong.build())
    )

    assert wrong.field in said
    assert wrong.says in said


@every_kind
def test_kubectl_explain_knows_every_field(cluster: Cluster, kind: Kind) -> None:
    known = _document(cluster)["components"]["schemas"]
    schema = next(part for name, part in known.items() if name.endswith(f".{kind.name}"))
    # metadata is Kubernetes' own and comes with its texts by reference
    described = {"properties": {name: schema["properties"][name] for name in ("spec", "status")}}

    silent = [path for path, node in fields(described) if not node.get("description")]

    assert silent == []
    assert len(list(fields(described))) > 40


def test_kubectl_explain_shows_the_text_and_the_default(cluster: Cluster) -> None:
    assert "0 lets an idle service rest" in cluster.kubectl("explain", "fis.spec.scaling.minReplicas")
    assert "Unknown and Stale never take capacity away" in cluster.kubectl("explain", "fis.status.idle.state")
    assert "Sleep is recorded and not acted on" in cluster.kubectl("explain", "epol.spec.idle.ladder")


def test_the_server_fills_in_the_defaults(cluster: Cluster, kube_namespace: str) -> None:
    cluster.kubectl("create", "-n", kube_namespace, "-f", str(SAMPLES / "inferenceservice-minimal.yaml"))

    spec = cluster.get("fis", "chat-small", "-n", kube_namespace)["spec"]

    assert spec["scaling"] == {"minReplicas": 1, "maxReplicas": 1, "schedules": []}
    assert spec["variants"][0]["gpus"]["count"] == 1
    assert spec["variants"][0]["quality"] == 1
    assert "replicas" not in spec


def test_a_policy_without_a_spec_recommends(cluster: Cluster) -> None:
    bare = {"apiVersion": "fallow.dev/v1alpha1", "kind": "EnergyPolicy", "metadata": {"name": "bare"}}

    answer = cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=yaml.safe_dump(bare))

    spec = json.loads(answer)["spec"]
    assert spec["mode"] == "Recommend"
    assert spec["idle"] == {"after": "10m", "ladder": ["Release"]}
    assert spec["guards"]["metricsMaxAge"] == "90s"


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ('{"spec":{"targetRef":{"name":"another"}}}', "targetRef.name cannot change; create another InferenceService"),
        ('{"spec":{"targetRef":null}}', "targetRef cannot be added or removed later; create another InferenceService"),
    ],
    ids=["another Deployment", "no Deployment"],
)
def test_what_a_service_adopted_cannot_change(cluster: Cluster, kube_namespace: str, patch: str, says: str) -> None:
    cluster.kubectl("create", "-n", kube_namespace, "-f", str(SAMPLES / "inferenceservice-adopted.yaml"))

    said = _refusal(cluster, "patch", "fis", "summaries", "-n", kube_namespace, "--type=merge", "-p", patch)

    assert says in said


def test_kubectl_scale_asks_for_replicas(cluster: Cluster, chat: str) -> None:
    assert "replicas" not in cluster.get("fis", "chat", "-n", chat)["spec"]

    cluster.kubectl("scale", "fis/chat", "--replicas=2", "-n", chat)

    assert cluster.get("fis", "chat", "-n", chat)["spec"]["replicas"] == 2


def test_kubectl_scale_beyond_the_limit_is_refused(cluster: Cluster, chat: str) -> None:
    said = _refusal(cluster, "scale", "fis/chat", "--replicas=9", "-n", chat)

    assert "replicas must be at most scaling.maxReplicas" in said


def test_scale_tells_replicas_and_selector(cluster: Cluster, chat: str) -> None:
    status = {"status": {"replicas": 2, "selector": "app.kubernetes.io/instance=chat"}}
    cluster.kubectl("scale", "fis/chat", "--replicas=3", "-n", chat)
    cluster.kubectl(
        "patch", "fis", "chat", "-n", chat, "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )

    scale = json.loads(cluster.kubectl("get", "--raw", f"{API}/namespaces/{chat}/inferenceservices/chat/scale"))

    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == status["status"]


def test_an_autoscaler_can_address_a_service(cluster: Cluster, chat: str) -> None:
    cluster.kubectl("scale", "fis/chat", "--replicas=1", "-n", chat)
    cluster.kubectl("autoscale", "fis/chat", "--min=1", "--max=4", "--cpu=50%", "-n", chat)

    def reason() -> str:
        found = cluster.get("hpa", "chat", "-n", chat).get("status", {}).get("conditions", [])
        return next((entry["reason"] for entry in found if entry["type"] == "AbleToScale"), "")

    wait_for(lambda: reason() == "SucceededGetScale", "the autoscaler to read /scale", LIMIT)


def test_status_is_written_apart_from_the_spec(cluster: Cluster, chat: str) -> None:
    before = cluster.get("fis", "chat", "-n", chat)["metadata"]["generation"]

    cluster.kubectl("patch", "fis", "chat", "-n", chat, "--type=merge", "-p", '{"status":{"variant":"bf16"}}')
    ignored = cluster.get("fis", "chat", "-n", chat)
    _write_status(cluster, chat)
    after = cluster.get("fis", "chat", "-n", chat)

    assert "status" not in ignored
    assert after["status"]["variant"] == "bf16"
    assert after["metadata"]["generation"] == before


def test_kubectl_get_answers_the_first_question(cluster: Cluster, chat: str) -> None:
    _write_status(cluster, chat)

    heading, row = cluster.kubectl("get", "fis", "-n", chat).splitlines()

    assert " ".join(heading.split()) == "NAME READY STATE VARIANT REPLICAS J/TOKEN CO2E TODAY MODE AGE"
    assert "True    Active   bf16      2/2        0.12      412 g        Enforce" in row


def test_kubectl_get_shows_more_when_asked(cluster: Cluster, chat: str) -> None:
    _write_status(cluster, chat)

    heading, row = cluster.kubectl("get", "fis", "-n", chat, "-o", "wide").splitlines()

    assert heading.split()[-4:] == ["POLICY", "WATTS", "MODEL", "REASON"]
    assert row.split()[-2:] == ["meta-llama/Llama-3.1-8B-Instruct", "AllReady"]


@every_kind
def test_every_kind_has_its_columns(cluster: Cluster, kube_namespace: str, kind: Kind) -> None:
    one = next(name for name in sample_names() if sample(name)["kind"] == kind.name)
    cluster.kubectl("apply", "-n", kube_namespace, "-f", str(SAMPLES / f"{one}.yaml"))

    heading = cluster.kubectl("get", kind.plural, "-n", kube_namespace, "-o", "wide").splitlines()[0]

    cluster.kubectl("delete", "-n", kube_namespace, "--wait=false", "-f", str(SAMPLES / f"{one}.yaml"))
    assert heading.split() == f"NAME {' '.join(column.name for column in kind.columns)}".upper().split()


def test_one_word_lists_all_kinds(cluster: Cluster, chat: str) -> None:
    listed = cluster.kubectl("get", "fallow", "-n", chat, "-o", "name")

    assert "inferenceservice.fallow.dev/chat" in listed.split()


def _write_status(cluster: Cluster, namespace: str) -> None:
    status = InferenceServiceStatus(
        conditions=[
            Condition(
                type="Ready",
                status="True",
                observed_generation=1,
                last_transition_time=moment(Instant(1_772_323_200)),
                reason="AllReady",
                message="2 replicas are ready",
            )
        ],
        replicas=2,
        variant="bf16",
        policy="rest-when-idle",
        mode="Enforce",
        idle=Idle(state="Active"),
        summary=ServiceSummary(replicas="2/2", watts="1.2 kW", joules_per_token="0.12", carbon_today="412 g"),
    )
    body = json.dumps({"status": status.as_json()})
    cluster.kubectl("patch", "fis", "chat", "-n", namespace, "--subresource=status", "--type=merge", "-p", body)
