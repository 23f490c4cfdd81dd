"""What can be wrong with an answer over HTTP, and how a server on loopback brings it about."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from aiohttp import web


class Trouble(StrEnum):
    STATUS_500 = "500"
    STATUS_503 = "503"
    STATUS_400 = "400"
    STATUS_422 = "422"
    STATUS_302 = "302"
    SLOW = "slow"
    TRICKLE = "trickle"
    CUT = "cut"
    MALFORMED = "malformed"
    HTML = "html"
    NOT_TEXT = "not text"


UNREACHABLE = (Trouble.STATUS_500, Trouble.STATUS_503, Trouble.SLOW, Trouble.TRICKLE, Trouble.CUT)
BAD_ANSWER = (Trouble.STATUS_400, Trouble.STATUS_422, Trouble.STATUS_302, Trouble.MALFORMED, Trouble.HTML)


async def answer_with(trouble: Trouble, request: web.Request) -> web.StreamResponse:
    if trouble.isdigit():
        return web.Response(status=int(trouble), text="something is wrong", headers={"Location": "/elsewhere"})
    if trouble is Trouble.SLOW:
        await asyncio.sleep(30)
    if trouble is Trouble.TRICKLE:
        return await _trickle(request)
    if trouble is Trouble.CUT:
        return await _cut(request)
    if trouble is Trouble.MALFORMED:
        return web.Response(text='{"status": "success", vllm:num_requests_running{engine="0" 1\n')
    if trouble is Trouble.NOT_TEXT:
        return web.Response(body=b"\xff\xfe\x00")
    return web.Response(text="<html><body>Log in</body></html>\n", content_type="text/html")


async def _trickle(request: web.Request) -> web.StreamResponse:
    """Never silent for long, never finished."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(1000):
        await response.write(b" ")
        await asyncio.sleep(0.03)
    return response


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"vllm:num_requests_running 1\n")
    if request.transport is not None:
        request.transport.close()
    return response
