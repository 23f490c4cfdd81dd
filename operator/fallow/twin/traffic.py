"""Requests over time: a recorded trace, or a seeded generator. The same seed gives the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import NamedTuple, Protocol

import numpy as np

from fallow.twin.rates import Rate

# The generator integrates its rate on this grid, a chunk at a time, whatever times it is asked for.
CELL_SECONDS = 0.25
CHUNK_SECONDS = 30.0


class Arrival(NamedTuple):
    """`at` in seconds since the traffic began; lengths in tokens."""

    at: float
    prompt: int
    output: int


class Traffic(Protocol):
    """A stream that is read forwards only."""

    def until(self, time: float) -> list[Arrival]:
        """What arrives after the last call's time, up to and including this one."""
        ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lognormal, by mean and coefficient of variation, cut at `most`."""

    mean: float
    cv: float = 1.0
    most: int = 32768

    def draw(self, generator: np.random.Generator) -> int:
        if self.cv <= 0:
            return max(1, min(round(self.mean), self.most))
        variance = log(1.0 + self.cv**2)
        drawn = generator.lognormal(log(self.mean) - variance / 2.0, sqrt(variance))
        return max(1, min(round(drawn), self.most))


class GeneratedTraffic:
    """Gamma gaps of mean one and the wanted variation, stretched by the rate: cv 1 is Poisson, above it is bursty."""

    def __init__(self, rate: Rate, prompt: Lengths, output: Lengths, *, seed: int, cv: float = 1.0) -> None:
        self._rate = rate
        self._prompt = prompt
        self._output = output
        self._shape = 1.0 / cv**2
        self._generator = np.random.default_rng(seed)
        self._made_until = 0.0
        self._ready: list[Arrival] = []
        self._next = self._gap()

    def until(self, time: float) -> list[Arrival]:
        while self._made_until < time:
            self._make_chunk()
        count = 0
        while count < len(self._ready) and self._ready[count].at <= time:
            count += 1
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def _make_chunk(self) -> None:
        edges = np.linspace(self._made_until, self._made_until + CHUNK_SECONDS, round(CHUNK_SECONDS / CELL_SECONDS) + 1)
        middles = (edges[:-1] + edges[1:]) / 2.0
        expected = np.concatenate(([0.0], np.cumsum(np.maximum(self._rate.at(middles), 0.0) * CELL_SECONDS)))
        total = float(expected[-1])
        places: list[float] = []
        lengths: list[tuple[int, int]] = []
        while self._next <= total:
            places.append(self._next)
            lengths.append((self._prompt.draw(self._generator), self._output.draw(self._generator)))
            self._next += self._gap()
        times = np.interp(places, expected, edges).tolist()
        self._ready += [Arrival(at, *both) for at, both in zip(times, lengths, strict=True)]
        self._next -= total
        self._made_until += CHUNK_SECONDS

    def _gap(self) -> float:
        return float(self._generator.gamma(self._shape, 1.0 / self._shape))


class TraceTraffic:
    """A recorded trace from its first arrival on.

    `scale` multiplies requests (a fraction keeps that share of them, by the seed), `compress` divides times,
    `repeat` begins again at the end.
    """

    def __init__(
        self, rows: Sequence[Arrival], *, scale: float = 1.0, compress: float = 1.0, repeat: bool = False, seed: int = 0
    ) -> None:
        first = rows[0].at if rows else 0.0
        self._rows = [Arrival((row.at - first) / compress, row.prompt, row.output) for row in rows]
        last = self._rows[-1].at if rows else 0.0
        # A round lasts one mean gap longer than its last arrival, so that rounds do not touch.
        self._round = last + (last / (len(self._rows) - 1) if len(self._rows) > 1 else 1.0)
        self._scale = scale
        self._repeat = repeat
        self._generator = np.random.default_rng(seed)
        self._index = 0
        self._offset = 0.0

    def until(self, time: float) -> list[Arrival]:
        found: list[Arrival] = []
        while self._rows:
            if self._index == len(self._rows):
                if not self._repeat:
                    break
                self._index = 0
                self._offset += self._round
            row = self._rows[self._index]
            at = row.at + self._offset
            if at > time:
                break
            self._index += 1
            found.extend([Arrival(at, row.prompt, row.output)] * self._copies())
        return found

    def _copies(self) -> int:
        whole = int(self._scale)
        part = self._scale - whole
        return whole + (1 if part > 0 and self._generator.random() < part else 0)
