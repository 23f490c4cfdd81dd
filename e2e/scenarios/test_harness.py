"""The cluster that everything else stands on: it answers, it simulates a vLLM pod's life, it leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from e2e.harness.build import KUBERNETES_VERSION
from e2e.harness.cluster import Cluster
from e2e.harness.errors import CommandError, HarnessError
from e2e.harness.locations import REPOSITORY
from e2e.harness.namespace import NODES, PODS, run_inside
from e2e.harness.process import wait_for

pytestmark = pytest.mark.cluster

LIMIT = 60.0


def deployment(name: str, *, replicas: int = 1, gpus: int = 1, **seconds: str) -> dict[str, Any]:
    """A Deployment of fake vLLM pods; keywords set their times, such as load="2"."""
    annotations = {f"twin.fallow.dev/{stage}-seconds": value for stage, value in seconds.items()}
    labels = {"app": name, "app.kubernetes.io/managed-by": "fallow"}
    container = {"name": "vllm", "image": "vllm", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"containers": [container]},
            },
        },
    }


def create(cluster: Cluster, namespace: str, thing: dict[str, Any]) -> None:
    cluster.kubectl("create", "-n", namespace, "-f", "-", input=yaml.safe_dump(thing))


def wait_available(cluster: Cluster, namespace: str, name: str) -> list[dict[str, Any]]:
    cluster.kubectl(
        "rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={LIMIT:.0f}s", limit=LIMIT + 10
    )
    found: list[dict[str, Any]] = cluster.get("pods", "-n", namespace, "-l", f"app={name}")["items"]
    return found


@contextmanager
def watched_pods(cluster: Cluster, namespace: str, output: Path) -> Iterator[Path]:
    """Every state a pod passes through, one line each: phase|waiting reason|Ready|being deleted."""
    ready = '{.status.conditions[?(@.type=="Ready")].status}'
    waiting = "{.status.containerStatuses[0].state.waiting.reason}"
    line = f'{{.status.phase}}|{waiting}|{ready}|{{.metadata.deletionTimestamp}}{{"\\n"}}'
    kubectl = [str(cluster.program("kubectl")), "--kubeconfig", str(cluster.kubeconfig)]
    with output.open("w") as lines:
        watch = subprocess.Popen(
            [*kubectl, "get", "pods", "-n", namespace, "-w", "-o", f"jsonpath={line}"], stdout=lines
        )
        try:
            yield output
        finally:
            watch.terminate()
            watch.wait(10)


def states(output: Path) -> list[str]:
    """The distinct states in the order in which they appeared."""
    seen: list[str] = []
    for line in output.read_text().splitlines():
        phase, waiting, ready, deleted = line.split("|")
        state = "|".join([phase, waiting, ready, "deleted" if deleted else ""])
        if state not in seen:
            seen.append(state)
    return seen


@contextmanager
def answering(port: int, text: str) -> Iterator[None]:
    """Answers /metrics on that port of every simulated address; %IP% becomes the address that was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text.replace("%IP%", self.connection.getsockname()[0]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet: pytest shows what matters."""

    with ThreadingHTTPServer(("0.0.0.0", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(10)


def query(cluster: Cluster, expression: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(
        f"{cluster.prometheus_url}/api/v1/query?query={quote(expression)}", timeout=10
    ) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def test_the_api_server_answers_with_its_pinned_version(cluster: Cluster) -> None:
    versions = json.loads(cluster.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == KUBERNETES_VERSION


def test_a_service_account_may_do_only_what_it_was_given(cluster: Cluster, kube_namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "reader", "-n", kube_namespace)
    mine = str(cluster.service_account_kubeconfig(kube_namespace, "reader"))
    reading = ("--kubeconfig", mine, "get", "pods", "-n", kube_namespace)
    with pytest.raises(CommandError, match="Forbidden"):
        cluster.kubectl(*reading)
    cluster.kubectl("create", "role", "pods", "--verb=get,list", "--resource=pods", "-n", kube_namespace)
    account = f"--serviceaccount={kube_namespace}:reader"
    cluster.kubectl("create", "rolebinding", "pods", "--role=pods", account, "-n", kube_namespace)
    wait_for(lambda: succeeds(cluster, *reading), "the new Role to count", LIMIT)


def succeeds(cluster: Cluster, *arguments: str) -> bool:
    try:
        cluster.kubectl(*arguments)
    except CommandError:
        return False
    return True


def test_nodes_have_gpus_and_an_address_of_their_own(cluster: Cluster, gpu_nodes: list[str]) -> None:
    nodes = [cluster.get("node", name) for name in gpu_nodes]
    assert all(node["status"]["allocatable"]["nvidia.com/gpu"] == "8" for node in nodes)
    found = {
        address["address"]
        for node in nodes
        for address in node["status"]["addresses"]
        if address["type"] == "InternalIP"
    }
    assert len(found) == len(nodes)
    assert all(ip_address(address) in ip_network(NODES) for address in found)


@pytest.mark.usefixtures("gpu_nodes")
def test_a_vllm_pod_pulls_loads_serves_and_drains(cluster: Cluster, kube_namespace: str, tmp_path: Path) -> None:
    with watched_pods(cluster, kube_namespace, tmp_path / "states") as seen:
        create(cluster, kube_namespace, deployment("llama", pull="0.5", load="2", drain="1"))
        wait_available(cluster, kube_namespace, "llama")
        cluster.kubectl("scale", "deployment/llama", "--replicas=0", "-n", kube_namespace)
        wait_for(lambda: not cluster.get("pods", "-n", kube_namespace)["items"], "the drained pod to go", LIMIT)
    passed = states(seen)
    life = [
        "Pending|ContainerCreating|False|",
        "Running||False|",
        "Running||True|",
        "Running||False|deleted",
    ]
    assert [state for state in passed if state in life] == life


@pytest.mark.usefixtures("gpu_nodes")
def test_a_change_of_the_pod_does_not_begin_its_load_again(cluster: Cluster, kube_namespace: str) -> None:
    create(cluster, kube_namespace, deployment("llama", load="3"))
    until = wait_for(lambda: loading_until(cluster, kube_namespace), "the model to load", LIMIT)
    cluster.kubectl("annotate", "pods", "--all", "note=changed", "-n", kube_namespace)
    assert loading_until(cluster, kube_namespace) in {until, None}
    wait_available(cluster, kube_namespace, "llama")


def loading_until(cluster: Cluster, namespace: str) -> str | None:
    for pod in cluster.get("pods", "-n", namespace)["items"]:
        for condition in pod["status"].get("conditions", []):
            if condition.get("message", "").startswith("loading the model until"):
                return str(condition["message"])
    return None


@pytest.mark.usefixtures("gpu_nodes")
def test_more_gpus_than_there_are_leave_a_pod_pending(cluster: Cluster, kube_namespace: str) -> None:
    create(cluster, kube_namespace, deployment("huge", gpus=9))
    wait_for(
        lambda: "Insufficient nvidia.com/gpu" in cluster.kubectl("get", "events", "-n", kube_namespace),
        "the scheduler's refusal",
        LIMIT,
    )


@pytest.mark.usefixtures("gpu_nodes")
def test_every_pod_answers_at_its_own_address(cluster: Cluster, kube_namespace: str) -> None:
    create(cluster, kube_namespace, deployment("llama", replicas=3))
    found = [pod["status"]["podIP"] for pod in wait_available(cluster, kube_namespace, "llama")]
    assert len(set(found)) == 3
    assert all(ip_address(address) in ip_network(PODS) for address in found)
    with answering(8000, "%IP%"):
        for address in found:
            with urllib.request.urlopen(f"http://{address}:8000/metrics", timeout=10) as answer:
                assert answer.read().decode() == address


def test_prometheus_finds_pods_and_nodes_by_itself(cluster: Cluster, kube_namespace: str, gpu_nodes: list[str]) -> None:
    watts = 'DCGM_FI_DEV_POWER_USAGE{gpu="0",namespace="team",pod="workload"} 71.5\n'
    with answering(8000, "vllm:num_requests_running 3\n"), answering(9400, watts):
        create(cluster, kube_namespace, deployment("llama", replicas=2))
        pods = {pod["metadata"]["name"] for pod in wait_available(cluster, kube_namespace, "llama")}
        running = f'vllm:num_requests_running{{job="vllm",namespace="{kube_namespace}"}}'
        wait_for(
            lambda: {series["metric"]["pod"] for series in query(cluster, running)} == pods,
            "both pods in Prometheus",
            LIMIT,
        )
        assert all(series["metric"]["node"] in gpu_nodes for series in query(cluster, running))
        # The exporter's own pod and namespace labels name the workload, and win over the target's.
        power = 'DCGM_FI_DEV_POWER_USAGE{job="dcgm-exporter",namespace="team",pod="workload"}'
        wait_for(
            lambda: {series["metric"]["node"] for series in query(cluster, power)} >= set(gpu_nodes),
            "every node's GPUs in Prometheus",
            LIMIT,
        )


def test_prometheus_comes_back_with_what_it_knew(cluster: Cluster) -> None:
    with answering(9123, "told_once 42\n"):
        cluster.scrape_also("extra", ["127.0.0.1:9123"])
        wait_for(lambda: query(cluster, "told_once"), "the fixed target", LIMIT)
    cluster.stop_prometheus()
    with pytest.raises(OSError, match="refused"):
        query(cluster, "told_once")
    cluster.start_prometheus()
    wait_for(lambda: query(cluster, "last_over_time(told_once[1h])"), "the series from before", LIMIT)


def test_the_api_server_comes_back_with_its_objects(cluster: Cluster, kube_namespace: str) -> None:
    before = cluster.process_ids()
    cluster.kubectl("create", "configmap", "kept", "--from-literal=a=b", "-n", kube_namespace)
    cluster.restart_apiserver()
    assert cluster.get("configmap", "kept", "-n", kube_namespace)["data"] == {"a": "b"}
    after = cluster.process_ids()
    assert after["kube-apiserver"] != before["kube-apiserver"]
    assert after["etcd"] == before["etcd"]


def test_the_audit_log_tells_who_wrote(cluster: Cluster, kube_namespace: str) -> None:
    cluster.kubectl("create", "serviceaccount", "writer", "-n", kube_namespace)
    cluster.kubectl("get", "pods", "-n", kube_namespace)
    mine = [event for event in cluster.audit_events() if event.namespace == kube_namespace]
    by_admin = [event for event in mine if event.user == "admin"]
    assert ("serviceaccounts", "writer") in {(event.resource, event.name) for event in by_admin if event.is_write}
    assert "pods" in {event.resource for event in by_admin if not event.is_write}


RUN = """
import time
from e2e.harness.cluster import Cluster

with Cluster(prometheus=False) as cluster:
    cluster.add_gpu_nodes(1)
    print(cluster.folder.name, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_run_that_is_ended_leaves_nothing_running(number: signal.Signals) -> None:
    command = [sys.executable, "-c", RUN]
    entry = f"import sys; from {run_inside.__module__} import run_inside; sys.exit(run_inside({command!r}))"
    run = subprocess.Popen([sys.executable, "-c", entry], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    with run:
        try:
            assert run.stdout is not None
            name = run.stdout.readline().strip()
            assert name, "the run ended before its cluster was up"
            assert len(processes_naming(name)) >= 5
            run.send_signal(number)
            assert run.wait(LIMIT) != 0
            wait_for(lambda: not processes_naming(name), "the run's processes to end", LIMIT)
        finally:
            run.kill()


def processes_naming(text: str) -> list[int]:
    """Live processes with that text in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text in (entry / "cmdline").read_text(errors="replace"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_outside_the_namespace_a_cluster_test_fails_and_names_the_command() -> None:
    outside = {name: value for name, value in os.environ.items() if name != "FALLOW_HARNESS_NAMESPACE"}
    chosen = f"{__file__}::{test_the_api_server_answers_with_its_pinned_version.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", chosen],
        cwd=REPOSITORY,
        env=outside,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "make test" in done.stdout


def test_a_false_marker_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2e.harness.namespace.range_is_local", lambda: False)
    with pytest.raises(HarnessError, match="unset it"):
        Cluster()
