"""Every engine of a fleet, a second at a time: requests as a fluid in the columns of arrays, one column a pool.

A pool is the replicas of one variant on one kind of node; they share its work alike, as a least-loaded router has them.
Whole requests arrive; what is in prefill and in decode is their expectation, so nothing is lost or served twice. The
laws are those of `steady`, moved in time; what follows from a stretch of seconds is worked out in `aftermath`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.twin.physics.constants import BLOCK_TOKENS
from fallow.twin.simulation.aftermath import Aftermath, Prompts, Stretch, still_of, unknown
from fallow.twin.simulation.crowding import Crowd, Pressed
from fallow.twin.simulation.demand import Array, Spread
from fallow.twin.simulation.sight import IntArray
from fallow.twin.simulation.table import EngineTable
from fallow.twin.simulation.turns import Shared, Turns

TINY = 1e-12
# Fewer requests than this wait for nothing: what rounding leaves.
NOBODY = 1e-9
# Steps are looked up at quarters of a batch: the error is below 0.2 % of a step.
FINE = 4
# Steps of an answer that may come with its prompt: what is left is never nothing.
MOST_SPARED = 0.9
# Of the cache, from where on it is watched whether it fills up, and what a crest within a stretch may be over its mean.
# Choices: to watch takes as long again as all else in a second.
WATCHED, CREST = 0.5, 2.0
# How far back arrivals are kept to tell how long the first of a queue has waited.
MOST_WAIT = 1 << 14


@dataclass(frozen=True, slots=True)
class Pools:
    """The engine of each pool and its service, ascending; objectives (s) by service, infinite for none."""

    tables: Sequence[EngineTable]
    service: IntArray
    spread: Spread
    ttft: Array
    itl: Array

    @property
    def services(self) -> int:
        return len(self.ttft)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is the same through a stretch, and what comes in: rows are seconds. `each`: one over the ready replicas,
    `share` of its service that a pool takes, `room` in its slots, `most` of a second that goes to prompts. `spared`:
    steps that an answer does not take by itself. `beside`: quarters of a request, beyond the mean, that one finds.
    """

    arrivals: Array
    prompts: Prompts
    output: Array
    each: Array
    share: Array
    room: Array
    most: Array
    spared: Array
    beside: Array


class Engines:
    """The first columns serve, as many behind them drain. Changed by `join` and its like, moved by `advance`."""

    def __init__(self, pools: Pools) -> None:
        self.pools = len(pools.tables)
        self.service = pools.service
        self._pools = pools
        self._both = np.concatenate((pools.service, pools.service))
        self._starts = np.searchsorted(pools.service, np.arange(pools.services))
        tables = pools.tables
        width = FINE * (max(len(table.step) for table in tables) - 1) + 1
        self._place = np.tile(np.arange(self.pools) * width, 2)
        self._last = np.tile([FINE * (len(table.step) - 1.0) for table in tables], 2)
        self._step = np.concatenate([_fine(table.step, width) for table in tables])
        self._prefill_rate = np.tile([table.prefill_rate for table in tables], 2)
        self._chunk = np.tile([float(table.chunk) for table in tables], 2)
        self._piece = np.tile([table.piece for table in tables], 2)
        self._slots = np.array([float(table.slots) for table in tables])
        self._cache = np.tile([table.cache for table in tables], 2)
        cached = pools.spread.cached[:, None]
        self._computed = 1.0 - cached
        # only whole blocks are found in cache
        self._cut = np.where(cached > 0, (BLOCK_TOKENS - 1) / 2.0, 0.0)
        self._grown = np.maximum(pools.spread.found, 1.0)[:, None]
        columns = 2 * self.pools
        self.ready = np.zeros(columns)
        self.batch = np.zeros(columns)
        self.prefilling = np.zeros(columns)
        self.backlog = np.zeros(columns)
        self.output = np.ones(columns)
        self.waiting = np.zeros(pools.services)
        self.arrived = np.zeros(pools.services)
        self.admitted = np.zeros(pools.services)
        self.failed = np.zeros(pools.services)
        self._rate = np.zeros(columns)
        self._mean = np.zeros(columns)
        self._spent = np.zeros(columns)
        # of those that share GPUs in turns; None: nobody does
        self.turns: Turns | None = None
        self._past = np.zeros((MOST_WAIT, pools.services))
        self._second = 0
        self._queueing = False
        self.after = Aftermath(pools, self._starts)

    @property
    def in_work(self) -> Array:
        """Requests in engines, by column."""
        return self.batch + self.prefilling

    @property
    def kv_usage(self) -> Array:
        """Share of each replica's cache, 0..1, by serving pool."""
        some = slice(self.pools)
        prompt = self.after.prompt[some]
        used = self.batch[some] * (prompt + self.after.age[some]) + self.prefilling[some] * prompt
        return np.asarray(np.minimum(used / np.maximum(self.ready[some], 1.0) / self._cache[some], 1.0))

    def by_service(self, values: Array) -> Array:
        """Sums over pools; of values by column, those that drain among them. Rows are kept apart."""
        summed = np.add.reduceat(values[..., : self.pools], self._starts, axis=-1)
        if values.shape[-1] > self.pools:
            summed = summed + np.add.reduceat(values[..., self.pools :], self._starts, axis=-1)
        return np.asarray(summed)

    def become(self, pool: int, table: EngineTable) -> None:
        """From now on the pool's replicas are as this table says, which has as many slots as before."""
        width = len(self._step) // self.pools
        self._step[pool * width : (pool + 1) * width] = _fine(table.step, width)
        both = [pool, pool + self.pools]
        self._prefill_rate[both], self._chunk[both], self._piece[both] = table.prefill_rate, table.chunk, table.piece
        self.after.become(pool, table)

    def join(self, pool: int) -> None:
        """A replica is ready."""
        self.ready[pool] += 1.0
        self.backlog[pool] *= 1.0 - 1.0 / self.ready[pool]

    def leave(self, pool: int) -> float:
        """A ready replica begins to drain, with its share of the work; gives the seconds until its last answer ends.

        The longest of k answers that end independently at one rate takes the harmonic number of k (mean of a maximum).
        """
        drain = pool + self.pools
        share, before = 1.0 / self.ready[pool], self.ready[drain]
        moved, prefill = self.batch[pool] * share, self.prefilling[pool] * share
        count = moved + prefill
        into = count / max(self.batch[drain] + self.prefilling[drain] + count, TINY)
        self.output[drain] += into * (self.output[pool] - self.output[drain])
        self.after.blend(drain, pool, into)
        self.backlog[drain] = (self.backlog[drain] * before + self.backlog[pool]) / (before + 1.0)
        self._take(pool, share)
        self.batch[drain] += moved
        self.prefilling[drain] += prefill
        self.ready[drain] += 1.0
        if count <= 0.5:
            return 0.0
        last = np.log(count) + np.euler_gamma + 1 / (2 * count)
        return float(self.backlog[drain] + last / max(self._rate[pool], TINY))

    def gone(self, pool: int, *, finished: bool) -> None:
        """A draining replica ends. What it still has is finished, or fails where its time was up."""
        drain = pool + self.pools
        left = self._take(drain, 1.0 / self.ready[drain])
        if finished:
            self.after.finish(drain, left, self.output[drain])
        else:
            self.failed[self.service[pool]] += left

    def rest(self, pool: int) -> None:
        """A ready replica falls asleep when it has nothing to do: what is left of its last answers is finished."""
        self.after.finish(pool, self._take(pool, 1.0 / self.ready[pool]), self.output[pool])

    def lost(self, pool: int) -> None:
        """A ready replica is gone at once, with its node or by a crash: its requests fail."""
        self.failed[self.service[pool]] += self._take(pool, 1.0 / self.ready[pool])

    def _take(self, column: int, share: float) -> float:
        """One replica less, with its share of the requests; gives how many those are."""
        taken = (self.batch[column] + self.prefilling[column]) * share
        self.ready[column] -= 1.0
        rest = 0.0 if self.ready[column] == 0 else 1.0 - share
        self.batch[column] *= rest
        self.prefilling[column] *= rest
        if rest == 0.0:
            self.backlog[column] = 0.0
        return float(taken)

    def advance(self, arrivals: Array, prompt: Array, output: Array) -> Array:
        """Seconds in which no replica comes or goes; arrays have a row for each service, a column for each second.

        Gives the requests in flight at the end of each second: a row for each, a column for each service.
        """
        frame = self._frame(arrivals, prompt, output)
        seconds = len(frame.arrivals)
        kept = Stretch.empty(seconds, 2 * self.pools, len(self.waiting))
        if self.turns is not None:
            kept.shared = Shared.begun(self.turns, seconds, 2 * self.pools)
        waiting, in_work = np.empty((seconds, len(self.waiting))), np.empty((seconds, 2 * self.pools))
        crowd = self._crowd(frame, prompt, output)
        for second in range(seconds):
            pressed = self._press(crowd) if crowd else None
            self._admit(frame, kept, second, pressed)
            self._work(frame, kept, second, pressed)
            if crowd:
                self._follow(crowd, kept, second)
            waiting[second] = self.waiting
            np.add(self.batch, self.prefilling, out=in_work[second])
        kept.backlog[seconds] = self.backlog
        self.after.work_out(kept, self.ready, prompt, frame.prompts)
        if crowd:
            self.after.age[:] = crowd.ages
        return waiting + self.by_service(in_work)

    def _frame(self, arrivals: Array, prompt: Array, output: Array) -> _Frame:
        ready, seconds = self.ready[: self.pools], arrivals.shape[1]
        there = np.add.reduceat(ready, self._starts)
        uncached = np.minimum(prompt * self._computed + self._cut, prompt).T
        each = 1.0 / np.maximum(self.ready, 1.0)
        batch = self._mean * each
        # one who decodes finds more others than the mean: the variance of what is not known of the batch over its mean
        beside = 0.5 + FINE * unknown(self._rate, each)
        step = self._step[self._places(batch, beside)]
        tokens = uncached[:, self._both]
        most = np.maximum(self._chunk - batch, 1.0)
        pieces = np.maximum(tokens / most, 1.0)
        longest = most / self._prefill_rate + self._piece
        # of two prompts in one step each takes its own, which makes one more of those that are spread
        parts = pieces + np.minimum(pieces - 1.0, 1.0)
        computed = tokens / self._prefill_rate + parts * self._piece
        mean = np.add.reduce(pieces, axis=0) / seconds
        # and the last of a full step of short ones is cut in two
        cut = np.maximum(2.0 - mean, 0.0) * self._piece
        # the first token comes with the prompt, in steps that are its own only where nobody else decodes
        own = mean * np.exp(-batch * (1.0 - 1.0 / self.output))
        return _Frame(
            arrivals=np.ascontiguousarray(arrivals.T),
            prompts=Prompts(computed, pieces, longest),
            output=np.maximum(output, 1.0).T[:, self._both],
            each=each,
            share=ready / np.maximum(there, 1.0)[self.service],
            room=ready * self._slots,
            most=longest / (step + longest + cut),
            spared=np.minimum(1.0 - own, MOST_SPARED),
            beside=beside,
        )

    def _crowd(self, frame: _Frame, prompt: Array, output: Array) -> Crowd | None:
        """None while no pool comes near to filling its cache within the stretch."""
        some, seconds = slice(self.pools), prompt.shape[1]
        tokens = np.add.reduce(prompt + output * self._grown, axis=1) / seconds
        # of those who come as many are there at once as come while an answer lasts
        there = np.minimum(CREST / (self._rate[some] * seconds + TINY), 1.0)
        coming = np.add.reduce(frame.arrivals, axis=0)[self.service] * there + self.waiting[self.service]
        most = (self.batch[some] + self.prefilling[some] + coming * frame.share) * tokens[self.service]
        if not np.count_nonzero(most > WATCHED * self._cache[some] * self.ready[some]):
            return None
        return self.after.crowd(self.ready, self._cache, np.add.reduce(prompt, axis=1) / seconds)

    def _press(self, crowd: Crowd) -> Pressed:
        ended = self._mean * self._rate
        return crowd.press(self.batch, self.prefilling, ended, ended * self.output, self.waiting[self._both])

    def _follow(self, crowd: Crowd, kept: Stretch, second: int) -> None:
        ended = kept.ended[second]
        crowd.follow(self.batch + ended, kept.mixing[second], ended, self.output)

    def _admit(self, frame: _Frame, kept: Stretch, second: int, pressed: Pressed | None) -> None:
        """First come first served, as far as slots and cache go; kept are the entries and how long they waited."""
        some = slice(self.pools)
        queue = self.waiting + frame.arrivals[second]
        wanted = queue[self.service] * frame.share
        free = np.maximum(frame.room - self.batch[some] - self.prefilling[some], 0.0)
        free += self.batch[some] * np.minimum(self._rate[some], 1.0)
        if pressed:
            np.minimum(free, pressed.entering[some], out=free)
        entered = np.minimum(wanted, free, out=kept.entered[second, some])
        admitted = np.add.reduceat(entered, self._starts)
        self.arrived += frame.arrivals[second]
        self._past[self._second % MOST_WAIT] = self.arrived
        self._second += 1
        if self._queueing:
            kept.waited[second] = self._waited(admitted)
        self.admitted += admitted
        queue -= admitted
        queue[queue < NOBODY] = 0.0
        self.waiting = queue
        self._queueing = bool(np.count_nonzero(queue))

    def _work(self, frame: _Frame, kept: Stretch, second: int, pressed: Pressed | None) -> None:
        """Prefill first: what comes in and what is left over, at most the time that a chunk leaves to decoding. Then
        arrivals to and departures from decoding in closed form, at the steps of the mean batch of the second before.
        """
        entered = kept.entered[second]
        kept.backlog[second] = self.backlog
        computed = entered + pressed.again if pressed else entered
        seconds = frame.prompts.computed[second]
        step = self._step[self._places(self._mean * frame.each, frame.beside)]
        if kept.shared:
            turns, pace = kept.shared.turns, kept.shared.pace[second]
            kept.shared.busy[second] = self._busy(turns.columns, frame)
            pace[turns.columns] = turns.paces(kept.shared.busy[second])
            seconds, step = seconds / pace, step / pace
        work = self.backlog + computed * seconds * frame.each
        spent = np.minimum(work, frame.most, out=kept.spent[second])
        begun = (self.prefilling + entered) * (spent / np.maximum(work, TINY))
        # rounding must leave nothing below zero: it would be taken in again as a negative number of requests
        self.prefilling = np.maximum(self.prefilling + entered - begun, 0.0)
        self.backlog = work - spent
        mixing = np.divide(begun, np.maximum(self.batch + begun, TINY), out=kept.mixing[second])
        self.output += mixing * (frame.output[second] - self.output)
        kept.output[second] = self.output
        kept.step[second] = step
        rate = np.divide(1.0 - spent, (self.output - frame.spared) * step, out=kept.rate[second])
        leaving = rate * pressed.working if pressed else rate
        level = begun / leaving
        after = np.maximum(level + (self.batch - level) * np.exp(-leaving), 0.0)
        ended = np.subtract(self.batch + begun, after, out=kept.ended[second])
        self._mean = ended / rate
        self._rate, self._spent, self.batch = rate, spent, after

    def _busy(self, some: IntArray, frame: _Frame) -> Array:
        """The share of the second before in which a replica of some columns had work.

        In this one it would follow from their paces, and these from it. The requests of others do not care which second
        it is, and who has work for long has it in both.
        """
        each = frame.each[some]
        still = still_of(self._mean[some] * each, unknown(self._rate[some], each))
        return np.asarray(1.0 - (1.0 - self._spent[some]) * still)

    def _places(self, batch: Array, beside: Array) -> IntArray:
        return np.asarray(self._place + np.minimum(batch * FINE + beside, self._last).astype(np.int64))

    def _waited(self, admitted: Array) -> Array:
        """Seconds since those who are admitted now arrived, first come first served, by service."""
        kept = min(self._second, MOST_WAIT)
        waited = np.zeros(len(admitted))
        for service in np.flatnonzero((self.waiting > 0) & (admitted > 0)):
            rank = self.admitted[service] + admitted[service] / 2 - 1e-6
            low, high = 0, kept - 1
            while low < high:  # how many seconds ago the count of arrivals first reached the rank
                middle = (low + high + 1) // 2
                if self._past[(self._second - 1 - middle) % MOST_WAIT, service] >= rank:
                    low = middle
                else:
                    high = middle - 1
            waited[service] = low
        return waited


def _fine(values: Array, width: int) -> Array:
    """At quarters of a batch; the step of less than one request is that of one."""
    whole = np.arange(len(values), dtype=np.float64)
    fine = np.interp(np.maximum(np.arange(FINE * (len(values) - 1) + 1) / FINE, 1.0), whole, values)
    return np.concatenate((fine, np.full(width - len(fine), fine[-1])))
