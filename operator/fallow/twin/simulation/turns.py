"""GPUs that are used in turns (time-slicing): how much of its time each engine gets, and what it draws without work.

Who shares with whom stands still through a stretch of seconds; how much each has to do does not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import IntArray

TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Turns:
    """`columns` of the engines that share GPUs. `held`: a row for each way in which a GPU is held, with the number of
    engines of each of the columns; `gpus`: how many are held so. `base`: W that a mean replica of each column draws
    whether it works or not, its part of what its GPU draws without work.
    """

    columns: IntArray
    held: Array
    gpus: Array
    base: Array

    def paces(self, busy: Array) -> Array:
        """The share of a GPU's time that an engine of each column has while it has work, 0..1, in the mean of its
        replicas; `busy`: the share of the last second in which a replica of each column had some.

        Those with work share the time alike, so an engine beside n others with work has 1 / (1 + n) of it. What the
        fluid knows of another is that it has work with probability u: n is a sum of independent choices, and

            E[1 / (1 + n)] = integral over x from 0 to 1 of E[x^n] = integral of the product of (1 - u + u x),

        since 1 / (1 + n) is the integral of x^n. Gauss and Legendre's rule gives that exactly with half as many places
        as there are copies. Times of work then add up to those of the GPU: with p its engine's pace, the sum of u p is
        1 - product of (1 - u), the share of time in which any has work.
        """
        most = int(self.held.sum(axis=1).max())
        places, weights = np.polynomial.legendre.leggauss((most + 1) // 2)
        # from -1..1 to 0..1
        one = 1.0 - busy[:, None] * (0.5 - places / 2.0)
        everyone = np.exp(self.held @ np.log(one))
        among = (everyone * (weights / 2.0)) @ (1.0 / one).T
        engines = self.gpus[:, None] * self.held
        return np.asarray((engines * among).sum(axis=0) / engines.sum(axis=0))

    def beside(self, values: Array) -> Array:
        """Sums over the others on an engine's GPU, in the mean of its replicas; `values` by column, in rows."""
        engines = self.gpus[:, None] * self.held
        # by column and by that of the others, without itself
        pairs = (engines.T @ self.held) / engines.sum(axis=0)[:, None] - np.eye(len(self.columns))
        return np.asarray(values @ pairs.T)


@dataclass(frozen=True, slots=True)
class Engine:
    """One that works, or may: its column and the W of its part of what its GPU draws without work."""

    column: int
    base: float


def turns_of(gpus: Iterable[Sequence[Engine]]) -> Turns | None:
    """By the engines on each GPU; None without any."""
    ways: Counter[tuple[int, ...]] = Counter()
    base: defaultdict[int, list[float]] = defaultdict(list)
    for engines in gpus:
        if engines:
            ways[tuple(sorted(one.column for one in engines))] += 1
        for one in engines:
            base[one.column].append(one.base)
    if not ways:
        return None
    columns = sorted(base)
    held = [[float(way.count(column)) for column in columns] for way in ways]
    return Turns(
        np.array(columns, dtype=np.int64),
        np.array(held),
        np.array(list(ways.values()), dtype=np.float64),
        np.array([sum(base[column]) / len(base[column]) for column in columns]),
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """Engines that use GPUs in turns, by second: the `pace` of each column, the share of a GPU's time that it has while
    it has work; and of those that share, how `busy` a replica was in the second before.
    """

    turns: Turns
    pace: Array
    busy: Array

    @classmethod
    def begun(cls, turns: Turns, seconds: int, columns: int) -> Shared:
        return cls(turns, np.ones((seconds, columns)), np.empty((seconds, len(turns.columns))))

    def luck(self, life: Array, flow: Array) -> tuple[Array, Array]:
        """How long the gaps of two answers are that stand for all, in means of an answer that lasts for ever; `life` is
        the seconds that one lasts, `flow` the requests that come to a replica each second.

        The fluid has others at work for a share u of each second and cannot show when. With n of them at work an answer
        is slower by 1 + n, of mean 1 + sum of u and variance sum of u (1 - u), where n stays while it lasts; it is
        1 / pace, and alike for all, where n changes often. Another whose spells of work come at `flow` and last
        exponentially forgets within u / flow what it was at (a process of two states), and the mean over an answer
        keeps 1 / (1 + life / (2 u / flow)) of the variance, about. So far an answer is as if n stayed.
        """
        some, beside = self.turns.columns, self.turns.beside
        varies = self.busy * (1.0 - self.busy)
        number = beside(varies)
        lasting = beside(varies * self.busy / np.maximum(flow[:, some], TINY)) / np.maximum(number, TINY)
        stays = 1.0 / (1.0 + life[:, some] / np.maximum(2.0 * lasting, TINY))
        mean = 1.0 / self.pace[:, some]
        middle = mean + stays * (1.0 + beside(self.busy) - mean)
        # nobody is quicker than alone
        deviation = np.minimum(np.sqrt(number * stays), middle - 1.0)
        short, long = np.ones_like(self.pace), np.ones_like(self.pace)
        short[:, some], long[:, some] = (middle - deviation) / mean, (middle + deviation) / mean
        return short, long
