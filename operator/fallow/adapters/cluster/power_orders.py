"""Power limits as orders to the nodes' agents: written where they change, and renewed before they end."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fallow.adapters.cluster.client import KubernetesApi
from fallow.api.power_order import COMPONENT, NODE, PowerOrder, order_name, written
from fallow.domain.errors import WriteError
from fallow.domain.units import Instant, Seconds, Watts

log = logging.getLogger(__name__)

# How long an order holds without Fallow: longer than a change of leader or an upgrade takes.
HOLDS = Seconds(900)
_LABEL = "app.kubernetes.io/component"


class PowerOrders:
    """Remembers what it ordered; what an operator before it ordered is looked up once, when first asked."""

    def __init__(self, api: KubernetesApi, namespace: str, field_manager: str, *, dry_run: bool = False) -> None:
        self._api = api
        self._collection = f"/api/v1/namespaces/{namespace}/configmaps"
        self._namespace = namespace
        self._field_manager = field_manager
        self._dry_run = dry_run
        self._standing: dict[str, PowerOrder | None] = {}
        self._knows = False

    async def give(self, limits: Mapping[str, Mapping[str, Watts]], now: Instant) -> tuple[str, ...]:
        """By node and GPU; errors of single nodes are given back, and tried again when asked anew."""
        if not limits:
            return ()
        errors: list[str] = []
        try:
            if not self._knows:
                await self._look()
        except WriteError as error:
            return (str(error),)
        for node, of_node in limits.items():
            try:
                await self._order(node, of_node, now)
            except WriteError as error:
                errors.append(str(error))
        return tuple(errors)

    async def _look(self) -> None:
        for metadata in await self._api.listed(self._collection, f"{_LABEL}={COMPONENT}"):
            node = str((metadata.get("annotations") or {}).get(NODE, ""))
            self._standing.setdefault(node, None)
        self._knows = True

    async def _order(self, node: str, limits: Mapping[str, Watts], now: Instant) -> None:
        standing = self._standing.get(node)
        if not limits:
            if node in self._standing and not self._dry_run:
                await self._api.delete(f"{self._collection}/{order_name(node)}")
                del self._standing[node]
            return
        if standing is not None and standing.limits == limits and standing.until - now > HOLDS / 2:
            return
        order = PowerOrder(Instant(now + HOLDS), dict(limits))
        if self._dry_run:
            log.info("dry run: would limit the power of %d GPUs of %s", len(limits), node)
            return
        await self._api.apply(f"{self._collection}/{order_name(node)}", self._body(node, order), self._field_manager)
        if standing is None or standing.limits != limits:
            log.info("%s: the power of %d GPUs is limited to %s", node, len(limits), _range(limits))
        self._standing[node] = order

    def _body(self, node: str, order: PowerOrder) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": order_name(node),
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/managed-by": "fallow", _LABEL: COMPONENT},
                "annotations": {NODE: node},
            },
            "data": written(order),
        }


def _range(limits: Mapping[str, Watts]) -> str:
    least, most = min(limits.values()), max(limits.values())
    return f"{most.value:.0f} W" if least == most else f"{least.value:.0f} to {most.value:.0f} W"
