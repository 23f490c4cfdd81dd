"""Watches the one ConfigMap by which the operator tells this node's agent how its GPUs are limited."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from kubernetes import client, config, watch

from fallow.api.power_order import PowerOrder, order_name, read_order

log = logging.getLogger(__name__)

# A watch is begun anew after this time, so that a dead connection is noticed.
WATCH_SECONDS = 60
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


class NotInCluster(Exception):
    """There is no ServiceAccount to ask by; the message says what to do."""


class Orders:
    """Runs in a thread of its own until `stop` is set; all of `told` hear each order.

    One that cannot be read changes nothing.
    """

    def __init__(
        self, api: client.CoreV1Api, namespace: str, node: str, *told: Callable[[PowerOrder | None], None]
    ) -> None:
        self._api = api
        self._told = told
        self._where: dict[str, Any] = {
            "namespace": namespace,
            "field_selector": f"metadata.name={order_name(node)}",
        }
        self.stop = threading.Event()

    def run(self) -> None:
        pause, told = SHORTEST_PAUSE, ""
        while not self.stop.is_set():
            try:
                self._follow()
                pause, told = SHORTEST_PAUSE, ""
            except Exception as error:  # noqa: BLE001 - whatever the network does, what was ordered stands until it ends
                said = f"{type(error).__name__}: {error}"
                if said != told:
                    log.warning("orders cannot be read: %s", said)
                told, pause = said, min(2 * pause, LONGEST_PAUSE)
            # also after a watch that ended well: some proxies end each at once
            self.stop.wait(pause)

    def _follow(self) -> None:
        listed = self._api.list_namespaced_config_map(**self._where, _request_timeout=(5, 30))
        self._hear(listed.items[0] if listed.items else None)
        events = watch.Watch().stream(  # type: ignore[no-untyped-call]
            self._api.list_namespaced_config_map,
            **self._where,
            resource_version=listed.metadata.resource_version if listed.metadata else None,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(5, WATCH_SECONDS + 30),
        )
        for event in events:
            if self.stop.is_set():
                return
            self._hear(None if event["type"] == "DELETED" else event["object"])

    def _hear(self, found: Any) -> None:
        try:
            order = None if found is None else read_order(found.data or {})
        except ValueError as error:
            log.warning("ConfigMap %s: %s", found.metadata.name, error)
            return
        for told in self._told:
            told(order)


def in_cluster() -> client.CoreV1Api:
    """By the pod's ServiceAccount; raises NotInCluster where there is none."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise NotInCluster(
            f"the operator's orders are read by the ServiceAccount of a pod, and there is none here ({error}); leave "
            "out --power-limits and --clocks, or run the agent from the chart with agent.powerLimits or agent.clocks"
        ) from error
    return client.CoreV1Api()
