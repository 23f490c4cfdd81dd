"""Whom to ask for readings, from the cluster as it is watched."""

from collections.abc import Iterable

from fallow.domain.snapshots import ClusterView, Pod
from fallow.ports import EngineTarget, ReadScope


def scope_of(view: ClusterView) -> ReadScope:
    return ReadScope(
        engines=targets_of(pod for pod in view.pods.values() if pod.service is not None and pod.ready),
        nodes={node.name: node.address for node in view.nodes.values() if node.gpus and node.address},
        waiting_metrics=waiting_metrics(view),
    )


def targets_of(pods: Iterable[Pod]) -> tuple[EngineTarget, ...]:
    """Those that have an address already."""
    return tuple(EngineTarget(pod.ref, pod.address, pod.port) for pod in pods if pod.address)


def waiting_metrics(view: ClusterView) -> frozenset[str]:
    """Of the requests that may wait for any service."""
    return frozenset(service.scaling.wake.metric for service in view.services.values() if service.scaling.wake)
