"""One number from one series in Prometheus, with the time of its sample.

One instant query asks for the value and, beside it, for the time, which an instant query hides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds

# live sources are hourly at best; a sample older than two hours is no longer the present
MAX_AGE = Seconds(7200)
MAX_BYTES = 1 << 20
_PART = "fallow_part"
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Access:
    """What Prometheus wants to see: headers (such as X-Scope-OrgID), a bearer token's file, its certificate's CA."""

    headers: Mapping[str, str] = field(default_factory=dict)
    token_file: Path | None = None
    ca_file: Path | None = None


class PrometheusSeries:
    """Asks with a limit on time and size; the client blocks, so it runs in a thread that ends by itself in time."""

    def __init__(self, url: str, *, access: Access | None = None, timeout: float = 5.0) -> None:
        self._url = url.rstrip("/")
        self._access = access or Access()
        self._timeout = timeout

    async def read(self, query: str, now: Instant) -> tuple[float, Instant] | Missing:
        """The number and the time of its sample, at most two hours old."""
        answer = await self._ask(query, now)
        read = answer if isinstance(answer, Missing) else _value_and_time(answer, query)
        if not isinstance(read, Missing) and not abs(now - read[1]) <= MAX_AGE:
            return Missing(Reason.STALE_SERIES, f"{query}: the newest sample is {now - read[1]:.0f} s old")
        return read

    async def _ask(self, query: str, now: Instant) -> Any:
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
        headers = dict(self._access.headers)
        if self._access.token_file is not None:
            headers["Authorization"] = f"Bearer {self._access.token_file.read_text(encoding='utf-8').strip()}"
        with _Session(self._timeout) as session:
            session.verify = str(self._access.ca_file) if self._access.ca_file else True
            client = PrometheusConnect(
                self._url, headers=headers, session=session, timeout=self._timeout, retry=Retry(total=False)
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
    try:
        value, at = float(parts["value"][0]), Instant(float(parts["time"][0]))
    except (IndexError, ValueError):
        return Missing(Reason.BAD_ANSWER, f"{query}: the sample has no time or no number")
    return (value, at) if isfinite(value) else Missing(Reason.NOT_A_NUMBER, f"{query} is {value}")
