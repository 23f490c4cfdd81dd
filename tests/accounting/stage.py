"""A small cluster as Kubernetes objects that both sides read: the twin for physics, the operator for its picture."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from fallow.adapters.cluster import parts
from fallow.adapters.metrics import dcgm, host, vllm
from fallow.adapters.metrics.exposition import parse_page
from fallow.adapters.metrics.samples import Sample
from fallow.domain.readings import PodRef, Readings
from fallow.domain.snapshots import ClusterView, Workload
from fallow.domain.units import Instant
from fallow.twin.agent_metrics import agent_metrics
from fallow.twin.faults import DcgmFault, Faults
from fallow.twin.host_metrics import rapl_metrics
from fallow.twin.manifests import PodReader, node_from
from fallow.twin.pods import NodeFacts, PodPhase
from fallow.twin.server import dcgm_page
from fallow.twin.vllm_metrics import vllm_metrics
from fallow.twin.world import World

JSON = dict[str, Any]

# The numbers that the accounting reads; the latencies of a page are most of its lines.
ENGINE_NAMES = frozenset(vllm.STATE_NAMES)


def node(name: str, address: str, capacity: Mapping[str, int], *, zone: str, **more: Any) -> JSON:
    """`gpus` are physical, `replicas` copies of each; `annotations` are the twin's; with `agent` it runs Fallow's."""
    product = more.get("product", "NVIDIA-H100-80GB-HBM3")
    labels = {
        "region": zone,
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(more["gpus"]),
        "nvidia.com/gpu.replicas": str(more.get("replicas", 1)),
        "nvidia.com/gpu.sharing-strategy": "time-slicing" if more.get("replicas", 1) > 1 else "none",
        "nvidia.com/mig.strategy": "mixed" if any("mig-" in resource for resource in capacity) else "none",
    } | ({"agent": "true"} if more.get("agent") else {})
    resources = {resource: str(count) for resource, count in capacity.items()}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels, "annotations": more.get("annotations", {})},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def stamp(at: float) -> str:
    """The API server's times have whole seconds."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Stage:
    """Puts pods on nodes and takes them through their life; `world` has the truth, `view` what an operator sees."""

    def __init__(self, nodes: list[JSON], *, started: float, sample_seconds: float, slice_seconds: float) -> None:
        """Nodes with the label `agent` run Fallow's node agent beside dcgm-exporter."""
        self.world = World(started=started, sample_seconds=sample_seconds, slice_seconds=slice_seconds)
        self.faults = Faults()
        self._nodes: dict[str, JSON] = {body["metadata"]["name"]: body for body in nodes}
        self._pods: dict[PodRef, JSON] = {}
        self._agents = {name for name, body in self._nodes.items() if body["metadata"]["labels"].get("agent")}
        self._reader = PodReader(lambda _: 0.2)
        self._made = 0
        for body in nodes:
            facts = node_from(body)
            assert isinstance(facts, NodeFacts), facts
            self.world.put_node(facts)

    @property
    def now(self) -> float:
        return self.world.now

    def nodes_with(self, resource: str, count: int) -> list[str]:
        """Those that have so many free places of this kind."""
        return [
            name
            for name in self.world.fleet.nodes
            if sum(
                place.resource == resource and place.holder is None
                for gpu in self.world.fleet.gpus_of(name)
                for place in gpu.places
            )
            >= count
        ]

    def create(self, namespace: str, name: str, node_name: str, resource: str, count: int, **more: Any) -> PodRef:
        """A pod of the Deployment `name` with `labels`, `annotations` and `args`; it begins to pull its image now."""
        self._made += 1
        ref = PodRef(namespace, f"{name}-{crc32(name.encode()):010x}-p{self._made:04d}")
        made = stamp(self.now)
        limits = {resource: str(count)}
        self._pods[ref] = {
            "metadata": {
                "namespace": namespace,
                "name": ref.name,
                "uid": f"uid-{ref.name}",
                "creationTimestamp": made,
                "labels": more.get("labels", {}),
                "annotations": more.get("annotations", {}),
            },
            "spec": {
                "nodeName": node_name,
                "containers": [{"name": "main", "args": more.get("args", []), "resources": {"limits": limits}}],
            },
            "status": {"phase": "Pending", "startTime": made, "conditions": [{"type": "Ready", "status": "False"}]},
        }
        self._tell(ref)
        return ref

    def start(self, ref: PodRef) -> None:
        """The container runs and loads its model."""
        running = {"name": "main", "state": {"running": {"startedAt": stamp(self.now)}}}
        self._pods[ref]["status"] |= {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [running]}
        self._tell(ref)

    def ready(self, ref: PodRef) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": stamp(self.now)}
        self._pods[ref]["status"]["conditions"] = [condition]
        self._tell(ref)

    def delete(self, ref: PodRef, grace: float = 60.0) -> None:
        """It takes no more requests and finishes those it has."""
        metadata = self._pods[ref]["metadata"]
        metadata |= {"deletionTimestamp": stamp(self.now + grace), "deletionGracePeriodSeconds": int(grace)}
        condition = {"type": "Ready", "status": "False", "lastTransitionTime": stamp(self.now)}
        self._pods[ref]["status"]["conditions"] = [condition]
        self._tell(ref)

    def remove(self, ref: PodRef) -> None:
        del self._pods[ref]
        self.world.remove_pod(ref)

    def pods(self, prefix: str, phase: PodPhase | None = None) -> list[PodRef]:
        """Pods of this name that are not on their way out, or in one phase, oldest first."""
        known = self.world.fleet.pods
        return [
            ref
            for ref in self._pods
            if ref.name.rsplit("-", 2)[0] == prefix
            and (known[ref].facts.phase is phase if phase else known[ref].facts.phase is not PodPhase.DRAINING)
        ]

    def view(self, workloads: tuple[Workload, ...] = ()) -> ClusterView:
        pods = [parts.read_pod(body) for body in self._pods.values()]
        return ClusterView(
            nodes={name: parts.read_node(body) for name, body in self._nodes.items()},
            pods={pod.ref: pod for pod in pods if pod is not None},
            workloads=workloads,
        )

    def scrape(self) -> Readings:
        """What exporters write now, through the adapters' own parsers."""
        now = Instant(self.now)
        addresses: dict[str, str] = {}
        samples: list[Sample] = []
        hosts: list[Sample] = []
        for name, facts in self.world.fleet.nodes.items():
            addresses[facts.address] = name
            fault = self.faults.of_node(name)
            if fault is not DcgmFault.DOWN:
                labels = {"instance": f"{facts.address}:9400", "node": name}
                samples += parse_page(self._dcgm(facts, fault), dcgm.READ_NAMES, labels, now)
            if name in self._agents:
                labels = {"instance": f"{facts.address}:9401", "node": name}
                page = agent_metrics(self.world.fleet.gpus_of(name))
                samples += parse_page(page, dcgm.READ_NAMES, labels, now)
            if facts.host_meter.rapl:
                labels = {"instance": f"{facts.address}:9100", "node": name}
                hosts += parse_page(rapl_metrics(self.world.fleet.hosts[name]), host.READ_NAMES, labels, now)
        engines = vllm.read_engines(self._engine_samples(now))
        return Readings(
            at=now,
            gpus=dcgm.read_gpus(samples, exporters=dcgm.Exporters(node_names=addresses)),
            engines=engines.readings,
            hosts=host.read_hosts(hosts, addresses),
            pod_faults=engines.faults,
        )

    def _dcgm(self, facts: NodeFacts, fault: DcgmFault | None) -> str:
        text = dcgm_page(self.world, facts, fault)
        return self.faults.frozen(facts.name, text) if fault is DcgmFault.FROZEN else text

    def _engine_samples(self, now: Instant) -> list[tuple[PodRef, Sample]]:
        found: list[tuple[PodRef, Sample]] = []
        for ref, pod in self.world.fleet.pods.items():
            if pod.engine is not None and pod.facts.engine is not None and pod.facts.service is not None:
                page = vllm_metrics(pod.facts.engine, pod.engine, started=pod.ready_at or 0.0)
                found += [(ref, sample) for sample in parse_page(page, ENGINE_NAMES, {}, now)]
        return found

    def _tell(self, ref: PodRef) -> None:
        facts = self._reader.read(self._pods[ref])
        assert facts is not None
        self.world.put_pod(facts)
