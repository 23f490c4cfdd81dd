"""The fake Prometheus with range queries: a small evaluator of the PromQL that windows of the past are asked with."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.adapters.metrics.prometheus_server import LOOKBACK, PrometheusServer, Series
from tests.adapters.metrics.trouble import answer_with

Labels = tuple[tuple[str, str], ...]
Vector = dict[Labels, float]
Instantly = Callable[[float], Vector]

_AGGREGATE = re.compile(r"(max|sum) by \(([^)]*)\) \(")
_OVER_TIME = re.compile(r"(avg|max|count|last)_over_time\(")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?")
_RANGE = re.compile(r"\[(\d+)s(?::(\d+)s)?\]")
_MATCHER = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MEANS: dict[str, Callable[[list[float]], float]] = {
    "avg": lambda values: sum(values) / len(values),
    "max": max,
    "count": len,
    "last": lambda values: values[-1],
}


@dataclass
class RangeServer(PrometheusServer):
    """`ranges` are the range queries that were asked."""

    ranges: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    _known: dict[Labels, Series] = field(default_factory=dict)

    def _append(self, labels: dict[str, str], at: float, value: float) -> None:
        key = tuple(sorted(labels.items()))
        series = self._known.get(key)
        if series is None:
            series = self._known[key] = Series(labels, [])
            self.series.append(series)
        series.samples.append((at, value))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/query_range"):
            return await super().handle(request)
        query = request.query["query"]
        self.ranges.append(query)
        trouble = next((t for part, t in self.trouble_with.items() if part in query), self.trouble)
        if trouble is not None:
            return await answer_with(trouble, request)
        start, end, step = (float(request.query[name]) for name in ("start", "end", "step"))
        times = [start + step * number for number in range(round((end - start) / step) + 1)]
        answer = web.json_response(
            {"status": "success", "data": {"resultType": "matrix", "result": self.matrix(query, times)}}
        )
        self.sent_bytes = max(self.sent_bytes, len(answer.body or b""))  # type: ignore[arg-type]
        return answer

    def matrix(self, query: str, times: Sequence[float]) -> list[dict[str, Any]]:
        evaluated = _Parser(query, self.series).whole()
        found: dict[Labels, list[list[Any]]] = {}
        for at in times:
            for labels, value in evaluated(at).items():
                found.setdefault(labels, []).append([at, "NaN" if math.isnan(value) else repr(float(value))])
        return [{"metric": dict(labels), "values": values} for labels, values in found.items()]


class _Parser:
    """Reads from left to right; anything it does not know is an AssertionError."""

    def __init__(self, text: str, series: Sequence[Series]) -> None:
        self._text = text
        self._series = series
        self._at = 0

    def whole(self) -> Instantly:
        found = self._either()
        assert self._at == len(self._text), f"not understood: {self._text[self._at :]}"
        return found

    def _either(self) -> Instantly:
        first = self._one()
        while self._taken(" or "):
            first = _either(first, self._one())
        return first

    def _one(self) -> Instantly:
        if found := self._match(_AGGREGATE):
            inner = self._either()
            self._need(")")
            return _aggregate(found[1], found[2].split(", "), inner)
        if found := self._match(_OVER_TIME):
            ranged = self._ranged(_MEANS[found[1]], named=found[1] == "last")
            self._need(")")
            return ranged
        if self._taken("timestamp("):
            selected = self._selected()
            self._need(")")
            return lambda now: _latest(selected, now, lambda at, _: at)
        raise AssertionError(f"not understood: {self._text[self._at :]}")

    def _ranged(self, mean: Callable[[list[float]], float], *, named: bool) -> Instantly:
        if self._taken("("):
            selected = self._selected()
            self._need(" > bool 0)")
            window, step = self._window()
            return lambda now: _looked(selected, now, window, step)
        selected = self._selected()
        window, _ = self._window()
        return lambda now: {
            _labels(series, named=named): mean(values)
            for series in selected
            if (values := [value for at, value in series.samples if now - window < at <= now])
        }

    def _window(self) -> tuple[float, float]:
        found = self._match(_RANGE)
        assert found is not None, f"no range at {self._text[self._at :]}"
        return float(found[1]), float(found[2] or 0)

    def _selected(self) -> list[Series]:
        found = self._match(_SELECTOR)
        assert found is not None, f"no metric at {self._text[self._at :]}"
        matchers = dict(_MATCHER.findall(found[2] or ""))
        return [
            one
            for one in self._series
            if one.labels["__name__"] == found[1] and all(one.labels.get(n) == v for n, v in matchers.items())
        ]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _taken(self, words: str) -> bool:
        taken = self._text.startswith(words, self._at)
        self._at += len(words) if taken else 0
        return taken

    def _need(self, words: str) -> None:
        assert self._taken(words), f"{words!r} is missing at {self._text[self._at :]}"


def _labels(series: Series, *, named: bool = False) -> Labels:
    return tuple(sorted((n, v) for n, v in series.labels.items() if named or n != "__name__"))


def _latest(selected: Sequence[Series], now: float, of: Callable[[float, float], float]) -> Vector:
    found: Vector = {}
    for series in selected:
        recent = [(at, value) for at, value in series.samples if now - LOOKBACK < at <= now]
        if recent:
            found[_labels(series)] = of(*recent[-1])
    return found


def _looked(selected: Sequence[Series], now: float, window: float, step: float) -> Vector:
    """The share of looks, at multiples of the step, at which the value was above zero."""
    looks: dict[Labels, list[float]] = {}
    first = math.floor((now - window) / step) + 1
    for number in range(first, math.floor(now / step) + 1):
        for labels, value in _latest(selected, number * step, lambda _, value: value).items():
            looks.setdefault(labels, []).append(float(value > 0))
    return {labels: sum(values) / len(values) for labels, values in looks.items()}


def _either(first: Instantly, second: Instantly) -> Instantly:
    return lambda now: {**second(now), **first(now)}


def _aggregate(how: str, by: Sequence[str], inner: Instantly) -> Instantly:
    def evaluated(now: float) -> Vector:
        groups: dict[Labels, list[float]] = {}
        for labels, value in inner(now).items():
            key = tuple((name, text) for name, text in labels if name in by)
            groups.setdefault(key, []).append(value)
        return {key: max(values) if how == "max" else sum(values) for key, values in groups.items()}

    return evaluated
