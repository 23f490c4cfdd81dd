"""The status of a GridZone: value, tier, why no better one, forecast and its errors, PUE; how rarely it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.cluster.mirror import ZONES
from fallow.adapters.reports.status import StatusReporter
from fallow.adapters.reports.zone_status import zone_status
from fallow.api.grid_zone_status import GridZoneStatus
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import (
    Forecast,
    ForecastError,
    ForecastPoint,
    Intensity,
    IntensityKind,
    IntensitySource,
    IntensityTier,
    PassedOver,
    Ratio,
    ZoneReading,
)
from tests.adapters.reports.scenes import Sink, mirror, report
from tests.support.builders import NOW, intensity, zone

LIMITED = Missing(Reason.RATE_LIMITED, "Electricity Maps allows no more requests; asked again at 08:10 UTC")
WORSE = ForecastError(
    Seconds(86_400),
    samples=100,
    mean=GramsPerKWh(31),
    compared=48,
    against=GramsPerKWh(30),
    persistence=GramsPerKWh(22),
)
BETTER = replace(WORSE, lead=Seconds(3600), against=GramsPerKWh(12.34), mean=GramsPerKWh(12.34))


def forecast(*grams: float, step: float = 1800, start: float = 0) -> Forecast:
    points = tuple(ForecastPoint(Instant(NOW + start + step * n), GramsPerKWh(g)) for n, g in enumerate(grams))
    until = Instant(NOW + start + step * len(grams))
    return Forecast(points, until, "Electricity Maps DE", issued=Instant(NOW - 600))


def reading(**more: Any) -> ZoneReading:
    plain = zone(300)
    return replace(plain, **more)


def shown(told: ZoneReading, now: float = NOW) -> dict[str, Any]:
    status = zone_status(report(now=now), told, {})
    assert GridZoneStatus.model_validate(status).as_json() == status
    return status


def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {part["type"]: (part["status"], part["reason"]) for part in status["conditions"]}


def test_the_best_value_is_fresh_and_passes_nothing_over() -> None:
    status = shown(reading())
    assert conditions(status) == {"Ready": ("True", "Fresh"), "IntensityFresh": ("True", "Fresh")}
    assert (status["intensity"]["tier"], status["intensity"]["passedOver"]) == ("Live", [])
    assert "forecast" not in status


@pytest.mark.parametrize("tier", [IntensityTier.CACHED, IntensityTier.FORECAST, IntensityTier.YEARLY])
def test_a_value_that_stands_in_is_ready_but_not_fresh_and_says_why(tier: IntensityTier) -> None:
    known = Intensity(Figure.exact(GramsPerKWh(381)), NOW, "ember DE", tier=tier, instead_of=LIMITED)
    status = shown(reading(intensity=known, passed_over=(PassedOver("ElectricityMaps", LIMITED),)))
    assert conditions(status) == {"Ready": ("True", "Fresh"), "IntensityFresh": ("False", "RateLimited")}
    assert status["intensity"]["tier"] == tier.value
    assert status["intensity"]["passedOver"] == [
        {"source": "ElectricityMaps", "reason": "RateLimited", "message": LIMITED.detail}
    ]
    words = next(part["message"] for part in status["conditions"] if part["type"] == "IntensityFresh")
    assert words.startswith(LIMITED.detail)
    assert "381 gCO2e/kWh" in words


def test_the_marginal_signal_stands_beside_the_average() -> None:
    marginal = Intensity(Figure.exact(GramsPerKWh(512)), NOW, "WattTime DE co2_moer", kind=IntensityKind.MARGINAL)
    declared = replace(zone().zone, marginal=IntensitySource("WattTime", {"factorType": "direct"}))
    status = shown(reading(zone=declared, marginal=marginal))
    assert (status["marginal"]["signal"], status["marginal"]["factorType"]) == ("marginal", "direct")
    assert status["summary"]["marginal"] == "512 g/kWh"
    assert status["intensity"]["signal"] == "average"


def test_a_forecast_shows_a_day_by_half_hours_with_bounds_that_grow_with_its_errors() -> None:
    status = shown(reading(forecast=forecast(*range(100, 300)), errors=(BETTER, WORSE)))
    points = status["forecast"]["points"]
    assert len(points) == 48
    assert points[0] == {"at": "2027-01-15T08:00:00Z", "gramsPerKWh": {"low": 81.49, "best": 100.0, "high": 118.51}}
    assert points[-1]["gramsPerKWh"] == {"low": 100.5, "best": 147.0, "high": 193.5}
    assert (status["forecast"]["source"], status["forecast"]["issuedAt"]) == (
        "Electricity Maps DE",
        "2027-01-15T07:50:00Z",
    )


def test_points_closer_than_half_an_hour_become_means_of_half_hours() -> None:
    status = shown(reading(forecast=forecast(*([100.0, 200.0] * 150), step=300)))
    points = status["forecast"]["points"]
    assert len(points) == 48
    assert {point["gramsPerKWh"]["best"] for point in points} == {150.0}


def test_the_past_of_a_forecast_is_not_shown_and_the_point_that_holds_is() -> None:
    status = shown(reading(forecast=forecast(1, 2, 3, step=3600, start=-3600)), now=NOW + 1799)
    assert [point["gramsPerKWh"]["best"] for point in status["forecast"]["points"]] == [2, 3]


def test_errors_are_shown_by_lead_and_a_forecaster_that_is_no_better_than_yesterday_is_told_so() -> None:
    status = shown(reading(forecast=forecast(100), errors=(BETTER, WORSE)))
    assert status["forecast"]["errors"] == [
        {
            "leadHours": 1,
            "samples": 100,
            "errorGramsPerKWh": 12.3,
            "yesterdaySamples": 48,
            "yesterdayErrorGramsPerKWh": 22,
            "beatsYesterday": True,
        },
        {
            "leadHours": 24,
            "samples": 100,
            "errorGramsPerKWh": 31,
            "yesterdaySamples": 48,
            "yesterdayErrorGramsPerKWh": 22,
            "beatsYesterday": False,
        },
    ]
    words = next(part["message"] for part in status["conditions"] if part["type"] == "ForecastFresh")
    assert "24 h ahead it errs by 30 g/kWh and yesterday's value by 22, so it is no better than that" in words
    assert " 1 h ahead" not in words


def test_a_forecast_that_cannot_be_read_is_a_condition() -> None:
    assert conditions(shown(reading(forecast=LIMITED)))["ForecastFresh"] == ("False", "RateLimited")


@pytest.mark.parametrize(
    ("live", "best", "source"),
    [
        (None, 1.2, "spec.pue"),
        (Ratio(1.3, 1.35, 1.4), 1.35, "Prometheus: pue"),
        (Missing(Reason.STALE_SERIES, "pue: the newest sample is 9000 s old"), 1.2, "spec.pue, since pue: the newest"),
    ],
    ids=["declared", "measured", "stands in"],
)
def test_the_pue_in_use_says_where_it_comes_from(live: Ratio | Missing | None, best: float, source: str) -> None:
    status = shown(reading(zone=replace(zone().zone, pue_query="pue"), live_pue=live))
    assert status["pue"]["ratio"]["best"] == best
    assert status["pue"]["source"].startswith(source)


def test_texts_of_any_length_fit() -> None:
    long = Missing(Reason.BAD_ANSWER, "x" * 5000)
    live = replace(reading(), zone=replace(zone().zone, pue_query="q" * 2048), live_pue=long)
    shown(replace(live, passed_over=(PassedOver("ElectricityMaps", long),) * 20))


class Writing:
    """A reporter over one zone whose reading the test gives."""

    def __init__(self) -> None:
        self.mirror = mirror()
        self.sink = Sink(self.mirror)
        self.reporter = StatusReporter(self.sink, self.mirror, refresh=Seconds(300))

    async def tell(self, told: ZoneReading, now: float) -> int:
        """How often the zone was written."""
        cycle: CycleReport = report(self.mirror, now=now)
        zones = {name: replace(told, zone=part.zone) for name, part in cycle.snapshot.zones.items()}
        before = len(self.sink.sent)
        await self.reporter.report(replace(cycle, snapshot=replace(cycle.snapshot, zones=zones)))
        written = self.sink.sent[before:]
        return sum(body["kind"] == "GridZone" and body["metadata"]["name"] == "north" for body in written)


async def test_the_steady_state_of_a_zone_with_a_forecast_writes_nothing_between_refreshes() -> None:
    desk = Writing()
    told = reading(forecast=forecast(*range(100, 200)), errors=(BETTER, WORSE))
    assert await desk.tell(told, NOW) == 1
    assert desk.mirror.get(ZONES, "", "north") is not None
    for seconds in range(15, 300, 15):
        moved = replace(told, intensity=intensity(300, Instant(NOW + seconds)))
        assert await desk.tell(moved, NOW + seconds) == 0


async def test_a_new_forecast_waits_for_the_refresh() -> None:
    desk = Writing()
    await desk.tell(reading(forecast=forecast(*range(100, 200))), NOW)
    newer = reading(forecast=forecast(*range(150, 250)), errors=(WORSE,))
    assert await desk.tell(newer, NOW + 60) == 0
    assert await desk.tell(newer, NOW + 376) == 1


async def test_a_source_that_fails_for_one_cycle_is_not_written_and_one_that_stays_away_is() -> None:
    desk = Writing()
    known = reading()
    cached = Intensity(Figure.exact(GramsPerKWh(300)), NOW, "last known", tier=IntensityTier.CACHED)
    failed = reading(intensity=cached, passed_over=(PassedOver("Prometheus", LIMITED),))
    await desk.tell(known, NOW)
    assert await desk.tell(failed, NOW + 15) == 0
    assert await desk.tell(known, NOW + 30) == 0
    assert [await desk.tell(failed, NOW + seconds) for seconds in (45, 60, 75)] == [0, 1, 0]
