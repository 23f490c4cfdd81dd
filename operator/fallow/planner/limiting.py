"""From what a plan allows each service's GPUs to the power limits of nodes."""

from collections.abc import Mapping

from fallow.domain.plans import Plan
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Watts
from fallow.footprint.attribution import own_gpus


def power_limits(snapshot: Snapshot, plan: Plan) -> Mapping[str, Mapping[str, Watts]]:
    """By node and GPU, of every node of which a GPU was seen that can be limited: empty where none of its is."""
    limits: dict[str, dict[str, Watts]] = {
        gpu.node: {} for gpu in snapshot.readings.gpus.values() if gpu.limit is not None
    }
    for one in plan.services.values():
        if one.power_limit is None:
            continue
        for pod in snapshot.pods_of(one.key):
            for gpu in own_gpus(snapshot, pod):
                if gpu.limit is not None:
                    limits[gpu.node][gpu.uuid] = one.power_limit
    return limits
