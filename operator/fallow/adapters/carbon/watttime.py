"""WattTime v3: marginal emissions of US and many other grids, now and forecast; averages for accounting.

A login with name and password gives a token for half an hour. Averages are published after the fact.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal

from pydantic import Field, SecretStr

from fallow.adapters.carbon.account import Account
from fallow.adapters.carbon.credentials import Credentials
from fallow.adapters.carbon.parameters import MOST_GRAMS, text
from fallow.adapters.carbon.provider import Answer, Provider, Request
from fallow.adapters.carbon.shapes import HOUR, Number, Shape, Time, forecast_of, instant, no_forecast
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds, from_pounds_per_megawatt_hour
from fallow.domain.zones import INTENSITY_BOUNDS, Forecast, Intensity, IntensityKind, IntensitySource

URL = "https://api.watttime.org"
CREDENTIAL = "watttime"
MAX_AGE = Seconds(7200)
# tokens hold for 30 minutes; a 401 renews one as well
TOKEN_LIFE = Seconds(25 * 60)
HORIZON_HOURS = 48
_POUNDS = MOST_GRAMS / from_pounds_per_megawatt_hour(1.0).value
_SIGNALS = {IntensityKind.MARGINAL: "co2_moer", IntensityKind.AVERAGE: "co2_aoer"}
_UNAUTHORIZED = 401


class _Login(Shape):
    token: str = Field(min_length=1)


class _Point(Shape):
    point_time: Time
    value: Number = Field(ge=0, le=_POUNDS)


class _Meta(Shape):
    region: str
    signal_type: str
    units: Literal["lbs_co2_per_mwh"]
    generated_at: Time | None = None


class _Series(Shape):
    data: list[_Point]
    meta: _Meta


@dataclass(slots=True)
class _Session:
    """The token of one login, which is known by a digest; `turn` lets one zone at a time log in."""

    token: str = field(default="", repr=False)
    since: Instant | None = None
    digest: bytes = b""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def holds(self, now: Instant, digest: bytes) -> bool:
        return self.since is not None and self.digest == digest and 0 <= now - self.since < TOKEN_LIFE


class WattTimeCarbon:
    """Implements ports.CarbonSource for `region`, `signal` and `credential`, a file with `name:password`."""

    def __init__(self, credentials: Credentials, *, url: str = URL, timeout: float = 5.0) -> None:
        self._credentials = credentials
        self._provider = Provider("WattTime", url, timeout=timeout)
        self._sessions: dict[str, _Session] = {}

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        if source.parameters.get("factorType", "direct") != "direct" and source.signal is IntensityKind.AVERAGE:
            words = "WattTime's average counts the stacks only: set factorType: direct, or take another source"
            return Missing(Reason.NO_INTENSITY, words)
        if source.signal is IntensityKind.MARGINAL:
            series = await self._get(now, source, "/v3/forecast", {"horizon_hours": "0"})
        else:
            days = {"start": _iso(Instant(now - MAX_AGE)), "end": _iso(now)}
            series = await self._get(now, source, "/v3/historical", days)
        if isinstance(series, Missing):
            return series
        newest = max(series.data, key=lambda point: point.point_time, default=None)
        if newest is None or now - instant(newest.point_time) > MAX_AGE:
            age = "" if newest is None else f", the newest is {(now - instant(newest.point_time)) / HOUR:.1f} h old"
            words = f"WattTime has no {_SIGNALS[source.signal]} of {series.meta.region} from the last 2 h{age}"
            return Missing(Reason.STALE_SERIES, words)
        return Intensity(
            Figure.around(from_pounds_per_megawatt_hour(newest.value), INTENSITY_BOUNDS),
            at=instant(newest.point_time),
            source=f"WattTime {series.meta.region} {series.meta.signal_type}",
            kind=source.signal,
        )

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:
        if source.signal is IntensityKind.AVERAGE:
            return no_forecast("WattTime average")
        series = await self._get(now, source, "/v3/forecast", {"horizon_hours": str(HORIZON_HOURS)})
        if isinstance(series, Missing):
            return series
        return forecast_of(
            ((instant(point.point_time), from_pounds_per_megawatt_hour(point.value).value) for point in series.data),
            f"WattTime {series.meta.region} {series.meta.signal_type}",
            kind=source.signal,
            issued=instant(series.meta.generated_at) if series.meta.generated_at else None,
        )

    async def _get(
        self, now: Instant, source: IntensitySource, path: str, more: Mapping[str, str]
    ) -> _Series | Missing:
        region = text(source.parameters, "region", source.kind)
        if isinstance(region, Missing):
            return region
        name = str(source.parameters.get("credential", CREDENTIAL))
        secret = self._credentials.read(name)
        if isinstance(secret, Missing):
            return secret
        if ":" not in secret.get_secret_value():
            return Missing(Reason.NO_CREDENTIAL, f"the credential {name} must read name:password")
        params = {"region": region, "signal_type": _SIGNALS[source.signal], **more}
        series = await self._authorized(now, name, secret, path, params)
        if isinstance(series, Missing):
            return series
        for word, given in (("region", series.meta.region), ("signal_type", series.meta.signal_type)):
            if given != params[word]:
                words = f"WattTime was asked for {word} {params[word]} and answers for {given}"
                return Missing(Reason.BAD_ANSWER, words)
        return series

    async def _authorized(
        self, now: Instant, name: str, secret: SecretStr, path: str, params: Mapping[str, str]
    ) -> _Series | Missing:
        """The answer under the present token; under a new one where that has run out."""
        account, login = self._provider.account(name), secret.get_secret_value()
        token = await self._token(now, name, account, login)
        if isinstance(token, Missing):
            return token
        answer = await self._provider.ask(now, account, request := _request(path, params, token, login))
        if isinstance(answer, Answer) and answer.status == _UNAUTHORIZED:
            token = await self._token(now, name, account, login, refused=token)
            if isinstance(token, Missing):
                return token
            answer = await self._provider.ask(now, account, request := _request(path, params, token, login))
        if isinstance(answer, Missing):
            return answer
        return self._provider.judge(now, account, request, answer, _Series)

    async def _token(
        self, now: Instant, name: str, account: Account, login: str, *, refused: str = ""
    ) -> str | Missing:
        session = self._sessions.setdefault(name, _Session())
        async with session.turn:
            digest = sha256(login.encode()).digest()
            if session.holds(now, digest) and session.token != refused:
                return session.token
            basic = b64encode(login.encode()).decode()
            request = Request("/login", "a token", headers={"Authorization": f"Basic {basic}"}, secret=login)
            answer = await self._provider.get(now, account, request, _Login)
            if isinstance(answer, Missing):
                return answer
            session.token, session.since, session.digest = answer.token, now, digest
            return answer.token


def _request(path: str, params: Mapping[str, str], token: str, login: str) -> Request:
    question = f"the {params['signal_type']} {path.rpartition('/')[2]} of {params['region']}"
    return Request(path, question, params, headers={"Authorization": f"Bearer {token}"}, secret=login)


def _iso(when: Instant) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
