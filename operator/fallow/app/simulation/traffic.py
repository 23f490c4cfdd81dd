"""What arrives in a simulation: the traffic of a scenario, or what was served in the past."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from fallow.api.durations import seconds
from fallow.app.simulation.scenario import Scenario, ScenarioError, Traffic
from fallow.domain.readings import PodRef
from fallow.domain.windows import Served
from fallow.domain.workloads import Service, ServiceKey
from fallow.twin.demand.generated import Generated, Stream
from fallow.twin.demand.lengths import Lengths
from fallow.twin.demand.recorded import Recorded
from fallow.twin.demand.together import Together
from fallow.twin.demand.weeks import SHAPES, Jobs, Sporadic
from fallow.twin.demand.windows import Window, Windowed, read_servegen
from fallow.twin.rates import Piecewise
from fallow.twin.simulation.demand import Demand
from fallow.twin.traces import TraceError, read_trace

DAY = 86_400
# by pod and minute
Past = Mapping[PodRef, Mapping[int, Served]]


def demand_of(scenario: Scenario, folder: Path) -> Demand:
    """Every service of `traffic`."""
    length = int(scenario.days * DAY)
    streams: list[Stream] = []
    parts: list[Demand] = []
    for number, (name, one) in enumerate(scenario.traffic.items()):
        key = ServiceKey(*name.split("/"))
        stream = _stream(key, one, scenario.seed + number)
        if stream is not None:
            streams.append(stream)
            continue
        parts.append(_recorded(key, one, folder, length, scenario.seed + number))
    if streams:
        parts.append(Generated(streams, length, seed=scenario.seed))
    return parts[0] if len(parts) == 1 else Together(parts)


def replayed(past: Past, services: Iterable[Service], *, seed: int) -> Demand:
    """What each service's pods finished, minute by minute; pods are found by the Deployment they are named after."""
    named: dict[tuple[str, str], ServiceKey] = {}
    for service in services:
        names = [service.key.name, service.target, *(f"{service.key.name}-{one.name}" for one in service.variants)]
        named |= {(service.key.namespace, name): service.key for name in names if name}
    together: dict[ServiceKey, dict[int, Served]] = {}
    for pod, minutes in past.items():
        key = named.get((pod.namespace, pod.name.rsplit("-", 2)[0]))
        if key is None:
            continue
        own = together.setdefault(key, {})
        for minute, one in minutes.items():
            known = own.get(minute, Served(0.0, 0.0, 0.0))
            own[minute] = Served(
                known.requests + one.requests,
                known.prompt_tokens + one.prompt_tokens,
                known.generated_tokens + one.generated_tokens,
            )
    if not together:
        seen = ", ".join(sorted({str(pod) for pod in past})[:5])
        raise ScenarioError(f"--from-prometheus: no pod belongs to a declared service; seen were {seen} …")
    windows = {
        key: [
            Window(
                60 * minute,
                one.requests,
                max(one.prompt_tokens / one.requests, 1.0),
                max(one.generated_tokens / one.requests, 1.0),
            )
            for minute, one in sorted(minutes.items())
        ]
        for key, minutes in together.items()
    }
    return Windowed(windows, width=60, seed=seed)


def _stream(key: ServiceKey, one: Traffic, seed: int) -> Stream | None:
    if one.week is not None:
        shape = SHAPES[one.week]
        shift = 0.0 if one.shift is None else float(seconds(one.shift)) / 3600.0
        rate = replace(shape.weekly, scale=shape.weekly.scale * one.scale, shift=shift)
        return Stream(key, rate, _lengths(one, shape.lengths), shape.bursts)
    if one.rate is not None:
        return Stream(key, Piecewise(((0.0, one.rate * one.scale),)), _lengths(one, None))
    if one.sporadic is not None:
        spell = one.sporadic
        spells = Sporadic(spell.rate * one.scale, float(seconds(spell.busy)), float(seconds(spell.quiet)), seed)
        return Stream(key, spells, _lengths(one, None))
    if one.jobs is not None:
        jobs = Jobs(float(seconds(one.jobs.every)), one.jobs.requests * one.scale, float(seconds(one.jobs.over)), seed)
        return Stream(key, jobs, _lengths(one, None))
    return None


def _lengths(one: Traffic, usual: Lengths | None) -> Lengths:
    base = usual or Lengths(1.0, 1.0)
    return Lengths(
        prompt=one.prompt.mean if one.prompt else base.prompt,
        output=one.output.mean if one.output else base.output,
        prompt_cv=one.prompt.cv if one.prompt else base.prompt_cv,
        output_cv=one.output.cv if one.output else base.output_cv,
        cached=one.cached,
    )


def _recorded(key: ServiceKey, one: Traffic, folder: Path, length: int, seed: int) -> Demand:
    try:
        if one.servegen is not None:
            return read_servegen(folder / one.servegen, scale=one.scale, seed=seed)
        rows = read_trace(folder / str(one.trace))
    except TraceError as error:
        raise ScenarioError(f"traffic.{key}: {error}") from error
    return Recorded(key, rows, scale=one.scale, stretch=one.stretch, seconds=length, seed=seed, cached=one.cached)
