"""The accounting step: from the ledger and a snapshot to the next ledger.

Each GPU is booked from its mark to its newest sample, cut by line and by calendar period, and its mark moves along;
so every joule is booked exactly once, whatever was missed in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fallow.domain.figures import Figure
from fallow.domain.ledger import Account, Book, GpuMark, HeldPart, Ledger, LineKey, LineKind
from fallow.domain.readings import GpuReading, PodRef
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant, Joules, Seconds
from fallow.domain.zones import ZoneReading
from fallow.footprint.attribution import Holding, Piece, holdings, sole
from fallow.footprint.baseline import Rested, Stretch, levels
from fallow.footprint.energy import CLOCK_FAULT, Sample, metered, sample_of
from fallow.footprint.hardware import UNKNOWN, Hardware, hardware_of
from fallow.footprint.host import NO_ENERGY, Hosts, hosts_step
from fallow.footprint.impacts import Held, impacts
from fallow.footprint.periods import Calendar, Slot, added, calendar, cut, opened, rolled, slot_of
from fallow.footprint.sharing import Method, Portion, portions
from fallow.footprint.split import Judge, Parts
from fallow.footprint.work import Work, work_since
from fallow.footprint.zones import changes_after, node_zone, reading_at

# a sample dated further ahead than this was stamped by a wrong clock and is not used
FUTURE = Seconds(60)
# marks of GPUs that left with their node; nodes come and go, and the ledger must not grow without end
KEEP_GONE_GPU = Seconds(7 * 86_400)


@dataclass(slots=True)
class _Sum:
    """Running sums; every impact is linear in them, so each formula runs once per line and not once per GPU."""

    low: float = 0.0
    best: float = 0.0
    high: float = 0.0
    bare: float = 0.0
    parked: float = 0.0
    underfilled: float = 0.0
    starting: float = 0.0
    modelled: float = 0.0
    weighed: float = 0.0
    apportioned: float = 0.0
    seconds: float = 0.0
    unmetered: float = 0.0
    host_low: float = 0.0
    host_best: float = 0.0
    host_high: float = 0.0


@dataclass(slots=True)
class _Count:
    """Running sums of what engines served."""

    prompt_tokens: float = 0.0
    cached_prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    iterations: float = 0.0
    requests: float = 0.0


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the impacts of a piece depend on besides energy and time; `since` is the spell of the zone's reading."""

    line: LineKey
    slot: Slot
    zone: str
    since: Instant
    hardware: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """One GPU's piece: `share` of its time in the interval, `seconds` of it held."""

    piece: Piece
    energy: Figure[Joules]
    parts: Parts
    share: float
    seconds: float
    hardware: Hardware
    node: str
    zone: ZoneReading | None
    modelled: float = 0.0
    method: Method = Method.HELD


@dataclass(slots=True)
class _Journal:
    """The entries of one step, before they are added to the books; `now` is where the calendar stands."""

    now: Instant
    snapshot: Snapshot
    sums: dict[_Kind, _Sum] = field(default_factory=dict)
    zones: dict[tuple[str, Instant], ZoneReading | None] = field(default_factory=dict)
    hardware: dict[str, Hardware] = field(default_factory=dict)
    firsts: dict[LineKey, Instant] = field(default_factory=dict)
    counts: dict[tuple[LineKey, Slot], _Count] = field(default_factory=dict)
    calendars: dict[str, Calendar] = field(default_factory=dict)

    def calendar_of(self, line: LineKey) -> Calendar:
        named = self.snapshot.time_zones.get(line.service) if line.service else None
        time_zone = named or self.snapshot.time_zone
        if time_zone not in self.calendars:
            self.calendars[time_zone] = calendar(self.now, time_zone)
        return self.calendars[time_zone]

    def enter(self, entry: _Entry, host: Figure[Joules] | None) -> None:
        """`host` is what the node's own meter gives to the GPU; None: declared watts over the time held."""
        piece, zone = entry.piece, entry.zone.zone.name if entry.zone else ""
        self.hardware[entry.hardware.name] = entry.hardware
        self.firsts[piece.line] = min(piece.start, self.firsts.get(piece.line, piece.start))
        present, spells = self.calendar_of(piece.line), self.snapshot.spells.get(zone, ())
        for begin, share in cut(piece.start, piece.end, (*present.starts, *changes_after(piece.start, spells))):
            since, self.zones[zone, since] = reading_at(begin, entry.zone, spells)
            kind = _Kind(piece.line, slot_of(begin, present), zone, since, entry.hardware.name)
            total = self.sums.setdefault(kind, _Sum())
            total.low += entry.energy.low.value * share
            total.best += entry.energy.best.value * share
            total.high += entry.energy.high.value * share
            total.bare += entry.parts.bare * share
            total.parked += entry.parts.parked * share
            total.underfilled += entry.parts.underfilled * share
            total.starting += entry.parts.starting * share
            total.modelled += entry.modelled * share
            if entry.method is Method.WEIGHED:
                total.weighed += entry.energy.best.value * share
            elif entry.method is Method.APPORTIONED:
                total.apportioned += entry.energy.best.value * share
            total.seconds += entry.seconds * share
            if host is None:
                total.unmetered += entry.seconds * share
            else:
                part = entry.share * share
                total.host_low += host.low.value * part
                total.host_best += host.best.value * part
                total.host_high += host.high.value * part

    def serve(self, work: Work) -> None:
        for one in work.served:
            self.firsts[one.line] = min(one.start, self.firsts.get(one.line, one.start))
            present = self.calendar_of(one.line)
            for begin, share in cut(one.start, one.end, present.starts):
                count = self.counts.setdefault((one.line, slot_of(begin, present)), _Count())
                count.prompt_tokens += one.account.prompt_tokens * share
                count.cached_prompt_tokens += one.account.cached_prompt_tokens * share
                count.generated_tokens += one.account.generated_tokens * share
                count.iterations += one.account.iterations * share
                count.requests += one.account.requests * share

    def accounts(self) -> Iterator[tuple[LineKey, Slot, Account]]:
        for kind, total in self.sums.items():
            held = Held(
                energy=Figure(Joules(total.low), Joules(total.best), Joules(total.high)),
                parts=Parts(total.bare, total.parked, total.underfilled, total.starting),
                duration=Seconds(total.seconds),
                host=Figure(Joules(total.host_low), Joules(total.host_best), Joules(total.host_high)),
                unmetered=Seconds(total.unmetered),
                hardware=self.hardware[kind.hardware],
                zone=self.zones[kind.zone, kind.since],
            )
            yield (
                kind.line,
                kind.slot,
                replace(
                    impacts(held),
                    modelled=Joules(total.modelled),
                    weighed=Joules(total.weighed),
                    apportioned=Joules(total.apportioned),
                ),
            )
        for (line, slot), count in self.counts.items():
            account = Account(
                prompt_tokens=count.prompt_tokens,
                cached_prompt_tokens=count.cached_prompt_tokens,
                generated_tokens=count.generated_tokens,
                iterations=count.iterations,
                requests=count.requests,
            )
            yield line, slot, account


def book(ledger: Ledger, snapshot: Snapshot) -> Ledger:
    """Book everything that the snapshot says happened since the ledger's marks; the ledger itself is left alone.

    The readings may be older than the snapshot, as those that are read back after an outage: they are booked at their
    own time, into the periods in which they lie.
    """
    # a ledger further ahead than that was written under a wrong clock: its periods start anew
    now = snapshot.at if ledger.at > snapshot.at + CLOCK_FAULT else Instant(max(ledger.at, snapshot.at))
    journal = _Journal(now, snapshot)
    work = work_since(ledger, snapshot)
    journal.serve(work)
    judge = Judge(ledger, snapshot, work.idle)
    held = holdings(snapshot, ledger.gpus)
    zones = {node: node_zone(snapshot, node) for node in {gpu.node for gpu in snapshot.readings.gpus.values()}}
    entries: list[_Entry] = []
    marks: dict[str, GpuMark] = {}
    rested = Rested(ledger.baselines, ledger.watches)
    resets = 0
    for uuid, reading in snapshot.readings.gpus.items():
        sample = sample_of(reading)
        mark = ledger.gpus.get(uuid)
        if sample is None or sample.at > now + FUTURE:
            continue
        following = _mark(sample, reading, held[uuid])
        if mark is None:
            marks[uuid] = following
            continue
        hardware = hardware_of(reading.model_name)
        used = metered(mark, sample, hardware)
        if used is None:
            continue
        resets += used.reset
        stretch = Stretch(reading, sole(held[uuid]), mark, sample, used, hardware)
        at_rest = levels(ledger.baselines.get(uuid), hardware)
        entries.extend(
            _Entry(
                piece=one.piece,
                energy=one.energy,
                modelled=used.modelled.value * _part(one.energy.best, used.energy.best, one.held),
                parts=judge.parts(_seen_by(stretch, one), one.piece, one.energy.best, one.levels(at_rest, used)),
                share=one.held,
                seconds=one.seconds(used),
                method=one.method,
                hardware=hardware,
                node=reading.node,
                zone=zones[reading.node],
            )
            for one in portions(mark, held[uuid], used, at_rest)
        )
        rested.watch(stretch, judge.rest(stretch))
        marks[uuid] = following
    waiting = {
        uuid: _waiting(mark, work.idle, snapshot)
        for uuid, mark in ledger.gpus.items()
        if uuid not in marks and (mark.node in snapshot.cluster.nodes or now - mark.at <= KEEP_GONE_GPU)
    }
    gpus = {**waiting, **marks}
    booked = _by_node(snapshot, marks.keys() & ledger.gpus.keys())
    hosts = hosts_step(ledger, snapshot, booked, gpus, snapshot.readings.at)
    for entry in entries:
        journal.enter(entry, hosts.per_gpu.get(entry.node))
    for entry, energy in _unread(snapshot, hosts):
        journal.enter(entry, energy)
    return replace(
        ledger,
        at=now,
        gpus=gpus,
        engines=work.marks,
        books=_books(ledger, journal),
        hosts=hosts.marks,
        baselines={uuid: one for uuid, one in rested.baselines.items() if uuid in gpus},
        watches=rested.watches,
        resets=ledger.resets + resets,
    )


def _mark(sample: Sample, reading: GpuReading, held: tuple[Holding, ...]) -> GpuMark:
    holding = sole(held)
    return GpuMark(
        at=sample.at,
        joules=sample.joules,
        line=holding.line,
        watts=sample.watts,
        holder=holding.holder,
        node=reading.node,
        parts=tuple(HeldPart(one.line, one.holder, one.place, one.share) for one in held) if len(held) > 1 else (),
    )


def _seen_by(stretch: Stretch, portion: Portion) -> Stretch:
    """The stretch as the holder of a portion had it."""
    if stretch.holding is portion.holding:
        return stretch
    before = portion.before or HeldPart(portion.holding.line)
    mark = replace(stretch.mark, line=before.line, holder=before.holder, worked=before.worked, parts=())
    return replace(stretch, holding=portion.holding, mark=mark)


def _part(one: Joules, whole: Joules, otherwise: float) -> float:
    return one / whole if whole.value > 0 else otherwise


def _waiting(mark: GpuMark, idle: frozenset[PodRef], snapshot: Snapshot) -> GpuMark:
    """The mark of a GPU that was not booked now: its holders may have worked or left meanwhile, its machine be off."""
    node = snapshot.cluster.nodes.get(mark.node)
    away = mark.away or node is None or not node.ready
    gone = any(part.holder is not None and part.holder not in snapshot.cluster.pods for part in mark.held)
    left = mark.left if mark.left is not None or not gone else snapshot.at
    worked = mark.worked or _may_have_worked(mark.line, mark.holder, idle)
    parts = tuple(
        replace(part, worked=True) if _may_have_worked(part.line, part.holder, idle) else part for part in mark.parts
    )
    same = (worked, away, left, parts) == (mark.worked, mark.away, mark.left, mark.parts)
    return mark if same else replace(mark, worked=worked, away=away, left=left, parts=parts)


def _may_have_worked(line: LineKey, holder: PodRef | None, idle: frozenset[PodRef]) -> bool:
    return line.kind is LineKind.SERVICE and holder not in idle


def _by_node(snapshot: Snapshot, booked: Iterable[str]) -> Mapping[str, set[str]]:
    nodes: dict[str, set[str]] = defaultdict(set)
    for uuid in booked:
        nodes[snapshot.readings.gpus[uuid].node].add(uuid)
    return nodes


def _unread(snapshot: Snapshot, hosts: Hosts) -> Iterator[tuple[_Entry, Figure[Joules]]]:
    """The host's part of GPUs that were not booked now; their own energy and time come with their next sample."""
    for one in hosts.unread:
        piece = Piece(one.line, one.start, one.end, present=False)
        zone = node_zone(snapshot, one.node)
        yield _Entry(piece, NO_ENERGY, Parts(), 1.0, 0.0, UNKNOWN, one.node, zone), one.energy


def _books(ledger: Ledger, journal: _Journal) -> Mapping[LineKey, Book]:
    turned = {line: rolled(one, journal.calendar_of(line), ledger.at) for line, one in ledger.books.items()}
    together: dict[tuple[LineKey, Slot], Account] = {}
    for line, slot, account in journal.accounts():
        known = together.get((line, slot))
        together[line, slot] = account if known is None else known + account
    for (line, slot), account in together.items():
        book = turned.get(line) or opened(journal.firsts[line], journal.calendar_of(line))
        turned[line] = added(book, slot, account)
    return turned
