"""Electricity Maps: flow-traced average intensity by zone, and with a paid plan its forecast (API v3)."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import SecretStr

from fallow.adapters.carbon.credentials import Credentials
from fallow.adapters.carbon.dataset import water_at_source
from fallow.adapters.carbon.parameters import text
from fallow.adapters.carbon.provider import Provider, Request
from fallow.adapters.carbon.shapes import HOUR, PlausibleGrams, Shape, Time, forecast_of, instant
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import INTENSITY_BOUNDS, Forecast, Intensity, IntensitySource, IntensityTier

URL = "https://api.electricitymaps.com"
CREDENTIAL = "electricity-maps"
# an hourly value stands for its hour; what ended more than two hours ago is no longer the present
MAX_AGE = Seconds(HOUR + 7200)


class _Answer(Shape):
    zone: str
    emissionFactorType: str | None = None  # noqa: N815 - the provider's name


class _Latest(_Answer):
    carbonIntensity: PlausibleGrams  # noqa: N815
    datetime: Time
    isEstimated: bool = False  # noqa: N815


class _Point(Shape):
    carbonIntensity: PlausibleGrams  # noqa: N815
    datetime: Time


class _Forecast(_Answer):
    forecast: list[_Point]
    updatedAt: Time | None = None  # noqa: N815


A = TypeVar("A", bound=_Answer)


class ElectricityMapsCarbon:
    """Implements ports.CarbonSource for `zone`, `factorType` and `credential`, the file with the key."""

    def __init__(self, credentials: Credentials, *, url: str = URL, timeout: float = 5.0) -> None:
        self._credentials = credentials
        self._provider = Provider("Electricity Maps", url, timeout=timeout)

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        answer = await self._get(now, source, "latest", _Latest)
        if isinstance(answer, Missing):
            return answer
        at = instant(answer.datetime)
        if now - at > MAX_AGE:
            words = f"Electricity Maps: the newest value of {answer.zone} is {(now - at) / HOUR:.1f} h old"
            return Missing(Reason.STALE_SERIES, words)
        figure = Figure.around(GramsPerKWh(answer.carbonIntensity), INTENSITY_BOUNDS)
        tier = IntensityTier.LIVE
        if answer.isEstimated:
            figure, tier = figure.spread(INTENSITY_BOUNDS.low, 1.0, INTENSITY_BOUNDS.high), IntensityTier.ESTIMATED
        return Intensity(
            figure,
            at=at,
            source=f"Electricity Maps {answer.zone}",
            water_at_source=water_at_source(answer.zone),
            tier=tier,
        )

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:
        answer = await self._get(now, source, "forecast", _Forecast)
        if isinstance(answer, Missing):
            return answer
        return forecast_of(
            ((instant(point.datetime), point.carbonIntensity) for point in answer.forecast),
            f"Electricity Maps {answer.zone}",
            issued=instant(answer.updatedAt) if answer.updatedAt else None,
        )

    async def _get(self, now: Instant, source: IntensitySource, what: str, model: type[A]) -> A | Missing:
        zone = text(source.parameters, "zone", source.kind)
        name = str(source.parameters.get("credential", CREDENTIAL))
        secret = self._credentials.read(name)
        for part in (zone, secret):
            if isinstance(part, Missing):
                return part
        request = _request(str(zone), what, source.parameters.get("factorType", "lifecycle"), secret)
        answer = await self._provider.get(now, self._provider.account(name), request, model)
        return answer if isinstance(answer, Missing) else _as_asked(answer, request)


def _request(zone: str, what: str, factors: Any, secret: SecretStr | Missing) -> Request:
    key = secret.get_secret_value() if isinstance(secret, SecretStr) else ""
    return Request(
        f"/v3/carbon-intensity/{what}",
        question=f"{what} of {zone}",
        params={"zone": zone, "emissionFactorType": str(factors)},
        headers={"auth-token": key},
        secret=key,
    )


def _as_asked(answer: A, request: Request) -> A | Missing:
    """A zone that is not known is answered with the caller's own, found by its address."""
    for name, given in (("zone", answer.zone), ("emissionFactorType", answer.emissionFactorType)):
        asked = request.params[name]
        if given is not None and given != asked:
            return Missing(Reason.BAD_ANSWER, f"Electricity Maps was asked for {name} {asked} and answers for {given}")
    return answer
