"""The node agent: who holds what by the kubelet, each pod's share by NVML, and a page that the operator reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fallow.adapters.metrics.dcgm import READ_NAMES, read_gpus
from fallow.adapters.metrics.exposition import parse_page
from fallow.adapters.node.exporter import NodeCollector, NodeSources
from fallow.adapters.node.nvml import Nvml, NvmlUnavailable, Process
from fallow.adapters.node.podresources import Held, KubeletUnavailable, PodResources
from fallow.adapters.node.processes import pods_of
from fallow.domain.figures import Missing
from fallow.domain.readings import PodRef
from fallow.domain.units import Instant, Joules, Watts
from tests.adapters.node.driver import Driver, Gpu, Sample
from tests.adapters.node.kubelet import answer, kubelet

CHAT, NOTEBOOK = PodRef("llm", "chat-1"), PodRef("lab", "notebook-0")


def page(driver: Driver, held: tuple[Held, ...] | Exception, *, meters: bool = False) -> list[str]:
    """The samples of the metrics page; processes 1 and 2 run in chat, 3 in the notebook, others in no pod."""

    def ask() -> tuple[Held, ...]:
        if isinstance(held, Exception):
            raise held
        return held

    pods = {1: CHAT, 2: CHAT, 3: NOTEBOOK}
    registry = CollectorRegistry(auto_describe=False)
    sources = NodeSources(Nvml(driver), ask, lambda pids: {pid: pods[pid] for pid in pids if pid in pods})
    registry.register(NodeCollector(sources, "node-a", meters=meters))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_the_kubelet_names_the_holder_of_each_device(tmp_path: Path) -> None:
    socket = tmp_path / "kubelet.sock"
    told = answer(
        ("llm", "chat-1", "vllm", "nvidia.com/gpu", ["GPU-a", "GPU-b"]),
        ("lab", "notebook-0", "main", "nvidia.com/gpu.shared", ["GPU-c::1"]),
        ("lab", "small-0", "main", "nvidia.com/mig-1g.10gb", ["MIG-x"]),
        ("net", "router-0", "main", "intel.com/sriov", ["0000:3b:02.1"]),
    )
    with kubelet(socket, told):
        asked = PodResources(socket)
        held = asked.held()
        asked.close()
    assert held == (
        Held("GPU-a", CHAT, "vllm"),
        Held("GPU-b", CHAT, "vllm"),
        Held("GPU-c", NOTEBOOK, "main"),
        Held("MIG-x", PodRef("lab", "small-0"), "main"),
    )


def test_a_kubelet_that_does_not_answer_is_named_with_its_socket(tmp_path: Path) -> None:
    asked = PodResources(tmp_path / "kubelet.sock", timeout=0.2)
    with pytest.raises(KubeletUnavailable, match=r"kubelet\.sock does not answer .* is the folder mounted"):
        asked.held()
    asked.close()


def test_nvml_is_read_in_our_units() -> None:
    (device,) = Nvml(Driver([Gpu("GPU-a", samples=[Sample(7, 1, 90), Sample(7, 2, 30), Sample(8, 1, 5)])])).devices()
    assert (device.power, device.energy, device.utilization) == (Watts(300), Joules(5000), 0.4)
    assert device.processes == (Process(7, 0.3), Process(8, 0.05))


def test_what_a_gpu_does_not_report_is_none_and_not_zero() -> None:
    silent = Gpu("GPU-a", milliwatts=None, millijoules=None, percent=None, samples=None)
    (device,) = Nvml(Driver([silent])).devices()
    assert (device.power, device.energy, device.utilization, device.processes) == (None, None, None, None)


def test_without_a_driver_nvml_says_what_to_do_and_recovers_when_it_comes() -> None:
    driver = Driver([Gpu("GPU-a")], loaded=False)
    nvml = Nvml(driver)
    with pytest.raises(NvmlUnavailable, match="runtimeClassName nvidia"):
        nvml.devices()
    driver.loaded = True
    assert [device.uuid for device in nvml.devices()] == ["GPU-a"]


@pytest.mark.parametrize(
    "group",
    [
        "0::/kubepods.slice/kubepods-burstable-pod1b9d6bcd_bbfd_4b2d_9b5d_ab8dfbbd4bed.slice/cri-containerd-0af3.scope",
        "12:devices:/kubepods/besteffort/pod1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/0af3",
    ],
    ids=["systemd", "cgroupfs"],
)
def test_the_control_group_leads_to_the_pod(tmp_path: Path, group: str) -> None:
    logs, proc = tmp_path / "pods", tmp_path / "proc"
    (logs / "llm_chat-1_1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed").mkdir(parents=True)
    for pid, text in ((41, group), (42, "0::/user.slice/session-1.scope")):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "cgroup").write_text(text)
    assert pods_of([41, 42, 43], logs=logs, proc=proc) == {41: CHAT}
    assert pods_of([41], logs=tmp_path / "not mounted", proc=proc) == {}


def test_shares_are_told_by_pod_and_whoever_holds_a_gpu_and_ran_nothing_has_none() -> None:
    samples = [Sample(1, 1, 20), Sample(2, 1, 30), Sample(99, 1, 10)]
    lines = page(
        Driver([Gpu("GPU-a", samples=samples)]), (Held("GPU-a", CHAT, "vllm"), Held("GPU-a", NOTEBOOK, "main"))
    )
    assert 'fallow_agent_process_sm_utilization_ratio{UUID="GPU-a",namespace="lab",pod="notebook-0"} 0.0' in lines
    assert 'fallow_agent_process_sm_utilization_ratio{UUID="GPU-a",namespace="llm",pod="chat-1"} 0.5' in lines
    assert sum("process_sm" in line for line in lines) == 2


def test_a_gpu_that_does_not_tell_its_processes_gives_no_share_at_all() -> None:
    lines = page(Driver([Gpu("GPU-a", samples=None)]), (Held("GPU-a", CHAT, "vllm"),))
    assert not any("process_sm" in line for line in lines)


def test_a_mig_instance_is_told_as_its_gpu_and_number() -> None:
    driver = Driver([Gpu("GPU-a", instances={"MIG-x": 3, "MIG-y": 5})])
    lines = page(driver, (Held("MIG-y", CHAT, "vllm"),))
    assert (
        'fallow_agent_gpu_holder{GPU_I_ID="5",UUID="GPU-a",container="vllm",namespace="llm",pod="chat-1"} 1.0' in lines
    )


def test_a_source_that_is_silent_is_told_and_the_other_still_serves() -> None:
    lines = page(Driver([], loaded=False), (Held("GPU-a", CHAT, "vllm"),))
    assert 'fallow_agent_up{source="nvml"} 0.0' in lines
    assert any(line.startswith("fallow_agent_gpu_holder") for line in lines)
    lines = page(Driver([Gpu("GPU-a")]), KubeletUnavailable("no socket"))
    assert 'fallow_agent_up{source="kubelet"} 0.0' in lines
    assert 'fallow_agent_up{source="nvml"} 1.0' in lines


def test_the_meters_are_read_by_the_operator_like_those_of_dcgm_exporter() -> None:
    lines = page(Driver([Gpu("GPU-a"), Gpu("GPU-b", millijoules=None)]), (), meters=True)
    gpus = read_gpus(parse_page("\n".join([*lines, ""]), READ_NAMES, {}, Instant(100)))
    assert {gpu.node for gpu in gpus.values()} == {"node-a"}
    assert not isinstance(gpus["GPU-a"].counter, Missing)
    assert gpus["GPU-a"].counter.joules == Joules(5000)
    assert not isinstance(gpus["GPU-b"].power, Missing)
    assert gpus["GPU-b"].power.watts == Watts(300)
    assert isinstance(gpus["GPU-b"].counter, Missing)
