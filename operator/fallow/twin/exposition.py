"""Lines of the Prometheus text format as prometheus_client writes them: sorted labels, Go floats, _created gauges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from prometheus_client.utils import floatToGoString

from fallow.twin.physics.histogram import Histogram

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
Samples = Iterable[tuple[Labels, float]]


def number(value: float) -> str:
    if type(value) is int and 0 <= value < 1_000_000:  # counts of buckets, which are most of a page
        return f"{value}.0"
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # prometheus_client carries no annotations here


@lru_cache(maxsize=65536)
def labelled(base: Labels, **more: str) -> Labels:
    """Sorted by name, as prometheus_client prints them."""
    return tuple(sorted((*base, *more.items())))


@lru_cache(maxsize=65536)
def rendered(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"


@lru_cache(maxsize=4096)
def _bucket_heads(name: str, labels: Labels, bounds: tuple[float, ...]) -> tuple[str, ...]:
    """What stands before the counts; always the same, and most of a page."""
    limits = (*bounds, float("inf"))
    return tuple(f"{name}_bucket{rendered(labelled(labels, le=number(bound)))} " for bound in limits)


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Page:
    """One answer of /metrics, family by family."""

    def __init__(self, created: float) -> None:
        self._created = created
        self._lines: list[str] = []

    def text(self) -> str:
        return "".join(self._lines)

    def gauge(self, name: str, explanation: str, samples: Samples) -> None:
        self._head(name, explanation, "gauge")
        self._lines.extend(f"{name}{rendered(labels)} {number(value)}\n" for labels, value in samples)

    def counter(self, name: str, explanation: str, samples: Samples) -> None:
        """`name` without _total."""
        rows = tuple(samples)
        self._head(f"{name}_total", explanation, "counter")
        self._lines.extend(f"{name}_total{rendered(labels)} {number(value)}\n" for labels, value in rows)
        self._created_gauge(name, explanation, [labels for labels, _ in rows])

    def plain_counter(self, name: str, explanation: str, samples: Samples) -> None:
        """As exporters in Go write it: the whole name, and no _created."""
        self._head(name, explanation, "counter")
        self._lines.extend(f"{name}{rendered(labels)} {number(value)}\n" for labels, value in samples)

    def histogram(self, name: str, explanation: str, samples: Mapping[Labels, Histogram]) -> None:
        self._head(name, explanation, "histogram")
        for labels, histogram in samples.items():
            heads = _bucket_heads(name, labels, histogram.bounds)
            self._lines.extend(
                f"{head}{number(count)}\n" for head, count in zip(heads, histogram.cumulative(), strict=True)
            )
            self._lines.append(f"{name}_count{rendered(labels)} {number(histogram.count)}\n")
            self._lines.append(f"{name}_sum{rendered(labels)} {number(histogram.total)}\n")
        self._created_gauge(name, explanation, list(samples))

    def _created_gauge(self, name: str, explanation: str, series: Iterable[Labels]) -> None:
        self.gauge(f"{name}_created", explanation, ((labels, self._created) for labels in series))

    def _head(self, name: str, explanation: str, kind: str) -> None:
        self._lines.append(f"# HELP {name} {explanation}\n# TYPE {name} {kind}\n")
