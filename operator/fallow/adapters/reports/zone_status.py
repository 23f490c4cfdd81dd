"""The status of a GridZone: what is known of its electricity, how near that is to a measurement, and why no nearer.

Pure. Forecasts are shown by half-hours or longer, so that they change no more often than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from fallow.adapters.reports import standing
from fallow.adapters.reports.texts import line, significant, watts
from fallow.api import grid_zone_status as api
from fallow.api.conditions import Figure as Shown
from fallow.api.conditions import moment
from fallow.api.footprint import ZoneFootprint
from fallow.api.intensity import Signal
from fallow.domain.figures import Figure, Missing
from fallow.domain.plans import Condition
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.snapshots import Node, Snapshot
from fallow.domain.units import GramsPerKWh, Instant, Watts
from fallow.domain.zones import (
    Forecast,
    ForecastError,
    Intensity,
    IntensityKind,
    IntensitySource,
    IntensityTier,
    PassedOver,
    ZoneReading,
    forecast_figure,
)

JSON = Mapping[str, Any]
SLOT, AHEAD, MOST_POINTS = 1800, 86_400, 48


def zone_status(
    report: CycleReport, reading: ZoneReading, before: JSON, footprint: ZoneFootprint | None = None
) -> dict[str, Any]:
    """`footprint` is what the books say of the zone; None keeps what the status says."""
    snapshot, zone = report.snapshot, reading.zone
    nodes = [node for node in snapshot.cluster.nodes.values() if _zone_of(node, snapshot) == zone.name]
    unallocated = report.estimates.unallocated.get(zone.name)
    known, marginal = _known(reading.intensity), _known(reading.marginal)
    forecast = reading.forecast if isinstance(reading.forecast, Forecast) else None
    conditions = tuple(_conditions(reading, snapshot.at))
    status = api.GridZoneStatus(
        observed_generation=zone.generation,
        conditions=standing.shown(conditions, before, zone.generation, snapshot.at),
        intensity=None if known is None else _intensity(known, zone.source, reading.passed_over),
        marginal=None if marginal is None or zone.marginal is None else _intensity(marginal, zone.marginal),
        forecast=None if forecast is None else _forecast(forecast, reading.errors, snapshot.at),
        pue=_pue(reading),
        nodes=len(nodes),
        gpus=sum(node.gpus for node in nodes),
        summary=api.ZoneSummary(
            intensity=_grams(known),
            marginal=_grams(marginal),
            unallocated=watts(unallocated) if isinstance(unallocated, Watts) else "",
        ),
        footprint=footprint,
    ).as_json()
    kept = {"footprint": before["footprint"]} if footprint is None and "footprint" in before else {}
    return {**status, **kept}


def _known(value: Intensity | Missing | None) -> Intensity | None:
    return value if isinstance(value, Intensity) else None


def _grams(known: Intensity | None) -> str:
    return "" if known is None else f"{significant(known.grams.best.value)} g/kWh"


def _conditions(reading: ZoneReading, now: Instant) -> Iterator[Condition]:
    """Ready while any value is known, IntensityFresh while it is what the preferred source says now."""
    intensity = reading.intensity
    if isinstance(intensity, Missing):
        for name in ("Ready", "IntensityFresh"):
            yield Condition(name, status=False, reason=intensity.reason, message=intensity.detail)
    else:
        age = max(now - intensity.at, 0.0)
        words = f"{significant(intensity.grams.best.value)} gCO2e/kWh, {age / 60:.0f} min old, from {intensity.source}"
        yield Condition("Ready", status=True, reason=Reason.FRESH, message=words)
        why = reading.passed_over[0].why if reading.passed_over else None
        if why is None:
            yield Condition("IntensityFresh", status=True, reason=Reason.FRESH, message=words)
        else:
            told = f"{why.detail}; {intensity.tier.lower()} value in use: {words}"
            yield Condition("IntensityFresh", status=False, reason=why.reason, message=told)
    yield from _forecast_condition(reading)


def _forecast_condition(reading: ZoneReading) -> Iterator[Condition]:
    forecast = reading.forecast
    if isinstance(forecast, Missing):
        yield Condition("ForecastFresh", status=False, reason=forecast.reason, message=forecast.detail)
    elif forecast is not None:
        words = f"until {moment(forecast.until):%Y-%m-%d %H:%M} UTC, from {forecast.source}"
        worse = [error for error in reading.errors if error.beats_persistence is False]
        for error in worse:
            hours = error.lead / 3600
            words += (
                f"; {hours:g} h ahead it errs by {_mean(error.against)} g/kWh and yesterday's value by "
                f"{_mean(error.persistence)}, so it is no better than that"
            )
        yield Condition("ForecastFresh", status=True, reason=Reason.FRESH, message=words)


def _mean(grams: GramsPerKWh | None) -> str:
    return "?" if grams is None else significant(grams.value)


def _intensity(
    known: Intensity, source: IntensitySource, passed_over: Sequence[PassedOver] = ()
) -> api.IntensityReading:
    counted: Literal["lifecycle", "direct"] = (
        "direct" if source.parameters.get("factorType") == "direct" else "lifecycle"
    )
    return api.IntensityReading(
        grams_per_kwh=_shown(known.grams),
        at=moment(known.at),
        source=line(known.source),
        signal=_signal(known.kind),
        factor_type=counted,
        tier=_tier(known.tier),
        passed_over=[
            api.PassedOver(source=part.source, reason=str(part.why.reason), message=line(part.why.detail))
            for part in passed_over[:8]
        ],
    )


def _forecast(forecast: Forecast, errors: Sequence[ForecastError], now: Instant) -> api.ZoneForecast:
    return api.ZoneForecast(
        source=line(forecast.source),
        signal=_signal(forecast.kind),
        issued_at=None if forecast.issued is None else moment(forecast.issued),
        points=[
            api.ForecastPoint(at=moment(at), grams_per_kwh=_shown(forecast_figure(grams, at - now, errors)))
            for at, grams in _slots(forecast, now)
        ],
        errors=[_error(error) for error in errors],
    )


def _slots(forecast: Forecast, now: Instant) -> list[tuple[Instant, GramsPerKWh]]:
    """The next 24 hours from the point that holds now; points closer than half an hour become means of half-hours."""
    wanted = [
        (point.start, end, point.grams.value)
        for point, end in zip(forecast.points, [*(p.start for p in forecast.points[1:]), forecast.until], strict=True)
        if end > now and point.start < now + AHEAD
    ]
    slots: dict[Instant, list[float]] = {}
    for start, end, grams in wanted:
        slots.setdefault(Instant(start if end - start >= SLOT else start // SLOT * SLOT), []).append(grams)
    means = [(at, GramsPerKWh(sum(values) / len(values))) for at, values in slots.items()]
    return means[:MOST_POINTS]


def _error(error: ForecastError) -> api.ForecastError:
    return api.ForecastError(
        lead_hours=error.lead / 3600,
        samples=error.samples,
        error_grams_per_kwh=round(error.mean.value, 1),
        yesterday_samples=error.compared,
        yesterday_error_grams_per_kwh=None if error.persistence is None else round(error.persistence.value, 1),
        beats_yesterday=error.beats_persistence,
    )


def _pue(reading: ZoneReading) -> api.PueReading:
    live, ratio = reading.live_pue, reading.pue
    source = "spec.pue"
    if isinstance(live, Missing):
        source = f"spec.pue, since {live.detail or live.reason}"
    elif live is not None:
        source = f"Prometheus: {reading.zone.pue_query}"
    shown = Shown(low=round(ratio.low, 3), best=round(ratio.best, 3), high=round(ratio.high, 3))
    return api.PueReading(ratio=shown, source=line(source))


def _shown(figure: Figure[GramsPerKWh]) -> Shown:
    low, best, high = (round(part.value, 2) for part in (figure.low, figure.best, figure.high))
    return Shown(low=low, best=best, high=high)


def _signal(kind: IntensityKind) -> Signal:
    return "marginal" if kind is IntensityKind.MARGINAL else "average"


def _tier(tier: IntensityTier) -> api.Tier:
    named: api.Tier = tier.value
    return named


def _zone_of(node: Node, snapshot: Snapshot) -> str | None:
    """The first zone by name that selects the node, else the default zone: the rule by which energy is priced."""
    default = None
    for name in sorted(snapshot.zones):
        zone = snapshot.zones[name].zone
        if zone.is_default:
            default = default or name
        elif zone.nodes.matches(node.labels):
            return name
    return default
