"""A server on loopback that speaks the part of Prometheus' HTTP API that Fallow uses, over series given by the test."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from tests.adapters.metrics.trouble import Trouble, answer_with

LOOKBACK = 300.0
_SELECTOR = r'(?:up)?\{(?:__name__=~"(?P<names>(?:[^"\\]|\\.)*)")?(?P<matchers>[^}]*)\}'
_RAW = re.compile(_SELECTOR + r"\[(?P<window>\d+)s\]")
_HIGHEST = re.compile(r"max by \((?P<by>[^)]*)\) \(" + _SELECTOR + r"\)")
_TARGETS = re.compile(r"up\{(?P<up>[^}]*)\} and on \(job, instance\) " + _SELECTOR)
_MATCHER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Series:
    labels: dict[str, str]
    samples: list[tuple[float, float]]


@dataclass
class PrometheusServer:
    """`trouble` is what every query meets; `trouble_with` only those whose text contains the key.

    The first `fails_after` queries are answered all the same, where that is set.
    """

    series: list[Series] = field(default_factory=list)
    trouble: Trouble | None = None
    trouble_with: dict[str, Trouble] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""
    fails_after: int | None = None

    def scrape(self, page: str, target: Mapping[str, str], at: float, *, honor_labels: bool = False) -> None:
        """Stores a page's samples as Prometheus would, with its rules for labels that clash; and the target's `up`."""
        for family in text_string_to_metric_families(_without_types(page)):
            for sample in family.samples:
                labels = dict(target)
                for name, value in sample.labels.items():
                    clash = name in target and not honor_labels
                    labels[f"exported_{name}" if clash else name] = value
                self._append({**labels, "__name__": sample.name}, at, float(sample.value))
        self._append({**target, "__name__": "up"}, at, 1.0)

    def _append(self, labels: dict[str, str], at: float, value: float) -> None:
        for series in self.series:
            if series.labels == labels:
                series.samples.append((at, value))
                return
        self.series.append(Series(labels, [(at, value)]))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = request.query["query"]
        self.asked.append(query)
        self.times.append(request.query["time"])
        self.headers.append(dict(request.headers))
        trouble = next((t for part, t in self.trouble_with.items() if part in query), self.trouble)
        if self.fails_after is not None and len(self.asked) > self.fails_after:
            trouble = Trouble.STATUS_422
        if trouble is not None:
            return await answer_with(trouble, request)
        return web.json_response(self._answer(query, float(request.query["time"])))

    def _answer(self, query: str, now: float) -> dict[str, Any]:
        if found := _RAW.fullmatch(query):
            window = float(found["window"])
            return _success(
                "matrix",
                [
                    {"metric": series.labels, "values": [[at, _text(v)] for at, v in kept]}
                    for series in self._select(found)
                    if (kept := [(at, v) for at, v in series.samples if now - window < at <= now])
                ],
            )
        if found := _HIGHEST.fullmatch(query):
            return _success("vector", self._highest(found["by"].split(", "), found, now))
        if found := _TARGETS.fullmatch(query):
            targets = {(s.labels.get("job"), s.labels.get("instance")) for s in self._select(found)}
            return _success(
                "vector",
                [
                    {"metric": series.labels, "value": [now, "1"]}
                    for series in self.series
                    if series.labels["__name__"] == "up"
                    and (series.labels.get("job"), series.labels.get("instance")) in targets
                ],
            )
        raise AssertionError(f"the fake Prometheus does not know this query: {query}")

    def _select(self, found: re.Match[str]) -> list[Series]:
        names = re.compile(found["names"].replace("\\\\", "\\").replace('\\"', '"'))
        matchers = dict(_MATCHER.findall(found["matchers"]))
        return [
            series
            for series in self.series
            if names.fullmatch(series.labels["__name__"])
            and all(series.labels.get(label) == value for label, value in matchers.items())
        ]

    def _highest(self, by: list[str], found: re.Match[str], now: float) -> list[dict[str, Any]]:
        groups: dict[tuple[tuple[str, str], ...], float] = {}
        for series in self._select(found):
            recent = [v for at, v in series.samples if now - LOOKBACK < at <= now]
            if recent:
                key = tuple((label, series.labels[label]) for label in by if label in series.labels)
                groups[key] = recent[-1] if math.isnan(groups.get(key, math.nan)) else max(groups[key], recent[-1])
        return [{"metric": dict(key), "value": [now, _text(value)]} for key, value in groups.items()]


def _without_types(page: str) -> str:
    """The parser would add _total to DCGM's counters."""
    return "".join(f"{line}\n" for line in page.splitlines() if not line.startswith("#"))


def _success(kind: str, result: list[dict[str, Any]]) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def _text(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
