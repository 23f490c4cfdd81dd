"""What has come to a service lately: how many requests, how unevenly, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass

# A burst that is seen over one cycle counts for at least so much of what it would in a shorter time: a choice.
LEAST_SHARE = 0.5
# From fewer cycles nothing is told about how uneven they are.
FEWEST = 8


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Sums over the cycles of about the last half hour, older ones forgotten; `planner.arrivals` keeps them.

    `seconds` were watched, in which `requests` came, `prompt` tokens were computed and `output` tokens generated.
    `uneven`: half the square of each cycle's requests less the cycle before's, and the same of `spans` of some cycles,
    `span_uneven` over `span_seconds`. `every` and `span_every`: how long a cycle and a span are.
    """

    seconds: float = 0.0
    requests: float = 0.0
    prompt: float = 0.0
    output: float = 0.0
    uneven: float = 0.0
    every: float = 0.0
    span_seconds: float = 0.0
    span_uneven: float = 0.0
    span_every: float = 0.0
    last: float | None = None
    last_span: float | None = None
    open_requests: float = 0.0
    open_seconds: float = 0.0
    open_cycles: int = 0

    @property
    def tokens(self) -> tuple[float, float] | None:
        """Prompt tokens to compute and tokens to answer, of a request in the mean; None as long as none came."""
        if self.requests <= 0:
            return None
        return max(self.prompt / self.requests, 1.0), max(self.output / self.requests, 1.0)

    def dispersion(self, seconds: float) -> float:
        """Variance over mean of the requests that come in so many seconds; 1 for Poisson arrivals, and never less.

        Slow swings of the rate make it grow with the time in proportion, bursts within a cycle do not: cycles and
        spans together tell how much is of which, and a time shorter than a cycle is reckoned from both.
        """
        if self.requests <= 0 or self.seconds < FEWEST * self.every:
            return 1.0
        rate = self.requests / self.seconds
        short = self.uneven / self.seconds / rate
        long = self.span_uneven / self.span_seconds / rate if self.span_seconds > 0 else short
        slope = (long - short) / (self.span_every - self.every) if self.span_every > self.every else 0.0
        found = short + max(slope, 0.0) * (seconds - self.every)
        return max(1.0, min(max(found, LEAST_SHARE * short), max(short, long)))
