"""A real Prometheus that finds vLLM pods and GPU nodes by itself, as one in a cluster would."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.harness.control_plane import answers_ok
from e2e.harness.process import Program, free_ports

START_LIMIT = 60.0
DCGM_PORT = 9400
AGENT_PORT, RAPL_PORT, KEPLER_PORT = 9401, 9100, 28282
VLLM_PORT = 8000
# annotations of nodes: dcgm-exporter runs wherever there are GPUs, the others where a test says so
AGENT, HOST_METER = "twin.fallow.dev/agent", "twin.fallow.dev/host-meter"

Rules = list[dict[str, Any]]


class Prometheus:
    """Started and stopped at will; what it has stored survives, as its own restart would keep it."""

    def __init__(self, program: Path, folder: Path, kubeconfig: Path, scrape_seconds: float) -> None:
        self._config = folder / "prometheus.yaml"
        self._kubeconfig = kubeconfig
        self._scrape_seconds = scrape_seconds
        self._static: dict[str, list[str]] = {}
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self.program = Program(
            "prometheus",
            [
                str(program),
                f"--config.file={self._config}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                "--storage.tsdb.retention.time=6h",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--web.enable-lifecycle",
            ],
            folder / "prometheus.log",
        )

    def begin(self) -> None:
        """Starts it without waiting."""
        self._write_config()
        self.program.start()

    def wait_until_ready(self) -> None:
        self.program.wait_until(
            lambda: answers_ok(http.client.HTTPConnection("127.0.0.1", self._port, timeout=2), "/-/ready"),
            START_LIMIT,
        )

    def stop(self) -> None:
        self.program.stop()

    def is_running(self) -> bool:
        return self.program.is_running()

    def add_targets(self, job: str, addresses: Sequence[str]) -> None:
        """Fixed targets beside those it finds, such as the operator's own metrics."""
        self._static[job] = list(addresses)
        self._write_config()
        if self.is_running():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                connection.request("POST", "/-/reload")
                if connection.getresponse().status != http.HTTPStatus.OK:
                    raise self.program.fail("refused its new configuration")
            finally:
                connection.close()

    def _write_config(self) -> None:
        self._config.write_text(
            yaml.safe_dump(configuration(self._kubeconfig, self._scrape_seconds, self._static), sort_keys=False)
        )


def configuration(kubeconfig: Path, scrape_seconds: float, static: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    interval = f"{round(scrape_seconds * 1000)}ms"
    jobs: list[dict[str, Any]] = [
        {
            "job_name": "vllm",
            "honor_labels": False,
            "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
            "relabel_configs": vllm_rules(),
        },
        # The exporter and the agent write namespace and pod of the workload that holds the GPU; those count.
        node_job("dcgm-exporter", kubeconfig, DCGM_PORT, "label", "nvidia.com/gpu.product", ".+"),
        node_job("node-agent", kubeconfig, AGENT_PORT, "annotation", AGENT, "true"),
        node_job("node-exporter", kubeconfig, RAPL_PORT, "annotation", HOST_METER, "rapl|both"),
        node_job("kepler", kubeconfig, KEPLER_PORT, "annotation", HOST_METER, "kepler|both"),
        *({"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in static.items()),
    ]
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "scrape_configs": jobs,
    }


def vllm_rules() -> Rules:
    pod = "__meta_kubernetes_pod"
    return [
        {
            "source_labels": [
                f"{pod}_label_app_kubernetes_io_managed_by",
                f"{pod}_annotation_prometheus_io_scrape",
            ],
            "regex": "fallow;.*|.*;true",
            "action": "keep",
        },
        {"source_labels": [f"{pod}_phase"], "regex": "Running", "action": "keep"},
        {
            "source_labels": [f"{pod}_ip"],
            "regex": "(.+)",
            "target_label": "__address__",
            "replacement": f"$1:{VLLM_PORT}",
        },
        {
            "source_labels": [f"{pod}_ip", f"{pod}_annotation_prometheus_io_port"],
            "regex": r"(.+);(\d+)",
            "target_label": "__address__",
            "replacement": "$1:$2",
        },
        {
            "source_labels": [f"{pod}_annotation_prometheus_io_path"],
            "regex": "(.+)",
            "target_label": "__metrics_path__",
        },
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": [f"{pod}_name"], "target_label": "pod"},
        {"source_labels": [f"{pod}_node_name"], "target_label": "node"},
    ]


def node_job(name: str, kubeconfig: Path, port: int, sort: str, key: str, values: str) -> dict[str, Any]:
    """An exporter at this port of the nodes of which the label or annotation matches; the jobs share one watch."""
    node = "__meta_kubernetes_node"
    fact = f"{node}_{sort}_" + re.sub(r"[^a-zA-Z0-9_]", "_", key)
    return {
        "job_name": name,
        "honor_labels": True,
        "kubernetes_sd_configs": [{"role": "node", "kubeconfig_file": str(kubeconfig)}],
        "relabel_configs": [
            {"source_labels": [fact], "regex": values, "action": "keep"},
            {
                "source_labels": [f"{node}_address_InternalIP"],
                "regex": "(.+)",
                "target_label": "__address__",
                "replacement": f"$1:{port}",
            },
            {"source_labels": [f"{node}_name"], "target_label": "node"},
        ],
    }
