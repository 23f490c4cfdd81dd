"""Whom to ask for readings, from the cluster as it is watched."""

from fallow.domain.snapshots import ClusterView
from fallow.ports import EngineTarget, ReadScope


def scope_of(view: ClusterView) -> ReadScope:
    return ReadScope(
        engines=tuple(
            EngineTarget(pod.ref, pod.address, pod.port)
            for pod in view.pods.values()
            if pod.service is not None and pod.ready and pod.address
        ),
        nodes={node.name: node.address for node in view.nodes.values() if node.gpus and node.address},
        waiting_metrics=frozenset(
            service.scaling.wake.metric for service in view.services.values() if service.scaling.wake
        ),
    )
