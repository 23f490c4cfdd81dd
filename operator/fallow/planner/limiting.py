"""From what a plan allows each service's GPUs to the limits that nodes' agents set."""

from collections.abc import Mapping

from fallow.domain.plans import GpuLimits, Plan, ServicePlan
from fallow.domain.readings import GpuReading
from fallow.domain.snapshots import Snapshot
from fallow.footprint.attribution import own_gpus


def gpu_limits(snapshot: Snapshot, plan: Plan) -> Mapping[str, Mapping[str, GpuLimits]]:
    """By node and GPU, of every node of which a GPU was seen that can be limited: empty where none of its is."""
    limits: dict[str, dict[str, GpuLimits]] = {
        gpu.node: {} for gpu in snapshot.readings.gpus.values() if gpu.limit is not None or gpu.clock is not None
    }
    for one in plan.services.values():
        if one.power_limit is None and one.clock is None:
            continue
        for pod in snapshot.pods_of(one.key):
            for gpu in own_gpus(snapshot, pod):
                found = _of(one, gpu)
                if found != GpuLimits():
                    limits[gpu.node][gpu.uuid] = found
    return limits


def _of(one: ServicePlan, gpu: GpuReading) -> GpuLimits:
    """What its agent can set of it. At the highest clock a GPU is as without Fallow."""
    power = None if gpu.limit is None else one.power_limit
    if gpu.clock is None or one.clock is None or not one.is_slowed:
        return GpuLimits(power)
    return GpuLimits(power, gpu.clock.highest * one.clock)
