"""A seeded generator: requests by a rate over time, bursts of seconds and of minutes, lengths by mean and variation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.lengths import Lengths, means
from fallow.twin.rates import Rate
from fallow.twin.simulation.demand import Array, Load, Spread

# Each service's hour is drawn on its own, so that any block can be asked for at any time.
CHUNK = 3600
MINUTE = 60


@dataclass(frozen=True, slots=True)
class Bursts:
    """Index of dispersion (variance over mean) of counts in a second and in a minute; 1 is Poisson.

    They hold at any rate: the sum of more clients varies by the same index, and so by less against its mean.
    """

    second: float = 1.0
    minute: float = 1.0

    def shares(self) -> tuple[float, float]:
        """Excess variance of the rate within the minute and between minutes, times the rate."""
        slow = max((self.minute - self.second) / (MINUTE - 1), 0.0)
        return max(self.second - 1.0 - slow, 0.0), slow


@dataclass(frozen=True, slots=True)
class Stream:
    """One service's requests."""

    key: ServiceKey
    rate: Rate
    lengths: Lengths
    bursts: Bursts = field(default_factory=Bursts)


class Generated:
    """Counts are Poisson around a rate that varies by gamma factors from minute to minute and second to second."""

    def __init__(self, streams: Sequence[Stream], seconds: int, *, seed: int) -> None:
        self._streams = tuple(streams)
        self._seconds = seconds
        self._seed = seed
        # the hour that was asked for last
        self._kept: tuple[int, tuple[Array, Array, Array]] | None = None

    @property
    def services(self) -> tuple[ServiceKey, ...]:
        return tuple(stream.key for stream in self._streams)

    @property
    def seconds(self) -> int:
        return self._seconds

    @property
    def spread(self) -> Spread:
        lengths = [stream.lengths for stream in self._streams]
        return Spread(
            np.array([one.prompt_cv for one in lengths]),
            np.array([one.output_cv for one in lengths]),
            np.array([one.cached for one in lengths]),
        )

    def block(self, start: int, stop: int) -> Load:
        chunks = range(start // CHUNK, (stop - 1) // CHUNK + 1)
        parts = [self._chunk(chunk) for chunk in chunks]
        some = slice(start - chunks[0] * CHUNK, stop - chunks[0] * CHUNK)
        arrivals, prompt, output = (
            np.concatenate([part[index] for part in parts], axis=1)[:, some] for index in range(3)
        )
        return Load(start, arrivals, prompt, output)

    def _chunk(self, number: int) -> tuple[Array, Array, Array]:
        if self._kept is None or self._kept[0] != number:
            drawn = [self._drawn(index, stream, number) for index, stream in enumerate(self._streams)]
            arrivals, prompt, output = (np.array([one[column] for one in drawn]) for column in range(3))
            self._kept = (number, (arrivals, prompt, output))
        return self._kept[1]

    def _drawn(self, index: int, stream: Stream, number: int) -> tuple[Array, Array, Array]:
        generator = np.random.default_rng(np.random.SeedSequence([self._seed, index, number]))
        times = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.float64)
        rate = np.maximum(stream.rate.at(times + 0.5), 0.0)
        fast, slow = stream.bursts.shares()
        typical = max(float(rate.mean()), 1e-9)
        if slow > 0:
            rate = rate * np.repeat(_factors(generator, CHUNK // MINUTE, slow / typical), MINUTE)
        if fast > 0:
            rate = rate * _factors(generator, CHUNK, fast / typical / (1.0 + slow / typical))
        arrivals = generator.poisson(rate).astype(np.float64)
        lengths = stream.lengths
        return (
            arrivals,
            means(generator, arrivals, lengths.prompt, lengths.prompt_cv),
            means(generator, arrivals, lengths.output, lengths.output_cv),
        )


# A rate that varies more than this is off most of the time; at low rates measured indices would ask for that.
MOST_VARIANCE = 4.0


def _factors(generator: np.random.Generator, count: int, variance: float) -> Array:
    """Gamma, of mean one."""
    shape = 1.0 / min(variance, MOST_VARIANCE)
    return np.asarray(generator.standard_gamma(shape, count) / shape)
