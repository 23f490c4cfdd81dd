"""The router: which adapter answers, how often it is asked, and what stands in while it fails or is slow."""

import asyncio
import logging
from typing import get_args

import pytest

from fallow.adapters.carbon.router import Cadence, CarbonRouter, PueRouter
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.sources import carbon_sources
from fallow.api.intensity import SourceName
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import Forecast, ForecastPoint, Intensity, IntensitySource, IntensityTier, Ratio
from tests.support.carbon import InMemoryCarbonSource
from tests.support.metered import NOON, later

DOWN = Missing(Reason.SOURCE_UNREACHABLE, "down")
QUESTION = IntensitySource("Live", {"query": "a"})


async def test_each_kind_goes_to_its_adapter() -> None:
    one, other = InMemoryCarbonSource(100), InMemoryCarbonSource(200)
    router = CarbonRouter({"One": one, "Other": other})
    answer = await router.intensity(NOON, IntensitySource("Other", {"zone": "x"}))
    assert isinstance(answer, Intensity)
    assert answer.grams.best.value == 200
    assert (one.asked, other.asked) == (0, 1)


async def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    answer = await CarbonRouter({"Static": InMemoryCarbonSource()}).intensity(NOON, QUESTION)
    assert isinstance(answer, Missing)
    assert "there are Static" in answer.detail


async def test_within_a_minute_nobody_is_asked_twice() -> None:
    live = InMemoryCarbonSource(100)
    router = CarbonRouter({"Live": live})
    for seconds in (0, 15, 59, 60, 75):
        await router.intensity(later(seconds), QUESTION)
    assert live.asked == 2
    await router.intensity(later(75), IntensitySource("Live", {"query": "b"}))
    assert live.asked == 3


async def test_a_failed_source_is_not_asked_again_at_once_either() -> None:
    live = InMemoryCarbonSource(DOWN)
    router = CarbonRouter({"Live": live})
    assert await router.intensity(NOON, QUESTION) == DOWN
    assert await router.intensity(later(15), QUESTION) == DOWN
    assert live.asked == 1


async def test_the_last_known_value_bridges_an_outage_with_its_own_time_and_wider_bounds() -> None:
    live = InMemoryCarbonSource(100)
    router = CarbonRouter({"Live": live})
    good = await router.intensity(NOON, QUESTION)
    live.grams = DOWN
    answer = await router.intensity(later(600), QUESTION)
    assert isinstance(good, Intensity)
    assert isinstance(answer, Intensity)
    assert answer.at == NOON
    assert answer.grams.best == good.grams.best
    assert answer.grams.low < good.grams.low
    assert answer.grams.high > good.grams.high
    assert answer.source == "last known, SourceUnreachable: in memory"
    assert (answer.tier, answer.instead_of) == (IntensityTier.CACHED, DOWN)


async def test_after_two_hours_the_last_known_value_is_given_up() -> None:
    live = InMemoryCarbonSource(100)
    router = CarbonRouter({"Live": live})
    await router.intensity(NOON, QUESTION)
    live.grams = DOWN
    assert isinstance(await router.intensity(later(7200), QUESTION), Intensity)
    assert await router.intensity(later(7300), QUESTION) == DOWN


async def test_recovery_needs_no_hand() -> None:
    live = InMemoryCarbonSource(DOWN)
    router = CarbonRouter({"Live": live})
    await router.intensity(NOON, QUESTION)
    live.grams = 120
    answer = await router.intensity(later(60), QUESTION)
    assert isinstance(answer, Intensity)
    assert answer.grams.best.value == 120


async def test_a_clock_that_stepped_back_does_not_freeze_the_answer() -> None:
    live = InMemoryCarbonSource(100)
    router = CarbonRouter({"Live": live})
    await router.intensity(later(3600), QUESTION)
    live.grams = 150
    answer = await router.intensity(NOON, QUESTION)
    assert isinstance(answer, Intensity)
    assert answer.grams.best.value == 150


@pytest.mark.parametrize(("kind", "what"), [("Prometheus", "prometheus URL"), ("ConfigMap", "API server")])
async def test_a_source_that_was_not_set_up_says_what_to_set(kind: str, what: str) -> None:
    router = CarbonRouter(carbon_sources(None))
    answer = await router.intensity(NOON, IntensitySource(kind, {"query": "a"}))
    assert isinstance(answer, Missing)
    assert what in answer.detail


async def test_the_shipped_sources_answer_by_the_names_of_the_kind() -> None:
    sources = carbon_sources(PrometheusSeries("http://127.0.0.1:1"))
    assert set(sources) == set(get_args(SourceName))
    answer = await CarbonRouter(sources).intensity(NOON, IntensitySource("Dataset", {"zone": "FR"}))
    assert isinstance(answer, Intensity)


async def test_a_source_is_asked_at_its_own_pace_and_sooner_after_a_failure() -> None:
    live = InMemoryCarbonSource(100)
    router = CarbonRouter({"Live": live}, cadences={"Live": Cadence(Seconds(900), Seconds(3600))})
    live.ahead = Forecast((ForecastPoint(NOON, GramsPerKWh(100)),), later(86_400), "in memory")
    for seconds in (0, 899, 900, 1799):
        await router.intensity(later(seconds), QUESTION)
        await router.forecast(later(seconds), QUESTION)
    assert (live.asked, live.asked_ahead) == (2, 1)
    live.grams = DOWN
    for seconds in (1800, 1859, 1860):
        await router.intensity(later(seconds), QUESTION)
    assert live.asked == 4


class SlowSource(InMemoryCarbonSource):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__(100)
        self.let = asyncio.Event()

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        answer = await super().intensity(now, source)
        await self.let.wait()
        return answer


async def test_a_slow_source_does_not_hold_the_cycle_and_its_answer_comes_later() -> None:
    slow = SlowSource()
    router = CarbonRouter({"Live": slow}, patience=Seconds(0.001))
    first = await router.intensity(NOON, QUESTION)
    assert isinstance(first, Missing)
    assert "no answer yet" in first.detail
    assert isinstance(await router.intensity(later(60), QUESTION), Missing)
    slow.let.set()
    await asyncio.sleep(0)
    answer = await router.intensity(later(75), QUESTION)
    assert isinstance(answer, Intensity)
    assert (answer.at, slow.asked) == (NOON, 1)


async def test_two_zones_with_the_same_question_ask_once() -> None:
    slow = SlowSource()
    router = CarbonRouter({"Live": slow})
    both = asyncio.gather(router.intensity(NOON, QUESTION), router.intensity(NOON, QUESTION))
    await asyncio.sleep(0)
    slow.let.set()
    first, second = await both
    assert first == second
    assert isinstance(first, Intensity)
    assert slow.asked == 1


async def test_closing_ends_what_is_under_way() -> None:
    router = CarbonRouter({"Live": SlowSource()}, patience=Seconds(0.001))
    await router.intensity(NOON, QUESTION)
    before = asyncio.all_tasks()
    await router.close()
    assert asyncio.all_tasks() < before


class BrokenSource(InMemoryCarbonSource):
    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        raise ZeroDivisionError(now, source)


async def test_an_adapter_with_a_defect_stops_no_cycle_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await CarbonRouter({"Live": BrokenSource()}).intensity(NOON, QUESTION)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.BAD_ANSWER
    assert "ZeroDivisionError" in caplog.text


async def test_a_forecast_outlives_an_outage_as_far_as_it_reaches() -> None:
    ahead = Forecast((ForecastPoint(NOON, GramsPerKWh(100)),), later(7200), "in memory")
    live = InMemoryCarbonSource(100, ahead)
    router = CarbonRouter({"Live": live})
    await router.forecast(NOON, QUESTION)
    live.ahead = DOWN
    assert await router.forecast(later(7199), QUESTION) == ahead
    assert await router.forecast(later(7200), QUESTION) == DOWN


class OnePue:
    def __init__(self, answer: Ratio | Missing) -> None:
        self.answer = answer
        self.asked = 0

    async def pue(self, now: Instant, query: str) -> Ratio | Missing:  # noqa: ARG002 - the port's shape
        self.asked += 1
        return self.answer


async def test_the_facility_s_meter_is_asked_once_a_minute_and_not_bridged() -> None:
    meter = OnePue(Ratio(1.1, 1.2, 1.3))
    router = PueRouter(meter)
    for seconds in (0, 15, 59):
        assert await router.pue(later(seconds), "pue") == Ratio(1.1, 1.2, 1.3)
    assert meter.asked == 1
    meter.answer = DOWN
    assert await router.pue(later(60), "pue") == DOWN
