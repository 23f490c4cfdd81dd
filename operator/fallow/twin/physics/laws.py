"""What a model at a precision does on a GPU type: step time and watts by batch and context, prefill rate, KV room.

The values come from the calibration (`calibrated.law_for`); `source` says whether they were measured there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pow, sqrt  # noqa: A004 -- of floats, so that it gives a float

from fallow.domain.clocks import LOWEST_CLOCK, STEADY_SHARE, drawn_at, reading_at, step_at
from fallow.twin.calibration.bounds import Basis
from fallow.twin.calibration.tasks import WEIGHT_BYTES, Precision
from fallow.twin.physics.constants import GpuSpec
from fallow.twin.physics.models import ModelSpec

Values = tuple[tuple[float, ...], ...]


class DoesNotFit(ValueError):
    """The weights leave no room for a KV cache on these GPUs."""


@dataclass(frozen=True, slots=True)
class Surface:
    """Seconds of a step and W per GPU: a row for each batch from 1 on, a column for each mean context in tokens.

    Linear between them and flat beyond; `usual` is the context that is meant where none is given.
    """

    batches: tuple[float, ...]
    contexts: tuple[float, ...]
    usual: float
    steps: Values
    watts: Values

    def at(self, values: Values, batch: float, context: float | None) -> float:
        row, down = _place(self.batches, batch)
        column, right = _place(self.contexts, self.usual if context is None else context)
        first, second = values[row], values[row + 1]
        left = first[column] + down * (second[column] - first[column])
        return left + right * (first[column + 1] + down * (second[column + 1] - first[column + 1]) - left)


@dataclass(frozen=True, slots=True)
class Law:
    """One model, precision and GPU type at one tensor parallelism.

    A prompt takes its tokens over `prefill_rate` and `prompt_seconds` for its step, which is no replayed graph, and
    draws `prefill_watts` per GPU. `answer`: tokens of an answer in the mix that the law was measured in.
    """

    gpu: GpuSpec
    model: ModelSpec
    precision: Precision
    tensor_parallel: int
    prefill_rate: float
    prefill_watts: float
    prompt_seconds: float
    answer: float
    kv_tokens: int
    source: Basis
    surface: Surface

    def step_seconds(self, batch: float, context: float | None = None) -> float:
        """One decode step that gives each of `batch` requests a token; they hold `context` tokens in the mean."""
        return self.surface.at(self.surface.steps, batch, context)

    def watts(self, batch: float, context: float | None = None) -> float:
        """W per GPU while `batch` requests decode; batch 0 is a loaded idle engine."""
        return self.gpu.context if batch <= 0 else self.surface.at(self.surface.watts, batch, context)

    def prefill_seconds(self, tokens: float, prompts: float) -> float:
        """What `prompts` with `tokens` to compute add to a step."""
        return tokens / self.prefill_rate + prompts * self.prompt_seconds

    def weight_bytes(self, batch: float) -> float:
        """Read by a step, over all GPUs: a mixture reads the experts that its batch touches, uniformly routed."""
        shape = self.model.shape
        touched = 1.0 - pow(1.0 - shape.touched, batch) if shape.mixture else 0.0
        return (shape.parameters - shape.routed * (1.0 - touched)) * WEIGHT_BYTES[self.precision]

    @property
    def weights(self) -> float:
        """All of them, over all GPUs, in bytes."""
        return self.model.shape.parameters * WEIGHT_BYTES[self.precision]

    @property
    def flops_per_token(self) -> float:
        """Over all GPUs; attention is left out."""
        return 2.0 * self.model.shape.active

    def at_clock(self, share: float) -> Law:
        """With the SM clock locked at a share of the highest, .4 to 1.

        The part of a step that grows with the batch takes 1 / share as long, the rest hardly longer; what is drawn
        above the context falls with the square of the clock but for STEADY_SHARE of it.
        """
        if not LOWEST_CLOCK <= share <= 1.0:
            raise ValueError(f"a clock of {share:g} of the highest: write {LOWEST_CLOCK:g} to 1")
        return self._slowed(lambda _: share)

    def under_cap(self, watts: float) -> Law:
        """With the power of each GPU capped: at every batch the highest clock that keeps to it.

        Where the lowest clock draws more than the cap, the GPU stands still for part of the time (power brake).
        Raises ValueError for a cap that an idle engine exceeds.
        """
        context = self.gpu.context
        if watts <= context:
            raise ValueError(f"a cap of {watts:g} W is not above the {context:g} W of a loaded idle engine")

        def clock(drawn: float) -> float:
            if drawn <= watts:
                return 1.0
            allowed = (watts - context) / (drawn - context)
            return sqrt(max((allowed - STEADY_SHARE) / (1.0 - STEADY_SHARE), LOWEST_CLOCK**2))

        return self._slowed(clock, cap=watts)

    def _slowed(self, clock: Callable[[float], float], *, cap: float = float("inf")) -> Law:
        """`clock`: as a share of the highest, by the watts per GPU that would be drawn at it."""
        context, surface = self.gpu.context, self.surface
        steps, watts = [], []
        for old_steps, old_watts in zip(surface.steps, surface.watts, strict=True):
            rows = [
                _at_clock(step, alone, drawn - context, clock(drawn), cap - context)
                for step, alone, drawn in zip(old_steps, surface.steps[0], old_watts, strict=True)
            ]
            steps.append(tuple(row[0] for row in rows))
            watts.append(tuple(context + row[1] for row in rows))
        share = clock(self.prefill_watts)
        slower, above = _at_clock(1.0, 0.0, self.prefill_watts - context, share, cap - context)
        return replace(
            self,
            prefill_rate=self.prefill_rate / slower,
            prefill_watts=context + above,
            prompt_seconds=self.prompt_seconds * reading_at(share),
            surface=replace(surface, steps=tuple(steps), watts=tuple(watts)),
        )


def _at_clock(step: float, alone: float, above: float, share: float, cap: float) -> tuple[float, float]:
    """Seconds of a step, of which `alone` is that of one request, and W above the context, at most `cap`."""
    slower, drawn = step_at(share, step, alone), above * drawn_at(share)
    return slower * max(drawn / cap, 1.0), min(drawn, cap)


def _place(nodes: tuple[float, ...], value: float) -> tuple[int, float]:
    """The node at or below a value, and how far it is on the way to the next."""
    index = bisect_right(nodes, value, 1, len(nodes) - 1) - 1
    return index, min(max((value - nodes[index]) / (nodes[index + 1] - nodes[index]), 0.0), 1.0)
