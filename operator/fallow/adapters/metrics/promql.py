"""The queries Fallow sends to Prometheus and the answers to them, without the network.

Range selectors in instant queries bring raw samples with their true times, so that a sample's age is honest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from fallow.adapters.metrics.samples import Sample
from fallow.domain.units import Instant, Seconds

_REGEX_SIGNS = re.compile(r"([.\\+*?()|\[\]{}^$])")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range query's answer: its values by time."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


class UnexpectedAnswer(ValueError):
    """The answer has not the shape that the HTTP API promises for the query."""


def check_label_names(names: Iterable[str]) -> None:
    for name in names:
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no label name: write letters, digits and _, such as exported_pod")


def quoted(text: str) -> str:
    """A PromQL string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def one_of(names: Iterable[str], matchers: Mapping[str, str]) -> str:
    """A selector of these metrics, each name taken literally, narrowed by exact label matchers."""
    pattern = "|".join(_REGEX_SIGNS.sub(r"\\\1", name) for name in sorted(names))
    exact = "".join(f",{label}={quoted(value)}" for label, value in sorted(matchers.items()))
    return f"{{__name__=~{quoted(pattern)}{exact}}}"


def raw(names: Iterable[str], window: Seconds, matchers: Mapping[str, str]) -> str:
    return f"{one_of(names, matchers)}[{max(1, round(window))}s]"


def highest_by(labels: Sequence[str], names: Iterable[str], matchers: Mapping[str, str]) -> str:
    """One series for each combination of labels: a target scraped twice counts once."""
    return f"max by ({', '.join(labels)}) ({one_of(names, matchers)})"


def selector(name: str, matchers: Mapping[str, str]) -> str:
    """One metric by its exact name, narrowed by exact label matchers."""
    exact = ",".join(f"{label}={quoted(value)}" for label, value in sorted(matchers.items()))
    return f"{name}{{{exact}}}" if exact else name


def targets_of(names: Iterable[str], matchers: Mapping[str, str]) -> str:
    """The `up` series of the targets that deliver these metrics: their labels are the target's own."""
    exact = ",".join(f"{label}={quoted(value)}" for label, value in sorted(matchers.items()))
    return f"up{{{exact}}} and on (job, instance) {one_of(names, matchers)}"


def newest_samples(result: Any) -> list[Sample]:
    """The newest sample of each series of a matrix."""
    found: list[Sample] = []
    for name, labels, item in _series(result):
        if "values" not in item and "histograms" in item:
            continue  # a native histogram by that name holds no plain value
        try:
            at, value = item["values"][-1]
            found.append(Sample(name, labels, float(value), Instant(float(at))))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"a series without samples: {_short(item)}") from error
    return found


def vector_samples(result: Any, name: str) -> list[Sample]:
    """The samples of a vector, under this name where an aggregation dropped theirs."""
    found: list[Sample] = []
    for own_name, labels, item in _series(result, required_name=False):
        try:
            at, value = item["value"]
            found.append(Sample(own_name or name, labels, float(value), Instant(float(at))))
        except (KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"an item without a value: {_short(item)}") from error
    return found


def matrix_series(result: Any) -> list[Series]:
    """Every series of a range query; values that are no number are left out."""
    found: list[Series] = []
    for _, labels, item in _series(result, required_name=False):
        try:
            values = {float(at): float(value) for at, value in item.get("values", ())}
        except (TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"a series without values: {_short(item)}") from error
        found.append(Series(labels, {at: value for at, value in values.items() if isfinite(value)}))
    return found


def _series(result: Any, *, required_name: bool = True) -> list[tuple[str, dict[str, str], Mapping[str, Any]]]:
    if not isinstance(result, list):
        raise UnexpectedAnswer(f"no list of series: {_short(result)}")
    found: list[tuple[str, dict[str, str], Mapping[str, Any]]] = []
    for item in result:
        labels = item.get("metric") if isinstance(item, dict) else None
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise UnexpectedAnswer(f"a series without labels: {_short(item)}")
        name = labels.get("__name__", "")
        if required_name and not name:
            raise UnexpectedAnswer(f"a series without a name: {_short(item)}")
        found.append((name, {label: value for label, value in labels.items() if label != "__name__"}, item))
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
