"""The faults of a scenario: read from its file, and told in words."""

from __future__ import annotations

from collections.abc import Sequence

from fallow.api.durations import seconds
from fallow.app.simulation.scenario import FaultRule, Scenario, ScenarioError
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.setup import Crash, Fault, NodeLoss, Setup


def faults_of(scenario: Scenario, services: Sequence[ServiceKey]) -> tuple[Fault, ...]:
    """Raises ScenarioError, which says what to write instead."""
    return tuple(_fault(one, number, scenario, services) for number, one in enumerate(scenario.faults))


def fault_text(fault: Fault, setup: Setup) -> str:
    hours = f"after {fault.at / 3600:.4g} h"
    if isinstance(fault, Crash):
        return f"{hours} {fault.replicas} of {setup.services[fault.service].key} crash"
    back = "for good" if fault.back is None else f"for {fault.back / 60:.4g} min"
    return f"{hours} node {'with most pods' if fault.node is None else fault.node} is lost {back}"


def _fault(one: FaultRule, number: int, scenario: Scenario, services: Sequence[ServiceKey]) -> Fault:
    where, at = f"faults.{number}", float(seconds(one.at))
    if (one.node is None) == (one.crash is None):
        raise ScenarioError(f"{where}: write one of node: NUMBER or fullest, and crash: NAMESPACE/NAME")
    if one.crash is not None:
        names = [str(key) for key in services]
        if one.crash not in names:
            raise ScenarioError(f"{where}.crash: {one.crash!r} has no traffic: write one of {', '.join(names)}")
        return Crash(at, names.index(one.crash), one.replicas)
    count = sum(nodes.count for nodes in scenario.nodes)
    if isinstance(one.node, int) and not 0 <= one.node < count:
        raise ScenarioError(f"{where}.node: there is no node {one.node}: write 0 to {count - 1}, or fullest")
    node = one.node if isinstance(one.node, int) else None
    return NodeLoss(at, node, None if one.back is None else float(seconds(one.back)))
