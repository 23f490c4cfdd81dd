"""Pods and Nodes as the API server shows them, read into facts."""

from typing import Any

import pytest

from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.host import HostMeter
from fallow.twin.manifests import PodReader, flags_of, node_from
from fallow.twin.physics.constants import Gpu
from fallow.twin.pods import Division, ExporterFacts, NodeFacts, PodFacts, PodPhase

READER = PodReader(lambda key: 0.25 if key == ServiceKey("demo", "chat") else 0.0)


def a_manifest(
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    args: list[str] | None = None,
    ready: bool = True,
    phase: str = "Running",
    **metadata: Any,
) -> dict[str, Any]:
    own = {"app.kubernetes.io/managed-by": "fallow", "fallow.dev/service": "chat", "fallow.dev/variant": "fp8"}
    return {
        "metadata": {
            "namespace": "demo",
            "name": "chat-1",
            "uid": "u1",
            "labels": own if labels is None else labels,
            "annotations": annotations or {},
            **metadata,
        },
        "spec": {
            "nodeName": "gpu-1",
            "containers": [
                {"name": "sidecar", "resources": {}},
                {
                    "name": "vllm",
                    "args": args or ["--model", "org/Llama-3.1-8B", "--served-model-name", "chat"],
                    "resources": {"limits": {"nvidia.com/gpu": "1"}},
                },
            ],
        },
        "status": {
            "phase": phase,
            "podIP": "198.18.0.7",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def read(manifest: dict[str, Any]) -> PodFacts:
    facts = READER.read(manifest)
    assert facts is not None
    return facts


def test_a_pod_of_fallow_is_an_engine() -> None:
    facts = read(a_manifest())
    assert facts.engine is not None
    assert (facts.service, facts.variant, facts.container) == (ServiceKey("demo", "chat"), "fp8", "vllm")
    assert (facts.address, facts.node, facts.gpus) == ("198.18.0.7", "gpu-1", 1)
    assert (facts.engine.model, facts.engine.served_name) == ("org/Llama-3.1-8B", "chat")
    assert facts.engine.limits.prefix_hit_share == 0.25


def test_an_annotated_pod_of_others_is_an_engine_and_an_unmarked_one_is_not() -> None:
    annotated = read(a_manifest(labels={}, annotations={"twin.fallow.dev/engine": "vllm"}))
    plain = read(a_manifest(labels={}, annotations={"twin.fallow.dev/watts": "300"}))
    assert annotated.engine is not None
    assert annotated.service is None
    assert (plain.engine, plain.watts) == (None, 300.0)


@pytest.mark.parametrize(
    ("manifest", "phase"),
    [
        (a_manifest(phase="Pending", ready=False), PodPhase.PULLING),
        (a_manifest(ready=False), PodPhase.LOADING),
        (a_manifest(), PodPhase.READY),
        (a_manifest(deletionTimestamp="2026-11-22T10:00:00Z"), PodPhase.DRAINING),
        (a_manifest(ready=False, deletionTimestamp="2026-11-22T10:00:00Z"), PodPhase.DRAINING),
    ],
    ids=["pulling", "loading", "ready", "draining", "draining and no longer ready"],
)
def test_the_phase_follows_the_status(manifest: dict[str, Any], phase: PodPhase) -> None:
    assert read(manifest).phase is phase


def test_pods_that_hold_no_gpu_are_left_out() -> None:
    unscheduled = a_manifest()
    del unscheduled["spec"]["nodeName"]
    without = a_manifest()
    del without["spec"]["containers"][1]["resources"]
    assert [READER.read(m) for m in (unscheduled, without, a_manifest(phase="Succeeded"))] == [None, None, None]


@pytest.mark.parametrize(
    ("labels", "args", "precision"),
    [
        ({"fallow.dev/precision": "FP8"}, [], Precision.FP8),
        ({"fallow.dev/precision": "INT4"}, ["--quantization", "fp8"], Precision.INT4),
        ({}, ["--quantization=awq_marlin"], Precision.INT4),
        ({}, ["--model", "org/Llama-3.1-8B-FP8"], Precision.FP8),
        ({}, ["--model", "org/Llama-3.1-8B"], Precision.BF16),
    ],
)
def test_precision_comes_from_the_label_then_the_flag_then_the_name(
    labels: dict[str, str], args: list[str], precision: Precision
) -> None:
    facts = read(a_manifest(labels={"app.kubernetes.io/managed-by": "fallow", **labels}, args=args or ["--model", "m"]))
    assert facts.engine is not None
    assert facts.engine.precision is precision


def test_an_annotation_says_which_model_another_is_like() -> None:
    facts = read(a_manifest(annotations={"twin.fallow.dev/model-class": "70b"}, args=["--model", "my-model"]))
    assert facts.engine is not None
    assert (facts.engine.model, facts.engine.like) == ("my-model", "70b")


def test_limits_and_sleep_mode_are_read_from_flags_and_environment() -> None:
    manifest = a_manifest(args=["--model=m", "--max-num-seqs=64", "--max-model-len", "8192", "--enable-sleep-mode"])
    asleep = read(manifest)
    manifest["spec"]["containers"][1]["env"] = [{"name": "VLLM_SERVER_DEV_MODE", "value": "1"}]
    facts = read(manifest)
    assert asleep.engine is not None
    assert facts.engine is not None
    assert (facts.engine.limits.max_num_seqs, facts.engine.limits.max_model_len) == (64, 8192)
    assert (asleep.engine.sleep_mode, facts.engine.sleep_mode) == (False, True)


def test_flags_are_read_in_every_spelling() -> None:
    words = [
        "vllm",
        "serve",
        "org/model",
        "--served-model-name",
        "a",
        "b",
        "--port=8000",
        "--enable-sleep-mode",
        "-q",
        "fp8",
    ]
    assert flags_of(words) == {
        "--model": "org/model",
        "--served-model-name": "a",
        "--port": "8000",
        "--enable-sleep-mode": "",
        "-q": "fp8",
    }


def a_node_manifest(product: str = "NVIDIA-H100-80GB-HBM3", gpus: str = "8") -> dict[str, Any]:
    return {
        "metadata": {"name": "gpu-1", "uid": "n1", "labels": {"nvidia.com/gpu.product": product}},
        "status": {
            "capacity": {"cpu": "8", "nvidia.com/gpu": gpus},
            "addresses": [{"type": "Hostname", "address": "gpu-1"}, {"type": "InternalIP", "address": "198.19.0.1"}],
        },
    }


def test_a_gpu_node_is_read() -> None:
    assert node_from(a_node_manifest()) == NodeFacts("gpu-1", "n1", "198.19.0.1", Gpu.H100, 8)


def test_a_node_without_gpus_is_nothing_and_an_unknown_gpu_says_so() -> None:
    assert node_from(a_node_manifest(gpus="0")) is None
    unknown = node_from(a_node_manifest("Tesla-V100"))
    assert isinstance(unknown, str)
    assert "knows no watts of Tesla-V100" in unknown


@pytest.mark.parametrize(
    ("product", "gpu"),
    [
        ("NVIDIA-A100-SXM4-80GB", Gpu.A100),
        ("NVIDIA-L40S", Gpu.L40S),
        ("NVIDIA-L4", Gpu.L4),
        ("NVIDIA-H200", Gpu.H200),
        ("NVIDIA-B200", Gpu.B200),
    ],
)
def test_products_are_known_by_their_label(product: str, gpu: Gpu) -> None:
    facts = node_from(a_node_manifest(product))
    assert isinstance(facts, NodeFacts)
    assert facts.gpu is gpu


def a_divided_node(capacity: dict[str, str], annotations: dict[str, str] | None = None, **labels: str) -> NodeFacts:
    manifest = a_node_manifest(labels.pop("product", "NVIDIA-H100-80GB-HBM3"))
    manifest["metadata"]["labels"] |= {f"nvidia.com/{name.replace('_', '.')}": value for name, value in labels.items()}
    manifest["metadata"]["annotations"] = annotations or {}
    manifest["status"]["capacity"] = capacity
    facts = node_from(manifest)
    assert isinstance(facts, NodeFacts), facts
    return facts


def test_mixed_mig_instances_are_dealt_over_the_physical_gpus() -> None:
    capacity = {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "2", "nvidia.com/mig-3g.40gb": "4"}
    facts = a_divided_node(capacity, gpu_count="2", mig_strategy="mixed")
    names = [[profile.name for profile in gpu] for gpu in facts.division.instances]
    assert (facts.gpus, names) == (2, [["3g.40gb", "3g.40gb", "1g.10gb"]] * 2)


def test_mig_of_the_single_strategy_is_read_from_the_product() -> None:
    facts = a_divided_node(
        {"nvidia.com/gpu": "14"}, product="NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", mig_strategy="single", gpu_count="14"
    )
    assert (facts.gpus, facts.division.single) == (2, True)
    assert [len(gpu) for gpu in facts.division.instances] == [7, 7]


def test_instances_without_room_are_told() -> None:
    manifest = a_node_manifest()
    manifest["status"]["capacity"] = {"nvidia.com/mig-3g.40gb": "3"}
    assert "no room for the MIG instances" in str(node_from(manifest))


@pytest.mark.parametrize("resource", ["nvidia.com/gpu", "nvidia.com/gpu.shared"])
def test_copies_are_read_from_the_replicas(resource: str) -> None:
    product = "NVIDIA-H100-80GB-HBM3-SHARED" if resource == "nvidia.com/gpu" else "NVIDIA-H100-80GB-HBM3"
    facts = a_divided_node({resource: "8"}, product=product, gpu_count="2", gpu_replicas="4")
    assert (facts.gpus, facts.division) == (2, Division(copies=4, resource=resource))


def test_a_nodes_exporters_are_annotated() -> None:
    annotations = {
        "twin.fallow.dev/virtual-gpus": "true",
        "twin.fallow.dev/nvidia-resource-names": "nvidia.com/gpu.shared",
        "twin.fallow.dev/host-meter": "kepler",
    }
    facts = a_divided_node({"nvidia.com/gpu": "1"}, annotations)
    assert facts.exporter == ExporterFacts(virtual_gpus=True, resource_names=frozenset({"nvidia.com/gpu.shared"}))
    assert facts.host_meter is HostMeter.KEPLER


def test_an_exporter_may_be_started_without_asking_the_kubelet() -> None:
    facts = a_divided_node({"nvidia.com/gpu": "1"}, {"twin.fallow.dev/kubernetes": "false"})
    assert facts.exporter == ExporterFacts(kubernetes=False)


def test_an_unknown_host_meter_says_what_to_write() -> None:
    manifest = a_node_manifest()
    manifest["metadata"]["annotations"] = {"twin.fallow.dev/host-meter": "ipmi"}
    assert "write one of rapl, kepler, both, none" in str(node_from(manifest))


@pytest.mark.parametrize("resource", ["nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"])
def test_a_pod_may_ask_for_a_part(resource: str) -> None:
    manifest = a_manifest()
    manifest["spec"]["containers"][1]["resources"] = {"limits": {"cpu": "4", resource: "1"}}
    facts = read(manifest)
    assert (facts.resource, facts.gpus) == (resource, 1)


@pytest.mark.parametrize(
    ("behaviour", "engine", "clients"),
    [("notebook", False, 0), ("training", False, 0), ("spin", False, 0), ("loaded", True, 0), ("half-filled", True, 4)],
)
def test_a_foreign_pod_behaves_as_annotated(behaviour: str, engine: bool, clients: int) -> None:
    facts = read(a_manifest(labels={}, annotations={"twin.fallow.dev/behaviour": behaviour}))
    assert facts.service is None
    assert (facts.behaviour is None) == engine
    assert (facts.engine.clients if facts.engine else 0) == clients


def test_the_twins_own_clients_are_annotated() -> None:
    facts = read(a_manifest(annotations={"twin.fallow.dev/clients": "12"}))
    assert facts.engine is not None
    assert facts.engine.clients == 12
