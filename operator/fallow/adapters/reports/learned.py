"""What was learned and what was avoided, as statuses and metrics show it, beside the books that others write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from fallow.adapters.reports.texts import line, significant
from fallow.api import energy_model as models
from fallow.api import footprint as api
from fallow.api.conditions import Figure as Shown
from fallow.api.conditions import moment
from fallow.domain.counterfactual import BaselineKind, Counterfactual
from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadPoint, Phases, VariantEnergy
from fallow.domain.ledger import Account, Ledger, Span, together
from fallow.domain.reports import CycleReport
from fallow.domain.units import JOULES_PER_WH, Joules
from fallow.domain.workloads import ServiceKey

WH = 1 / JOULES_PER_WH
SERVICE = ("namespace", "service")
VARIANT = (*SERVICE, "variant", "gpu")
PERIODS = {
    "last_hour": Span.LAST_HOUR,
    "today": Span.TODAY,
    "yesterday": Span.YESTERDAY,
    "this_month": Span.THIS_MONTH,
    "last_month": Span.LAST_MONTH,
    "total": Span.TOTAL,
}


def with_learned(shown: api.Footprints | None, report: CycleReport, key: ServiceKey) -> api.Footprints | None:
    """The footprint of a service with phases, models and savings; what is not known is left out."""
    if shown is None or report.ledger is None:
        return shown
    books = report.ledger.service_books(key)
    known, follower = report.estimates.phases.get(key, {}), report.ledger.counterfactuals.get(key)
    growth = report.estimates.rebounds.get(key)
    update: dict[str, Any] = {"models": _models(report.estimates.energies.get(key, {}))}
    for name, span in PERIODS.items():
        period = getattr(shown, name, None)
        if period is None:
            continue
        account, phases = together(books, span).account, known.get(span)
        update[name] = period.model_copy(
            update={
                "avoided": None if follower is None else _avoided(account, follower, growth),
                **({} if phases is None or isinstance(phases, Missing) else _phased(period, phases, account)),
            }
        )
    return shown.model_copy(update=update)


def learned_families(report: CycleReport) -> Iterator[Metric]:
    yield from _model_families(report.estimates.energies)
    yield from _phase_families(report)
    if report.ledger is not None:
        yield from _saving_families(report, report.ledger)


def baseline_words(one: Counterfactual) -> str:
    """What was compared with, in a line."""
    terms, rule = one.terms, one.terms.rule
    if rule.kind is BaselineKind.JOULES_PER_TOKEN and rule.joules_per_token is not None:
        words = f"{significant(rule.joules_per_token.best.value)} J/token"
    elif rule.kind is BaselineKind.STATIC:
        words = f"{rule.replicas} replicas of {terms.variant}"
    else:
        words = (
            f"HorizontalPodAutoscaler at {significant(terms.target)} requests in flight a replica, "
            f"{max(terms.minimum, 1)} to {terms.maximum} replicas of {terms.variant}"
        )
    dated = f"{words}; version {one.version} since {moment(one.since):%Y-%m-%d %H:%M} UTC"
    return line(f"{dated}; {rule.note}" if rule.note else dated)


def _avoided(account: Account, follower: Counterfactual, growth: float | Missing | None) -> api.Avoided:
    parts = {cause: part for cause, part in account.avoided.items() if part != Figure.exact(Joules(0))}
    whole = sum(account.avoided.values(), start=Figure.exact(Joules(0)))
    unpriced = account.avoided_unpriced.value != 0 and account.avoided_carbon.best.value == 0
    return api.Avoided(
        energy_wh=_figure(whole, WH),
        carbon_grams=None if unpriced else _figure(account.avoided_carbon),
        baseline=baseline_words(follower),
        compared_energy_wh=_round(account.compared.watt_hours),
        baseline_energy_wh=_figure(Figure.exact(account.compared) + whole, WH),
        parts=[api.AvoidedPart(cause=cause.value, energy_wh=_figure(part, WH)) for cause, part in parts.items()],
        demand_growth=None if growth is None or isinstance(growth, Missing) else _round(growth),
    )


def _phased(period: api.Footprint, phases: Phases, account: Account) -> dict[str, Any]:
    update: dict[str, Any] = {
        "phases": models.PhasesWattHours(
            prefill_wh=_figure(phases.prefill, WH),
            decode_wh=_figure(phases.decode, WH),
            steps_wh=_figure(phases.steps, WH),
            standing_wh=_figure(phases.standing, WH),
        )
    }
    for name, count in (("per_token", account.generated_tokens), ("per_request", account.requests)):
        unit = getattr(period, name)
        if unit is not None and count > 0:
            update[name] = unit.model_copy(update={"phases": _per_unit(phases, count)})
    return update


def _per_unit(phases: Phases, count: float) -> models.PhasesJoules:
    return models.PhasesJoules(
        prefill_joules=_figure(phases.prefill, 1 / count),
        decode_joules=_figure(phases.decode, 1 / count),
        steps_joules=_figure(phases.steps, 1 / count),
        standing_joules=_figure(phases.standing, 1 / count),
    )


def _models(energies: Mapping[str, VariantEnergy]) -> list[models.EnergyModel]:
    return [_model(variant, one) for variant, one in sorted(energies.items())][:32]


def _model(variant: str, one: VariantEnergy) -> models.EnergyModel:
    points = [_point(point) for point in one.points]
    if isinstance(one.model, Missing):
        return models.EnergyModel(variant=variant, gpu_product=one.product, points=points, missing=line(str(one.model)))
    return models.EnergyModel(
        variant=variant,
        gpu_product=one.product,
        prefill_joules_per_token=_figure(one.model.prefill),
        decode_joules_per_token=_figure(one.model.decode),
        step_joules=_figure(one.model.step),
        idle_watts=_figure(one.model.idle),
        request_joules=None if one.request is None or isinstance(one.request, Missing) else _figure(one.request),
        spread=_round(one.model.spread),
        windows=int(one.model.windows),
        refits=one.model.refits,
        points=points,
    )


def _point(point: LoadPoint) -> models.ConcurrencyPoint:
    request = point.joules_per_request
    return models.ConcurrencyPoint(
        concurrency=_round(point.concurrency),
        joules_per_token=_figure(point.joules_per_token),
        joules_per_request=None if isinstance(request, Missing) else _figure(request),
        tokens_per_second=_round(point.tokens_per_second),
        watts=_round(point.watts),
        windows=max(int(point.windows), 1),
    )


def _model_families(energies: Mapping[ServiceKey, Mapping[str, VariantEnergy]]) -> Iterator[Metric]:
    joules = GaugeMetricFamily(
        "fallow_service_model_joules",
        "Energy of a prompt token computed, a generated token and an engine iteration, as learned.",
        labels=(*VARIANT, "of", "bound"),
    )
    idle = GaugeMetricFamily(
        "fallow_service_model_idle_watts", "Draw of a loaded replica without work.", labels=(*VARIANT, "bound")
    )
    spread = GaugeMetricFamily(
        "fallow_service_model_spread_ratio", "Standard deviation of the model's error on minutes.", labels=VARIANT
    )
    token = GaugeMetricFamily(
        "fallow_service_load_joules_per_token",
        "GPU energy per generated token by concurrency (the lower end of a bin of powers of two).",
        labels=(*VARIANT, "concurrency"),
    )
    request = GaugeMetricFamily(
        "fallow_service_load_joules_per_request",
        "GPU energy per finished request by concurrency (the lower end of a bin of powers of two).",
        labels=(*VARIANT, "concurrency"),
    )
    for key, variants in sorted(energies.items()):
        for variant, one in sorted(variants.items()):
            labels = (key.namespace, key.name, variant, one.product)
            if not isinstance(one.model, Missing):
                for name, part in (
                    ("prefill", one.model.prefill),
                    ("decode", one.model.decode),
                    ("step", one.model.step),
                ):
                    _bounded(joules, (*labels, name), part)
                _bounded(idle, labels, one.model.idle)
                spread.add_metric(labels, one.model.spread)
            for point in one.points:
                level = (*labels, str(2 ** min(int(point.concurrency).bit_length() - 1, 8)))
                token.add_metric(level, point.joules_per_token.best.value)
                if not isinstance(point.joules_per_request, Missing):
                    request.add_metric(level, point.joules_per_request.best.value)
    yield from (joules, idle, spread, token, request)


def _phase_families(report: CycleReport) -> Iterator[Metric]:
    """Of the present day: a model that learns makes no counter."""
    per = {
        name: GaugeMetricFamily(
            f"fallow_service_phase_joules_per_{name}",
            f"Today's GPU energy per {words} by what it went into.",
            labels=(*SERVICE, "phase", "bound"),
        )
        for name, words in (("token", "generated token"), ("request", "finished request"))
    }
    for key, periods in sorted(report.estimates.phases.items()):
        phases = periods.get(Span.TODAY)
        books = () if report.ledger is None else report.ledger.service_books(key)
        # what is stored and told may be older than the estimates: without a line of the service yet
        if not books or phases is None or isinstance(phases, Missing):
            continue
        account = together(books, Span.TODAY).account
        parts = {
            "prefill": phases.prefill,
            "decode": phases.decode,
            "steps": phases.steps,
            "standing": phases.standing,
        }
        for name, count in (("token", account.generated_tokens), ("request", account.requests)):
            for phase, part in parts.items():
                if count > 0:
                    _bounded(per[name], (key.namespace, key.name, phase), part * (1 / count))
    yield from per.values()


def _saving_families(report: CycleReport, ledger: Ledger) -> Iterator[Metric]:
    """Gauges, since they may fall: what Fallow used more is taken off again."""
    energy = GaugeMetricFamily(
        "fallow_service_avoided_energy_joules",
        "GPU energy avoided against the service's baseline, by what made the difference; negative where it cost more.",
        labels=(*SERVICE, "lever", "bound"),
    )
    carbon = GaugeMetricFamily(
        "fallow_service_avoided_carbon_grams", "Operational emissions avoided, gCO2e.", labels=(*SERVICE, "bound")
    )
    matched = GaugeMetricFamily(
        "fallow_service_compared_energy_joules",
        "Part of the GPU energy of which the baseline's energy is known.",
        labels=SERVICE,
    )
    replicas = GaugeMetricFamily(
        "fallow_service_baseline_replicas", "Replicas that the baseline would run now.", labels=SERVICE
    )
    growth = GaugeMetricFamily(
        "fallow_service_demand_growth_ratio",
        "Growth of generated tokens per second since the baseline's first week, as a share: the rebound.",
        labels=SERVICE,
    )
    unpriced = GaugeMetricFamily(
        "fallow_service_avoided_unpriced_energy_joules",
        "Part of the GPU energy avoided for which no average intensity was known.",
        labels=SERVICE,
    )
    for key, books in sorted(ledger.books_by_service.items()):
        account, labels = together(books, Span.TOTAL).account, (key.namespace, key.name)
        if key not in ledger.counterfactuals and account.compared.value == 0:
            continue
        for cause, part in account.avoided.items():
            _bounded(energy, (*labels, cause.value), part)
        _bounded(carbon, labels, account.avoided_carbon)
        matched.add_metric(labels, account.compared.value)
        unpriced.add_metric(labels, account.avoided_unpriced.value)
    for key, follower in sorted(ledger.counterfactuals.items()):
        labels, rebound = (key.namespace, key.name), report.estimates.rebounds.get(key)
        if follower.terms.rule.kind is not BaselineKind.JOULES_PER_TOKEN:
            replicas.add_metric(labels, follower.running)
        if rebound is not None and not isinstance(rebound, Missing):
            growth.add_metric(labels, rebound)
    yield from (energy, carbon, matched, unpriced, replicas, growth)


def _bounded(family: GaugeMetricFamily, labels: tuple[str, ...], figure: Figure[Any]) -> None:
    for bound, value in (("low", figure.low), ("best", figure.best), ("high", figure.high)):
        family.add_metric((*labels, bound), value.value)


def _figure(figure: Figure[Any], factor: float = 1.0) -> Shown:
    return Shown(
        low=_round(figure.low.value * factor),
        best=_round(figure.best.value * factor),
        high=_round(figure.high.value * factor),
    )


def _round(value: float) -> float:
    """Six significant digits: finer than any meter, and short to read."""
    return float(f"{value:.6g}")
