"""What one GPU's energy of one slot was used for. The parts add up to the slot's energy exactly.

No single signal accuses: utilisation counts only together with tokens, watts or what the pipes did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fallow.domain.units import Seconds, Watts, energy
from fallow.domain.windows import EngineSlot, GpuSlot, Tenure
from fallow.footprint.hardware import UNKNOWN as UNKNOWN_HARDWARE
from fallow.footprint.hardware import Hardware, hardware_of, idle_ceiling

# a health check or a keep-alive kernel shows as a per cent or two; a single decode stream as tens
BUSY_ACTIVITY = 0.03
# an engine this full counts as filled: the target use that Knative's autoscaler aims at
FILLED = 0.7
# vLLM's --max-num-seqs where none is given (0.8 and later, server GPUs: 256 to 1024; the lower accuses less)
DEFAULT_MAX_NUM_SEQS = 256
# a kernel that only polls: active nearly all the time, pipes and memory still, a small part of the power
SPIN_ACTIVITY, SPIN_SM, SPIN_TENSOR, SPIN_MEMORY, SPIN_POWER = 0.9, 0.05, 0.01, 0.02, 0.25
# an engine without a token whose GPU is at least this active does something else than serve
ENGINE_SPIN_ACTIVITY = 0.5


class Use(StrEnum):
    """Of energy. STANDBY is loaded without work, and kept so on purpose; LOADED_IDLE the same without a purpose.

    UNDER_FILLED is the share of a working engine's loaded baseline that more requests could have used. SPINNING: busy
    without a result. UNKNOWN: counted, and nothing says what it did.
    """

    USEFUL = "useful"
    UNDER_FILLED = "under-filled"
    LOADED_IDLE = "loaded-idle"
    SPINNING = "spinning"
    UNALLOCATED = "unallocated"
    STANDBY = "standby"
    UNKNOWN = "unknown"


WASTE = (Use.UNALLOCATED, Use.LOADED_IDLE, Use.SPINNING, Use.UNDER_FILLED)

# joules by use
Split = Mapping[Use, float]


class Verdict(StrEnum):
    """What a tenure did in a slot. STILL: loaded and nothing in work."""

    WORKED = "worked"
    STILL = "still"
    SPUN = "spun"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Holder:
    """What is known of who holds the GPU: an engine's slot where it is one, how many requests it is meant to carry.

    `silent`: an engine that gave no token in the whole window.
    """

    engine: EngineSlot | None
    capacity: float = DEFAULT_MAX_NUM_SEQS
    silent: bool = False


def verdict(slot: GpuSlot, tenure: Tenure, holder: Holder, product: str) -> Verdict:
    """Of a GPU used in turns nobody's own activity is known: it is judged as a whole, and nobody is said to spin."""
    engine, activity = holder.engine, tenure.activity
    if engine is not None and engine.worked:
        return Verdict.WORKED
    if engine is not None:
        if holder.silent and _spins_as_an_engine(tenure, engine):
            return Verdict.SPUN
        return Verdict.WORKED if engine.running > 0 and not holder.silent else Verdict.STILL
    watts = _own_watts(slot, tenure)
    if activity is None and watts is None:
        return Verdict.UNCLEAR
    draws = watts is not None and watts > idle_ceiling(product)
    if draws or (activity is not None and activity > BUSY_ACTIVITY):
        return Verdict.SPUN if _spins(tenure, watts, product) and not tenure.in_turns else Verdict.WORKED
    return Verdict.STILL


def _spins_as_an_engine(tenure: Tenure, engine: EngineSlot) -> bool:
    """Busy without a token: the GPU says so, or requests that hang in it while it draws on."""
    busy = tenure.activity is not None and tenure.activity >= ENGINE_SPIN_ACTIVITY and not tenure.in_turns
    return busy or engine.running > 0


def _spins(tenure: Tenure, watts: Watts | None, product: str) -> bool:
    """Active nearly all the time and yet without the power, and where they are read the pipes, of work."""
    if tenure.activity is None or tenure.activity < SPIN_ACTIVITY or watts is None:
        return False
    hardware = hardware_of(product)
    if hardware is UNKNOWN_HARDWARE:
        return False
    if tenure.sm is not None and tenure.sm > SPIN_SM:
        return False
    if tenure.tensor is None or tenure.memory is None:
        return watts <= idle_ceiling(product)
    low = hardware.context + (hardware.design - hardware.context) * SPIN_POWER
    return tenure.tensor <= SPIN_TENSOR and tenure.memory <= SPIN_MEMORY and watts <= low


def _own_watts(slot: GpuSlot, tenure: Tenure) -> Watts | None:
    """Watts of a whole GPU; those of one in parts say nothing about one of its holders."""
    return None if tenure.part or (len(slot.tenures) > 1 and not tenure.in_turns) else mean_watts(slot)


def mean_watts(slot: GpuSlot) -> Watts | None:
    if slot.watts is not None:
        return slot.watts
    return Watts(slot.energy.value / slot.seconds) if slot.seconds > 0 else None


def shares(slot: GpuSlot, hardware: Hardware) -> tuple[float, ...]:
    """How the slot's energy is shared among its tenures: bare power by weight, the rest by activity times weight.

    As the books do for MIG, after Kepler's rule; where an activity is missing, all of it by weight.
    """
    weights = [tenure.weight for tenure in slot.tenures]
    worked = [tenure.activity * tenure.weight for tenure in slot.tenures if tenure.activity is not None]
    if len(worked) < len(weights) or sum(worked) <= 0 or slot.energy.value <= 0:
        return tuple(weights)
    bare = min(energy(hardware.bare, slot.seconds) / slot.energy, 1.0)
    done = sum(worked)
    return tuple(bare * weight + (1 - bare) * (part / done) for weight, part in zip(weights, worked, strict=True))


def working_split(joules: float, seconds: Seconds, context: Watts, holder: Holder, activity: float | None) -> Split:
    """A tenure that worked: time without a request in work is STANDBY, room in the batch UNDER_FILLED, rest USEFUL.

    How full a batch was is known of the time in which requests were seen in it, and of no other.

    The baseline is what a loaded engine draws anyway (`context`), at most what was drawn.
    """
    engine = holder.engine
    if engine is None or joules <= 0 or seconds <= 0:
        return {Use.USEFUL: joules}
    baseline = min(context.value * seconds, joules)
    sampled = min(engine.running, 1.0) if engine.busy is None else engine.busy
    # requests shorter than a scrape interval are seen by the GPU's own activity only
    busy = min(max(sampled, activity or 0.0), 1.0)
    still = baseline * (1 - busy)
    fill = filled(engine, holder.capacity)
    room = baseline * min(sampled, busy) * (1 - fill) if fill < FILLED else 0.0
    return {Use.STANDBY: still, Use.UNDER_FILLED: room, Use.USEFUL: max(joules - still - room, 0.0)}


def filled(engine: EngineSlot, capacity: float) -> float:
    """How full the engine was while it worked: requests over its capacity, or its KV cache; 1 where requests queue."""
    if engine.waiting >= 1:
        return 1.0
    busy = engine.busy or 1.0
    running = engine.running / max(busy, 1e-9)
    return min(max(running / (capacity * max(engine.engines, 1)), engine.kv_usage or 0.0), 1.0)
