"""A seeded generator: requests by a rate over time, bursts around it, lengths by mean and variation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.bursts import CHUNK, Bursts
from fallow.twin.demand.lengths import Lengths, means
from fallow.twin.rates import Rate
from fallow.twin.simulation.demand import Array, Load, Spread


@dataclass(frozen=True, slots=True)
class Stream:
    """One service's requests."""

    key: ServiceKey
    rate: Rate
    lengths: Lengths
    bursts: Bursts = field(default_factory=Bursts)


class Generated:
    """Counts are Poisson around a rate that bursts multiply.

    Each service's hour is drawn on its own, so that any block can be asked for at any time.
    """

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
            self._kept = None
            # what comes after the end is never asked for
            width = min(CHUNK, self._seconds - number * CHUNK)
            arrivals, prompt, output = (np.empty((len(self._streams), width)) for _ in range(3))
            for index, stream in enumerate(self._streams):
                drawn = self._drawn(index, stream, number)
                arrivals[index], prompt[index], output[index] = (one[:width] for one in drawn)
            self._kept = (number, (arrivals, prompt, output))
        return self._kept[1]

    def _drawn(self, index: int, stream: Stream, number: int) -> tuple[Array, Array, Array]:
        generator = np.random.default_rng(np.random.SeedSequence([self._seed, index, number]))
        times = np.arange(number * CHUNK, (number + 1) * CHUNK, dtype=np.float64)
        rate = np.maximum(stream.rate.at(times + 0.5), 0.0)
        rate = rate * stream.bursts.factors(rate, number, partial(self._noise, index))
        arrivals = generator.poisson(rate).astype(np.float64)
        lengths = stream.lengths
        return (
            arrivals,
            means(generator, arrivals, lengths.prompt, lengths.prompt_cv),
            means(generator, arrivals, lengths.output, lengths.output_cv),
        )

    def _noise(self, index: int, part: int, hour: int, last: int) -> Array:
        """The same for a seed. It is drawn from the hour's end backwards: the hour after needs no more than the end."""
        # none of these is zero at the end, which a seed would not tell from a shorter one
        seed = np.random.SeedSequence([self._seed, index, hour + 1, part + 1])
        return np.random.default_rng(seed).standard_normal(last)[::-1]
