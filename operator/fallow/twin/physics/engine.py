"""A continuous-batching engine: queue, admission, chunked prefill, decode steps, sleep and wake.

Between two events decode steps are alike for CONTEXT_STEPS, so they are applied at once; cost grows with events, not
with tokens.
A request is admitted when its prompt fits into the KV cache; when the cache is full the youngest gives its part back
and is computed again later (vLLM V1's recompute preemption).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from math import ceil, inf

from fallow.twin.physics.constants import BLOCK_TOKENS, CHUNK_TOKENS, FALL_SECONDS, MAX_NUM_SEQS
from fallow.twin.physics.counters import EngineCounters
from fallow.twin.physics.laws import Law
from fallow.twin.physics.loading import wake_seconds
from fallow.twin.physics.requests import NOT_DECODING, FinishReason, Request

# So many decode steps are taken to have one context, that of their middle. A choice.
CONTEXT_STEPS = 64


class EngineState(StrEnum):
    AWAKE = "awake"
    SLEEPING = "sleeping"
    WAKING = "waking"


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """As vLLM's flags: --max-num-seqs, --max-num-batched-tokens, --max-model-len; and the share of prompts in cache."""

    max_num_seqs: int = MAX_NUM_SEQS
    chunk_tokens: int = CHUNK_TOKENS
    max_model_len: int = 32768
    prefix_hit_share: float = 0.0


@dataclass(slots=True)
class _PrefillStep:
    end: float
    seconds: float
    watts: float
    allotments: list[tuple[Request, int]]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Decode steps that are alike: seconds of one where the GPU is not shared, and W per GPU."""

    seconds: float
    watts: float


class Engine:
    """Moves only by `advance`. Energy is for all GPUs of the replica, integrated step by step.

    `pace` is the share of time that the engine gets of a GPU it shares in turns: its steps take longer by it, and it
    draws for its own turns only. `floor_watts` per GPU are booked elsewhere and left out of its energy. While it is
    `hung` nothing moves and requests wait. `throttles`: the clocks of its GPUs fall while it has nothing to do.
    """

    def __init__(
        self, law: Law, limits: EngineLimits, *, now: float, floor_watts: float = 0.0, throttles: bool = False
    ) -> None:
        self.law = law
        self.limits = limits
        self.now = now
        self.pace = 1.0
        self.floor_watts = floor_watts
        self.throttles = throttles
        self.joules = 0.0
        self.idle_joules = 0.0
        self.counters = EngineCounters(limits.max_model_len)
        self.state = EngineState.AWAKE
        self.sleep_level = 0
        self.paused = False
        self.hung = False
        self._falls_at = now + FALL_SECONDS if throttles else inf
        self._awake_at = 0.0
        self._sleep_began = 0.0
        self._queue: deque[Request] = deque()
        self._prefilling: deque[Request] = deque()
        self._decoding: list[tuple[int, int, Request]] = []
        self._order = 0
        self._step = 0
        self._kv_used = 0
        self._prefill_step: _PrefillStep | None = None
        self._decode_end: float | None = None
        self._stretch: _Stretch | None = None
        self._finished: list[Request] = []

    @property
    def running(self) -> int:
        return len(self._decoding) + len(self._prefilling)

    @property
    def waiting(self) -> int:
        return sum(1 for request in self._queue if request.arrived <= self.now)

    @property
    def in_flight(self) -> int:
        return self.running + len(self._queue)

    @property
    def kv_usage(self) -> float:
        return min(self._kv_used / self.law.kv_tokens, 1.0)

    @property
    def fallen(self) -> bool:
        """Whether the clocks of its GPUs are down, since it has had nothing to do for some seconds."""
        return self.running == 0 and self.now >= self._falls_at

    @property
    def asleep(self) -> bool:
        return self.state is not EngineState.AWAKE

    def fits(self, prompt: int, output: int) -> bool:
        return prompt + output <= min(self.limits.max_model_len, self.law.kv_tokens)

    def submit(self, request: Request, at: float) -> None:
        """Lengths beyond max_model_len are cut, as a client that respects the model's limit would."""
        limit = min(self.limits.max_model_len, self.law.kv_tokens)
        request.prompt = max(1, min(request.prompt, limit - 1))
        request.output = max(1, min(request.output, limit - request.prompt))
        request.arrived = max(at, self.now)
        self._queue.append(request)

    def generated(self, request: Request) -> int:
        """Tokens this request has so far."""
        if request.first_token is None:
            return 0
        if request.finished is not None:
            return request.generated
        if request.first_step == NOT_DECODING:
            return request.kept
        return min(request.kept + self._step - request.first_step + 1, request.output)

    def take_finished(self) -> list[Request]:
        """Requests that ended since the last call, aborted ones included."""
        done, self._finished = self._finished, []
        return done

    def holds(self, request: Request) -> bool:
        """Queued or running here."""
        return (
            request in self._queue
            or request in self._prefilling
            or any(entry[2] is request for entry in self._decoding)
        )

    def abort(self, request: Request) -> None:
        """The client went away. A request that has ended already stays as it is."""
        if request.finished is not None:
            return
        generated = self.generated(request)
        if request in self._queue:
            self._queue.remove(request)
        elif request in self._prefilling:
            self._prefilling.remove(request)
            self._kv_used -= request.context - request.to_compute
        else:
            self._decoding = [entry for entry in self._decoding if entry[2] is not request]
            heapify(self._decoding)
            self._kv_used -= request.prompt + generated
        self._stretch = None
        self._end(request, FinishReason.ABORT, generated)

    def abort_all(self) -> None:
        for request in [*self._queue, *self._prefilling, *(entry[2] for entry in self._decoding)]:
            self.abort(request)

    def sleep(self, level: int) -> None:
        """Level 1 and 2 as in vLLM with mode=abort: in-flight requests die. Level 0 only pauses admission."""
        if level == 0:
            self.paused = True
            return
        if self.state is EngineState.SLEEPING:
            return
        for request in [*self._prefilling, *(entry[2] for entry in self._decoding)]:
            self.abort(request)
        self._prefill_step = None
        self._decode_end = None
        self.state = EngineState.SLEEPING
        self.sleep_level = level
        self.counters.sleeps.observe(0.0)

    def wake(self) -> float:
        """Begins to wake and gives the seconds it will take."""
        self.paused = False
        if self.state is EngineState.SLEEPING:
            self.state = EngineState.WAKING
            self._sleep_began = self.now
            self._awake_at = self.now + wake_seconds(
                self.law.model.shape.parameters, self.law.precision, self.sleep_level
            )
        return max(self._awake_at - self.now, 0.0) if self.state is EngineState.WAKING else 0.0

    def watts(self) -> float:
        """Of all GPUs of the replica at this moment, without the floor."""
        if self.hung or self.state is not EngineState.AWAKE or self.running == 0:
            return self._drawn(self._resting_watts(), busy=False) * self.law.tensor_parallel
        if self._prefill_step is not None:
            watts = self._prefill_step.watts
        else:
            watts = self._decoded().watts if self._decoding else self.law.watts(self.running)
        return self._drawn(watts, busy=self.running > 0) * self.law.tensor_parallel

    def _resting_watts(self) -> float:
        if self.state is EngineState.WAKING and not self.hung:
            return self.law.gpu.loading
        return self.law.gpu.bare if self.fallen else self.law.gpu.context

    def _drawn(self, watts: float, *, busy: bool) -> float:
        """Per GPU; between its turns an engine leaves the GPU to others."""
        context = self.law.gpu.context
        return (context + self.pace * (watts - context) if busy else watts) - self.floor_watts

    def advance(self, until: float) -> None:
        """Lives until then; a step that would end later stays under way, its energy booked up to now."""
        while self.now < until:
            if self.hung:
                self._hang(until)
            elif self._prefill_step is not None:
                self._go_on_prefilling(self._prefill_step, until)
            elif self._decode_end is not None:
                self._go_on_decoding(self._decode_end, until)
            elif self.state is not EngineState.AWAKE:
                self._rest(until)
            else:
                self._make_room()
                self._admit()
                if self._prefilling:
                    self._begin_prefill()
                elif self._decoding:
                    self._decode(until)
                else:
                    self._idle(until)

    def _hang(self, until: float) -> None:
        seconds = until - self.now
        if self._prefill_step is not None:
            self._prefill_step.end += seconds
        if self._decode_end is not None:
            self._decode_end += seconds
        self._awake_at += seconds
        self._stand(until)

    def _rest(self, until: float) -> None:
        end = until
        if self.state is EngineState.WAKING:
            end = min(until, max(self._awake_at, self.now))
        self._stand(end)
        if self.state is EngineState.WAKING and self.now >= self._awake_at:
            self.state = EngineState.AWAKE
            self.sleep_level = 0
            self.counters.wakes.observe(self.now - self._sleep_began)

    def _idle(self, until: float) -> None:
        end = until
        if self._queue and not self.paused:
            end = min(until, max(self._queue[0].arrived, self.now))
        self._stand(end)

    def _stand(self, until: float) -> None:
        """Nothing is worked on; the clocks may fall meanwhile."""
        if self.now < self._falls_at < until:
            self._spend(self._falls_at, self._resting_watts(), busy=False)
        self._spend(until, self._resting_watts(), busy=False)

    def _admit(self) -> None:
        while self._queue and not self.paused and self.running < self.limits.max_num_seqs:
            request = self._queue[0]
            if request.arrived > self.now or not self._has_room(request):
                return
            self._queue.popleft()
            share = int(request.prompt * self.limits.prefix_hit_share) // BLOCK_TOKENS * BLOCK_TOKENS
            request.cached = min(share, request.prompt - 1)
            request.to_compute = request.context - request.cached
            self._kv_used += request.cached
            if request.admitted is None:
                request.admitted = self.now
                self.counters.cache_queries += request.prompt
                self.counters.cache_hits += request.cached
            self._prefilling.append(request)

    def _has_room(self, request: Request) -> bool:
        """For its prompt, those that are being computed, and a token of everyone."""
        coming = sum(one.to_compute for one in self._prefilling)
        return self._kv_used + coming + request.context + self.running + 1 <= self.law.kv_tokens

    def _make_room(self) -> None:
        """The youngest leaves while the next step's tokens do not fit; one alone always fits."""
        while self.running > 1 and self._kv_used + len(self._decoding) > self.law.kv_tokens:
            request = self._prefilling[-1] if self._prefilling else max(self._decoding, key=lambda entry: entry[1])[2]
            if self._prefilling:
                self._prefilling.pop()
                self._kv_used -= request.context - request.to_compute
            else:
                generated = self.generated(request)
                self._decoding = [entry for entry in self._decoding if entry[2] is not request]
                heapify(self._decoding)
                self._kv_used -= request.prompt + generated
                request.kept, request.first_step = generated, NOT_DECODING
            self._stretch = None
            request.preempted += 1
            self.counters.preempted += 1
            self._queue.appendleft(request)

    def _begin_prefill(self) -> None:
        """One step: a token for everyone who decodes, and a chunk of prompts in the order of arrival."""
        budget = max(self.limits.chunk_tokens - len(self._decoding), 1)
        allotments: list[tuple[Request, int]] = []
        for request in self._prefilling:
            tokens = min(request.to_compute, budget)
            allotments.append((request, tokens))
            budget -= tokens
            if budget == 0:
                break
        prompt_tokens = sum(tokens for _, tokens in allotments)
        context = self._kv_used / self.running
        decode_seconds = self.law.step_seconds(len(self._decoding), context)
        prefill_seconds = self.law.prefill_seconds(prompt_tokens, len(allotments))
        joules = decode_seconds * self.law.watts(self.running, context) + prefill_seconds * self.law.prefill_watts
        ramp = self.law.gpu.ramp if self.now >= self._falls_at else 0.0
        joules += ramp * self.law.gpu.context
        seconds = (decode_seconds + prefill_seconds + ramp) / self.pace
        watts = joules / (decode_seconds + prefill_seconds + ramp)
        self._prefill_step = _PrefillStep(self.now + seconds, seconds, watts, allotments)

    def _go_on_prefilling(self, step: _PrefillStep, until: float) -> None:
        self._spend(min(step.end, until), step.watts, busy=True)
        if self.now < step.end:
            return
        self._prefill_step = self._stretch = None
        ready: list[Request] = []
        computed = 0
        for request, tokens in step.allotments:
            if request.finished is None:
                computed += tokens
                request.to_compute -= tokens
                self._kv_used += tokens
                if request.to_compute == 0:
                    ready.append(request)
        decoded = len(self._decoding)
        self._book_work(computed + decoded, 1, self._kv_used, decoded)
        if decoded:
            self.counters.itl.observe(step.seconds, decoded)
        self._kv_used += decoded
        self._step += 1
        prompt_tokens = sum(request.prompt for request in ready if request.first_token is None)
        self.counters.generated_tokens += decoded + len(ready)
        self.counters.prompt_tokens += prompt_tokens
        self.counters.iterations.observe(decoded + len(ready) + prompt_tokens)
        self._end_reached()
        for request in ready:
            self._first_token(request)

    def _first_token(self, request: Request) -> None:
        self._prefilling.remove(request)
        if request.first_token is None:
            self.counters.cached_tokens += request.cached
            request.first_token = self.now
            self.counters.ttft.observe(self.now - request.arrived)
        request.first_step = self._step
        self._kv_used += 1
        self._order += 1
        heappush(self._decoding, (self._step + request.output - request.kept - 1, self._order, request))
        self._end_reached()

    def _decode(self, until: float) -> None:
        batch, stretch = len(self._decoding), self._decoded()
        seconds = stretch.seconds / self.pace
        steps = min(self._decoding[0][0] - self._step, int((until - self.now) / seconds))
        steps = min(steps, CONTEXT_STEPS - self._step % CONTEXT_STEPS)
        steps = min(steps, max((self.law.kv_tokens - self._kv_used) // batch, 1))
        if self._queue and not self.paused and self._queue[0].arrived > self.now:
            steps = min(steps, ceil((self._queue[0].arrived - self.now) / seconds))
        if steps < 1:
            self._decode_end = self.now + seconds
            return
        self._spend(min(self.now + steps * seconds, until), stretch.watts, busy=True)
        self._book_decoded(steps, batch, seconds)

    def _go_on_decoding(self, end: float, until: float) -> None:
        stretch = self._decoded()
        self._spend(min(end, until), stretch.watts, busy=True)
        if self.now < end:
            return
        self._decode_end = None
        if self._decoding:
            self._book_decoded(1, len(self._decoding), stretch.seconds / self.pace)

    def _decoded(self) -> _Stretch:
        if self._stretch is None:
            batch = len(self._decoding)
            context = self._kv_used / max(self.running, 1) + (CONTEXT_STEPS - self._step % CONTEXT_STEPS) / 2
            self._stretch = _Stretch(self.law.step_seconds(batch, context), self.law.watts(batch, context))
        return self._stretch

    def _book_decoded(self, steps: int, batch: int, seconds: float) -> None:
        self._book_work(steps * batch, steps, steps * self._kv_used + batch * steps * (steps - 1) // 2, steps * batch)
        self._step += steps
        self._kv_used += steps * batch
        self.counters.generated_tokens += steps * batch
        self.counters.itl.observe(seconds, steps * batch)
        self.counters.iterations.observe(batch, steps)
        if self._step % CONTEXT_STEPS == 0:
            self._stretch = None
        self._end_reached()

    def _book_work(self, tokens: int, steps: int, context_read: int, decoded: int) -> None:
        """FLOPs and bytes per GPU: weights once per step, the KV cache of everyone who decodes, new KV written."""
        share = 1.0 / self.law.tensor_parallel
        read = steps * self.law.weight_bytes(tokens / steps)
        if decoded:
            read += context_read * self.law.model.kv_bytes
        self.counters.flops += tokens * self.law.flops_per_token * share
        self.counters.read_bytes += read * share
        self.counters.write_bytes += tokens * self.law.model.kv_bytes * share

    def _end_reached(self) -> None:
        while self._decoding and self._decoding[0][0] <= self._step:
            request = heappop(self._decoding)[2]
            self._kv_used -= request.prompt + request.output
            self._stretch = None
            self._end(request, request.ends_with, request.output)

    def _end(self, request: Request, reason: FinishReason, generated: int) -> None:
        request.finished = self.now
        request.reason = reason
        request.generated = generated
        self.counters.book_finished(request)
        self._finished.append(request)

    def _spend(self, end: float, watts_per_gpu: float, *, busy: bool) -> None:
        seconds = end - self.now
        joules = self._drawn(watts_per_gpu, busy=busy) * self.law.tensor_parallel * seconds
        self.joules += joules
        if busy:
            self.counters.busy_seconds += seconds * self.pace
            if self.throttles:
                self._falls_at = end + FALL_SECONDS
        else:
            self.idle_joules += joules
        self.now = end
