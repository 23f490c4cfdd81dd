"""What is learned from watching: how a variant uses energy on a GPU type. Kept with the ledger; it may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallow.domain.figures import Figure, Missing
from fallow.domain.units import Instant, Joules, Watts
from fallow.domain.workloads import ServiceKey

NEVER = Instant(0)


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """A service's variant on one GPU type; `product` as the node's label nvidia.com/gpu.product names it."""

    service: ServiceKey
    variant: str
    product: str


@dataclass(frozen=True, slots=True)
class LoadBin:
    """Sums over the windows of a replica at one concurrency, older ones forgotten: J, s, tokens, steps, requests.

    `scatter` is the sum of tokens * (J/token of a window - J/token of the bin)^2; `at` the end of the newest window.
    """

    windows: float = 0.0
    energy: float = 0.0
    seconds: float = 0.0
    prompt_tokens: float = 0.0
    generated_tokens: float = 0.0
    iterations: float = 0.0
    requests: float = 0.0
    scatter: float = 0.0
    at: Instant = NEVER


@dataclass(frozen=True, slots=True)
class StepMoments:
    """The regression of a replica's energy on its work, as normal equations (`footprint.steps`).

    `information` is the upper triangle of X'X over prompt tokens, generated tokens, iterations and seconds, each
    divided by the window's energy; `solution` is the least-squares solution without constraints. `spread` is the mean
    square of `judged` relative errors, each of a window that was predicted before it was learned from; `above` and
    `below` are the drift test's sums. `refits` counts the drifts found, `since` is the start of the present fit.
    """

    information: tuple[float, ...]
    solution: tuple[float, ...]
    windows: float
    spread: float
    judged: float
    since: Instant
    above: float = 0.0
    below: float = 0.0
    refits: int = 0


@dataclass(frozen=True, slots=True)
class Starts:
    """Sums over the starts of a replica, older ones forgotten: seconds to ready, and the joules of `metered` of them.

    `pending` are the joules of starts under way.
    """

    number: float = 0.0
    seconds: float = 0.0
    metered: float = 0.0
    joules: float = 0.0
    pending: float = 0.0


@dataclass(frozen=True, slots=True)
class Learned:
    """One placement. `gpus` of a replica; `idle_watts` of a replica, loaded and without work, over `idle_windows`.

    `steps` is None for engines that do not count their iterations. `bins` are by the exponent of two: bin 3 holds
    8 to 16 requests a step.
    """

    gpus: int
    at: Instant
    idle_watts: float = 0.0
    idle_windows: float = 0.0
    steps: StepMoments | None = None
    bins: Mapping[int, LoadBin] = field(default_factory=dict)
    starts: Starts | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """An engine's counters at one moment; None where it does not count them."""

    prompt_tokens: float
    generated_tokens: float
    requests: float
    cached_prompt_tokens: float | None
    iterations: float | None


@dataclass(frozen=True, slots=True)
class Opening:
    """Where a replica's window begins: its GPUs' counters (J, by UUID) and its engine's. It is not stored."""

    at: Instant
    joules: Mapping[str, float]
    counts: Counts


@dataclass(frozen=True, slots=True)
class StepModel:
    """What a replica's energy follows, with 95 % intervals: J per prompt token computed, per generated token, per step.

    `idle` is its draw loaded and without work; the other three are what work adds to that. `spread` is the standard
    deviation of the relative error of a minute's energy, met on windows that were not yet learned from.
    """

    prefill: Figure[Joules]
    decode: Figure[Joules]
    step: Figure[Joules]
    idle: Figure[Watts]
    spread: float
    windows: float
    refits: int


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One bin: the mean concurrency in it and what a token and a request took, idle moments within it included.

    `joules_per_token` has its 95 % interval. `prompts` are the prompt tokens computed for each generated one.
    """

    concurrency: float
    joules_per_token: Figure[Joules]
    joules_per_request: Figure[Joules] | Missing
    tokens_per_second: float
    watts: float
    windows: float
    prompts: float = 0.0
    last_seen: Instant = NEVER


@dataclass(frozen=True, slots=True)
class Phases:
    """One amount of energy by what it went into; the best values add up to it. `standing` is all that is not work."""

    prefill: Figure[Joules]
    decode: Figure[Joules]
    steps: Figure[Joules]
    standing: Figure[Joules]


@dataclass(frozen=True, slots=True)
class VariantEnergy:
    """What is known of one variant where it runs now. `request` is what its mean request of the day should add, J.

    `idle` is the loaded draw of a replica without work. `relearning`: its energy drifted away, and too little was
    measured since.
    """

    product: str
    model: StepModel | Missing
    points: tuple[LoadPoint, ...] = ()
    request: Figure[Joules] | Missing | None = None
    idle: Figure[Watts] | None = None
    relearning: bool = False
