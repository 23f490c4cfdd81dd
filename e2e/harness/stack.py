"""Fallow itself on a cluster: CRDs and the chart's rights, the twin, and the operator as a process beside it.

The operator runs with the token of the chart's own ServiceAccount, so a missing rule shows as a refusal.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from e2e.harness.build import KUBERNETES_VERSION
from e2e.harness.cluster import Cluster
from e2e.harness.errors import CommandError, HarnessError
from e2e.harness.locations import REPOSITORY
from e2e.harness.process import Program, free_ports, wait_for

CHART = REPOSITORY / "charts" / "fallow"
OPERATOR_NAMESPACE = "fallow-system"
RELEASE = "fallow"
# The operator's pod is left out: KWOK would only play it.
RIGHTS = ("serviceaccount", "rbac")
GATEWAY_PORT = 8080
START_LIMIT = 60.0
# The operator stores its ledger on the way out.
STOP_LIMIT = 15.0
HTTP_LIMIT = 10.0
KINDS = "inferenceservices.fallow.dev"

T = TypeVar("T")


class Stack:
    """`with Stack(cluster, scenario=...) as stack:`; everything it started ends with it.

    `operator_settings` are FALLOW_* variables, named without the prefix and in lower case. With `direct_scrape`
    the operator asks pods, nodes and gateway itself, else the cluster's Prometheus. `chart` are values of the chart.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        scenario: Mapping[str, Any] | Path | None = None,
        operator_settings: Mapping[str, object] | None = None,
        direct_scrape: bool = False,
        chart: Mapping[str, str] | None = None,
    ) -> None:
        self.cluster = cluster
        self.chart = dict(chart or {})
        self._scenario = scenario
        self._settings = dict(operator_settings or {})
        self._direct_scrape = direct_scrape
        self._control_port, self._metrics_port, self._health_port = free_ports(3)
        self._twin: Program | None = None
        self._operator: Program | None = None
        # A program that was stopped on purpose is not a failure.
        self._expected: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self.install()
            self.start_twin()
            self.start_operator()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def install(self) -> None:
        """CRDs, ServiceAccount and rights as the chart makes them; the operator runs beside the cluster, not in it."""
        made = self.cluster.helm(
            "template",
            RELEASE,
            str(CHART),
            f"--namespace={OPERATOR_NAMESPACE}",
            # What the chart is checked against; helm template asks no server.
            f"--kube-version={KUBERNETES_VERSION}",
            *(f"--show-only=templates/{part}.yaml" for part in RIGHTS),
            *(f"--set={name}={value}" for name, value in self.chart.items()),
        )
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR_NAMESPACE}}
        self.cluster.apply(namespace)
        self.cluster.apply(made)
        self.cluster.apply(CHART / "crds")
        for crd in sorted((CHART / "crds").glob("*.yaml")):
            name = yaml.safe_load(crd.read_text())["metadata"]["name"]
            self.cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{name}")
            # Established does not mean served yet: the first lists are refused while the storage is made.
            wait_for(partial(self._is_served, name), f"{name} being served", START_LIMIT)

    def _is_served(self, resource: str) -> bool:
        try:
            self.cluster.kubectl("get", resource, "--all-namespaces", "-o", "name")
        except CommandError:
            return False
        return True

    def start_twin(self) -> None:
        self._twin = Program("twin", self._twin_command(), self.cluster.folder / "twin.log")
        self._twin.start()
        self._twin.wait_until(lambda: self._answers(self._control_port, "/health"), START_LIMIT)
        if not self._direct_scrape:
            self.cluster.scrape_also("gateway", [f"127.0.0.1:{GATEWAY_PORT}"])

    def start_operator(self) -> None:
        """Starts it, again after a kill too; returns when it serves its metrics."""
        if self._operator is None:
            self._operator = self._operator_program()
        self._expected.discard("operator")
        self._operator.start()
        self._operator.wait_until(lambda: self._answers(self._metrics_port, "/metrics"), START_LIMIT)

    def stop_operator(self) -> None:
        """SIGTERM, as a rollout sends it."""
        self._expected.add("operator")
        self._needed(self._operator, "operator").stop(limit=STOP_LIMIT)

    def kill_operator(self) -> None:
        """SIGKILL, as a crash or a lost node would."""
        self._expected.add("operator")
        self._needed(self._operator, "operator").kill()

    def stop(self) -> None:
        running = [program for program in (self._operator, self._twin) if program is not None]
        for program in running:
            program.ask_to_stop()
        for program in running:
            program.stop(limit=STOP_LIMIT)

    def check(self) -> None:
        """Raises with the end of its log when a program ended that should run."""
        for program in (self._twin, self._operator):
            if program is not None and program.name not in self._expected and not program.is_running():
                raise program.fail("ended although it should run")

    def wait_until(self, condition: Callable[[], T | None], what: str, limit: float, poll: float = 0.5) -> T:
        """The first answer that is neither None nor False; raises with `what`, or when a program has died."""

        def checked() -> T | None:
            self.check()
            return condition()

        return wait_for(checked, what, limit, poll)

    # The cluster as Fallow's users see it.

    def service(self, namespace: str, name: str) -> dict[str, Any]:
        return self.cluster.get(KINDS, name, "--namespace", namespace)

    def services(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.get(KINDS, "--all-namespaces")["items"]
        return found

    def events(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """Events about one service, oldest first."""
        found: list[dict[str, Any]] = self.cluster.get(
            "events",
            f"--namespace={namespace}",
            f"--field-selector=involvedObject.kind=InferenceService,involvedObject.name={name}",
        )["items"]
        return sorted(found, key=event_time)

    def operator_metrics(self) -> dict[str, Metric]:
        """What the operator exposes now, by family."""
        text = self._ask("GET", self._metrics_port, "/metrics").decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    @property
    def operator_metrics_address(self) -> str:
        return f"127.0.0.1:{self._metrics_port}"

    def operator_log(self) -> str:
        return (self.cluster.folder / "operator.log").read_text(errors="replace")

    # The twin's control port: the truth of the simulation, its traffic and its faults.

    def twin_state(self, *, ttft: float | None = None, itl: float | None = None) -> dict[str, Any]:
        """Objectives in seconds add each service's attainment."""
        given = {"ttft": ttft, "itl": itl}
        query = "&".join(f"{name}={value:g}" for name, value in given.items() if value is not None)
        state: dict[str, Any] = json.loads(
            self._ask("GET", self._control_port, "/state" + (f"?{query}" if query else ""))
        )
        return state

    def twin_energy(self) -> dict[str, Any]:
        """True joules of every pod that is or was, of every GPU and node."""
        account: dict[str, Any] = json.loads(self._ask("GET", self._control_port, "/energy"))
        return account

    def traffic(self, namespace: str, service: str, traffic: Mapping[str, Any] | None) -> None:
        """From now on this is the service's traffic, written as in a scenario; None stops it."""
        body = {"namespace": namespace, "service": service, "traffic": traffic}
        self._ask("POST", self._control_port, "/traffic", body)

    def trace(self, namespace: str, service: str) -> str:
        """Everything that arrived for a service so far, as a trace file."""
        return self._ask("GET", self._control_port, f"/trace?namespace={namespace}&service={service}").decode()

    def faults(self, faults: Mapping[str, Any] | None) -> None:
        """Sets faults of the exporters, such as {"dcgm": {"node": "*", "mode": "down"}}; None clears all."""
        if faults is None:
            self._ask("DELETE", self._control_port, "/faults")
        else:
            self._ask("POST", self._control_port, "/faults", faults)

    def complete(
        self, namespace: str, service: str, prompt: str, *, max_tokens: int = 64, limit: float = 120.0
    ) -> dict[str, Any]:
        """One request through the gateway, answered once an engine is ready."""
        body = {"model": service, "prompt": prompt, "max_tokens": max_tokens}
        answer: dict[str, Any] = json.loads(
            self._ask("POST", GATEWAY_PORT, f"/{namespace}/{service}/v1/completions", body, limit=limit)
        )
        return answer

    def _twin_command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "fallow.twin",
            f"--kubeconfig={self.cluster.kubeconfig}",
            f"--scenario={self._scenario_file()}",
            f"--control-port={self._control_port}",
        ]

    def _scenario_file(self) -> Path:
        if isinstance(self._scenario, Path):
            return self._scenario
        path = self.cluster.folder / "scenario.yaml"
        path.write_text(yaml.safe_dump(dict(self._scenario or {})))
        return path

    def _operator_program(self) -> Program:
        kubeconfig = self.cluster.service_account_kubeconfig(OPERATOR_NAMESPACE, RELEASE)
        settings: dict[str, object] = {
            "namespace": OPERATOR_NAMESPACE,
            "kubeconfig": kubeconfig,
            "metrics_port": self._metrics_port,
            "health_port": self._health_port,
            "cycle_interval": 2,
        }
        if self._direct_scrape:
            settings["gateways"] = [f"http://127.0.0.1:{GATEWAY_PORT}/metrics"]
        else:
            settings["prometheus_url"] = self.cluster.prometheus_url
        env = {f"FALLOW_{name.upper()}": as_variable(value) for name, value in (settings | self._settings).items()}
        command = [str(Path(sys.executable).with_name("fallow")), "run"]
        return Program("operator", command, self.cluster.folder / "operator.log", env)

    def _answers(self, port: int, path: str) -> bool:
        try:
            self._ask("GET", port, path)
        except (OSError, HarnessError):
            return False
        return True

    def _ask(
        self, method: str, port: int, path: str, body: Mapping[str, Any] | None = None, *, limit: float = HTTP_LIMIT
    ) -> bytes:
        """One request on loopback; an answer other than 2xx raises with its words."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise HarnessError(f"{method} 127.0.0.1:{port}{path}: {error!r}") from error
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            raise HarnessError(f"{method} 127.0.0.1:{port}{path}: {answer.status} {content.decode(errors='replace')}")
        return content

    @staticmethod
    def _needed(program: Program | None, name: str) -> Program:
        if program is None:
            raise RuntimeError(f"the {name} was never started")
        return program


def as_variable(value: object) -> str:
    """As pydantic-settings reads it: JSON for lists and tables."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)


def event_time(event: Mapping[str, Any]) -> str:
    return str(event.get("eventTime") or event.get("lastTimestamp") or event["metadata"]["creationTimestamp"])
