"""The energy of an interval of a GPU, given to those who held it: whole, in MIG instances, in turns, or in succession.

What a GPU draws without work belongs to whoever had it reserved, by its part and by time; what was drawn above that, to
those who worked: by measured activity, else in proportion to what they held (S1 to S6 of docs/methodology.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from fallow.domain.figures import Figure
from fallow.domain.ledger import GpuMark, HeldPart, LineKey, LineKind
from fallow.domain.units import Instant, Joules, Seconds, Watts
from fallow.footprint.attribution import Holding, Piece
from fallow.footprint.baseline import Levels
from fallow.footprint.energy import POWER_GAP, Metered
from fallow.footprint.hardware import IDLE_TOLERANCE

# Watts above bare that serving draws at one and the same activity differ by so much at most: the mean power of runs in
# steady state is 231 to 694 W on H100 and 274 to 976 W on B200 (ML.ENERGY v3), 3.9 and 5.1 to 1 less bare power.
INTENSITY_SPREAD = 5.0
# bare watts of single boards against the table: 72 to 99 W where it says 71.8 (arXiv 2605.23918)
BARE_LOW, BARE_HIGH = 0.9, 1.4


class Method(Enum):
    """How a portion came about: its line held all that was shared, or it was split by measurement, or by a rule."""

    HELD = "held"
    WEIGHED = "weighed"
    APPORTIONED = "apportioned"


@dataclass(frozen=True, slots=True)
class Portion:
    """What one holder gets of an interval. `held` is its part of the GPU's time in it; all portions' add up to one.

    `before` is what the mark says of the same holder.
    """

    piece: Piece
    energy: Figure[Joules]
    held: float
    holding: Holding
    before: HeldPart | None
    method: Method

    def seconds(self, used: Metered) -> Seconds:
        """GPU-seconds held."""
        return Seconds(self.held * (used.end - used.start))

    def levels(self, of_gpu: Levels, used: Metered) -> Levels:
        """What the part of the GPU that the piece has draws at rest."""
        part = self.seconds(used) / (self.piece.end - self.piece.start)
        return of_gpu if part == 1.0 else Levels(of_gpu.bare * part, of_gpu.loaded * part)


@dataclass(frozen=True, slots=True)
class _Span:
    """The presence of one holder in an interval."""

    holding: Holding
    before: HeldPart | None
    start: Instant
    end: Instant
    present: bool
    held: float = 0.0

    @property
    def stays(self) -> bool:
        return self.present and self.before is not None

    @property
    def is_held(self) -> bool:
        return self.holding.line.kind is not LineKind.UNALLOCATED


def portions(mark: GpuMark, held: Sequence[Holding], used: Metered, rest: Levels) -> tuple[Portion, ...]:
    """Every joule of the interval, once; the lows and highs of a line say what it can have been."""
    if len(held) == 1 and len(mark.held) == 1 and held[0].line == mark.line:
        piece = Piece(mark.line, used.start, used.end, present=True)
        return (Portion(piece, used.energy, 1.0, held[0], mark.held[0], Method.HELD),)
    return tuple(_divided(tuple(_spans(mark, held, used.start, used.end)), used, rest))


def drawn_by(held: Sequence[Holding], watts: Watts, rest: Levels) -> list[Watts]:
    """What each holder of a GPU draws of its power now, by the rule by which energy is booked."""
    start, end = Instant(0), Instant(1)
    places = Counter((one.place, one.share) for one in held)
    spans = [
        _Span(one, HeldPart(one.line), start, end, present=True, held=one.share / places[one.place, one.share])
        for one in held
    ]
    weights, _ = _weights(spans, Seconds(end - start))
    return [Watts(one) for one in _bests(spans, weights, watts.value, _AtRest.over(Seconds(end - start), rest))]


def _spans(mark: GpuMark, held: Sequence[Holding], start: Instant, end: Instant) -> Iterator[_Span]:
    """Place by place. Where the places themselves are others than before, all change hands at one moment."""
    cut = Instant((start + end) / 2) if mark.left is None else _within(mark.left, start, end)
    before = [(part.place, part.share) for part in mark.held]
    for place in dict.fromkeys((*before, *((one.place, one.share) for one in held))):
        olds = [part for part in mark.held if (part.place, part.share) == place]
        news = [one for one in held if (one.place, one.share) == place]
        begin, until = cut if not olds else start, cut if not news else end
        if olds and news:
            found = list(_succession(olds, news, start, end, cut))
        elif olds:
            found = [_Span(_past(part), part, begin, until, present=False) for part in olds]
        else:
            found = [_Span(one, None, begin, until, present=True) for one in news]
        total = sum(span.end - span.start for span in found)
        covered = place[1] * (until - begin) / (end - start)
        for span in found:
            if span.end > span.start:
                part = covered * (span.end - span.start) / total
                yield _Span(span.holding, span.before, span.start, span.end, span.present, part)


def _succession(
    olds: Sequence[HeldPart], news: Sequence[Holding], start: Instant, end: Instant, cut: Instant
) -> Iterator[_Span]:
    """One place: who stayed, who came at which time, and who went, at the latest when another came."""
    stayed: dict[int, HeldPart] = {}
    for number, one in enumerate(news):
        same = next((part for part in olds if (part.line, part.holder) == (one.line, one.holder)), None)
        if same is None and len(olds) == len(news) == 1 and olds[0].line == one.line:
            same = olds[0]
        if same is not None:
            stayed[number] = same
    came = {
        number: cut if one.since is None else _within(one.since, start, end)
        for number, one in enumerate(news)
        if number not in stayed
    }
    went = min(came.values(), default=cut)
    for part in olds:
        if part not in stayed.values():
            yield _Span(_past(part), part, start, went, present=False)
    for number, one in enumerate(news):
        yield _Span(one, stayed.get(number), came.get(number, start), end, present=True)


def _past(part: HeldPart) -> Holding:
    return Holding(part.line, part.holder, place=part.place, share=part.share)


def _within(at: Instant, start: Instant, end: Instant) -> Instant:
    return Instant(min(max(at, start), end))


def _divided(spans: Sequence[_Span], used: Metered, rest: Levels) -> Iterator[Portion]:
    duration = Seconds(used.end - used.start)
    weights, measured = _weights(spans, duration)
    at_rest = _AtRest.over(duration, rest)
    low, high = used.energy.low.value, used.energy.high.value
    bests = _bests(spans, weights, used.energy.best.value, at_rest)
    lines: dict[LineKey, _Line] = {}
    for span, weight, amount in zip(spans, weights, bests, strict=True):
        line = lines.setdefault(span.holding.line, _Line(somebody=span.is_held))
        line.held += span.held
        line.worked += weight
        line.best += amount
    holders = sum(line.somebody for line in lines.values())
    free = sum(line.held for line in lines.values() if not line.somebody)
    bounds = _Bounds(at_rest, free, holders, measured=measured)
    for span, amount in zip(spans, bests, strict=True):
        line = lines[span.holding.line]
        part = amount / line.best if line.best > 0 else span.held / line.held
        # rounding alone may put a bound on the wrong side of the best value
        least, most = min(bounds.least(line, low) * part, amount), max(bounds.most(line, high) * part, amount)
        method = Method.HELD
        if holders > 1 and line.somebody:
            method = Method.WEIGHED if measured else Method.APPORTIONED
        yield Portion(
            piece=Piece(span.holding.line, span.start, span.end, span.present),
            energy=Figure(Joules(least), Joules(amount), Joules(most)),
            held=span.held,
            holding=span.holding,
            before=span.before,
            method=method,
        )


def _bests(spans: Sequence[_Span], weights: Sequence[float], energy: float, at_rest: _AtRest) -> list[float]:
    """Bare power by what each had of the GPU, the loaded GPU's by what each holder had, and work by the weights."""
    some = sum(span.held for span in spans if span.is_held)
    bare = at_rest.bare_of(energy)
    parked = min(energy - bare, at_rest.parked * some)
    return [
        span.held * bare + (span.held / some * parked if span.is_held else 0.0) + weight * (energy - bare - parked)
        for span, weight in zip(spans, weights, strict=True)
    ]


def _weights(spans: Sequence[_Span], duration: Seconds) -> tuple[list[float], bool]:
    """Each span's part of the energy above that of a loaded GPU without work, and whether it was measured.

    It was where all who held something stayed and are measured, and the samples lie close enough to speak for the time
    between them. Of a GPU without any activity, or that nobody held, all is by what was held.
    """
    some = [span for span in spans if span.is_held]
    known = bool(some) and duration <= POWER_GAP and all(span.stays and _work(span) is not None for span in some)
    if known and sum(_work(span) or 0.0 for span in some) > 0:
        raw, measured = [(_work(span) or 0.0) if span.is_held else 0.0 for span in spans], True
    else:
        raw, measured = [span.held if span.is_held or not some else 0.0 for span in spans], False
    total = sum(raw)
    return [one / total for one in raw], measured


def _work(span: _Span) -> float | None:
    """Activity times the slices of an instance, or a pod's own share of the time."""
    activity = span.holding.activity
    return None if activity is None else activity * span.holding.share


@dataclass(frozen=True, slots=True)
class _AtRest:
    """Joules of an interval without work: bare, and what a loaded GPU draws above that, as it is known and at most."""

    bare: float
    parked: float
    parked_at_most: float

    @classmethod
    def over(cls, duration: Seconds, rest: Levels) -> _AtRest:
        bare, loaded = rest.bare.value, rest.loaded.value
        return cls(bare * duration, (loaded - bare) * duration, (loaded * IDLE_TOLERANCE - bare) * duration)

    def bare_of(self, energy: float) -> float:
        return min(energy, self.bare)

    def parked_of(self, energy: float) -> float:
        """At most."""
        return min(energy - self.bare_of(energy), self.parked_at_most)

    def active_of(self, energy: float) -> float:
        """What certainly was work."""
        return energy - self.bare_of(energy) - self.parked_of(energy)


@dataclass(slots=True)
class _Line:
    """What the holders of one line have together: parts of the GPU's time and of its work, and joules."""

    somebody: bool
    held: float = 0.0
    worked: float = 0.0
    best: float = 0.0


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Between what and what a line's energy lies. Both ends grow with the GPU's, so the meter's bounds hold as well.

    `free` is the part that nobody held, `holders` the number of lines that held the rest.
    """

    at_rest: _AtRest
    free: float
    holders: int
    measured: bool

    def least(self, line: _Line, energy: float) -> float:
        bare = self.at_rest.bare_of(energy)
        if self.holders == 0:
            return line.held * energy
        if not line.somebody:
            return line.held * bare * BARE_LOW
        if self.holders == 1:
            return energy - min(self.free * bare * BARE_HIGH, energy)
        work = _if_others_drew(INTENSITY_SPREAD, line.worked) if self.measured else 0.0
        return line.held * bare * BARE_LOW + work * self.at_rest.active_of(energy)

    def most(self, line: _Line, energy: float) -> float:
        bare = self.at_rest.bare_of(energy)
        if self.holders == 0:
            return line.held * energy
        if not line.somebody:
            return min(line.held * bare * BARE_HIGH, energy)
        if self.holders == 1:
            return energy - self.free * bare * BARE_LOW
        work = _if_others_drew(1 / INTENSITY_SPREAD, line.worked) if self.measured else 1.0
        return line.held * bare + work * self.at_rest.active_of(energy) + self.at_rest.parked_of(energy)


def _if_others_drew(factor: float, worked: float) -> float:
    """A line's part of the work if that of the others took `factor` times as many watts for its activity."""
    return worked / (worked + factor * (1.0 - worked)) if worked > 0 else 0.0
