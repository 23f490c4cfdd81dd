"""The books as Prometheus counters: every line with every amount, so that sums over lines are the cluster's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from fallow.domain.figures import Figure
from fallow.domain.ledger import Account, Ledger, LineKey

LINE = ("line", "namespace", "service", "variant", "zone")

# name -> help, and the figure that it tells with bounds
_BOUNDED: Mapping[str, tuple[str, Callable[[Account], Figure[Any]]]] = {
    "fallow_gpu_energy_joules": ("Energy at the GPU.", lambda account: account.energy),
    "fallow_host_energy_joules": ("The GPUs' share of CPU, memory and fans.", lambda account: account.host),
    "fallow_facility_energy_joules": ("Energy of GPUs and host, times PUE.", lambda account: account.facility),
    "fallow_carbon_grams": ("Operational emissions, location-based, gCO2e.", lambda account: account.carbon),
    "fallow_market_carbon_grams": (
        "Operational emissions, market-based, gCO2e.",
        lambda account: account.market_carbon,
    ),
    "fallow_embodied_carbon_grams": (
        "Share of the hardware's manufacture, gCO2e.",
        lambda account: account.embodied,
    ),
    "fallow_water_litres": ("Water consumed on site and at the power plants.", lambda account: account.water),
}
# name -> help, the label that tells its parts, and these
_PARTED: Mapping[str, tuple[str, str, Callable[[Account], Mapping[str, float]]]] = {
    "fallow_gpu_energy_part_joules": (
        "Energy at the GPU by what it was used for; the parts add up to the best energy.",
        "part",
        lambda account: {
            "useful": account.useful.value,
            "underfilled": account.underfilled.value,
            "parked": account.parked.value,
            "bare": account.bare.value,
            "starting": account.starting.value,
        },
    ),
    "fallow_incomplete_energy_joules": (
        "Energy that an amount leaves out: without a counter (at the GPU), intensity, water factor, contract or price.",
        "lacks",
        lambda account: {
            "counter": account.modelled.value,
            "intensity": account.unpriced.value,
            "water": account.unwatered.value,
            "contract": account.unmarketed.value,
            "price": account.uncosted.value,
        },
    ),
    "fallow_tokens": (
        "Tokens through the engines; cached ones are prompt tokens too.",
        "kind",
        lambda account: {
            "prompt": account.prompt_tokens,
            "cached": account.cached_prompt_tokens,
            "generated": account.generated_tokens,
        },
    ),
}
_COUNTED: Mapping[str, tuple[str, Callable[[Account], float]]] = {
    "fallow_requests": ("Finished requests.", lambda account: account.requests),
    "fallow_engine_iterations": ("Steps of the engines.", lambda account: account.iterations),
}


def book_families(ledger: Ledger) -> Iterator[Metric]:
    """Totals only grow, also across restarts. What engines did is told of lines that have engines."""
    books = sorted((line, book.total.account) for line, book in ledger.books.items())
    served = [(line, account) for line, account in books if line.service is not None]
    for name, (text, figure) in _BOUNDED.items():
        family = CounterMetricFamily(name, text, labels=(*LINE, "bound"))
        for line, account in books:
            _bounded(family, labels_of(line), figure(account))
        yield family
    for name, (text, label, parts) in _PARTED.items():
        family = CounterMetricFamily(name, text, labels=(*LINE, label))
        for line, account in served if label == "kind" else books:
            for part, value in parts(account).items():
                family.add_metric((*labels_of(line), part), value)
        yield family
    for name, (text, count) in _COUNTED.items():
        family = CounterMetricFamily(name, text, labels=LINE)
        for line, account in served:
            family.add_metric(labels_of(line), count(account))
        yield family
    cost = CounterMetricFamily("fallow_cost", "Cost of the facility's energy.", labels=(*LINE, "currency", "bound"))
    for line, account in books:
        for currency, money in sorted(account.costs.items()):
            _bounded(cost, (*labels_of(line), currency), money)
    yield cost
    resets = CounterMetricFamily("fallow_gpu_counter_resets", "Intervals in which a GPU's energy counter began anew.")
    resets.add_metric((), ledger.resets)
    yield resets


def labels_of(line: LineKey) -> tuple[str, str, str, str, str]:
    return (line.kind.value, line.namespace, line.name, line.variant, line.zone)


def _bounded(family: CounterMetricFamily, labels: tuple[str, ...], figure: Figure[Any]) -> None:
    for bound, value in (("low", figure.low), ("best", figure.best), ("high", figure.high)):
        family.add_metric((*labels, bound), value.value)
