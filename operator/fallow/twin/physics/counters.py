"""What an engine counts while it works: the quantities behind vLLM's metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from fallow.twin.physics.histogram import Histogram, one_two_five
from fallow.twin.physics.requests import FinishReason, Request

# Bounds as vLLM 0.32 exposes them.
ITERATION_TOKENS = (1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)
TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
ITL = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
LATENCY = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip
SLEEP_OPERATION = (0.01, 0.1, 1.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
PARAMS_N = (1.0, 2.0, 5.0, 10.0, 20.0)


@dataclass(slots=True)
class EngineCounters:
    """Monotonic. Tokens, steps and work per GPU; histograms are made for the engine's max_model_len."""

    max_model_len: int
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    cache_queries: int = 0
    cache_hits: int = 0
    flops: float = 0.0
    read_bytes: float = 0.0
    write_bytes: float = 0.0
    busy_seconds: float = 0.0
    preempted: int = 0
    finished: dict[FinishReason, int] = field(default_factory=lambda: dict.fromkeys(FinishReason, 0))
    iterations: Histogram = field(default_factory=lambda: Histogram(ITERATION_TOKENS))
    ttft: Histogram = field(default_factory=lambda: Histogram(TTFT))
    itl: Histogram = field(default_factory=lambda: Histogram(ITL))
    time_per_token: Histogram = field(default_factory=lambda: Histogram(ITL))
    e2e: Histogram = field(default_factory=lambda: Histogram(LATENCY))
    queue: Histogram = field(default_factory=lambda: Histogram(LATENCY))
    inference: Histogram = field(default_factory=lambda: Histogram(LATENCY))
    prefill: Histogram = field(default_factory=lambda: Histogram(LATENCY))
    decode: Histogram = field(default_factory=lambda: Histogram(LATENCY))
    preemptions: Histogram = field(default_factory=lambda: Histogram(PREEMPTIONS))
    params_n: Histogram = field(default_factory=lambda: Histogram(PARAMS_N))
    sleeps: Histogram = field(default_factory=lambda: Histogram(SLEEP_OPERATION))
    wakes: Histogram = field(default_factory=lambda: Histogram(SLEEP_OPERATION))
    request_prompt: Histogram = field(init=False)
    request_generation: Histogram = field(init=False)
    request_max_generation: Histogram = field(init=False)
    params_max_tokens: Histogram = field(init=False)
    prefill_computed: Histogram = field(init=False)

    def __post_init__(self) -> None:
        lengths = one_two_five(self.max_model_len)
        self.request_prompt = Histogram(lengths)
        self.request_generation = Histogram(lengths)
        self.request_max_generation = Histogram(lengths)
        self.params_max_tokens = Histogram(lengths)
        self.prefill_computed = Histogram(lengths)

    def book_finished(self, request: Request) -> None:
        """A request left: vLLM books its life now, whatever the reason."""
        if request.reason is None or request.finished is None:
            raise ValueError("only a finished request can be booked")
        self.finished[request.reason] += 1
        if request.admitted is None or request.first_token is None:
            return
        self.e2e.observe(request.finished - request.arrived)
        self.queue.observe(request.admitted - request.arrived)
        self.inference.observe(request.finished - request.admitted)
        self.prefill.observe(request.first_token - request.admitted)
        self.decode.observe(request.finished - request.first_token)
        if request.generated > 1:
            self.time_per_token.observe((request.finished - request.first_token) / (request.generated - 1))
        self.preemptions.observe(float(request.preempted))
        self.params_n.observe(1.0)
        self.request_prompt.observe(request.prompt)
        self.request_generation.observe(request.generated)
        self.request_max_generation.observe(request.generated)
        self.params_max_tokens.observe(request.output)
        self.prefill_computed.observe(request.prompt - request.cached)
