"""What was declared, as Prometheus series that reports join with the books: policies, their goals, our version."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from fallow import __version__
from fallow.api.metric_names import BUDGET, BUILD, POLICY, TARGET
from fallow.domain.reports import CycleReport

METHOD = "fallow/2"


def declared_families(report: CycleReport) -> Iterator[Metric]:
    applied = GaugeMetricFamily(
        POLICY,
        "1 for the policy that applies to the service.",
        labels=("namespace", "service", "policy"),
    )
    for key, plan in sorted(report.plan.services.items()):
        if plan.policy:
            applied.add_metric((key.namespace, key.name, plan.policy.name), 1)
    yield applied
    target = GaugeMetricFamily(
        TARGET,
        "Share by which a measure is to fall between two months.",
        labels=("policy", "measure", "since", "by"),
    )
    budget = GaugeMetricFamily(
        BUDGET,
        "Amount that may be used in a calendar period: grams of CO2e, or joules at the facility.",
        labels=("policy", "period", "unit"),
    )
    for policy in report.snapshot.cluster.policies:
        for one in policy.targets:
            target.add_metric((one.policy, one.measure.value, one.since, one.by), one.reduce)
        for allowed in policy.budgets:
            if allowed.carbon is not None:
                budget.add_metric((policy.name, allowed.period.value, "grams"), allowed.carbon.value)
            if allowed.energy is not None:
                budget.add_metric((policy.name, allowed.period.value, "joules"), allowed.energy.value)
    yield from (target, budget)
    build = GaugeMetricFamily(BUILD, "1 for the running version.", labels=("version", "method"))
    build.add_metric((__version__, METHOD), 1)
    yield build
