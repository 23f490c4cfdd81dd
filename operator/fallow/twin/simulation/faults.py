"""What befalls a simulated fleet at a set time: nodes are lost, engines crash or hang, GPUs fail."""

from __future__ import annotations

from fallow.twin.simulation.fleet import Fleet, Life
from fallow.twin.simulation.machines import Node, Power
from fallow.twin.simulation.setup import Fault, GpuFault, Hang, NodeLoss


def strike(fleet: Fleet, fault: Fault, now: float) -> None:
    """A node that is lost already, or engines that are not ready, cannot be struck."""
    if isinstance(fault, NodeLoss):
        node = _fullest(fleet) if fault.node is None else fleet.nodes[fault.node]
        if node is not None and not node.lost:
            fleet.lose(node, now, back=fault.back)
        return
    ready = [pod for pod in fleet.all_pods() if pod.service == fault.service and pod.life is Life.READY]
    count = 1 if isinstance(fault, GpuFault) else fault.replicas
    for pod in sorted(ready, key=lambda pod: (pod.ready_at or 0.0, pod.number))[:count]:
        match fault:
            case GpuFault():
                fleet.fail_gpu(pod, now, back=fault.back)
            case Hang():
                fleet.hang(pod, now, back=fault.back)
            case _:
                fleet.crash(pod, now)


def _fullest(fleet: Fleet) -> Node | None:
    """Of the nodes that are on; of equals the first."""
    there = [node for node in fleet.nodes if node.power is Power.ON]
    return max(there, key=lambda node: (node.kind.gpus - len(node.free), -node.number), default=None)
