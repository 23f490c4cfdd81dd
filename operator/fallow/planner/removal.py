"""What it is worth that a node is removed, and what it takes to move the replicas on it."""

from fallow.domain.snapshots import Node, Pod, Snapshot
from fallow.domain.units import Joules, Seconds, Watts, energy
from fallow.footprint.hardware import board_of, hardware_of
from fallow.footprint.impacts import ANYWHERE
from fallow.footprint.zones import zone_of
from fallow.planner.capacity import profile_for
from fallow.planner.context import Context
from fallow.planner.replacing import to_load

# A prefix cache holds as much as before after so long. Assumed.
WARM_AFTER = Seconds(600)


def idle_watts(snapshot: Snapshot, node: Node) -> Watts:
    """Y1: of a node whose GPUs nobody holds: these without a context, and the rest of the machine as it is booked."""
    zone = zone_of(node, snapshot.zones)
    host = (zone.zone if zone else ANYWHERE).host_per_gpu.best
    return (board_of(node.gpu_product).bare + host) * node.gpus


def takes_to_move(snapshot: Snapshot, pod: Pod, context: Context) -> Joules:
    """Y2: to load a replica elsewhere, to let both run until the old one has drained, and to compute again what its
    prefix cache held; the last as far as a profile tells what prompts take.
    """
    profile = profile_for(context.serving, context.profiles, context.product)
    loaded = hardware_of(context.product or "").context * pod.gpus
    load, _ = to_load(profile, loaded)
    takes = load + energy(loaded, context.service.engine.termination_grace)
    before = None if snapshot.previous is None else snapshot.previous.engines.get(pod.ref)
    now = snapshot.readings.engines.get(pod.ref)
    if profile is None or profile.prefill_rate is None or not profile.points or before is None or now is None:
        return takes
    hits = max((now.cached_prompt_tokens or 0.0) - (before.cached_prompt_tokens or 0.0), 0.0)
    busy = hits / max(now.at - before.at, 1.0) / profile.prefill_rate
    return takes + energy(profile.points[-1].watts, Seconds(busy * WARM_AFTER))
