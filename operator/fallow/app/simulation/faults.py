"""The faults of a scenario: read from its file, and told in words."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.api.durations import seconds
from fallow.app.simulation.scenario import FaultRule, Scenario, ScenarioError
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.setup import Crash, Fault, GpuFault, Hang, NodeLoss, Setup


def faults_of(scenario: Scenario, services: Sequence[ServiceKey]) -> tuple[Fault, ...]:
    """Raises ScenarioError, which says what to write instead."""
    return tuple(_fault(one, number, scenario, services) for number, one in enumerate(scenario.faults))


def fault_text(fault: Fault, setup: Setup) -> str:
    hours = f"after {fault.at / 3600:.4g} h"
    match fault:
        case Crash():
            return f"{hours} {fault.replicas} of {setup.services[fault.service].key} crash"
        case Hang():
            return f"{hours} {fault.replicas} of {setup.services[fault.service].key} hang {_back(fault.back)}"
        case GpuFault():
            return f"{hours} a GPU of {setup.services[fault.service].key} fails {_back(fault.back)}"
        case NodeLoss():
            which = "with most pods" if fault.node is None else str(fault.node)
            return f"{hours} node {which} is lost {_back(fault.back)}"


def _back(back: float | None) -> str:
    return "for good" if back is None else f"for {back / 60:.4g} min"


def _fault(one: FaultRule, number: int, scenario: Scenario, services: Sequence[ServiceKey]) -> Fault:
    where, at = f"faults.{number}", float(seconds(one.at))
    back = None if one.back is None else float(seconds(one.back))
    if sum(what is not None for what in (one.node, one.crash, one.hang, one.xid)) != 1:
        told = "write one of node: NUMBER or fullest, and crash, hang or xid: NAMESPACE/NAME"
        raise ScenarioError(f"{where}: {told}")
    if one.node is not None:
        count = sum(nodes.count for nodes in scenario.nodes)
        if isinstance(one.node, int) and not 0 <= one.node < count:
            raise ScenarioError(f"{where}.node: there is no node {one.node}: write 0 to {count - 1}, or fullest")
        return NodeLoss(at, one.node if isinstance(one.node, int) else None, back)
    names = [str(key) for key in services]
    what, name = next((what, name) for what in ("crash", "hang", "xid") if (name := getattr(one, what)) is not None)
    if name not in names:
        raise ScenarioError(f"{where}.{what}: {name!r} has no traffic: write one of {', '.join(names)}")
    service = names.index(name)
    match what:
        case "crash":
            return Crash(at, service, one.replicas)
        case "hang":
            return Hang(at, service, one.replicas, back)
        case _:
            return GpuFault(at, service, back)
