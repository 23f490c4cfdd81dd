"""How one model variant behaves on one GPU type: measured or declared points over concurrency."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from math import exp, log
from typing import NamedTuple

from fallow.domain.figures import Figure
from fallow.domain.learned import LoadPoint
from fallow.domain.units import Joules, Seconds, Watts


class ProfileKey(NamedTuple):
    """What a profile is of: it fits every service that runs this. `precision` in capitals."""

    model: str
    precision: str
    gpu_product: str
    gpus: int


class ProfileSource(StrEnum):
    DECLARED = "Declared"
    SHIPPED = "Shipped"
    LEARNED = "Learned"


@dataclass(frozen=True, slots=True)
class ProfilePoint:
    """Steady state at one concurrency. `watts` is for all GPUs of a replica."""

    concurrency: float
    tokens_per_second: float
    watts: Watts
    itl: Seconds | None = None
    source: ProfileSource = ProfileSource.DECLARED

    @property
    def joules_per_token(self) -> float:
        return self.watts.value / self.tokens_per_second


@dataclass(frozen=True, slots=True)
class Profile:
    """A ModelProfile as declared; `points` ascend in concurrency, and so do `carried`, which were learned elsewhere:
    in minutes with idle moments and as far as the load went there, so that they price energy and size nothing.

    `idle_watts` without, `context_watts` with a loaded engine and no work; both for all GPUs of a replica.
    `prefill_rate`: prompt tokens that a replica computes per second when it does nothing else; `prompt_seconds`: what a
    prompt takes besides, as far as it is not in the gaps of the points.
    """

    name: str
    model: str
    precision: str
    gpu_product: str
    gpus: int
    points: tuple[ProfilePoint, ...]
    load_seconds: Seconds | None = None
    load_energy: Joules | None = None
    idle_watts: Watts | None = None
    context_watts: Watts | None = None
    max_concurrency: int | None = None
    prefill_rate: float | None = None
    prompt_seconds: float = 0.0
    carried: tuple[ProfilePoint, ...] = ()

    @property
    def key(self) -> ProfileKey:
        return ProfileKey(self.model, self.precision.upper(), self.gpu_product, self.gpus)

    def prefill_seconds(self, tokens: float) -> float | None:
        """Of a replica's time, for a prompt of so many tokens; None where nothing says how fast it computes them."""
        return None if self.prefill_rate is None else tokens / self.prefill_rate + self.prompt_seconds

    def joules_per_token(self, concurrency: float) -> float | None:
        """J per output token at a concurrency: log-log interpolation, held flat outside the points.

        A held-out concurrency is met to 2.2 % (H100) by this rule; see docs/methodology.md. None without points.
        """
        if not self.points:
            return None
        levels = [point.concurrency for point in self.points]
        index = bisect_left(levels, concurrency)
        if index == 0:
            return self.points[0].joules_per_token
        if index == len(levels):
            return self.points[-1].joules_per_token
        left, right = self.points[index - 1], self.points[index]
        share = (log(concurrency) - log(left.concurrency)) / (log(right.concurrency) - log(left.concurrency))
        return exp(log(left.joules_per_token) + share * (log(right.joules_per_token) - log(left.joules_per_token)))

    def concurrency_within(self, itl: Seconds) -> float | None:
        """The largest measured concurrency whose inter-token latency is within the objective."""
        within = [point.concurrency for point in self.points if point.itl is not None and point.itl <= itl]
        return max(within, default=None)


@dataclass(frozen=True, slots=True)
class Start:
    """What starting a replica took: seconds from the start of its container to ready, joules at its GPUs if known."""

    seconds: Seconds
    joules: Joules | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A bin whose energy per token of work, above loaded idle, is not what a profile declares; `seen` is its 95 %
    interval.
    """

    point: LoadPoint
    seen: Figure[Joules]
    declared: Joules


@dataclass(frozen=True, slots=True)
class LearnedProfile:
    """What was learned of all `services` that run one profile's variant, taken together.

    `points` are the bins with enough windows, by rising concurrency. `idle` is the draw of a replica loaded and without
    work, `idle_seen` where it was measured here and is no constant of the GPU.
    """

    points: tuple[LoadPoint, ...]
    idle: Figure[Watts]
    idle_seen: bool = False
    services: int = 1
    start: Start | None = None
