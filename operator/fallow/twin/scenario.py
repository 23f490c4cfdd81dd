"""The scenario file: which services get which traffic, and how fine the twin ticks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fallow.domain.workloads import ServiceKey
from fallow.twin.rates import Daily, Piecewise, Rate
from fallow.twin.traces import TraceError, read_trace
from fallow.twin.traffic import GeneratedTraffic, Lengths, TraceTraffic, Traffic


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message names the field and what to write."""


@dataclass(frozen=True, slots=True)
class TraceSpec:
    file: Path
    scale: float = 1.0
    compress: float = 1.0
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """Either a trace or a rate with lengths. `spec` is what was written, for those who ask."""

    seed: int
    trace: TraceSpec | None = None
    rate: Rate | None = None
    cv: float = 1.0
    prompt: Lengths = field(default_factory=lambda: Lengths(600.0))
    output: Lengths = field(default_factory=lambda: Lengths(200.0))
    spec: Mapping[str, Any] = field(default_factory=dict)

    def begin(self) -> Traffic:
        """A fresh stream from its beginning."""
        if self.trace is not None:
            spec = self.trace
            try:
                rows = read_trace(spec.file)
            except TraceError as error:
                raise ScenarioError(str(error)) from error
            return TraceTraffic(rows, scale=spec.scale, compress=spec.compress, repeat=spec.repeat, seed=self.seed)
        if self.rate is None:
            raise ScenarioError("traffic needs a rate or a trace")
        return GeneratedTraffic(self.rate, self.prompt, self.output, seed=self.seed, cv=self.cv)


@dataclass(frozen=True, slots=True)
class ServiceTraffic:
    key: ServiceKey
    traffic: TrafficSpec
    prefix_hit_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`sample_seconds` is how often dcgm-exporter collects (30 s by default in the real one)."""

    services: tuple[ServiceTraffic, ...] = ()
    tick_seconds: float = 0.1
    sample_seconds: float = 1.0

    def prefix_hit_share(self, key: ServiceKey | None) -> float:
        return next((service.prefix_hit_share for service in self.services if service.key == key), 0.0)


def read_scenario(path: Path) -> Scenario:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path}: is not YAML ({error})") from error
    return scenario_from(content or {}, folder=path.parent)


def scenario_from(content: object, *, folder: Path) -> Scenario:
    """Trace files are looked up from `folder`."""
    top = _Reader("scenario", content)
    seed = top.whole("seed", 0)
    services = tuple(
        _service(reader, folder, seed + index) for index, reader in enumerate(top.readers("services"), start=1)
    )
    scenario = Scenario(services, top.positive("tickSeconds", 0.1), top.positive("sampleSeconds", 1.0))
    top.finish()
    return scenario


def traffic_from(content: object, *, folder: Path, where: str = "traffic", seed: int = 0) -> TrafficSpec:
    return _traffic(_Reader(where, content), folder, seed)


class _Reader:
    """Takes fields out of a mapping one by one; what is left over is refused by name."""

    def __init__(self, where: str, content: object) -> None:
        if not isinstance(content, Mapping):
            raise ScenarioError(f"{where}: write fields with values, not {content!r}")
        self.where = where
        self.content = content
        self._left = dict(content)

    def has(self, name: str) -> bool:
        return name in self._left

    def finish(self) -> None:
        if self._left:
            raise ScenarioError(f"{self.where}: unknown field {min(map(str, self._left))!r}")

    def take(self, name: str) -> object:
        if name not in self._left:
            raise ScenarioError(f"{self.where}.{name}: is missing")
        return self._left.pop(name)

    def text(self, name: str, default: str | None = None) -> str:
        if default is not None and not self.has(name):
            return default
        value = self.take(name)
        if not isinstance(value, str) or not value:
            raise ScenarioError(f"{self.where}.{name}: write a text, not {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        if default is not None and not self.has(name):
            return default
        return _number(f"{self.where}.{name}", self.take(name))

    def positive(self, name: str, default: float | None = None) -> float:
        value = self.number(name, default)
        if value <= 0:
            raise ScenarioError(f"{self.where}.{name}: write a number above 0, not {value:g}")
        return value

    def share(self, name: str, default: float) -> float:
        value = self.number(name, default)
        if not 0 <= value <= 1:
            raise ScenarioError(f"{self.where}.{name}: write a share from 0 to 1, not {value:g}")
        return value

    def whole(self, name: str, default: int) -> int:
        return int(self.number(name, float(default)))

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise ScenarioError(f"{self.where}.{name}: write true or false, not {value!r}")
        return value

    def reader(self, name: str) -> _Reader:
        return _Reader(f"{self.where}.{name}", self.take(name))

    def readers(self, name: str) -> list[_Reader]:
        value = self._left.pop(name, [])
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ScenarioError(f"{self.where}.{name}: write a list")
        return [_Reader(f"{self.where}.{name}[{index}]", item) for index, item in enumerate(value)]

    def pairs(self, name: str) -> tuple[tuple[float, float], ...]:
        value = self.take(name)
        where = f"{self.where}.{name}"
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise ScenarioError(f"{where}: write a list of pairs of numbers, such as [[0, 2], [60, 20]]")
        pairs: list[tuple[float, float]] = []
        for index, pair in enumerate(value):
            if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
                raise ScenarioError(f"{where}[{index}]: write a pair of numbers, not {pair!r}")
            pairs.append((_number(f"{where}[{index}]", pair[0]), _number(f"{where}[{index}]", pair[1])))
        return tuple(pairs)


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScenarioError(f"{where}: write a number, not {value!r}")
    return float(value)


def _service(reader: _Reader, folder: Path, seed: int) -> ServiceTraffic:
    key = ServiceKey(reader.text("namespace"), reader.text("service"))
    share = reader.share("prefixHitShare", 0.0)
    traffic = _traffic(reader.reader("traffic"), folder, seed)
    reader.finish()
    return ServiceTraffic(key, traffic, share)


def _traffic(reader: _Reader, folder: Path, seed: int) -> TrafficSpec:
    written = reader.content
    seed = reader.whole("seed", seed)
    if reader.has("trace") == reader.has("rate"):
        raise ScenarioError(f"{reader.where}: write either rate or trace")
    if reader.has("trace"):
        trace = reader.reader("trace")
        recorded = TraceSpec(
            (folder / trace.text("file")).resolve(),
            trace.positive("scale", 1.0),
            trace.positive("compress", 1.0),
            trace.flag("repeat"),
        )
        trace.finish()
        reader.finish()
        return TrafficSpec(seed, trace=recorded, spec=written)
    rate = _rate(reader.reader("rate"))
    spec = TrafficSpec(
        seed,
        rate=rate,
        cv=reader.positive("cv", 1.0),
        prompt=_lengths(reader, "prompt", 600.0),
        output=_lengths(reader, "output", 200.0),
        spec=written,
    )
    reader.finish()
    return spec


def _rate(reader: _Reader) -> Rate:
    rate: Rate
    if reader.has("constant"):
        rate = Piecewise(((0.0, reader.number("constant")),))
    elif reader.has("points"):
        points = reader.pairs("points")
        if list(points) != sorted(points):
            raise ScenarioError(f"{reader.where}.points: write them in order of time")
        between = reader.text("between", "linear")
        if between not in {"linear", "step"}:
            raise ScenarioError(f"{reader.where}.between: write linear or step, not {between!r}")
        rate = Piecewise(points, held=between == "step")
    elif reader.has("daily"):
        daily = reader.reader("daily")
        rate = Daily(
            mean=daily.number("mean"),
            peak_to_mean=daily.number("peakToMean", 1.67),
            peak_hour=daily.number("peakHour", 14.0),
            start_hour=daily.number("startHour", 0.0),
            seconds_per_day=daily.positive("secondsPerDay", 86400.0),
            quiet=daily.pairs("quiet") if daily.has("quiet") else (),
        )
        if rate.peak_to_mean < 1:
            raise ScenarioError(f"{daily.where}.peakToMean: write 1 or more, not {rate.peak_to_mean:g}")
        daily.finish()
    else:
        raise ScenarioError(f"{reader.where}: write constant, points or daily")
    reader.finish()
    return rate


def _lengths(reader: _Reader, name: str, mean: float) -> Lengths:
    if not reader.has(name):
        return Lengths(mean)
    lengths = reader.reader(name)
    read = Lengths(lengths.positive("mean", mean), lengths.number("cv", 1.0), lengths.whole("most", 32768))
    lengths.finish()
    return read
