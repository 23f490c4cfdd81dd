"""What follows from a stretch of seconds of all engines: energy, first tokens, gaps, kept objectives, counters.

Seconds are rows and pools are columns, so a stretch costs little more than a second.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr, ndtri

from fallow.twin.physics.constants import FALL_SECONDS
from fallow.twin.simulation.crowding import Crowd, Room, ageing_of
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.sight import LATENCY_BOUNDS, IntArray, places_of
from fallow.twin.simulation.steady import mixed
from fallow.twin.simulation.turns import Shared
from fallow.twin.simulation.waits import Waits, Work, waits_of

if TYPE_CHECKING:
    from fallow.twin.simulation.engines import Pools
    from fallow.twin.simulation.table import EngineTable

# Requests that stand for all, with their weights: fine where a hundredth of them counts. Where an exponential wait of
# theirs lies, in means, and a gap of theirs, in deviations.
EDGES = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0])
SHARES, WEIGHTS = (EDGES[1:] + EDGES[:-1]) / 2, np.diff(EDGES)
WAITS = -np.log1p(-SHARES)
PLACES = ndtri(SHARES)
LENGTHS = ndtri(np.array([1 / 6, 1 / 2, 5 / 6]))
WIDTH = len(LATENCY_BOUNDS)
TINY = 1e-12
FALL = round(FALL_SECONDS)
# Nobody's clocks are down.
NONE = np.zeros((1, 1))


@dataclass(slots=True)
class Stretch:
    """What happened second by second: a row each. Columns are pools, of `waited` (s) services.

    `entered`, `ended`: requests. `spent`: seconds of each replica's time on prompts, `backlog`: of prompts there at the
    second's start, and in one more row at the end. `mixing`: those who begin to decode as a share of all who do.
    `output`: mean tokens of an answer. `step`: seconds; `rate`: departures per second and request at work. Where GPUs
    are `shared`, seconds are those of the wall, longer by the pace.
    """

    entered: Array
    ended: Array
    spent: Array
    backlog: Array
    mixing: Array
    output: Array
    step: Array
    rate: Array
    waited: Array
    shared: Shared | None = None

    @classmethod
    def empty(cls, seconds: int, columns: int, services: int) -> Stretch:
        rows: dict[str, Any] = {
            one.name: np.empty((seconds, columns)) for one in fields(cls) if one.name not in {"waited", "shared"}
        }
        # nothing enters those that drain
        rows["entered"].fill(0.0)
        rows["backlog"] = np.empty((seconds + 1, columns))
        return cls(**rows, waited=np.zeros((seconds, services)))

    def half(self, slower: Array) -> Stretch:
        """Half of the requests, whose steps take so many times as long."""
        return replace(self, entered=self.entered / 2.0, ended=self.ended / 2.0, step=self.step * slower)


@dataclass(frozen=True, slots=True)
class Prompts:
    """By second and column: seconds that a mean prompt is `computed` in so many `pieces`. By column: the `longest`
    seconds of prompts in one step, which hold up all who decode.
    """

    computed: Array
    pieces: Array
    longest: Array

    def at(self, pace: Array) -> Prompts:
        """Where engines have a share of their GPUs' time, by second."""
        return Prompts(self.computed / pace, self.pieces, self.longest / (np.add.reduce(pace, axis=0) / len(pace)))


@dataclass(frozen=True, slots=True)
class Recent:
    """By second and column, in the mean of the last FLOW_SECONDS: requests that enter a replica each second, and the
    share of its time that goes to prompts; what a crest leaves over is the backlog.
    """

    flow: Array
    use: Array


@dataclass(frozen=True, slots=True)
class Means:
    """By second and column: requests that enter a replica each second; of those who end the mean gap (s) and the share
    whose first token kept its objective.
    """

    flow: Array
    itl: Array
    kept: Array


@dataclass(slots=True)
class Totals:
    """Sums since the start, by column; energy in joules of all GPUs of the pool. `good*` kept both objectives."""

    joules: Array
    idle: Array
    admitted: Array
    done: Array
    good: Array
    prompt: Array
    generated: Array
    good_tokens: Array


# What one replica of each column did since the start, had it been there all along: a pod shows the difference. Seconds
# with work; tokens; requests; steps; then requests by their mean time between tokens and by their first token.
JOULES, BUSY, PROMPT, GENERATED, DONE, STEPS = range(6)
GAPS, TTFT = slice(6, 6 + WIDTH), slice(6 + WIDTH, 6 + 2 * WIDTH)


class Aftermath:
    """Keeps the sums, and of the requests that decode in each column the means that their ends are judged by."""

    def __init__(self, pools: Pools, starts: IntArray) -> None:
        tables, service = pools.tables, pools.service
        self._starts = starts
        self._pools = len(tables)
        both = np.concatenate((service, service))
        self._both = both
        width = max(len(table.step) for table in tables)
        self._base = np.tile(np.arange(len(tables)) * width, 2)
        self._last = np.tile([len(table.step) - 1.0 for table in tables], 2)
        even = [table.watts for table in tables]
        self._even = np.concatenate([_padded(watts, width) for watts in even])
        self._spread = np.concatenate([_padded(mixed(watts) - watts, width) for watts in even])
        self._context = np.tile([table.context for table in tables], 2)
        # of those that let their clocks fall: W above empty GPUs that fall away, and the ramp of the next request
        self._above = self._context - np.tile([table.bare for table in tables], 2)
        self._ramp = np.tile([table.ramp for table in tables], 2)
        self._throttled = np.zeros(2 * len(tables))
        self._lately = np.zeros((FALL, 2 * len(tables)))
        self._still = np.ones(2 * len(tables))
        self._prefill_watts = np.tile([table.prefill_watts for table in tables], 2)
        self._cached = pools.spread.cached
        self._prompt_spread = (1.0 + pools.spread.prompt_cv**2)[both]
        sigma = np.sqrt(np.log1p(pools.spread.output_cv**2))
        # lognormal lengths as multiples of their mean
        self._lengths = np.exp(LENGTHS[:, None] * sigma - sigma**2 / 2)[:, both]
        self._ttft, self._itl = pools.ttft[both], pools.itl[both]
        columns, services = 2 * len(tables), pools.services
        # rows of one array each, since they move together
        self._decoding = np.concatenate((np.ones((2, columns)), np.zeros((2, columns))))
        self.prompt, self.kept, self.mean_itl, self.age = self._decoding
        # those who end have made a whole answer, in means of all who decode
        self._leaving = (1.0 / pools.spread.found)[both]
        self._lasting = np.zeros((2, columns))
        self.totals = Totals(*(np.zeros(columns) for _ in fields(Totals)))
        self.counters = np.zeros((columns, TTFT.stop))
        self.first_tokens = np.zeros((services, WIDTH))
        self.mean_gaps = np.zeros((services, WIDTH))

    def throttle(self, pool: int, *, on: bool) -> None:
        """Whether the clocks of the pool's replicas fall while they have nothing to do."""
        self._throttled[[pool, pool + self._pools]] = on

    def become(self, pool: int, table: EngineTable) -> None:
        width = len(self._even) // self._pools
        some = slice(pool * width, (pool + 1) * width)
        self._even[some] = _padded(table.watts, width)
        self._spread[some] = _padded(mixed(table.watts) - table.watts, width)
        self._prefill_watts[[pool, pool + self._pools]] = table.prefill_watts

    def blend(self, into: int, out_of: int, share: float) -> None:
        for values in (self._decoding, self._lasting):
            values[:, into] += share * (values[:, out_of] - values[:, into])

    def crowd(self, replicas: Array, cache: Array, prompt: Array) -> Crowd:
        """Of those who decode now; `cache` tokens of a replica by column, mean tokens of a `prompt` by service."""
        room = Room(replicas, replicas * cache, prompt[self._both], self._prompt_spread, self._leaving)
        return Crowd(room, self.prompt, self.age)

    def finish(self, column: int, requests: float, output: float) -> None:
        """Requests that end together with their replica."""
        good = requests * self.kept[column]
        self.totals.done[column] += requests
        self.totals.good[column] += good
        self.totals.generated[column] += requests * output
        self.totals.good_tokens[column] += good * output

    def work_out(self, one: Stretch, ready: Array, prompt: Array, work: Prompts) -> None:
        """`prompt` tokens by service and second."""
        each = 1.0 / np.maximum(ready, 1.0)
        left = 1.0 - one.spent
        gap = one.step / left
        if one.shared:
            work = work.at(one.shared.pace)
        fallen = self._energy(one, ready, each, left)
        recent = self._recent(one, each)
        first = self._first_tokens(one, each, work, recent, fallen)
        itl, kept = self._means(one, gap, prompt, first)
        means = Means(recent.flow, itl, kept)
        self._count(one, each, prompt)
        if one.shared:
            for slower in one.shared.luck(one.output * itl, recent.flow):
                self._ended(one.half(slower), each, replace(means, itl=itl * slower), work.at(1.0 / slower), recent.use)
        else:
            self._ended(one, each, means, work, recent.use)

    def _ended(self, one: Stretch, each: Array, means: Means, work: Prompts, use: Array) -> None:
        self._good(one, each, means, work, use)
        ends = np.bincount((self._both * WIDTH + places_of(means.itl)).ravel(), one.ended.ravel(), self._size)
        self.mean_gaps += ends.reshape(-1, WIDTH)

    @property
    def _size(self) -> int:
        return len(self.first_tokens) * WIDTH

    def _energy(self, one: Stretch, ready: Array, each: Array, left: Array) -> Array:
        """What is not known of the batch is about half its Poisson variance, and less the more replicas share alike.

        Gives the share of replicas whose clocks were down when the requests of a second came.
        """
        batch = one.ended / one.rate * each
        around = unknown(one.rate, each)
        whole = np.minimum(batch, self._last - 1.0).astype(np.int64)
        place, beyond = self._base + whole, np.minimum(batch, self._last) - whole
        # of less than one request in the mean two are seldom there together
        several = around * np.minimum(batch, 1.0)
        watts = self._even[place] + several * self._spread[place]
        watts += beyond * (self._even[place + 1] + several * self._spread[place + 1] - watts)
        still = still_of(batch, around)
        joules = one.spent * self._prefill_watts + left * watts
        down, fallen = self._fallen(one.entered, each, still)
        joules -= left * down * self._above
        busy = 1.0 - left * still
        idle = left * (still * self._context - down * self._above)
        self.counters[:, STEPS] += _summed(busy * left / one.step)
        if one.shared:
            busy *= one.shared.pace
            self._in_turns(one.shared, joules, idle)
        drawn = _summed(joules)
        self.totals.joules += drawn * ready
        self.totals.idle += _summed(idle) * ready
        self.counters[:, JOULES] += drawn
        self.counters[:, BUSY] += _summed(busy)
        return fallen

    def _in_turns(self, shared: Shared, joules: Array, idle: Array) -> None:
        """What goes beyond the context is drawn in an engine's own turns alone; the rest is its base, work or not."""
        some = shared.turns.columns
        active = shared.pace[:, some] * (joules[:, some] - self._context[some])
        joules[:, some] = active + shared.turns.base
        idle[:, some] = shared.turns.base

    def _fallen(self, entered: Array, each: Array, still: Array) -> tuple[Array, Array]:
        """Shares of the replicas whose clocks are down in each second, and as its requests come: with nothing to do
        then or just before, and none of the requests of the FALL seconds up to then, which went to any of them.
        """
        if not np.count_nonzero(self._throttled):
            return NONE, NONE
        rows = np.concatenate((self._lately, entered))
        came = np.concatenate((np.zeros((1, len(each))), np.cumsum(rows, axis=0)))
        spared = self._throttled * (1.0 - each) ** np.maximum(came[FALL:] - came[:-FALL], 0.0)
        stood = np.concatenate((self._still[None], still[:-1]))
        self._lately, self._still = rows[-FALL:], still[-1]
        return still * spared[1:], stood * spared[:-1]

    def _first_tokens(self, one: Stretch, each: Array, work: Prompts, recent: Recent, fallen: Array) -> Array:
        """First tokens of those who entered: queue and backlog, which the fluid shows, waits that it does not show
        (`waits`), their own prompt and a step for each piece; and a ramp where the clocks were `fallen`.

        Gives the share that kept the objective.
        """
        some = slice(self._pools)
        step, longest = one.step[:, some], work.longest[some]
        # a chunk of prompts and a step of those who decode take turns
        turn = longest + step
        held = (one.backlog[:-1, some] + one.backlog[1:, some]) * (turn / (2.0 * longest))
        base = one.waited[:, self._both[some]] + held + work.computed[:, some] + work.pieces[:, some] * step
        own = np.add.reduce(work.computed[:, some], axis=0) / len(step)
        waits = self._waits(one, each[some], own, turn[-1] / longest, recent)
        # those behind it in its last step, where somebody waits: half of one in the end
        late = base + turn / 2.0 * -np.expm1(-(held + waits.mean) / turn)
        # of an exponential wait and a length of its own the tail is that of the wait, as much later (its transform)
        late += own**2 * (self._prompt_spread[some] - 1.0) / (2.0 * np.maximum(waits.mean, own))
        counts = one.entered[:, some]
        down = fallen[:, some]
        kept = self._kept(base, late, waits)
        if not np.count_nonzero(down):
            self._note(base, late, waits, counts, each)
            return kept
        ramp = self._ramp[some]
        self._note(base, late, waits, (1.0 - down) * counts, each)
        self._note(base + ramp, late + ramp, waits, down * counts, each)
        return kept + down * (self._kept(base + ramp, late + ramp, waits) - kept)

    def _waits(self, one: Stretch, each: Array, own: Array, turns: Array, recent: Recent) -> Waits:
        """By the rates of the last seconds, at the end of the stretch."""
        some = slice(self._pools)
        # the first token of an answer comes with its prompt
        later = 1.0 - 1.0 / one.output[-1, some]
        decoding = one.ended[-1, some] / one.rate[-1, some] * each * later
        flow, use = recent.flow[-1, some], recent.use[-1, some]
        return waits_of(Work(use * turns, flow, own * turns, self._prompt_spread[some]), decoding, 1.0 / each)

    def _recent(self, one: Stretch, each: Array) -> Recent:
        found = np.concatenate((one.entered * each, one.spent), axis=1)
        before = self._lasting.reshape(1, -1)
        for begin in range(0, len(found), BLOCK):
            some = found[begin : begin + BLOCK]
            length = len(some)
            some[:] = FORGETTING[:length, :length] @ some + FORGOTTEN[:length] * before
            before = some[-1:]
        self._lasting[:] = before.reshape(2, -1)
        columns = len(each)
        return Recent(found[:, :columns], found[:, columns:])

    def _kept(self, base: Array, late: Array, waits: Waits) -> Array:
        """The share of first tokens in time: some wait beside `base`, exponentially from `late` on, others do not."""
        objective = self._ttft[: self._pools]
        slack = np.maximum(objective - late, 0.0) / np.maximum(waits.mean, TINY)
        return np.where(objective > base, 1.0 - waits.share * np.exp(-slack), 0.0)

    def _note(self, base: Array, late: Array, waits: Waits, counts: Array, each: Array) -> None:
        """First tokens as engines count them."""
        if not np.count_nonzero(counts):
            return
        some = slice(self._pools)
        places = np.concatenate((base[None], late + WAITS[:, None, None] * waits.mean))
        weights = np.concatenate((((1.0 - waits.share) * counts)[None], waits.share * counts * WEIGHTS[:, None, None]))
        rows = np.arange(self._pools) * WIDTH + places_of(places)
        by_pool = np.bincount(rows.ravel(), weights.ravel(), self._pools * WIDTH).reshape(self._pools, WIDTH)
        self.first_tokens += np.add.reduceat(by_pool, self._starts, axis=0)
        self.counters[some, TTFT] += by_pool * each[some, None]

    def _means(self, one: Stretch, gap: Array, prompt: Array, first: Array) -> tuple[Array, Array]:
        """Of those who decode: their mean gap, and the share whose first token kept its objective."""
        found = np.ones((len(gap), *self._decoding.shape))
        found[:, 0] = prompt.T[:, self._both]
        found[:, 1, : self._pools] = first
        found[:, 2] = gap
        part = -np.expm1(-one.rate)
        # as many as begin in a steady flow
        gone = one.rate / (1.0 + one.rate)
        ageing, found[:, 3] = ageing_of(one.mixing, gone, one.output, self._leaving)
        parts = np.empty_like(found)
        parts[:, 0] = parts[:, 1] = one.mixing
        parts[:, 2], parts[:, 3] = part, ageing
        before = self._decoding
        for row, part in zip(found, parts, strict=True):
            np.subtract(row, before, out=row)
            np.multiply(row, part, out=row)
            before = np.add(row, before, out=row)
        self._decoding[:] = before
        return found[:, 2], found[:, 1]

    def _good(self, one: Stretch, each: Array, means: Means, work: Prompts, use: Array) -> None:
        """Prompts that come in during one answer are few: their number varies as a Poisson one. No gap is longer than a
        step with as many of their tokens as fit.

        Of that the means over seconds and replicas already show a part; what they cannot show is the rest: of answers
        shorter than a second or than the mean one, and between the replicas of a pool.
        """
        # most columns of those that drain are empty most of the time
        some = np.flatnonzero(np.logical_or.reduce(one.ended, axis=0))
        flow, mean_itl, kept = (of.take(some, axis=1) for of in (means.flow, means.itl, means.kept))
        ended, output, step = (of.take(some, axis=1) for of in (one.ended, one.output, one.step))
        computed, used = work.computed.take(some, axis=1), use.take(some, axis=1)
        totals, each, objective, uneven_prompts = self.totals, each[some], self._itl[some], self._prompt_spread[some]
        mean_life = output * mean_itl
        # those that come while a request's own prompt is computed are next, and all hold up its own answer
        behind = flow * (computed + step) * each**SPARED
        longest = step + work.longest[some]
        # short, middling and long answers: a layer each
        lengths = self._lengths.take(some, axis=1)[:, None]
        life, tokens = mean_life * lengths, output * lengths
        hidden = np.maximum(np.minimum(1.0 / np.maximum(life, 1.0), 1.0), np.maximum(1.0 - lengths / 2, 1.0 - each))
        # what prompts add to a step is skewed, since some are long: taken as lognormal
        delay = np.maximum(mean_itl - step + behind * computed / tokens, 1e-6)
        number = flow * life * hidden
        uneven = number * (each + uneven_prompts - 1.0) + np.minimum(number, 1.0) * (1.0 - each)
        deviation = np.sqrt(uneven / (1.0 - used) ** 2 + behind * uneven_prompts) * computed / tokens
        width = np.sqrt(np.log1p((deviation / delay) ** 2)) + 1e-6
        skew = width**2 / 2
        headroom = np.log(np.maximum(objective - step, TINY) / delay)
        in_time = _summed(np.where(longest <= objective, 1.0, ndtr((headroom + skew) / width)))
        gaps = step + delay[:, None] * np.exp(width[:, None] * PLACES[:, None, None] - skew[:, None])
        self._gaps(some, ended * each, np.minimum(gaps, longest))
        good = ended * kept * (in_time / len(self._lengths))
        totals.done[some] += _summed(ended)
        totals.good[some] += _summed(good)
        totals.generated[some] += _summed(ended * output)
        totals.good_tokens[some] += _summed(good * output)
        totals.admitted += _summed(one.entered)

    def _gaps(self, some: IntArray, ended: Array, gaps: Array) -> None:
        """Requests of each length by their mean gap, as the engines of some columns count them when they end."""
        lengths, columns = len(gaps), len(some)
        rows = np.arange(lengths * columns).reshape(lengths, 1, 1, columns) * WIDTH + places_of(gaps)
        weights = (WEIGHTS[:, None, None] * (ended / lengths)).ravel()
        found = np.bincount(rows.ravel(), np.concatenate([weights] * lengths), lengths * columns * WIDTH)
        for one in found.reshape(lengths, columns, WIDTH):
            self.counters[some, GAPS] += one

    def _count(self, one: Stretch, each: Array, prompt: Array) -> None:
        """What exporters show of one replica besides."""
        counters = self.counters
        tokens = _summed(one.entered * prompt.T[:, self._both])
        made = one.ended * one.output * each
        self.totals.prompt += tokens
        counters[:, PROMPT] += tokens * each
        counters[:, GENERATED] += _summed(made)
        counters[:, DONE] += _summed(one.ended) * each


# What prompts of others do to an answer is less among k replicas by k to this power: their router sees requests, not
# how long their prompts are (1 would be M/G/k, 0 k queues). Fitted to the event engine with four and eight replicas.
SPARED = 0.25
# Over how long the rate of prompts is averaged; a few answers. A choice.
FLOW_SECONDS = 10.0
# So many seconds are averaged at once: what is left of the mean before after each, and each one's part in those after.
BLOCK = 32
FORGOTTEN = ((1.0 - 1.0 / FLOW_SECONDS) ** np.arange(1, BLOCK + 1))[:, None]
FORGETTING = np.tril(FORGOTTEN / FORGOTTEN.T) / FLOW_SECONDS


def _padded(values: Array, width: int) -> Array:
    return np.concatenate((values, np.full(width - len(values), values[-1])))


def unknown(rate: Array, each: Array) -> Array:
    """Of a replica's batch the variance that is not known from what arrived, over its mean, by the rate at which
    requests leave and one over the replicas: half of Poisson's where answers last long (exponential ones are there with
    a share p, and p (1 - p) is half of p in the mean), all of it where they end within the second.

    The less, the more replicas share alike: by the root of their number, which is fitted to energy of the event engine
    with 2 to 8 replicas.
    """
    return np.asarray((0.5 + 0.5 * rate / (1.0 + rate)) * np.sqrt(each))


def still_of(batch: Array, around: Array) -> Array:
    """The share of time without any request in decode, by the mean batch of a replica and the part of its Poisson
    variance that is not known: between that of a number that is known and that of Poisson's.
    """
    still = np.maximum(1.0 - batch, 0.0)
    still += around * (np.exp(-batch) - still)
    return still


def _summed(values: Array) -> Array:
    """Over the rows, without the detour of the method: it is asked for a dozen times in each stretch."""
    return np.asarray(np.add.reduce(values, axis=0))
