"""The OpenAI routes of vLLM: each request really enters a simulated engine, and its answer keeps that engine's time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from time import time
from typing import Any

from aiohttp import web

from fallow.twin.physics.requests import FinishReason, Request
from fallow.twin.ticks import Ticks

# vLLM's default of /v1/completions; chat has none there, 128 is assumed.
COMPLETION_TOKENS = 16
CHAT_TOKENS = 128
CHARACTERS_PER_TOKEN = 4
WORDS = ("land", "rests", "one", "season", "so", "that", "it", "can", "bear", "again", "and", "gives", "more", "grain")

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was posted."""

    chat: bool
    model: str
    prompt_tokens: int
    max_tokens: int
    stream: bool
    with_usage: bool
    words_from: int


class BadRequest(ValueError):
    """Refused as vLLM refuses: `status` and a text for the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def error_answer(message: str, status: int) -> web.Response:
    kind = "NotFoundError" if status == 404 else "BadRequestError"
    return web.json_response(
        {"error": {"message": message, "type": kind, "param": None, "code": status}}, status=status
    )


async def read_asked(request: web.Request, *, chat: bool, models: tuple[str, ...]) -> Asked:
    """`models` may be empty: then any model is accepted."""
    try:
        body = await request.json()
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    model = str(body.get("model") or (models[0] if models else ""))
    if models and model not in models:
        raise BadRequest(f"The model `{model}` does not exist.", 404)
    text = _text_of(body, chat=chat)
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    most = asked if asked is not None else (CHAT_TOKENS if chat else COMPLETION_TOKENS)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise BadRequest(f"max_tokens must be at least 1, got {most!r}.")
    options = body.get("stream_options")
    return Asked(
        chat=chat,
        model=model,
        prompt_tokens=max(1, len(text) // CHARACTERS_PER_TOKEN),
        max_tokens=most,
        stream=bool(body.get("stream", False)),
        with_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        words_from=sha256(text.encode()).digest()[0],
    )


def _text_of(body: dict[str, Any], *, chat: bool) -> str:
    if not chat:
        prompt = body.get("prompt")
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt, list) and prompt:
            return " ".join(map(str, prompt))
        raise BadRequest("prompt must be a text or a list")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list with at least one message")
    return " ".join(str(message.get("content", "")) for message in messages if isinstance(message, dict))


async def answer(
    incoming: web.Request,
    asked: Asked,
    request: Request,
    *,
    ticks: Ticks,
    generated: Callable[[Request], int],
    abort: Callable[[Request], None],
) -> web.StreamResponse:
    """Follows the simulated request to its end; `abort` is called when the client leaves before."""
    try:
        if asked.stream:
            return await _stream(incoming, asked, request, ticks, generated)
        while request.finished is None:
            if incoming.transport is None or incoming.transport.is_closing():
                raise ConnectionResetError
            await ticks.next()
    finally:
        if request.finished is None:
            abort(request)
    if request.reason is FinishReason.ABORT:
        return error_answer("The request was aborted: the engine went to sleep or away.", 500)
    return web.json_response(
        _frame(asked, asked.model, next(_numbers))
        | {"choices": [_choice(asked, _words(asked, 0, request.generated), _reason(request))], "usage": _usage(request)}
    )


async def _stream(
    incoming: web.Request, asked: Asked, request: Request, ticks: Ticks, generated: Callable[[Request], int]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(incoming)
    frame = _frame(asked, asked.model, next(_numbers))
    sent = 0
    while True:
        ended = request.finished is not None
        done = request.generated if ended else generated(request)
        if done > sent or ended:
            choice = _choice(asked, _words(asked, sent, done), _reason(request) if ended else None)
            await _send(response, frame | {"choices": [choice]})
            sent = done
        if ended:
            break
        await ticks.next()
    if asked.with_usage:
        await _send(response, frame | {"choices": [], "usage": _usage(request)})
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, content: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(content)}\n\n".encode())


def _frame(asked: Asked, model: str, number: int) -> dict[str, Any]:
    kind = "chat.completion" if asked.chat else "text_completion"
    return {
        "id": f"{'chatcmpl' if asked.chat else 'cmpl'}-{number:08x}",
        "object": f"{kind}.chunk" if asked.chat and asked.stream else kind,
        "created": int(time()),
        "model": model,
    }


def _choice(asked: Asked, text: str, reason: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": reason}
    if not asked.chat:
        return choice | {"text": text}
    message = {"role": "assistant", "content": text}
    return choice | ({"delta": message} if asked.stream else {"message": message})


def _words(asked: Asked, begin: int, end: int) -> str:
    """One word a token."""
    return "".join(f" {WORDS[(asked.words_from + index) % len(WORDS)]}" for index in range(begin, end))


def _reason(request: Request) -> str | None:
    return None if request.reason is None else request.reason.value


def _usage(request: Request) -> dict[str, int]:
    return {
        "prompt_tokens": request.prompt,
        "completion_tokens": request.generated,
        "total_tokens": request.prompt + request.generated,
    }
