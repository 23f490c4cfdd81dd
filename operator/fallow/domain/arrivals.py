"""What has come to a service lately: how many requests, how unevenly, and how long they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# A burst that is seen over one cycle counts for at least so much of what it would in a shorter time: a choice.
LEAST_SHARE = 0.5
# Changes that are taken back make up a half of all where each cycle is on its own, and nothing where a level moved for
# good. Unevenness is believed up to so many times what was taken back: a choice.
BELIEVED = 3.0
# From fewer cycles, or fewer answers, nothing is told about how uneven requests come and how long they are.
FEWEST = 8
FEWEST_ANSWERS = 30


@dataclass(frozen=True, slots=True)
class Uneven:
    """Sums over cycles, or over spans of some cycles: `seconds` they took, `squares`: half the squares of the changes
    of their requests, `returned`: what each change takes back of the one before, as less their product.

    `rate` and `change` are those of the last one, requests per second; None: not known. `every`: seconds of one.
    """

    seconds: float = 0.0
    squares: float = 0.0
    returned: float = 0.0
    every: float = 0.0
    rate: float | None = None
    change: float | None = None

    def over(self, rate: float) -> float:
        """Variance over mean of the requests of one."""
        if self.seconds <= 0:
            return 1.0
        return max(min(self.squares, BELIEVED * max(self.returned, 0.0)) / self.seconds / rate, 1.0)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Sums over the cycles of about the last half hour, older ones forgotten; `planner.arrivals` keeps them.

    `seconds` were watched, in which `requests` came; those that `began` took `prompt` tokens to compute, and those that
    were `answered` took `output` tokens, which are not the same ones where requests have waited. `working` are the
    seconds that requests were in work, `replicas` those that replicas were ready, since another variant serves; so are
    `computed` tokens of prompts and `made` ones of answers (None: as above). `highest`: requests per second of the
    busiest cycle, forgotten like the sums; 0 where that is not known.
    `open_requests` came in the `open_cycles` of the span that has not ended.
    """

    seconds: float = 0.0
    requests: float = 0.0
    began: float = 0.0
    answered: float = 0.0
    prompt: float = 0.0
    output: float = 0.0
    cycles: Uneven = field(default_factory=Uneven)
    spans: Uneven = field(default_factory=Uneven)
    working: float = 0.0
    replicas: float = 0.0
    computed: float | None = None
    made: float | None = None
    highest: float = 0.0
    open_requests: float = 0.0
    open_seconds: float = 0.0
    open_cycles: int = 0

    @property
    def tokens(self) -> tuple[float, float] | None:
        """Prompt tokens to compute and tokens to answer, of a request in the mean; None as long as none did."""
        if self.began <= 0 or self.answered <= 0:
            return None
        return max(self.prompt / self.began, 1.0), max(self.output / self.answered, 1.0)

    @property
    def is_known(self) -> bool:
        """Whether enough was seen to tell how uneven requests come, and how long they are."""
        return self.requests > 0 and self.answered >= FEWEST_ANSWERS and self.seconds >= FEWEST * self.cycles.every

    def dispersions(self, lengths: Sequence[float]) -> tuple[float, ...]:
        """Variance over mean of the requests that come in times of these lengths, in seconds; 1 for Poisson arrivals,
        and never less.

        Slow swings of the rate make it grow with the time in proportion, bursts within a cycle do not: cycles and
        spans together tell how much is of which, and a time shorter than a cycle is reckoned from both.
        """
        if not self.is_known:
            return (1.0,) * len(lengths)
        rate = self.requests / self.seconds
        short, long = self.cycles.over(rate), self.spans.over(rate)
        apart = self.spans.every - self.cycles.every
        slope = max(long - short, 0.0) / apart if apart > 0 else 0.0
        least, most = LEAST_SHARE * short, max(short, long)
        found = (short + slope * (seconds - self.cycles.every) for seconds in lengths)
        return tuple(max(1.0, min(max(one, least), most)) for one in found)
