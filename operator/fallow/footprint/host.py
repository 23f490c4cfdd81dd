"""What a node used outside its GPUs, by its own meter, and how that is shared out to the node's GPUs.

A node is booked by its meter or by declared watts, never by both; its mark says up to where the meter was followed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fallow.domain.figures import Bounds, Figure
from fallow.domain.ledger import GpuMark, HostMark, Ledger, LineKey, LineKind
from fallow.domain.readings import HostMeter, HostReading
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Joules, Seconds, Watts, energy
from fallow.footprint.impacts import ANYWHERE, host_energy
from fallow.footprint.zones import node_zone

# RAPL against external meters, on servers since Haswell: a few per cent (Khan et al. 2018, doi:10.1145/3177754)
METER_BOUNDS = Bounds(0.95, 1.05)
# where RAPL's registers end (Linux, max_energy_range_uj): packages of AMD and of Intel, memory of servers and others
PACKAGE_RANGES = (65_532.610987, 262_143.328850)
MEMORY_RANGES = (65_712.999613, 262_143.328850)
MEMORY = "dram"
# the smaller registers are through in 130 s at 500 W: after a longer silence nobody knows how often
READABLE = Seconds(120)
# how long a meter that fell silent is waited for before declared watts stand in, as for the GPUs' counters
PATIENCE = Seconds(120)
# a node that left is not waited for any longer than its GPUs
KEEP_GONE_NODE = Seconds(7 * 86_400)
# no CPUs and memory of one node draw more
NODE_LIMIT = Watts(5000)


@dataclass(frozen=True, slots=True)
class Declared:
    """What stands in for a meter: watts per GPU, for the GPUs of the node."""

    per_gpu: Figure[Watts]
    gpus: int

    def over(self, duration: Seconds) -> Figure[Joules]:
        """F1 for all GPUs of the node."""
        return host_energy(self.per_gpu, duration) * self.gpus


@dataclass(frozen=True, slots=True)
class HostStep:
    """One node in one step. `used` is to be shared out; None: declared watts count for the time that is booked.

    `mark` is where the meter is followed from next; None: it is not.
    """

    used: Figure[Joules] | None
    mark: HostMark | None


NO_ENERGY = Figure.exact(Joules(0))


@dataclass(frozen=True, slots=True)
class Unread:
    """The host's part of GPUs of which nothing was booked now: it goes to whom they belonged last."""

    node: str
    line: LineKey
    start: Instant
    end: Instant
    energy: Figure[Joules]


@dataclass(frozen=True, slots=True)
class Hosts:
    """One step of every node. `per_gpu` has the nodes that follow their meter, with the part of each of their GPUs."""

    per_gpu: Mapping[str, Figure[Joules]]
    unread: tuple[Unread, ...]
    marks: Mapping[str, HostMark]


def hosts_step(
    ledger: Ledger, snapshot: Snapshot, booked: Mapping[str, set[str]], gpus: Mapping[str, GpuMark], now: Instant
) -> Hosts:
    """H3: a node's energy in equal parts to all GPUs of the node, those that nobody holds included.

    `booked` are the GPUs that are booked now, by node: a node of which there are none keeps its mark and waits.
    """
    marks = {node: mark for node, mark in ledger.hosts.items() if now - mark.at <= KEEP_GONE_NODE}
    per_gpu: dict[str, Figure[Joules]] = {}
    unread: list[Unread] = []
    others: dict[str, list[str]] = defaultdict(list)
    for uuid, mark in gpus.items():
        if mark.node in booked and uuid not in booked[mark.node]:
            others[mark.node].append(uuid)
    for node, uuids in booked.items():
        known = snapshot.cluster.nodes.get(node)
        silent = others[node]
        count = max(known.gpus if known else 0, len(uuids) + len(silent))
        zone = node_zone(snapshot, node)
        declared = Declared((zone.zone if zone else ANYWHERE).host_per_gpu, count)
        before = marks.pop(node, None)
        step = host_step(before, snapshot.readings.hosts.get(node), now, declared)
        if step.mark is not None:
            marks[node] = step.mark
        if step.used is None or before is None:
            continue
        per_gpu[node] = step.used * (1 / count)
        if step.used is NO_ENERGY:
            continue
        end = step.mark.at if step.mark is not None else now
        lines = [gpus[uuid].line for uuid in silent]
        nobody = LineKey(LineKind.UNATTRIBUTED, zone=zone.zone.name if zone else "")
        lines += [nobody] * (count - len(uuids) - len(silent))
        unread += [Unread(node, line, before.at, end, per_gpu[node]) for line in lines]
    marks |= _first_seen(ledger, snapshot, gpus)
    return Hosts(per_gpu, tuple(unread), marks)


def _first_seen(ledger: Ledger, snapshot: Snapshot, gpus: Mapping[str, GpuMark]) -> Mapping[str, HostMark]:
    """Nodes whose GPUs got their first marks now: from here on the meter is followed with them."""
    before = {mark.node for mark in ledger.gpus.values()} | ledger.hosts.keys()
    nodes = {mark.node for mark in gpus.values()} - before
    return {node: _mark(snapshot.readings.hosts[node]) for node in nodes & snapshot.readings.hosts.keys()}


def host_step(mark: HostMark | None, reading: HostReading | None, now: Instant, declared: Declared) -> HostStep:
    """H1 from the mark to the reading; declared watts for a stretch that the meter cannot tell."""
    if mark is None:
        return HostStep(None, None if reading is None else _mark(reading))
    if reading is None or reading.at <= mark.at:
        if now - mark.at < PATIENCE:
            return HostStep(NO_ENERGY, mark)
        return HostStep(declared.over(Seconds(now - mark.at)), None)
    duration = Seconds(reading.at - mark.at)
    used = _metered(mark, reading, duration)
    if used is None:
        return HostStep(declared.over(duration), _mark(reading))
    # fans, network cards and supplies are in the declared watts and not in the meter
    most = max(used * METER_BOUNDS.high, declared.over(duration).high)
    return HostStep(Figure(used * METER_BOUNDS.low, used, most), _mark(reading))


def _mark(reading: HostReading) -> HostMark:
    return HostMark(reading.at, reading.counters, reading.meter)


def _metered(mark: HostMark, reading: HostReading, duration: Seconds) -> Joules | None:
    """The sum of the counters' differences; None where one of them cannot be told."""
    if mark.meter is not reading.meter or mark.counters.keys() != reading.counters.keys():
        return None
    if reading.meter is HostMeter.RAPL and duration > READABLE:
        return None
    most = energy(NODE_LIMIT, duration)
    total = Joules(0)
    for name, joules in reading.counters.items():
        used = joules - mark.counters[name]
        if used.value < 0 and reading.meter is HostMeter.RAPL:
            ranges = MEMORY_RANGES if name.startswith(MEMORY) else PACKAGE_RANGES
            used = _around(mark.counters[name], joules, most, ranges)
        if used.value < 0 or used > most:
            return None
        total = total + used
    return total if total <= most else None


def _around(before: Joules, after: Joules, most: Joules, ranges: Sequence[float]) -> Joules:
    """H2: over the end of a register's range. Below zero where the fall was not one, such as a node's new start."""
    for end in ranges:
        used = Joules(end - before.value + after.value)
        if before.value <= end and used <= most:
            return used
    return after - before
