"""One simulated GPU: its energy counter, the places that pods can hold, and the samples that exporters show of it."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from uuid import NAMESPACE_DNS, uuid5

from fallow.domain.readings import PodRef
from fallow.twin.physics.constants import GIB, GpuSpec
from fallow.twin.physics.parts import Profile, part_of
from fallow.twin.pods import Division

# What a place's memory holds beside weights and KV cache: nothing without a context, a CUDA context while asleep.
BARE_BYTES = 4.0 * 2**20
CONTEXT_BYTES = 1.5 * GIB
# The driver numbers instances by size, on A100 and H100 alike: 7g is 0, 4g and 3g from 1, 2g from 3, 1g from 7.
_FIRST_INSTANCE = {7: 0, 4: 1, 3: 1, 2: 3, 1: 7}
# As dcgm-exporter words them (NVIDIA's list of XID errors). After the fatal ones a GPU is of no use until it is reset.
XID_MESSAGES = {
    0: "No Error",
    31: "GPU memory page fault",
    48: "Double Bit ECC Error",
    79: "GPU has fallen off the bus",
}
FATAL_XIDS = frozenset({48, 79})


@dataclass(frozen=True, slots=True)
class PlaceSample:
    """Shares of the time and of the resources of this place since the sample before; memory in bytes."""

    busy_share: float
    tensor_active: float
    dram_active: float
    used_bytes: float


@dataclass(frozen=True, slots=True)
class GpuSample:
    """`watts` is the mean since the sample before, so the counter integrates exactly what was reported."""

    at: float
    watts: float
    counter_joules: float
    busy_share: float
    tensor_active: float
    dram_active: float
    sm_clock: int
    temperature: int
    used_bytes: float


@dataclass(slots=True)
class Work:
    """What was done in a while."""

    joules: float = 0.0
    busy_seconds: float = 0.0
    flops: float = 0.0
    read_bytes: float = 0.0

    def add(self, other: Work, *, share: float = 1.0) -> None:
        """`share` of the GPU's time is what the other's was worth."""
        self.joules += other.joules
        self.busy_seconds += other.busy_seconds * share
        self.flops += other.flops
        self.read_bytes += other.read_bytes


class Place:
    """What one pod can hold: a whole GPU, a MIG instance, or a copy of a GPU that is used in turns.

    `number` is the instance's id or the copy's; `resource` is what a pod asks for to get it. `fallen`: its holder lets
    the clocks fall.
    """

    def __init__(self, gpu: GpuDevice, resource: str, number: int, profile: Profile | None = None) -> None:
        self.gpu = gpu
        self.resource = resource
        self.number = number
        self.profile = profile
        self.spec = gpu.spec if profile is None else part_of(gpu.spec, profile)
        self.share = 1.0 if profile is None else profile.share
        self.holder: PodRef | None = None
        self.container = ""
        self.has_context = False
        self.fallen = False
        self.used_bytes = BARE_BYTES
        self.sample = PlaceSample(0.0, 0.0, 0.0, BARE_BYTES)
        self._total = Work()
        self._sampled = Work()

    def hold(self, holder: PodRef, container: str) -> None:
        self.holder = holder
        self.container = container

    def release(self) -> None:
        self.holder = None
        self.container = ""
        self.has_context = self.fallen = False
        self.used_bytes = BARE_BYTES

    @property
    def base_watts(self) -> float:
        """The holder's part of what a GPU in turns draws without work: bare by holders, the context by contexts.

        A place of its own has none: there the pod's own watts begin at zero.
        """
        if not self.gpu.in_turns or self.gpu.dark:
            return 0.0
        spec, alive = self.gpu.spec, sum(1 for place in self.gpu.places if place.has_context)
        held = sum(1 for place in self.gpu.places if place.holder is not None)
        parked = (spec.context - spec.bare) / alive if self.has_context else 0.0
        return spec.bare / held + parked

    def book(self, work: Work) -> None:
        self._total.add(work)
        self.gpu.book(work, share=self.share)

    def take_sample(self, seconds: float) -> None:
        now, then = self._total, self._sampled
        self.sample = PlaceSample(
            busy_share=min((now.busy_seconds - then.busy_seconds) / seconds, 1.0),
            tensor_active=min((now.flops - then.flops) / seconds / self.spec.flops, 1.0),
            dram_active=min((now.read_bytes - then.read_bytes) / seconds / self.spec.bandwidth, 1.0),
            used_bytes=self.used_bytes,
        )
        self._sampled = Work(now.joules, now.busy_seconds, now.flops, now.read_bytes)


class GpuDevice:
    """Keeps its counter whoever holds it; a new node and a driver that is loaded again begin at zero."""

    def __init__(
        self, spec: GpuSpec, node: str, index: int, *, now: float, division: Division | None = None, fresh: bool = False
    ) -> None:
        self.spec = spec
        self.node = node
        self.index = index
        self.uuid = f"GPU-{uuid5(NAMESPACE_DNS, f'{node}/{index}')}"
        self.pci_bus_id = f"00000000:{0x17 + index * 8 & 0xFF:02X}:00.0"
        division = division or Division()
        self.in_turns = division.copies > 1
        self.places = _places(self, division)
        # How many times its time is asked for, at least one: in turns everyone gets this fraction of it.
        self.crowd = 1.0
        self.xid = 0
        # Without power, as all of a node that is lost.
        self.dark = False
        # A driver that has been up for a while: a reader that took the first sample for energy used would stand out.
        self._earlier = 0.0 if fresh else int(sha256(self.uuid.encode()).hexdigest()[:8], 16) / 40.0
        self._total = Work()
        self._sampled = Work()
        self._sampled_at = now
        self.sample = self._take(now, spec.bare)

    @property
    def usable(self) -> bool:
        return not self.dark and self.xid not in FATAL_XIDS

    @property
    def mig(self) -> bool:
        return any(place.profile is not None for place in self.places)

    @property
    def holder(self) -> PodRef | None:
        """Of a whole GPU; a divided one has `holders`."""
        return self.places[0].holder if len(self.places) == 1 else None

    @property
    def holders(self) -> tuple[PodRef, ...]:
        return tuple(dict.fromkeys(place.holder for place in self.places if place.holder is not None))

    @property
    def unheld_watts(self) -> float:
        """What the parts draw that nobody holds; slices that belong to no instance among them."""
        if self.dark:
            return 0.0
        if self.in_turns:
            return 0.0 if self.holders else self.spec.bare
        held = sum(place.share for place in self.places if place.holder is not None)
        return self.spec.bare * max(1.0 - held, 0.0)

    @property
    def joules(self) -> float:
        """Since the twin began."""
        return self._total.joules

    @property
    def busy_seconds(self) -> float:
        return self._total.busy_seconds

    @property
    def counter_joules(self) -> float:
        """Since the driver was loaded."""
        return self._earlier + self._total.joules

    def reset_counter(self) -> None:
        """The driver was loaded again."""
        self._earlier = -self._total.joules

    def book(self, work: Work, *, share: float = 1.0) -> None:
        self._total.add(work, share=share)

    def take_sample(self, now: float) -> None:
        seconds = now - self._sampled_at
        if seconds <= 0:
            return
        self.sample = self._take(now, (self._total.joules - self._sampled.joules) / seconds)
        for place in self.places:
            place.take_sample(seconds)
        self._sampled = Work(self._total.joules, self._total.busy_seconds, self._total.flops, self._total.read_bytes)
        self._sampled_at = now

    def _take(self, now: float, watts: float) -> GpuSample:
        seconds = max(now - self._sampled_at, 1e-9)
        spec = self.spec
        heat = (watts - spec.bare) / (spec.tdp - spec.bare)
        awake = any(place.has_context and not place.fallen for place in self.places)
        return GpuSample(
            at=now,
            watts=watts,
            counter_joules=self.counter_joules,
            busy_share=min((self._total.busy_seconds - self._sampled.busy_seconds) / seconds, 1.0),
            tensor_active=min((self._total.flops - self._sampled.flops) / seconds / spec.flops, 1.0),
            dram_active=min((self._total.read_bytes - self._sampled.read_bytes) / seconds / spec.bandwidth, 1.0),
            sm_clock=spec.max_clock if awake else spec.idle_clock,
            temperature=round(spec.idle_temperature + max(heat, 0.0) * (spec.hot_temperature - spec.idle_temperature)),
            used_bytes=min(sum(place.used_bytes for place in self.places), spec.memory),
        )


def _places(gpu: GpuDevice, division: Division) -> tuple[Place, ...]:
    instances = division.instances_of(gpu.index)
    if not instances:
        return tuple(Place(gpu, division.resource, number) for number in range(division.copies))
    places: list[Place] = []
    taken: set[int] = set()
    for profile in instances:
        number = _FIRST_INSTANCE.get(profile.slices, 1)
        while number in taken:
            number += 1
        taken.add(number)
        places.append(Place(gpu, division.resource_of(profile), number, profile))
    return tuple(places)
