"""The router: which adapter answers, how often it is asked, and what stands in while it fails."""

import pytest

from fallow.adapters.carbon.router import CarbonRouter
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.sources import carbon_sources
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.zones import Intensity, IntensitySource
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
    answer = await CarbonRouter(sources).intensity(NOON, IntensitySource("Dataset", {"zone": "FR"}))
    assert isinstance(answer, Intensity)
