"""Direct scrape by way of the Kubernetes API server, for whoever stands outside the cluster's network.

Pages, limits and faults are those of `DirectSource`; only the way to a page is another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from fallow.adapters.metrics.direct import DirectSource, ScrapeLimits
from fallow.domain.errors import WriteError
from fallow.domain.units import Seconds

# from a path of the API server to the page's text; raises a WriteError where there is none
Fetch = Callable[[str], Awaitable[str]]


class ProxiedSource(DirectSource):
    """`places` are API paths by address: that of a pod or of a node, without the port."""

    def __init__(self, fetch: Fetch, places: Mapping[str, str]) -> None:
        # An API server has more to do than to hand on pages: few at once, and the more time for all of them.
        super().__init__(ScrapeLimits(timeout=Seconds(10), deadline=Seconds(120), at_once=16))
        self._by_proxy = fetch
        self._paths = places

    async def _fetch(self, url: str) -> str:
        parts = urlsplit(url)
        place = self._paths.get(parts.hostname or "")
        if place is None:
            raise ValueError("no pod or node has this address")
        self._queries += 1
        try:
            return await self._by_proxy(f"{place}:{parts.port}/proxy{parts.path}")
        except WriteError as error:
            raise OSError(str(error)) from error
