"""One HTTP request to a provider: limited in time and size, without redirects, within what its account may ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from fallow.adapters.carbon.account import Account
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant

MAX_BYTES = 2 << 20
_CHUNK = 1 << 16
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY, _UNAVAILABLE = 401, 403, 429, 503

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Request:
    """`question` says in words what is asked for; `secret` is what the account authenticates with."""

    path: str
    question: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Provider:
    """A web API by its name and base URL. `timeout` is for a whole answer, in seconds.

    A session lives for one request: they are minutes apart, and nothing is left to close.
    """

    def __init__(self, name: str, url: str, *, timeout: float = 5.0) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._accounts: dict[str, Account] = {}

    def account(self, credential: str = "") -> Account:
        return self._accounts.setdefault(credential, Account(self.name, credential))

    async def get(self, now: Instant, account: Account, request: Request, model: type[M]) -> M | Missing:
        """The answer in the shape of `model`."""
        answer = await self.ask(now, account, request)
        return answer if isinstance(answer, Missing) else self.judge(now, account, request, answer, model)

    async def ask(self, now: Instant, account: Account, request: Request) -> Answer | Missing:
        """The raw answer, whatever its status, unless the account has to wait."""
        if why := account.stops(now, request.question, request.secret):
            return why
        try:
            return await self._fetch(request)
        except TimeoutError:
            return self._unreachable(f"gave no whole answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return self._unreachable(f"could not be read: {type(error).__name__}")
        except ValueError as error:
            return Missing(Reason.BAD_ANSWER, f"{self.name}: {error}")

    def judge(self, now: Instant, account: Account, request: Request, answer: Answer, model: type[M]) -> M | Missing:
        """What an answer means: the value, or what stands against it; the account remembers what it was told."""
        status = answer.status
        if status == _TOO_MANY or (status == _UNAVAILABLE and "Retry-After" in answer.headers):
            return account.told_to_wait(now, status, answer.headers)
        if status == _UNAUTHORIZED:
            return account.refused(now)
        if status == _FORBIDDEN:
            return account.forbidden(now, request.question)
        if status >= 500:
            return self._unreachable(f"failed with {status}")
        if status != 200:
            words = f"{self.name} answers {status} for {request.question}: {_excerpt(answer, request)}"
            return Missing(Reason.BAD_ANSWER, words)
        account.served()
        try:
            return model.model_validate_json(answer.body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            words = f"{self.name} does not answer in its format: {place and f'{place}: '}{first['msg']}"
            return Missing(Reason.BAD_ANSWER, words[:300])

    async def _fetch(self, request: Request) -> Answer:
        limit = aiohttp.ClientTimeout(total=self._timeout)
        async with (
            aiohttp.ClientSession(timeout=limit, trust_env=True) as session,
            session.get(
                f"{self._url}{request.path}", params=request.params, headers=request.headers, allow_redirects=False
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"the answer is longer than {MAX_BYTES} bytes")
            return Answer(response.status, response.headers, bytes(body))

    def _unreachable(self, words: str) -> Missing:
        return Missing(Reason.SOURCE_UNREACHABLE, f"{self.name} {words}")


def _excerpt(answer: Answer, request: Request) -> str:
    """The beginning of what a provider says of an error, without what it was given in confidence."""
    if 300 <= answer.status < 400:
        return "a redirect, which is not followed; correct the base URL"
    text = answer.body.decode(errors="replace")
    for part in (request.secret, *request.secret.split(":"), *" ".join(request.headers.values()).split()):
        text = text.replace(part, "***") if part else text
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:120] or "without a word"
