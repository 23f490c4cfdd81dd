"""Intensities that somebody wrote down: numbers and forecasts in ConfigMaps and files, as CSV and JSON."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.aio.client import ApiClient, Configuration

from fallow.adapters.carbon import schedule
from fallow.adapters.carbon.configmap import ConfigMapCarbon
from fallow.adapters.carbon.file import FileCarbon
from fallow.adapters.carbon.schedule import Written
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant
from fallow.domain.zones import Forecast, Intensity, IntensityKind, IntensitySource, IntensityTier
from tests.adapters.carbon.servers import FakeApiServer, running
from tests.support.metered import NOON, later

HERE = Written("here")
CSV = "time,gramsPerKWh\n2026-03-14T11:00Z,210\n2026-03-14T12:00Z,250\n2026-03-14T13:00Z,300\n"
JSON = json.dumps(
    [
        {"time": "2026-03-14T11:00Z", "gramsPerKWh": 210},
        {"time": "2026-03-14T12:00:00+00:00", "gramsPerKWh": 250},
        {"time": "2026-03-14T14:00:00+01:00", "gramsPerKWh": 300},
    ]
)
# what Azure's kubernetes-carbon-intensity-exporter puts into binaryData
EXPORTED = json.dumps(
    [
        {"location": "PJM_ROANOKE", "timestamp": f"2026-03-14T12:{5 * n:02d}:00Z", "duration": 5, "value": 250 + n}
        for n in range(12)
    ]
)


def ask(content: str, seconds: float = 0) -> Intensity | Missing:
    return schedule.present(content, later(seconds), HERE)


@pytest.mark.parametrize("content", [CSV, JSON, f"# somebody's remark\n{CSV}\n\n"], ids=["CSV", "JSON", "remarks"])
@pytest.mark.parametrize(
    ("seconds", "grams"), [(-3600, 210), (-1, 210), (0, 250), (3599, 250), (3600, 300), (7199, 300)]
)
def test_the_entry_for_now_is_picked_out(content: str, seconds: float, grams: float) -> None:
    answer = ask(content, seconds)
    assert isinstance(answer, Intensity)
    assert answer.grams.best.value == grams
    assert answer.tier is IntensityTier.FORECAST


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3601, "begins at 2026-03-14T11:00Z"), (7200, "ended at 2026-03-14T14:00Z; renew")]
)
def test_outside_of_the_forecast_nothing_is_known(seconds: float, words: str) -> None:
    answer = ask(CSV, seconds)
    assert isinstance(answer, Missing)
    assert answer.reason is Reason.STALE_SERIES
    assert words in answer.detail


def test_the_exporter_s_shape_is_read_with_its_durations() -> None:
    ahead = schedule.forecast(EXPORTED, HERE)
    assert isinstance(ahead, Forecast)
    assert (len(ahead.points), ahead.until) == (12, later(3600))
    answer = ask(EXPORTED, 3599)
    assert isinstance(answer, Intensity)
    assert answer.grams.best.value == 261


def test_a_plain_number_counts_as_of_now_and_forecasts_nothing() -> None:
    answer = ask(" 250\n")
    assert isinstance(answer, Intensity)
    assert (answer.at, answer.tier) == (NOON, IntensityTier.LIVE)
    ahead = schedule.forecast("250", HERE)
    assert isinstance(ahead, Missing)
    assert ahead.reason is Reason.NO_FORECAST


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "must be a plain number"),
        ("250 g", "must be a plain number"),
        ("x" * 300, "xxxx…"),
        ("[", "no JSON"),
        ("[" * 10_000, "no JSON"),
        ("[]", "empty"),
        ("[1, 2]", "must list objects"),
        ('[{"time": "2026-03-14T12:00Z"}]', "plain number"),
        ('[{"gramsPerKWh": 5}]', "None is no time"),
        ('[{"time": 5, "gramsPerKWh": 5}]', "5 is no time"),
        ('[{"time": "noon", "gramsPerKWh": 5}]', "'noon' is no time"),
        ('[{"time": "2026-03-14T12:00Z", "gramsPerKWh": NaN}]', "nan"),
        ('[{"time": "2026-03-14T12:00Z", "gramsPerKWh": 380000}]', "lie between"),
        ("time,gramsPerKWh\n", "empty"),
        ("when,much\n2026-03-14T12:00Z,5\n", "no time"),
        ("time,gramsPerKWh\n2026-03-14T12:00Z,many\n", "entry 1 is 'many'"),
        ("time,gramsPerKWh\n0001-01-01T00:00+23:00,5\n", "no time"),
    ],
)
def test_what_cannot_be_read_is_named(content: str, words: str) -> None:
    answer = ask(content)
    assert isinstance(answer, Missing)
    assert words in answer.detail
    assert len(answer.detail) < 300


def test_a_list_without_end_is_refused() -> None:
    row = '{"time": "2026-03-14T12:00Z", "gramsPerKWh": 5},'
    answer = ask(f"[{(row * (schedule.MAX_POINTS + 1))[:-1]}]")
    assert isinstance(answer, Missing)
    assert "more than" in answer.detail


@given(
    offsets=st.lists(st.integers(0, 10_000), min_size=1, max_size=30),
    ask_at=st.floats(0, 10_000),
)
def test_the_order_of_entries_says_nothing_and_the_newest_that_began_holds(offsets: list[int], ask_at: float) -> None:
    began = datetime(2026, 3, 14, 12, tzinfo=UTC)
    rows = [{"time": (began + timedelta(seconds=n)).isoformat(), "gramsPerKWh": n / 10} for n in offsets]
    ahead = schedule.forecast(json.dumps(rows), HERE)
    assert isinstance(ahead, Forecast)
    assert list(ahead.points) == sorted(ahead.points, key=lambda point: point.start)
    now = Instant(NOON + ask_at)  # which rounds
    point = ahead.at(now)
    begun = [n for n in offsets if NOON + n <= now]
    if not begun:
        assert point is None
    elif point is not None:
        assert point.grams.value == max(begun) / 10


async def test_a_file_is_read_anew_and_its_change_is_the_time_of_the_forecast(tmp_path: Path) -> None:
    source, question = FileCarbon(tmp_path), IntensitySource("File", {"name": "day.csv", "signal": "marginal"})
    file = tmp_path / "day.csv"
    file.write_text(CSV)
    os.utime(file, (NOON - 60, NOON - 60))
    ahead = await source.forecast(NOON, question)
    assert isinstance(ahead, Forecast)
    assert (ahead.issued, ahead.kind) == (later(-60), IntensityKind.MARGINAL)
    file.write_text("123")
    answer = await source.intensity(NOON, question)
    assert isinstance(answer, Intensity)
    assert answer.grams.best.value == 123


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.csv", "cannot be read"),
        ("../key", "without directories"),
        ("/etc/passwd", "without directories"),
        ("folder", "cannot be read"),
        ("picture", "no text"),
        ("long", "longer than"),
    ],
)
async def test_a_file_that_is_not_there_or_is_no_text_says_why(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    (tmp_path / "long").write_bytes(b"1" * ((2 << 20) + 1))
    answer = await FileCarbon(tmp_path).intensity(NOON, IntensitySource("File", {"name": name}))
    assert isinstance(answer, Missing)
    assert words in answer.detail


async def test_a_config_map_s_binary_data_is_read_as_well() -> None:
    server = FakeApiServer()
    server.trouble = lambda: web.json_response({"binaryData": {"data": b64encode(EXPORTED.encode()).decode()}})
    async with running(server):
        configuration = Configuration()
        configuration.host = server.url
        async with ApiClient(configuration) as client:
            question = {"namespace": "kube-system", "name": "carbonintensity", "key": "data", "signal": "marginal"}
            answer = await ConfigMapCarbon(client).intensity(NOON, IntensitySource("ConfigMap", question))
    assert isinstance(answer, Intensity)
    assert (answer.grams.best.value, answer.kind) == (250, IntensityKind.MARGINAL)
