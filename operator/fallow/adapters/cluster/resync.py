"""Finds what a watch lost: objects that were deleted while the connection was down stay in the mirror otherwise.

Names and uids only, every few minutes; a constant number of requests.
"""

import logging
import time
from collections.abc import Callable

from fallow.adapters.cluster.client import KubernetesApi
from fallow.adapters.cluster.mirror import Mirror
from fallow.domain.errors import WriteError

log = logging.getLogger(__name__)

PATHS = {
    "inferenceservices": "/apis/fallow.dev/v1alpha1/inferenceservices",
    "energypolicies": "/apis/fallow.dev/v1alpha1/energypolicies",
    "gridzones": "/apis/fallow.dev/v1alpha1/gridzones",
    "modelprofiles": "/apis/fallow.dev/v1alpha1/modelprofiles",
    "deployments": "/apis/apps/v1/deployments",
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "namespaces": "/api/v1/namespaces",
    "horizontalpodautoscalers": "/apis/autoscaling/v2/horizontalpodautoscalers",
}


class Resync:
    """Call it every cycle; it acts when `interval` seconds have passed. A list that fails drops nothing."""

    def __init__(
        self, api: KubernetesApi, mirror: Mirror, interval: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api = api
        self._mirror = mirror
        self._interval = interval
        self._clock = clock
        self._last = clock()

    async def __call__(self) -> None:
        if self._clock() - self._last < self._interval:
            return
        self._last = self._clock()
        for plural, path in PATHS.items():
            held = self._mirror.uids(plural)
            if not held:
                continue
            try:
                alive = await self._api.uids(path)
            except WriteError as error:
                log.warning("%s were not compared with a list: %s", plural, error)
                continue
            lost = held - alive
            if lost:
                log.warning("%d %s were deleted while the watch was down", len(lost), plural)
                self._mirror.forget(plural, lost)
