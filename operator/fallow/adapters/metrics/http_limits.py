"""A requests session that keeps promises requests does not: a whole answer within its time and its size."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from requests.auth import AuthBase
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

_CHUNK = 256 * 1024


class AnswerTooLarge(OSError):
    """The answer is longer than the limit."""


class OnceMore(Retry):
    """One more try after a refused or cut connection, none after a timeout: that would double the wait."""

    def __init__(self, total: int | None = 1, **options: Any) -> None:
        super().__init__(total, **{"backoff_factor": 0.1, "redirect": 0, "status": 0, **options})

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if error is not None and _timed_out(error):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


class BearerToken(AuthBase):
    """Reads its file for each request, since a projected token is replaced while the process runs."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._file.read_text(encoding='utf-8').strip()}"
        return request


class LimitedSession(requests.Session):
    """`requests` limits the time between two bytes only; this limits the whole answer."""

    def __init__(self, *, seconds: float, max_bytes: int) -> None:
        super().__init__()
        self._seconds = seconds
        self._max_bytes = max_bytes

    def request(self, *args: Any, **options: Any) -> requests.Response:
        deadline = time.monotonic() + self._seconds
        try:
            response = super().request(*args, **{**options, "stream": True, "allow_redirects": False})
        except ConnectTimeoutError as error:
            raise requests.Timeout from error
        try:
            body = self._read(response, deadline)
        except ReadTimeoutError as error:
            raise requests.Timeout from error
        except HTTPError as error:
            raise requests.ConnectionError(error) from error
        finally:
            response.close()
        response._content = body  # noqa: SLF001 - requests offers no other way to hand over a body already read
        return response

    def _read(self, response: requests.Response, deadline: float) -> bytes:
        body = bytearray()
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > self._max_bytes:
                raise AnswerTooLarge(f"the answer is longer than {self._max_bytes} bytes")
            if time.monotonic() > deadline:
                raise requests.Timeout
        return bytes(body)


def _timed_out(error: Exception) -> bool:
    """urllib3 counts a refused connection among the timeouts."""
    return isinstance(error, ReadTimeoutError | ConnectTimeoutError) and not isinstance(error, NewConnectionError)
