"""What a replica carries when prompts are computed whole, and when a step takes only so many of their tokens.

A whole prompt holds up everyone who decodes for as long as it takes. Where answers are short, few prompts fall into
each, so that their number varies much and a replica must stay far below what it carries in the mean. In small pieces no
gap between two tokens is longer than a step with one piece (chunked prefill: A. Agrawal et al., Sarathi-Serve, OSDI
2024), so what varies is how long a prompt waits for its turn: a matter of the first token alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, erfc, exp, log, log1p, sqrt

from fallow.domain.arrivals import Arrivals
from fallow.domain.profiles import Profile
from fallow.domain.units import Seconds
from fallow.domain.workloads import Objectives, Service, Variant
from fallow.planner.capacity import Capacity, engine_limit, profiled_steps

# Share of the ITL objective that a step with one piece may take: steps are known to some per cent.
FULL = 0.95
# Seconds that a step with a piece of a prompt takes besides its tokens, since it is no replayed graph: of 8B on H100 by
# the twin's fit to ML.ENERGY's rows (docs/methodology.md).
PIECE = 0.0025
# Fewer tokens than this compute a prompt at less than half of the GPU's rate (the ridge of H100 is at 300). A choice.
FEWEST_TOKENS = 128
# Flags of vLLM by which a service decides itself.
OWN_FLAGS = ("--max-num-batched-tokens", "--no-enable-chunked-prefill", "--long-prefill-token-threshold")
# Lengths of prompts and answers vary by as much as their mean: about so in Azure's traces of 2023 (.96, .97).
SPREAD = 2.0
# A wait for prompts before is shorter among k replicas by k to this power, as the twin's event engine has it.
SPARED = 0.25
# Shares of what is carried in the mean that are looked at.
SHARES = tuple(number / 20 for number in range(19, 0, -1))


@dataclass(frozen=True, slots=True)
class Pieces:
    """Steps of at most so many `tokens`, of prompts and answers together. A replica then carries `rate` requests per
    second at most; a request's own prompt takes `own` seconds in its turn.
    """

    tokens: int
    rate: float
    own: Seconds

    def patience(self, objectives: Objectives) -> float:
        """Seconds that are left of the objective for the first token; with none, a request may wait as long as its own
        prompt takes.
        """
        return max((objectives.ttft_p95 or self.own * 2) - self.own, 0.0)

    def within(self, objectives: Objectives, replicas: int) -> float:
        """Requests per second and replica of which as many have their first token in time as are to."""
        missed = 1.0 - objectives.attainment
        left = self.patience(objectives)
        if left <= 0:  # late even where it need not wait
            return 0.0
        for share in SHARES:
            waits = share ** (sqrt(2.0 * replicas + 2.0) - 1.0)
            mean = SPREAD / 2.0 * self.own / (1.0 - share) * replicas**-SPARED
            if waits * exp(-left / mean) <= missed:
                return share * self.rate
        return 0.0


def held(
    capacity: Capacity, service: Service, variant: Variant, profile: Profile | None, recent: Arrivals, tokens: int
) -> Capacity:
    """What a replica carries whose steps take at most so many tokens."""
    found = None if profile is None else _with(tokens, variant, profile, recent)
    return capacity if found is None else in_turns(capacity, found, service)


def in_turns(capacity: Capacity, pieces: Pieces, service: Service) -> Capacity:
    """What a replica carries that works so: a request may then wait for its turn."""
    return replace(capacity, requests_per_second=pieces.rate, patience=pieces.patience(service.objectives))


def _with(tokens: int, variant: Variant, profile: Profile, recent: Arrivals) -> Pieces | None:
    lengths, rate = recent.tokens, profile.prefill_rate
    if lengths is None or rate is None:
        return None
    beside = _beside(lengths)
    for batch, step in _known(variant, profile):
        room = max(tokens - batch, 1.0)
        if room * beside <= batch:
            return _full(batch, room, step + PIECE + room / rate, lengths)
    return None


def in_pieces(service: Service, variant: Variant, profile: Profile, recent: Arrivals) -> Pieces | None:
    """The most tokens of a step that keep the ITL objective whatever comes; None where too few would be left, where
    there is no such objective, or where too little is known.
    """
    itl, tokens = service.objectives.itl_p95, recent.tokens
    if itl is None or tokens is None or profile.prefill_rate is None:
        return None
    gap, beside = itl * FULL, _beside(tokens)
    for batch, step in _known(variant, profile):
        room = (gap - step - PIECE) * profile.prefill_rate
        if room < FEWEST_TOKENS:
            return None
        if room * beside <= batch:
            return _full(batch, room, gap, tokens)
    return None


def _beside(lengths: tuple[float, float]) -> float:
    """Requests that decode beside each token of the pieces, one in every step (Little's law)."""
    prompt, output = lengths
    return output / prompt


def _full(batch: float, room: float, gap: float, lengths: tuple[float, float]) -> Pieces:
    """A replica that takes pieces of `room` tokens and nothing else, one each `gap` seconds."""
    prompt, _ = lengths
    return Pieces(int(room + batch), room / prompt / gap, Seconds(ceil(prompt / room) * gap))


def better_in_pieces(
    service: Service, variant: Variant, profile: Profile, recent: Arrivals, replicas: int
) -> Pieces | None:
    """Where each of so many replicas then carries more; None where it does not, or too little is known."""
    found = None if why_whole(service) is not None else in_pieces(service, variant, profile, recent)
    plain = None if found is None else whole(service, variant, profile, recent, replicas)
    if found is None or plain is None or found.within(service.objectives, replicas) < plain:
        return None
    return found


def why_whole(service: Service) -> str | None:
    """Why the steps of a service are not limited as things are declared, and what to write instead."""
    if service.target is not None:
        return f"Deployment {service.target} is adopted; set --max-num-batched-tokens in its own pod template"
    flags = _flags(service)
    own = next((flag for flag in OWN_FLAGS if flag in flags), None)
    if own is not None:
        return f"its own arguments have {own}; take it out to let the policy decide"
    if service.objectives.itl_p95 is None:
        return "it has no objectives.itl, by which the tokens of a step are chosen"
    return None


def whole(service: Service, variant: Variant, profile: Profile, recent: Arrivals, replicas: int) -> float | None:
    """Requests per second and replica at which as many have their gaps in time as are to, with prompts computed whole.

    What prompts add to an answer is taken as lognormal. In the mean it is its steps' time f / (1 - f) at the share f
    of prompts, and those that come while its own is computed. Of its variance the number of prompts is a part, which
    routers even out, and their length the other; both are more by 1 / (1 - f)^2, since a held-up answer meets more of
    them (completion time of M/G/1 with preemption, D. Gaver, JRSS B 24(1), 1962).
    """
    itl, tokens = service.objectives.itl_p95, recent.tokens
    if itl is None or tokens is None or profile.prefill_rate is None:
        return None
    prompt, output = tokens[0] / profile.prefill_rate, tokens[1]
    known = _known(variant, profile)
    if not known:
        return 0.0
    missed = 1.0 - service.objectives.attainment

    def late(of: tuple[float, float]) -> bool:
        return _late(of, itl, (prompt, output), replicas) > missed

    # the more requests, the more of them are late
    batches, kept = known, bisect_left(known, True, key=late)
    if kept == 0:
        fewest, step = known[0]
        batches = tuple((fewest * share, step) for share in reversed(SHARES))
        kept = bisect_left(batches, True, key=late)
    if kept == 0:
        return 0.0
    batch, step = batches[kept - 1]
    return 1.0 / (output * step / batch + prompt)


def _late(of: tuple[float, float], itl: Seconds, request: tuple[float, float], replicas: int) -> float:
    """Share of the gaps above the objective at a batch and its step, of prompts of so many seconds and answers of so
    many tokens.
    """
    (batch, step), (prompt, output) = of, request
    if step >= itl:
        return 1.0
    rate = 1.0 / (output * step / batch + prompt)
    spared, apart, several = replicas**-SPARED, 1.0 / replicas + SPREAD - 1.0, 1.0 - 1.0 / replicas
    share = rate * prompt
    behind = rate * (prompt + step) * spared
    added = output * step * share / (1.0 - share) + behind * prompt
    number = rate * output * step / (1.0 - share)
    uneven = number * apart + min(number, 1.0) * several
    variance = (uneven / (1.0 - share) ** 2 + behind * SPREAD) * prompt**2
    return _beyond(output * (itl - step), added, variance)


def _known(variant: Variant, profile: Profile) -> tuple[tuple[float, float], ...]:
    """Batches up to the engine's limit with the profile's seconds of a step: among many prompts it is not told how long
    steps have lately taken (`capacity.pace`), and engines are not to be replaced for what is not known.
    """
    return profiled_steps(profile.points, engine_limit(variant, profile))


def _beyond(limit: float, mean: float, variance: float) -> float:
    """Share of a lognormal value above the limit."""
    if limit <= 0:
        return 1.0
    width = sqrt(log1p(variance / mean**2))
    return erfc((log(limit / mean) + width**2 / 2) / (width * sqrt(2.0))) / 2.0


def _flags(service: Service) -> frozenset[str]:
    """Of all its variants and of the containers of its template."""
    containers: Iterable[dict[str, list[str]]] = service.template.get("spec", {}).get("containers") or ()
    words = (
        *(word for variant in service.variants for word in variant.args),
        *(word for one in containers for part in ("args", "command") for word in one.get(part) or ()),
    )
    return frozenset(str(word).partition("=")[0] for text in words for word in str(text).split())
