"""The heartbeat that those who wait inside the server listen to."""

from __future__ import annotations

import asyncio


class Ticks:
    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def next(self) -> None:
        """Until the world has moved again."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def ring(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
