"""The calendar periods of each service as Prometheus gauges; an audit wants the counters, a person wants today."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from fallow.domain.ledger import Ledger, Span, together

# a period that had ended before the service was first seen is not one without energy
FOLLOWED_BY = {Span.LAST_HOUR: Span.THIS_HOUR, Span.YESTERDAY: Span.TODAY, Span.LAST_MONTH: Span.THIS_MONTH}
PERIODS = tuple(span for span in Span if span is not Span.TOTAL)
LABELS = ("namespace", "service", "period")


def period_families(ledger: Ledger) -> Iterator[Metric]:
    """Best values; a period begins at the midnight of the service's own time zone."""
    energy = GaugeMetricFamily("fallow_service_period_energy_joules", "Energy at the GPU by period.", labels=LABELS)
    carbon = GaugeMetricFamily(
        "fallow_service_period_carbon_grams", "Operational emissions by period, gCO2e.", labels=LABELS
    )
    tokens = GaugeMetricFamily("fallow_service_period_tokens", "Generated tokens by period.", labels=LABELS)
    for key, books in sorted(ledger.books_by_service.items()):
        began = together(books, Span.TOTAL).start
        for span in PERIODS:
            following = FOLLOWED_BY.get(span)
            if following is not None and began >= together(books, following).start:
                continue
            account = together(books, span).account
            labels = (key.namespace, key.name, span.value)
            energy.add_metric(labels, account.energy.best.value)
            if account.unpriced < account.facility.best or account.facility.best.value == 0:
                carbon.add_metric(labels, account.carbon.best.value)
            tokens.add_metric(labels, account.generated_tokens)
    yield from (energy, carbon, tokens)
    until = GaugeMetricFamily("fallow_booked_until_timestamp_seconds", "Time of the newest sample that is booked.")
    until.add_metric((), ledger.booked_until)
    yield until
