"""A carbon intensity that is a series in Prometheus, such as the one of grid-intensity-go.

One instant query asks for the value and, beside it, for the time of its sample, which an instant query hides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from fallow.adapters.carbon.parameters import grams, text
from fallow.domain.figures import Figure, Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import GramsPerKWh, Instant, Seconds
from fallow.domain.zones import INTENSITY_BOUNDS, Intensity, IntensityKind, IntensitySource

# live sources are hourly at best; a sample older than two hours is no longer the present
MAX_AGE = Seconds(7200)
MAX_BYTES = 1 << 20
_PART = "fallow_part"
_CHUNK = 1 << 16


class PrometheusCarbon:
    """Implements ports.CarbonSource for `query`; `signal`, where given, says average or marginal."""

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._headers = dict(headers or {})
        self._timeout = timeout

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:
        query = text(source.parameters, "query", source.kind)
        if isinstance(query, Missing):
            return query
        answer = await self._ask(query, now)
        if isinstance(answer, Missing):
            return answer
        read = _value_and_time(answer, query)
        if isinstance(read, Missing):
            return read
        best, at = read
        if now - at > MAX_AGE:
            return Missing(Reason.STALE_SERIES, f"{query}: the newest sample is {now - at:.0f} s old")
        return Intensity(
            Figure.around(GramsPerKWh(best), INTENSITY_BOUNDS),
            at=at,
            source=f"Prometheus: {query}",
            kind=IntensityKind(source.parameters.get("signal", IntensityKind.AVERAGE)),
        )

    async def _ask(self, query: str, now: Instant) -> Any:
        """The result of the query; the client blocks, so it runs in a thread that ends by itself in time."""
        try:
            return await asyncio.to_thread(self._answer, query, now)
        except requests.Timeout:
            return Missing(Reason.SOURCE_UNREACHABLE, f"Prometheus gave no answer within {self._timeout:g} s")
        except requests.JSONDecodeError:
            return Missing(Reason.BAD_ANSWER, "Prometheus did not answer in its format: no JSON; check the URL")
        except (requests.RequestException, HTTPError, OSError) as error:
            return Missing(Reason.SOURCE_UNREACHABLE, f"no connection to Prometheus: {type(error).__name__}")
        except PrometheusApiClientException as error:
            return Missing(Reason.BAD_ANSWER, f"{query}: {str(error)[:300]}")
        except (ValueError, KeyError, TypeError) as error:
            return Missing(Reason.BAD_ANSWER, f"Prometheus did not answer in its format: {type(error).__name__}")

    def _answer(self, query: str, now: Instant) -> Any:
        with _Session(self._timeout) as session:
            client = PrometheusConnect(
                self._url, headers=self._headers, session=session, timeout=self._timeout, retry=Retry(total=False)
            )
            return client.custom_query(_with_time(query), params={"time": f"{now:.3f}"})


class _Session(requests.Session):
    """A session that limits the time and the size of the whole answer, not only the time between two bytes."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def request(self, *args: Any, **options: Any) -> requests.Response:
        deadline = time.monotonic() + self._seconds
        response = super().request(*args, **{**options, "stream": True, "allow_redirects": False})
        body = bytearray()
        for chunk in response.iter_content(_CHUNK):
            body += chunk
            if time.monotonic() > deadline:
                response.close()
                raise requests.Timeout
            if len(body) > MAX_BYTES:
                response.close()
                raise ValueError("the answer is too large for one series")
        response._content = bytes(body)  # noqa: SLF001 - requests offers no other way to hand over a read body
        return response


def _with_time(query: str) -> str:
    value = f'label_replace(({query}), "{_PART}", "value", "", "")'
    at = f'label_replace(timestamp(({query})), "{_PART}", "time", "", "")'
    return f"{value} or {at}"


def _value_and_time(answer: Any, query: str) -> tuple[float, Instant] | Missing:
    parts: dict[str, list[Any]] = {"value": [], "time": []}
    try:
        for series in answer:
            parts[series["metric"][_PART]].append(series["value"][1])
    except (KeyError, TypeError, IndexError) as error:
        return Missing(Reason.BAD_ANSWER, f"{query}: no instant vector came back ({type(error).__name__})")
    if not parts["value"]:
        return Missing(Reason.NO_SERIES, f"{query}: no sample; check the name, or whether it is scraped")
    if len(parts["value"]) > 1:
        return Missing(Reason.BAD_ANSWER, f"{query}: {len(parts['value'])} series; narrow it to one by its labels")
    best = grams(parts["value"][0], query)
    if isinstance(best, Missing):
        return best
    try:
        return best, Instant(float(parts["time"][0]))
    except (IndexError, ValueError):
        return Missing(Reason.BAD_ANSWER, f"{query}: the sample has no time")
