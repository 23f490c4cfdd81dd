"""Every provider against a loopback server that answers well, badly, late or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fallow.adapters.carbon.account import retry_after
from fallow.adapters.carbon.credentials import Credentials
from fallow.adapters.carbon.electricity_maps import ElectricityMapsCarbon
from fallow.adapters.carbon.uk_carbon_intensity import UKCarbonIntensity
from fallow.adapters.carbon.watttime import WattTimeCarbon
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.zones import Forecast, Intensity, IntensityKind, IntensitySource, IntensityTier
from fallow.ports import CarbonSource
from tests.adapters.carbon import providers
from tests.adapters.carbon.providers import (
    KEY,
    LOGIN,
    FakeBritain,
    FakeElectricityMaps,
    FakeProvider,
    FakeWattTime,
    Trouble,
    credentials,
)
from tests.support.metered import NOON, later

GERMANY = IntensitySource("ElectricityMaps", {"zone": "DE", "factorType": "lifecycle"})
CALIFORNIA = IntensitySource("WattTime", {"region": "CAISO_NORTH", "signal": "marginal"})
BRITAIN = IntensitySource("UKCarbonIntensity", {"factorType": "direct"})
LONDON = IntensitySource("UKCarbonIntensity", {"factorType": "direct", "region": 13})


@dataclass
class Desk:
    """A provider's server, our adapter that asks it, and the question."""

    server: FakeProvider
    source: CarbonSource
    question: IntensitySource

    async def ask(self, seconds: float = 0) -> Intensity | Missing:
        return await self.source.intensity(later(seconds), self.question)

    async def refusal(self, seconds: float = 0) -> Missing:
        answer = await self.ask(seconds)
        assert isinstance(answer, Missing)
        return answer


@pytest.fixture(params=["Electricity Maps", "WattTime", "WattTime past its login", "UK Carbon Intensity"])
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(request.param, tmp_path) as made:
        yield made


class opened:  # noqa: N801 - used as a function
    """A desk for one provider, with valid credentials; `timeout` in seconds."""

    def __init__(self, name: str, folder: Path, timeout: float = 5.0) -> None:
        server, build, question = DESKS[name]
        self._server, self._build, self._question = server(), build, question
        self._folder, self._timeout = folder, timeout
        self._running = self._server.running()

    async def __aenter__(self) -> Desk:
        await self._running.__aenter__()
        source = self._build(credentials(self._folder), self._server.url, self._timeout)
        return Desk(self._server, source, self._question)

    async def __aexit__(self, *caught: object) -> None:
        await self._running.__aexit__(None, None, None)


Build = Callable[[Credentials, str, float], CarbonSource]
DESKS: dict[str, tuple[Callable[[], FakeProvider], Build, IntensitySource]] = {
    "Electricity Maps": (
        FakeElectricityMaps,
        lambda secrets, url, timeout: ElectricityMapsCarbon(secrets, url=url, timeout=timeout),
        GERMANY,
    ),
    "WattTime": (
        FakeWattTime,
        lambda secrets, url, timeout: WattTimeCarbon(secrets, url=url, timeout=timeout),
        CALIFORNIA,
    ),
    "WattTime past its login": (
        lambda: FakeWattTime(sound=frozenset({"/login"})),
        lambda secrets, url, timeout: WattTimeCarbon(secrets, url=url, timeout=timeout),
        CALIFORNIA,
    ),
    "UK Carbon Intensity": (
        FakeBritain,
        lambda _secrets, url, timeout: UKCarbonIntensity(url=url, timeout=timeout),
        BRITAIN,
    ),
}


@pytest.mark.parametrize(
    ("trouble", "reason", "detail"),
    [
        (providers.status(400, '{"error": "no such zone"}'), Reason.BAD_ANSWER, "no such zone"),
        (providers.status(401), Reason.ACCESS_DENIED, "(401)"),
        (providers.status(403), Reason.ACCESS_DENIED, "(403)"),
        (providers.status(404), Reason.BAD_ANSWER, "without a word"),
        (providers.status(429), Reason.RATE_LIMITED, "asked again at 12:01 UTC"),
        (providers.status(500), Reason.SOURCE_UNREACHABLE, "500"),
        (providers.status(503), Reason.SOURCE_UNREACHABLE, "503"),
        (providers.status(503, Retry_After="120"), Reason.RATE_LIMITED, "12:02 UTC"),
        (providers.status(302, Location="http://127.0.0.1:1/"), Reason.BAD_ANSWER, "redirect"),
        (providers.cut, Reason.SOURCE_UNREACHABLE, "could not be read"),
        (providers.body(""), Reason.BAD_ANSWER, "format"),
        (providers.body("<html>"), Reason.BAD_ANSWER, "format"),
        (providers.body("null"), Reason.BAD_ANSWER, "format"),
        (providers.body("[]"), Reason.BAD_ANSWER, "format"),
        (providers.body("{}"), Reason.BAD_ANSWER, "format"),
        (providers.body('{"zone": 5, "data": "five", "token": 1}'), Reason.BAD_ANSWER, "format"),
        (providers.body("[" * 100_000), Reason.BAD_ANSWER, "format"),
        (providers.body(" " * (2 << 20) + "{}"), Reason.BAD_ANSWER, "longer than"),
    ],
    ids=[
        "400",
        "401",
        "403",
        "404",
        "429",
        "500",
        "503",
        "503 with a time",
        "redirect",
        "cut",
        "empty",
        "html",
        "null",
        "list",
        "nothing in it",
        "wrong types",
        "deep",
        "too long",
    ],
)
async def test_a_bad_answer_becomes_a_reason(desk: Desk, trouble: Trouble, reason: Reason, detail: str) -> None:
    desk.server.trouble = trouble
    told = await desk.refusal()
    assert told.reason is reason
    assert detail in told.detail
    ahead = await desk.source.forecast(NOON, desk.question)
    assert isinstance(ahead, Missing)


@pytest.mark.parametrize("name", list(DESKS))
async def test_a_slow_provider_is_given_up(name: str, tmp_path: Path) -> None:
    async with opened(name, tmp_path, timeout=0.1) as desk:
        desk.server.trouble = providers.hang
        told = await desk.refusal()
    assert told.reason is Reason.SOURCE_UNREACHABLE
    assert "within 0.1 s" in told.detail


@pytest.mark.parametrize("name", list(DESKS))
async def test_a_provider_that_is_not_there_is_unreachable(name: str, tmp_path: Path) -> None:
    async with opened(name, tmp_path) as desk:
        pass
    assert (await desk.refusal()).reason is Reason.SOURCE_UNREACHABLE


@pytest.mark.parametrize("wait", ["600", providers.http_date(later(600))], ids=["seconds", "date"])
async def test_retry_after_is_waited_out_without_a_request(desk: Desk, wait: str) -> None:
    desk.server.trouble = providers.status(429, Retry_After=wait)
    first = await desk.refusal()
    desk.server.trouble = None
    asked = len(desk.server.asked)
    assert await desk.refusal(599) == first
    assert len(desk.server.asked) == asked
    assert isinstance(await desk.ask(600), Intensity)


async def test_without_retry_after_the_wait_doubles_and_a_good_answer_ends_that(desk: Desk) -> None:
    desk.server.trouble = providers.status(429)
    await desk.refusal()
    await desk.refusal(60)
    asked = len(desk.server.asked)
    await desk.refusal(179)
    assert len(desk.server.asked) == asked
    desk.server.trouble = None
    assert isinstance(await desk.ask(180), Intensity)
    desk.server.trouble = providers.status(429)
    await desk.refusal(200)
    desk.server.trouble = None
    assert isinstance(await desk.ask(260), Intensity)


async def test_a_limit_belongs_to_the_account_and_not_to_the_zone(tmp_path: Path) -> None:
    async with opened("Electricity Maps", tmp_path) as desk:
        (tmp_path / "other").write_text(KEY)
        desk.server.trouble = providers.status(429, Retry_After="600")
        await desk.refusal()
        desk.server.trouble = None
        france = IntensitySource("ElectricityMaps", {"zone": "FR"})
        waiting = await desk.source.intensity(later(5), france)
        elsewhere = await desk.source.intensity(
            later(5), IntensitySource("ElectricityMaps", {"zone": "FR", "credential": "other"})
        )
    assert isinstance(waiting, Missing)
    assert waiting.reason is Reason.RATE_LIMITED
    assert isinstance(elsewhere, Intensity)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("99999999999999", 86_400),
        (providers.http_date(later(90)), 90),
        (providers.http_date(later(-90)), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_a_day(header: str, seconds: float | None) -> None:
    assert retry_after(header, NOON) == seconds


@pytest.mark.parametrize("name", ["Electricity Maps", "WattTime"])
async def test_a_refused_credential_is_tried_again_once_it_changes_or_after_a_while(name: str, tmp_path: Path) -> None:
    async with opened(name, tmp_path) as desk:
        file = tmp_path / ("watttime" if name == "WattTime" else "electricity-maps")
        right = file.read_text()
        file.write_text("ada:wrong")
        told = await desk.refusal()
        assert told.reason is Reason.ACCESS_DENIED
        asked = len(desk.server.asked)
        assert await desk.refusal(899) == told
        assert len(desk.server.asked) == asked
        await desk.refusal(900)
        assert len(desk.server.asked) == asked + 1
        file.write_text(right)
        assert isinstance(await desk.ask(901), Intensity)


async def test_what_a_plan_does_not_include_stops_only_that(tmp_path: Path) -> None:
    async with opened("Electricity Maps", tmp_path) as desk:
        desk.server.trouble = lambda _server, request: (
            providers.status(403)(_server, request) if request.path.endswith("forecast") else None
        )
        ahead = await desk.source.forecast(NOON, GERMANY)
        present = await desk.ask()
        again = await desk.source.forecast(later(1800), GERMANY)
    assert isinstance(ahead, Missing)
    assert ahead.reason is Reason.ACCESS_DENIED
    assert "forecast of DE" in ahead.detail
    assert again == ahead
    assert isinstance(present, Intensity)
    assert desk.server.paths.count("/v3/carbon-intensity/forecast") == 1


@pytest.mark.parametrize("name", ["Electricity Maps", "WattTime"])
async def test_a_missing_credential_is_named_and_nobody_is_asked(name: str, tmp_path: Path) -> None:
    async with opened(name, tmp_path) as desk:
        for key in ("electricity-maps", "watttime"):
            (tmp_path / key).unlink()
        told = await desk.refusal()
    assert told.reason is Reason.NO_CREDENTIAL
    assert "Secret" in told.detail
    assert desk.server.asked == []


@pytest.mark.parametrize("code", [400, 401, 403, 404, 418, 429, 500])
@pytest.mark.parametrize("name", ["Electricity Maps", "WattTime"])
async def test_a_secret_never_shows_whatever_the_provider_echoes(
    name: str, code: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(name, tmp_path) as desk:
        desk.server.trouble = lambda _server, request: providers.status(code, str(dict(request.headers)))(
            _server, request
        )
        told = await desk.refusal()
    shown = f"{told!r} {desk.source!r} {vars(desk.source)!r} {caplog.text}"
    for secret in (KEY, LOGIN, "correct horse", "YWRhOmNvcnJlY3QgaG9yc2U="):
        assert secret not in shown


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "one line"), (b"\xff\xfe", "one line"), (b"a\nb", "one line"), (b"k" * 9000, "one line")],
    ids=["empty", "no text", "two lines", "too long"],
)
def test_a_file_that_is_no_credential_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "key").write_bytes(content)
    told = Credentials(tmp_path).read("key")
    assert isinstance(told, Missing)
    assert words in told.detail


@pytest.mark.parametrize("name", ["../key", "/etc/passwd", "..", "."])
def test_a_credential_is_a_file_of_the_directory_and_no_other(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "key").write_text("k")
    assert isinstance(Credentials(tmp_path / "inner").read(name), Missing)


def test_without_a_directory_the_setting_is_named() -> None:
    told = Credentials(None).read("key")
    assert isinstance(told, Missing)
    assert "FALLOW_CREDENTIALS_DIR" in told.detail


class TestElectricityMaps:
    @pytest.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[Desk]:
        async with opened("Electricity Maps", tmp_path) as made:
            yield made

    @staticmethod
    def server(desk: Desk) -> FakeElectricityMaps:
        assert isinstance(desk.server, FakeElectricityMaps)
        return desk.server

    async def test_zone_and_factors_are_asked_for_with_the_key_in_its_header(self, desk: Desk) -> None:
        answer = await desk.ask()
        asked = desk.server.asked[0]
        assert (asked.path, asked.query) == (
            "/v3/carbon-intensity/latest",
            {"zone": "DE", "emissionFactorType": "lifecycle"},
        )
        assert asked.headers["auth-token"] == KEY
        assert isinstance(answer, Intensity)
        assert answer.tier is IntensityTier.LIVE
        assert answer.water_at_source is not None

    async def test_an_estimate_says_so_and_has_wider_bounds(self, desk: Desk) -> None:
        measured = await desk.ask()
        self.server(desk).estimated = True
        estimated = await desk.ask()
        assert isinstance(measured, Intensity)
        assert isinstance(estimated, Intensity)
        assert estimated.tier is IntensityTier.ESTIMATED
        assert estimated.grams.low < measured.grams.low
        assert estimated.grams.high > measured.grams.high

    @pytest.mark.parametrize(("hours", "known"), [(1, True), (3, True), (3.1, False)])
    async def test_an_hour_that_ended_two_hours_ago_is_not_the_present(
        self, desk: Desk, hours: float, known: bool
    ) -> None:
        self.server(desk).at = later(-3600 * hours)
        assert isinstance(await desk.ask(), Intensity) is known

    async def test_the_answer_for_another_zone_is_refused(self, desk: Desk) -> None:
        self.server(desk).zone = "AT"
        told = await desk.refusal()
        assert "asked for zone DE and answers for AT" in told.detail

    @pytest.mark.parametrize("grams", [None, "250", True, -1, 6000, float("nan")])
    async def test_what_is_no_intensity_is_refused(self, desk: Desk, grams: object) -> None:
        self.server(desk).grams = grams
        assert (await desk.refusal()).reason is Reason.BAD_ANSWER

    async def test_a_time_from_another_age_is_refused(self, desk: Desk) -> None:
        self.server(desk).at = later(86_400 * 365 * 500)
        assert (await desk.refusal()).reason is Reason.BAD_ANSWER

    async def test_the_forecast_has_its_hours_and_the_time_it_was_made(self, desk: Desk) -> None:
        ahead = await desk.source.forecast(NOON, GERMANY)
        assert isinstance(ahead, Forecast)
        assert (len(ahead.points), ahead.until, ahead.issued) == (24, later(24 * 3600), later(-600))
        now = ahead.at(later(7199))
        assert now is not None
        assert now.grams.value == 201


class TestWattTime:
    @pytest.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[Desk]:
        async with opened("WattTime", tmp_path) as made:
            yield made

    @staticmethod
    def server(desk: Desk) -> FakeWattTime:
        assert isinstance(desk.server, FakeWattTime)
        return desk.server

    async def test_pounds_become_grams_and_the_signal_is_marginal(self, desk: Desk) -> None:
        answer = await desk.ask()
        assert isinstance(answer, Intensity)
        assert answer.grams.best.value == pytest.approx(453.59237)
        assert answer.kind is IntensityKind.MARGINAL

    async def test_one_login_serves_many_questions(self, desk: Desk) -> None:
        for minutes in range(5):
            await desk.ask(minutes * 300)
        assert self.server(desk).logins == 1

    async def test_a_token_is_renewed_before_it_runs_out(self, desk: Desk) -> None:
        await desk.ask()
        self.server(desk).at = later(1500)
        await desk.ask(1500)
        assert self.server(desk).logins == 2

    async def test_a_token_that_is_refused_is_replaced_once(self, desk: Desk) -> None:
        await desk.ask()
        self.server(desk).tokens = 7
        assert isinstance(await desk.ask(60), Intensity)
        assert self.server(desk).logins == 2

    async def test_a_new_token_that_is_refused_as_well_ends_it(self, desk: Desk) -> None:
        desk.server.trouble = lambda server, request: (
            None if request.path == "/login" else providers.status(401)(server, request)
        )
        told = await desk.refusal()
        assert told.reason is Reason.ACCESS_DENIED
        assert desk.server.paths == ["/login", "/v3/forecast", "/login", "/v3/forecast"]

    async def test_the_average_is_asked_of_the_past_and_stays_average(self, desk: Desk) -> None:
        average = IntensitySource("WattTime", {"region": "CAISO_NORTH", "signal": "average", "factorType": "direct"})
        answer = await desk.source.intensity(NOON, average)
        assert isinstance(answer, Intensity)
        assert answer.kind is IntensityKind.AVERAGE
        asked = desk.server.asked[-1]
        assert (asked.path, asked.query["signal_type"]) == ("/v3/historical", "co2_aoer")
        assert isinstance(await desk.source.forecast(NOON, average), Missing)

    async def test_the_average_of_stacks_does_not_pass_for_life_cycle(self, desk: Desk) -> None:
        question = {"region": "CAISO_NORTH", "signal": "average", "factorType": "lifecycle"}
        told = await desk.source.intensity(NOON, IntensitySource("WattTime", question))
        assert isinstance(told, Missing)
        assert "factorType: direct" in told.detail

    async def test_an_average_that_comes_late_is_not_the_present(self, desk: Desk) -> None:
        self.server(desk).at = later(-3 * 3600)
        told = await desk.refusal()
        assert told.reason is Reason.STALE_SERIES
        assert "3.0 h old" in told.detail

    async def test_another_unit_is_refused(self, desk: Desk) -> None:
        self.server(desk).units = "usd_per_mwh"
        assert (await desk.refusal()).reason is Reason.BAD_ANSWER

    async def test_a_login_without_a_password_is_told_how_to_write_it(self, desk: Desk, tmp_path: Path) -> None:
        (tmp_path / "watttime").write_text("ada")
        assert "name:password" in (await desk.refusal()).detail

    async def test_the_forecast_is_marginal_and_two_days_long(self, desk: Desk) -> None:
        ahead = await desk.source.forecast(NOON, CALIFORNIA)
        assert isinstance(ahead, Forecast)
        assert ahead.kind is IntensityKind.MARGINAL
        assert len(ahead.points) == 48 * 12 + 1


class TestUKCarbonIntensity:
    @pytest.fixture
    async def desk(self, tmp_path: Path) -> AsyncIterator[Desk]:
        async with opened("UK Carbon Intensity", tmp_path) as made:
            yield made

    @staticmethod
    def server(desk: Desk) -> FakeBritain:
        assert isinstance(desk.server, FakeBritain)
        return desk.server

    async def test_a_half_hour_without_a_measured_value_is_as_expected(self, desk: Desk) -> None:
        measured = await desk.ask(60)
        self.server(desk).actual = None
        expected = await desk.ask(60)
        assert isinstance(measured, Intensity)
        assert isinstance(expected, Intensity)
        assert (measured.grams.best.value, measured.tier) == (250, IntensityTier.LIVE)
        assert (expected.grams.best.value, expected.tier) == (240, IntensityTier.FORECAST)
        assert expected.grams.low < measured.grams.low

    async def test_a_region_is_asked_for_by_its_number(self, desk: Desk) -> None:
        answer = await desk.source.intensity(NOON, LONDON)
        ahead = await desk.source.forecast(NOON, LONDON)
        assert isinstance(answer, Intensity)
        assert answer.source == "UK Carbon Intensity, region 13"
        assert answer.tier is IntensityTier.FORECAST
        assert isinstance(ahead, Forecast)
        assert desk.server.paths == [
            "/regional/regionid/13",
            "/regional/intensity/2026-03-14T12:00Z/fw48h/regionid/13",
        ]

    async def test_the_forecast_reaches_two_days_ahead(self, desk: Desk) -> None:
        ahead = await desk.source.forecast(NOON, BRITAIN)
        assert isinstance(ahead, Forecast)
        assert ahead.until == later(48 * 3600)

    async def test_another_half_hour_is_not_the_present(self, desk: Desk) -> None:
        assert (await desk.refusal(1800)).reason is Reason.STALE_SERIES

    async def test_neither_measured_nor_expected_is_no_answer(self, desk: Desk) -> None:
        self.server(desk).actual = self.server(desk).expected = None
        assert (await desk.refusal()).reason is Reason.BAD_ANSWER
        assert isinstance(await desk.source.forecast(NOON, BRITAIN), Missing)

    async def test_stacks_alone_do_not_pass_for_life_cycle(self, desk: Desk) -> None:
        told = await desk.source.intensity(NOON, IntensitySource("UKCarbonIntensity", {"factorType": "lifecycle"}))
        assert isinstance(told, Missing)
        assert "factorType: direct" in told.detail

    async def test_a_region_that_does_not_exist_is_refused(self, desk: Desk) -> None:
        told = await desk.source.intensity(NOON, IntensitySource("UKCarbonIntensity", {"region": 18}))
        assert isinstance(told, Missing)
        assert "1 to 17" in told.detail
