"""Limits of GPUs as orders to the nodes' agents: written where they change, and renewed before they end."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fallow.adapters.cluster.client import KubernetesApi
from fallow.api.power_order import COMPONENT, NODE, PowerOrder, order_name, written
from fallow.domain.errors import WriteError
from fallow.domain.plans import GpuLimits
from fallow.domain.units import Instant, Seconds, Watts

log = logging.getLogger(__name__)

# How long an order holds without Fallow: longer than a change of leader or an upgrade takes.
HOLDS = Seconds(900)
# Of clocks: a load that grows meanwhile is served by slower engines.
CLOCKS_HOLD = Seconds(300)
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

    async def give(self, limits: Mapping[str, Mapping[str, GpuLimits]], now: Instant) -> tuple[str, ...]:
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

    async def _order(self, node: str, gpus: Mapping[str, GpuLimits], now: Instant) -> None:
        standing = self._standing.get(node)
        limits = {uuid: one.power for uuid, one in gpus.items() if one.power is not None}
        clocks = {uuid: one.clock for uuid, one in gpus.items() if one.clock is not None}
        if not gpus:
            if node in self._standing and not self._dry_run:
                await self._api.delete(f"{self._collection}/{order_name(node)}")
                del self._standing[node]
            return
        order = PowerOrder(Instant(now + HOLDS), limits, Instant(now + CLOCKS_HOLD), clocks)
        if standing is not None and _still_holds(standing, order, now):
            return
        if self._dry_run:
            log.info("dry run: would limit the power or the clock of %d GPUs of %s", len(gpus), node)
            return
        await self._api.apply(f"{self._collection}/{order_name(node)}", self._body(node, order), self._field_manager)
        if limits and (standing is None or standing.limits != limits):
            log.info("%s: the power of %d GPUs is limited to %s", node, len(limits), _range(limits))
        if clocks and (standing is None or standing.clocks != clocks):
            least, most = (of(clock.megahertz for clock in clocks.values()) for of in (min, max))
            log.info("%s: %d GPUs run at %.0f to %.0f MHz at most", node, len(clocks), least, most)
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


def _still_holds(standing: PowerOrder, wanted: PowerOrder, now: Instant) -> bool:
    """Whether it says the same, and need not be renewed yet."""
    if (standing.limits, standing.clocks) != (wanted.limits, wanted.clocks):
        return False
    return standing.until - now > HOLDS / 2 and (not wanted.clocks or standing.clocks_until - now > CLOCKS_HOLD / 2)


def _range(limits: Mapping[str, Watts]) -> str:
    least, most = min(limits.values()), max(limits.values())
    return f"{most.value:.0f} W" if least == most else f"{least.value:.0f} to {most.value:.0f} W"
