"""What both clocks are asked: engines, their requests and their objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf

SECONDS = 1800
# Of the lengths of prompts and answers; an answer of one token is always that.
CV = 0.9
# Prompts of Azure's coding requests of 2023.
PROMPTS_CV = 0.96
# What a decode engine is given by others: a KV connector counts it as found in cache.
HANDED_OVER = 0.99
# Of the knee.
SHARES = (0.6, 0.8, 0.95, 1.0, 1.1)


@dataclass(frozen=True, slots=True)
class Case:
    """`rate`: requests per second on all replicas. `part`: the MIG profile of each. `seeds`: so many runs."""

    model: str
    gpus: int
    rate: float
    prompt: float
    output: float
    replicas: int
    ttft: float
    itl: float
    part: str = ""
    prompt_cv: float = CV
    cached: float = 0.0
    seconds: int = SECONDS
    seeds: int = 1

    @property
    def output_cv(self) -> float:
        return CV if self.output > 1 else 0.0


CASES = (
    *(Case("8b", 1, rate, 1155, 211, 1, 1.0, 0.025) for rate in (0.05, 0.3, 1, 3, 6, 10, 14)),
    *(Case("8b", 1, rate, 1155, 211, 4, 1.0, 0.025) for rate in (3, 20, 40)),
    *(Case("8b", 1, rate, 2048, 28, 1, 1.0, 0.025) for rate in (0.3, 2, 4, 6)),
    *(Case("70b", 4, rate, 1155, 211, 1, 2.0, 0.05) for rate in (0.05, 1, 4)),
    # on MIG instances, two on each GPU
    *(Case("8b", 1, rate, 1155, 211, 1, 1.0, 0.05, "3g.40gb") for rate in (0.05, 1, 3)),
    Case("8b", 1, 8, 1155, 211, 4, 1.0, 0.05, "3g.40gb"),
    # prompts alone
    Case("8b", 1, 44, 2048, 1, 4, 1.0, inf, prompt_cv=PROMPTS_CV, seeds=3),
)

# The cache fills up. Where a queue forms, and whether it goes again, is chance: several runs.
FULL = (
    *(Case("8b", 1, rate, 6000, 1500, 1, 2.0, 0.05, seeds=4) for rate in (0.8, 0.95, 1.05, 1.1, 1.2, 1.4)),
    *(Case("8b", 1, rate, 6000, 1500, 4, 2.0, 0.05, seeds=4) for rate in (3.8, 4.4, 5.6)),
    *(Case("8b", 1, rate, 1000, 3000, 1, 2.0, 0.05, seeds=4) for rate in (1.1, 1.2, 1.4, 1.8, 2.5)),
    *(Case("8b", 1, rate, 1000, 3000, 4, 2.0, 0.05, seeds=4) for rate in (4.4, 5.6, 7.2)),
    *(Case("8b", 1, rate, 3000, 800, 1, 2.0, 0.05, seeds=4) for rate in (2.5, 3, 3.5)),
    *(Case("8b", 1, rate, 12000, 400, 1, 2.0, 0.05, seeds=4) for rate in (1, 1.3, 1.6)),
)


@dataclass(frozen=True, slots=True)
class Role:
    """`one`: a case whose rate and replicas are still to be filled in. `knees`: by replicas, the requests per second at
    which 99 % are in time on the event engine (bisected to 3 %, two runs).
    """

    name: str
    one: Case
    knees: Mapping[int, float]

    def at(self, replicas: int) -> tuple[Case, ...]:
        """At each of SHARES of the knee."""
        knee = self.knees[replicas]
        return tuple(replace(self.one, replicas=replicas, rate=float(f"{knee * share:.3g}")) for share in SHARES)


def _one(prompt: float, output: float, seconds: int, *, ttft: float = 1.0, itl: float = 0.025) -> Case:
    return Case("8b", 1, 0.0, prompt, output, 1, ttft, itl, seconds=seconds, seeds=2)


ROLES = (
    Role(
        "prompts alone",
        replace(_one(2048, 1, 900, itl=inf), prompt_cv=PROMPTS_CV),
        {1: 7.9, 2: 19.2, 4: 43.5, 8: 95.0},
    ),
    Role(
        "prompts alone",
        replace(_one(1155, 1, 900, itl=inf), prompt_cv=PROMPTS_CV),
        {1: 17.0, 2: 39.5, 4: 84.0, 8: 172.0},
    ),
    Role(
        "answers alone",
        replace(_one(2048, 28, 200, ttft=inf), cached=HANDED_OVER),
        {1: 79.0, 2: 166.0, 4: 345.0, 8: 685.0},
    ),
    Role(
        "answers alone",
        replace(_one(1155, 211, 600, ttft=inf), cached=HANDED_OVER),
        {1: 22.9, 2: 47.8, 4: 97.5, 8: 201.0},
    ),
    Role("both", _one(2048, 28, 900), {1: 1.23, 2: 4.5, 4: 11.1, 8: 26.2}),
    Role("both", _one(1155, 211, 900), {1: 7.6, 2: 16.7, 4: 35.7, 8: 73.5}),
)


@dataclass(frozen=True, slots=True)
class InTurns:
    """Services with so many `replicas` each, of 8B on `gpus` H100 of which `copies` are handed out; `rates`: requests
    per second of each service.
    """

    rates: tuple[float, ...]
    replicas: int = 1
    gpus: int = 1
    copies: int = 2
    prompt: float = 1155
    output: float = 211
    ttft: float = 1.0
    itl: float = 0.05
    cv: float = CV
    seconds: int = SECONDS


TURNS = (
    # two services with an engine each on one GPU, also of different load and with short answers
    *(InTurns((rate, rate)) for rate in (0.05, 0.3, 1, 2, 3, 4)),
    InTurns((0.3, 3)),
    *(InTurns((rate, rate), prompt=2048, output=28) for rate in (0.3, 1, 2)),
    # two with two each on one, and on two
    *(InTurns((rate, rate), replicas=2, copies=4) for rate in (0.05, 0.3, 1, 2)),
    InTurns((2, 2), replicas=2, gpus=2),
    # four with one each on one
    *(InTurns((rate,) * 4, copies=4) for rate in (0.05, 0.3, 1)),
    # the objective lies between the gaps of those who are alone and of those who are not
    *(InTurns((rate, rate), itl=itl) for rate, itl in ((0.3, 0.012), (1, 0.015), (2, 0.02))),
    InTurns((0.3, 3), itl=0.022),
    InTurns((0.3,) * 4, copies=4, itl=0.025),
)
