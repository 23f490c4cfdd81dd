"""What is known of a service's variants: their models, their bins, and its energy of a period by phase."""

from __future__ import annotations

from collections.abc import Mapping

from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import Phases, Placement, StepModel, VariantEnergy
from fallow.domain.ledger import Account, Book, Ledger, Span
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules
from fallow.domain.workloads import ServiceKey
from fallow.footprint.bins import load_points
from fallow.footprint.steps import Work, idle_draw, is_relearning, phases, request_energy, step_model

SHOWN = (Span.LAST_HOUR, Span.TODAY, Span.THIS_MONTH, Span.TOTAL)
NOTHING = Figure.exact(Joules(0))


def variant_energies(ledger: Ledger) -> Mapping[ServiceKey, Mapping[str, VariantEnergy]]:
    """By service and variant, on the GPUs where it was measured last."""
    latest: dict[tuple[ServiceKey, str], Placement] = {}
    for placement, one in ledger.learned.items():
        known = latest.get((placement.service, placement.variant))
        if known is None or ledger.learned[known].at < one.at:
            latest[placement.service, placement.variant] = placement
    today = _today(ledger)
    found: dict[ServiceKey, dict[str, VariantEnergy]] = {}
    for (service, variant), placement in sorted(latest.items()):
        learned = ledger.learned[placement]
        model = step_model(learned, placement)
        found.setdefault(service, {})[variant] = VariantEnergy(
            product=placement.product,
            model=model,
            points=load_points(learned.bins),
            request=_request(model, today.get((service, variant))),
            idle=idle_draw(learned, placement.product, learned.gpus),
            relearning=is_relearning(learned),
        )
    return found


def service_phases(
    ledger: Ledger, known: Mapping[ServiceKey, Mapping[str, VariantEnergy]]
) -> Mapping[ServiceKey, Mapping[Span, Phases | Missing]]:
    """J3 by service and period: the sum over the variants that worked in it; Missing where one of them has no model."""
    books: dict[ServiceKey, list[tuple[str, Book]]] = {}
    for line, book in ledger.books.items():
        if line.service is not None:
            books.setdefault(line.service, []).append((line.variant, book))
    return {key: {span: _together(own, span, known.get(key, {})) for span in SHOWN} for key, own in books.items()}


def _together(books: list[tuple[str, Book]], span: Span, known: Mapping[str, VariantEnergy]) -> Phases | Missing:
    whole = Phases(NOTHING, NOTHING, NOTHING, NOTHING)
    for name, book in books:
        account = book.period(span).account
        if account.energy.best.value <= 0:
            continue
        variant = known.get(name)
        if account.iterations + account.generated_tokens + account.prompt_tokens <= 0:
            part = Phases(NOTHING, NOTHING, NOTHING, account.energy)
        elif variant is None:
            return Missing(Reason.NO_HISTORY, f"variant {name} was not measured yet")
        elif isinstance(variant.model, Missing):
            return variant.model
        else:
            part = phases(variant.model, account.energy, _work(account))
        whole = Phases(
            whole.prefill + part.prefill,
            whole.decode + part.decode,
            whole.steps + part.steps,
            whole.standing + part.standing,
        )
    return whole


def _work(account: Account) -> Work:
    computed = max(account.prompt_tokens - account.cached_prompt_tokens, 0.0)
    return Work(computed, account.generated_tokens, account.iterations, 0.0)


def _today(ledger: Ledger) -> Mapping[tuple[ServiceKey, str], Account]:
    found: dict[tuple[ServiceKey, str], Account] = {}
    for line, book in ledger.books.items():
        if line.service is not None:
            key = (line.service, line.variant)
            known = found.get(key)
            found[key] = book.day.account if known is None else known + book.day.account
    return found


def _request(model: StepModel | Missing, day: Account | None) -> Figure[Joules] | Missing:
    """J4 for the mean request of the day, at the day's mean concurrency."""
    if isinstance(model, Missing):
        return model
    if day is None or day.requests <= 0 or day.iterations <= 0:
        return Missing(Reason.NO_WORK, "no request finished today")
    done = _work(day)
    running = done.generated_tokens / done.iterations
    return request_energy(model, done.prompt_tokens / day.requests, done.generated_tokens / day.requests, running)
