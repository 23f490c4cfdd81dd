"""`fallow explain` as text: why a service runs what it runs, from its object, in under twenty lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fallow.api.conditions import Condition, Figure
from fallow.api.inference_service_status import Decision, InferenceServiceStatus, Proposal, Work
from fallow.app.declared import status_of
from fallow.domain import figures as domain
from fallow.domain.rooflines import Roofline
from fallow.domain.units import FlopsPerByte

JSON = Mapping[str, Any]
# lines of one sort, so that all of them are fewer than twenty; silences as far as there is room besides
VETOES, SILENCES, DECISIONS, CONDITIONS, MISSING = 2, 3, 2, 2, 2
MOST = 19
WIDTH = 14


def explained(service: JSON) -> str:
    """The text for an InferenceService from the API server. Raises Refusal for a status of another version."""
    metadata, spec = service["metadata"], service.get("spec") or {}
    name = f"{metadata['namespace']}/{metadata['name']}"
    if not service.get("status"):
        return f"{name} has no status yet: the operator has not looked at it; is it running, and may it see {name}?\n"
    status = status_of(name, service)
    why, rest = list(_why(status, metadata.get("generation"))), list(_rest(status, spec))
    silent = list(_silent(status))[: MOST - 1 - len(why) - len(rest)]
    lines = [(name, _runs(status)), *why, *silent, *rest]
    width = max(WIDTH, len(name) + 2)
    first, *others = (f"{label:<{width if label == name else WIDTH}}{text}" for label, text in lines)
    return "\n".join([first, *others]) + "\n"


def _why(status: InferenceServiceStatus, generation: int | None) -> Iterator[tuple[str, str]]:
    if generation is not None and status.observed_generation not in {None, generation}:
        yield "outdated", f"the spec changed since: generation {generation}, decided on {status.observed_generation}"
    standing = status.standing
    if standing is not None:
        by = f" ({standing.lever})" if standing.lever else ""
        yield "why", f"{standing.reason}{by}: {standing.message}"
        for veto in standing.vetoes[:VETOES]:
            yield "held back", f"{veto.guard}: {veto.message}"
    yield from _proposed(status)
    yield from _limited(status)


def _silent(status: InferenceServiceStatus) -> Iterator[tuple[str, str]]:
    """What does not happen: now, and as things are declared."""
    if status.standing is None:
        return
    if status.standing.kept_node:
        yield "node", status.standing.kept_node
    for silence in status.standing.silences[:SILENCES]:
        yield "never", silence


def _rest(status: InferenceServiceStatus, spec: JSON) -> Iterator[tuple[str, str]]:
    yield "objectives", _objectives(spec, _condition(status, "ObjectivesMet"))
    evidence = status.idle.evidence
    seen = [part for part in (evidence.requests, evidence.gpu_activity, evidence.watts) if part]
    yield "load", f"{status.idle.state}: {'; '.join(seen) or 'nothing was seen'}"
    if status.work is not None:
        yield "work", _work(status.work)
    for missing in evidence.missing[:MISSING]:
        yield "not seen", missing
    if status.summary is not None:
        yield "costs", _costs(status)
    for decision in status.decision[:DECISIONS]:
        yield f"{decision.at:%d %b %H:%M}", _decided(decision)
    troubled = [one for one in status.conditions if one.status != "True" and one.type != "ObjectivesMet"]
    for one in troubled[:CONDITIONS]:
        yield "but", f"{one.type} is {one.status}: {one.message} ({one.reason})"


def _runs(status: InferenceServiceStatus) -> str:
    serving = f", {status.variant} serves" if status.variant else ""
    transition = status.transition
    approved = f" (approved: {transition.approval})" if transition is not None and transition.approval else ""
    how = "is being made ready" if transition is None or transition.replicas is None else "comes by steps"
    moving = f", {transition.to} {how}{approved}" if transition is not None else ""
    policy = f"policy {status.policy} ({status.mode})" if status.policy else "no policy: Fallow only watches"
    wanted = f"{status.ready_replicas} of {status.desired_replicas} replicas ready"
    return f"{'rests, ' if status.idle.resting else ''}{wanted}{serving}{moving}; {policy}"


def _limited(status: InferenceServiceStatus) -> Iterator[tuple[str, str]]:
    if status.power_limit_watts is not None:
        yield "power", f"each of its GPUs is limited to {status.power_limit_watts:.0f} W by the cap of {status.policy}"
    share = status.clock_share
    if share is not None and share < 1.0:
        yield "clocks", f"at {share:.0%} of the highest, since its replicas carry the crests of the last minutes so too"
    elif share is not None:
        yield "clocks", "at their highest: its replicas have no room for slower ones, or something is in doubt"


def _proposed(status: InferenceServiceStatus) -> Iterator[tuple[str, str]]:
    """A proposal that is made now, and what a person may say to it."""
    one = status.proposal
    if one is None or not one.stands:
        return
    if one.rejected:
        yield "rejected", f"{one.what} ({one.id}); fallow approve takes that back"
        return
    yield "proposed", f"{one.what}, now {one.now}{saved(one)}; fallow approve or reject, or mode Enforce in the policy"
    if one.risk:
        yield "risk", one.risk


def saved(one: Proposal) -> str:
    """What it saves; what it takes more of instead is said to cost."""
    amounts = (
        (one.saves_watts, ".0f", "W"),
        (one.saves_grams_per_hour, "g", "g CO2e an hour"),
        (one.saves_money_per_hour, "g", f"{one.currency} an hour".strip()),
    )
    known = [(amount, f"{abs(amount):{form}} {unit}") for amount, form, unit in amounts if amount is not None]
    saves, costs = ([words for amount, words in known if (amount < 0) is less] for less in (False, True))
    return "".join(f", {verb} {', '.join(words)}" for verb, words in (("saves", saves), ("costs", costs)) if words)


def _objectives(spec: JSON, met: Condition | None) -> str:
    declared = spec.get("objectives") or {}
    words = [f"{field.upper()} p95 {declared[field]}" for field in ("ttft", "itl") if declared.get(field)]
    if not words:
        return "none declared in spec.objectives: latency keeps no replica"
    if declared.get("attainment") is not None:
        words.append(f"{float(declared['attainment']):.4g} of the requests")
    judged = "not judged yet" if met is None else f"{met.message} ({met.reason})"
    return f"{', '.join(words)}: {judged}"


def _work(work: Work) -> str:
    def figure(shown: Figure) -> domain.Figure[FlopsPerByte]:
        return domain.Figure(FlopsPerByte(shown.low), FlopsPerByte(shown.best), FlopsPerByte(shown.high))

    bound = Roofline(figure(work.flops_per_byte), figure(work.ridge_flops_per_byte))
    return f"{work.variant} is {bound.words}; estimated by vLLM"


def _costs(status: InferenceServiceStatus) -> str:
    summary = status.summary
    if summary is None:
        return ""
    words = (
        (summary.watts, "{} now"),
        (summary.joules_per_token, "{} J per token"),
        (summary.carbon_today, "{} CO2e today"),
    )
    return ", ".join(form.format(text) for text, form in words if text) or "not known yet"


def _decided(decision: Decision) -> str:
    by = f"{decision.lever}, " if decision.lever else ""
    return f"{decision.action} ({by}{decision.reason}){' proposed' if decision.proposal else ''}: {decision.message}"


def _condition(status: InferenceServiceStatus, name: str) -> Condition | None:
    return next((one for one in status.conditions if one.type == name), None)
