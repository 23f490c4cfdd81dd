"""Sends each zone's question to the adapter of its kind, asks no more often than needed, and bridges short outages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kubernetes.aio.client import ApiClient

from fallow.adapters.carbon.configmap import ConfigMapCarbon
from fallow.adapters.carbon.dataset import DatasetCarbon
from fallow.adapters.carbon.prometheus import PrometheusCarbon
from fallow.adapters.carbon.static import StaticCarbon
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.zones import INTENSITY_BOUNDS, Intensity, IntensitySource
from fallow.ports import CarbonSource

# intensities change by the half hour or the hour; a question a minute is plenty
REFRESH = Seconds(60)
# how long a last known value stands in for a source that fails
KEEP = Seconds(7200)


@dataclass(frozen=True, slots=True)
class _Known:
    """The last answer and when it was asked for, and the last good one."""

    asked: Instant
    answer: Intensity | Missing
    good: Intensity | None
    good_at: Instant


class NotConfigured:
    """Stands for a source that this operator was not given; says what to set."""

    def __init__(self, what: str) -> None:
        self._what = what

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:  # noqa: ARG002 - the port's shape
        return Missing(Reason.NO_INTENSITY, f"a {source.kind} source needs {self._what}")


def carbon_sources(
    prometheus_url: str | None,
    api: ApiClient | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5.0,
) -> dict[str, CarbonSource]:
    """Every kind of source by the name that a GridZone gives it."""
    prometheus: CarbonSource = NotConfigured("a Prometheus: set the operator's prometheus URL")
    if prometheus_url:
        prometheus = PrometheusCarbon(prometheus_url, headers=headers, timeout=timeout)
    configmap: CarbonSource = NotConfigured("an API server to read ConfigMaps from")
    if api is not None:
        configmap = ConfigMapCarbon(api, timeout=timeout)
    return {"Static": StaticCarbon(), "Dataset": DatasetCarbon(), "Prometheus": prometheus, "ConfigMap": configmap}


class CarbonRouter:
    """Implements ports.CarbonSource. A value that stands in for a failed answer says so and has wider bounds."""

    def __init__(
        self, sources: Mapping[str, CarbonSource], *, refresh: Seconds = REFRESH, keep: Seconds = KEEP
    ) -> None:
        self._sources = sources
        self._refresh = refresh
        self._keep = keep
        self._known: dict[str, _Known] = {}

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        adapter = self._sources.get(source.kind)
        if adapter is None:
            return Missing(
                Reason.NO_INTENSITY, f"no source of kind {source.kind!r}; there are {', '.join(sorted(self._sources))}"
            )
        key = json.dumps([source.kind, dict(source.parameters)], sort_keys=True, default=str)
        known = self._known.get(key)
        if known is None or not 0 <= now - known.asked < self._refresh:
            known = _remembered(known, now, await adapter.intensity(now, source))
            self._forget(now)
            self._known[key] = known
        return self._bridged(now, known)

    def _bridged(self, now: Instant, known: _Known) -> Intensity | Missing:
        if isinstance(known.answer, Intensity) or known.good is None or now - known.good_at > self._keep:
            return known.answer
        figure = known.good.grams.spread(INTENSITY_BOUNDS.low, 1.0, INTENSITY_BOUNDS.high)
        source = f"last known, {known.answer.reason}: {known.good.source}"
        return replace(known.good, grams=figure, source=source)

    def _forget(self, now: Instant) -> None:
        """Questions that nobody asks any more: zones are edited and deleted."""
        self._known = {key: known for key, known in self._known.items() if now - known.asked <= self._keep}


def _remembered(known: _Known | None, now: Instant, answer: Intensity | Missing) -> _Known:
    if isinstance(answer, Intensity):
        return _Known(now, answer, answer, now)
    return _Known(now, answer, known.good if known else None, known.good_at if known else now)
