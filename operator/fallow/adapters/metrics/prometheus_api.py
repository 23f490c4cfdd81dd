"""One Prometheus HTTP API: questions asked side by side, each answered by what was parsed or by why it was not.

The client's blocking calls run in threads of their own; time, size and retries are limited (http_limits).
"""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.exceptions import HTTPError

from fallow.adapters.metrics.faults import cause, without_credentials
from fallow.adapters.metrics.http_limits import BearerToken, LimitedSession, OnceMore
from fallow.adapters.metrics.promql import UnexpectedAnswer
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds

# The largest answer for 1,000 engines has 6 MB (Prometheus 3.13, scraped every 15 s).
MAX_BYTES = 256 * 1024 * 1024

_STATUS = re.compile(r"HTTP Status Code (\d{3}) \((.*)\)", re.DOTALL)
_MAY_NOT_READ = "; give a token file or headers that may read"
_HINTS = {"401": _MAY_NOT_READ, "403": _MAY_NOT_READ}

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Access:
    """What Prometheus wants to see: headers (such as X-Scope-OrgID), a bearer token's file, its certificate's CA."""

    headers: Mapping[str, str] = field(default_factory=dict)
    token_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """The instants of a range query: `start`, then every `step` until `end`."""

    start: Instant
    end: Instant
    step: Seconds


@dataclass(frozen=True, slots=True)
class Question(Generic[T_co]):
    """`what` completes "asked for"; `over` makes it a range query."""

    what: str
    query: str
    parse: Callable[[Any], T_co]
    over: Grid | None = None


class PrometheusApi:
    """Raises ValueError for a URL that can be none. `at_once` questions are asked at the same time."""

    def __init__(self, url: str, *, timeout: Seconds, access: Access | None = None, at_once: int) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no address of Prometheus: write http://HOST:PORT or https://HOST/PREFIX")
        self._url = url.rstrip("/")
        self.shown_url = without_credentials(self._url)
        self._timeout = timeout
        self._access = access or Access()
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="prometheus")
        self._clients = tuple(self._client() for _ in range(at_once))
        self._idle: SimpleQueue[PrometheusConnect] = SimpleQueue()
        for client in self._clients:
            self._idle.put(client)

    async def ask(self, question: Question[T_co], now: Instant) -> T_co | Missing:
        try:
            call = asyncio.get_running_loop().run_in_executor(self._threads, self._query, question, now)
            # The thread keeps the time itself; this bounds the wait where it cannot, as in a name lookup.
            return await asyncio.wait_for(call, self._timeout + 1)
        except (TimeoutError, requests.Timeout):
            return self._fault(question, Reason.SOURCE_UNREACHABLE, f"no whole answer within {self._timeout:g} s")
        except PrometheusApiClientException as error:
            return self._refusal(question, str(error))
        except requests.JSONDecodeError:
            return self._fault(
                question, Reason.BAD_ANSWER, "an answer that is not JSON; is this a Prometheus HTTP API?"
            )
        except UnexpectedAnswer as error:
            return self._fault(question, Reason.BAD_ANSWER, str(error))
        except (KeyError, TypeError, AttributeError):
            return self._fault(question, Reason.BAD_ANSWER, "JSON without a result; is this a Prometheus HTTP API?")
        except (requests.RequestException, HTTPError, OSError, ValueError, RuntimeError) as error:
            return self._fault(question, Reason.SOURCE_UNREACHABLE, cause(error))

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()

    def _query(self, question: Question[T_co], now: Instant) -> T_co:
        client = self._idle.get()
        limit = {"timeout": f"{max(1, round(self._timeout))}s"}
        try:
            over = question.over
            if over is None:
                result = client.custom_query(question.query, params={"time": f"{now:.3f}", **limit})
            else:
                # The client rounds to whole seconds; the parameters put back what was asked.
                exact = {"start": f"{over.start:.3f}", "end": f"{over.end:.3f}"}
                start, end = (datetime.fromtimestamp(at, UTC) for at in (over.start, over.end))
                result = client.custom_query_range(
                    question.query, start, end, f"{over.step:.3f}", params={**exact, **limit}
                )
            return question.parse(result)
        finally:
            self._idle.put(client)

    def _client(self) -> PrometheusConnect:
        session = LimitedSession(seconds=self._timeout, max_bytes=MAX_BYTES)
        session.verify = str(self._access.ca_file) if self._access.ca_file else True
        return PrometheusConnect(
            url=self._url,
            headers=dict(self._access.headers),
            retry=OnceMore(),
            auth=BearerToken(self._access.token_file) if self._access.token_file else None,
            session=session,
            timeout=self._timeout,
        )

    def _refusal(self, question: Question[T_co], text: str) -> Missing:
        found = _STATUS.search(text)
        status, body = (found[1], found[2]) if found else ("", text)
        reason = Reason.SOURCE_UNREACHABLE if status.startswith("5") else Reason.BAD_ANSWER
        hint = _HINTS.get(status, "; write the address it redirects to" if status.startswith("3") else "")
        return self._fault(question, reason, f"HTTP {status} {body[:200]}{hint}")

    def _fault(self, question: Question[T_co], reason: Reason, came: str) -> Missing:
        return Missing(reason, f"{self.shown_url}: asked for {question.what}, got {came}")
