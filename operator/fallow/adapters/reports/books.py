"""The books as Prometheus counters: every line with every amount, so that sums over lines are the cluster's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from fallow.api.metric_names import BOUNDED, COST, COUNTED, LINE, OF_ENGINES, PARTED
from fallow.domain.figures import Figure
from fallow.domain.ledger import Ledger, LineKey
from fallow.domain.units import Quantity


def book_families(ledger: Ledger) -> Iterator[Metric]:
    """Totals only grow, also across restarts."""
    books = sorted((line, book.total.account) for line, book in ledger.books.items())
    served = [(line, account) for line, account in books if line.service is not None]
    for name, bounded in BOUNDED.items():
        family = CounterMetricFamily(name, bounded.text, labels=(*LINE, "bound"))
        for line, account in books:
            _add(family, _labels(line), getattr(account, bounded.field))
        yield family
    for name, parted in PARTED.items():
        family = CounterMetricFamily(name, parted.text, labels=(*LINE, parted.label))
        for line, account in served if name in OF_ENGINES else books:
            for part, field in parted.fields.items():
                amount: Quantity | float = getattr(account, field)
                family.add_metric((*_labels(line), part), amount.value if isinstance(amount, Quantity) else amount)
        yield family
    for name, (field, text) in COUNTED.items():
        family = CounterMetricFamily(name, text, labels=LINE)
        for line, account in served:
            family.add_metric(_labels(line), getattr(account, field))
        yield family
    cost = CounterMetricFamily(COST, "Cost of the facility's energy.", labels=(*LINE, "currency", "bound"))
    for line, account in books:
        for currency, money in sorted(account.costs.items()):
            _add(cost, (*_labels(line), currency), money)
    yield cost
    resets = CounterMetricFamily("fallow_gpu_counter_resets", "Intervals in which a GPU's energy counter began anew.")
    resets.add_metric((), ledger.resets)
    yield resets


def _labels(line: LineKey) -> tuple[str, ...]:
    return (line.kind.value, line.namespace, line.name, line.variant, line.zone)


def _add(family: CounterMetricFamily, labels: tuple[str, ...], figure: Figure[Any]) -> None:
    for bound, value in (("low", figure.low), ("best", figure.best), ("high", figure.high)):
        family.add_metric((*labels, bound), value.value)
