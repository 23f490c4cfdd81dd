"""Orders of power limits: written where they change or would end, taken back where nothing is limited any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fallow.adapters.cluster.client import JSON
from fallow.adapters.cluster.power_orders import CLOCKS_HOLD, HOLDS, PowerOrders
from fallow.api.power_order import read_order
from fallow.domain.errors import Unreachable
from fallow.domain.plans import GpuLimits
from fallow.domain.units import Hertz, Instant, Watts
from tests.adapters.cluster.fake_api import FakeApi

NOW = Instant(1_800_000_000.0)
COLLECTION = "/api/v1/namespaces/fallow-system/configmaps"
PATH = f"{COLLECTION}/fallow-power-node-a"
LIMITS = {"node-a": {"GPU-0": GpuLimits(Watts(350.0))}}


class ConfigMaps(FakeApi):
    """Knows ConfigMaps, which have no spec."""

    async def listed(self, path: str, labels: str = "") -> list[JSON]:
        assert (path, labels) == (COLLECTION, "app.kubernetes.io/component=power-order")
        self._called("get", path)
        return [one["metadata"] for one in self.objects.values()]

    async def delete(self, path: str) -> None:
        self._called("delete", path)
        self.objects.pop(path, None)

    def _store(self, path: str, body: dict[str, Any], live: Any) -> dict[str, Any]:  # noqa: ARG002
        self.objects[path] = body
        return body


@pytest.fixture
def api() -> ConfigMaps:
    return ConfigMaps()


def orders(api: ConfigMaps, **more: Any) -> PowerOrders:
    return PowerOrders(api, "fallow-system", "fallow", **more)


async def give(to: PowerOrders, limits: Mapping[str, Mapping[str, GpuLimits]], after: float = 0.0) -> tuple[str, ...]:
    return await to.give(limits, Instant(NOW + after))


async def test_an_order_names_the_node_the_limits_and_their_end(api: ConfigMaps) -> None:
    assert await give(orders(api), LIMITS) == ()

    (body,) = api.objects.values()
    assert body["metadata"]["annotations"] == {"fallow.dev/node": "node-a"}
    assert read_order(body["data"]).limits == {"GPU-0": Watts(350.0)}
    assert read_order(body["data"]).until == NOW + HOLDS


async def test_what_stands_is_not_written_again_until_it_would_end(api: ConfigMaps) -> None:
    given = orders(api)
    for after in (0, 15, HOLDS / 2 - 1):
        await give(given, LIMITS, after)
    assert api.writes == [PATH]
    await give(given, LIMITS, HOLDS / 2)
    assert api.writes == [PATH, PATH]


async def test_a_node_that_is_limited_no_more_loses_its_order_once(api: ConfigMaps) -> None:
    given = orders(api)
    await give(given, LIMITS)
    await give(given, {"node-a": {}}, 15)
    await give(given, {"node-a": {}}, 30)
    assert (api.objects, [verb for verb, _ in api.calls]) == ({}, ["get", "apply", "delete"])


async def test_what_an_operator_before_it_ordered_is_found_and_taken_back(api: ConfigMaps) -> None:
    await give(orders(api), LIMITS)
    await give(orders(api), {"node-a": {}}, 60)
    assert api.objects == {}


async def test_a_node_that_was_not_seen_keeps_its_order(api: ConfigMaps) -> None:
    given = orders(api)
    await give(given, LIMITS)
    await give(given, {}, 15)
    await give(given, {"node-b": {}}, 30)
    assert list(api.objects) == [PATH]


async def test_where_nothing_can_be_limited_nothing_is_asked(api: ConfigMaps) -> None:
    await give(orders(api), {})
    assert api.calls == []


async def test_a_write_that_fails_is_told_and_tried_again(api: ConfigMaps) -> None:
    given = orders(api)
    await give(given, {"node-b": {}})
    api.fault = Unreachable("apply: no answer within 10 s")
    assert await give(given, LIMITS) == ("apply: no answer within 10 s",)
    api.fault = None
    assert await give(given, LIMITS, 15) == ()
    assert list(api.objects) == [PATH]


async def test_a_dry_run_writes_nothing(api: ConfigMaps) -> None:
    await give(orders(api, dry_run=True), LIMITS)
    assert api.writes == []


async def test_clocks_are_ordered_beside_limits_and_renewed_sooner(api: ConfigMaps) -> None:
    given = orders(api)
    limits = {"node-a": {"GPU-0": GpuLimits(Watts(350.0), Hertz(1.4e9)), "GPU-1": GpuLimits(clock=Hertz(1.5e9))}}
    for after in (0, CLOCKS_HOLD / 2 - 1, CLOCKS_HOLD / 2):
        await give(given, limits, after)

    order = read_order(api.objects[PATH]["data"])
    assert order.limits == {"GPU-0": Watts(350.0)}
    assert order.clocks == {"GPU-0": Hertz(1.4e9), "GPU-1": Hertz(1.5e9)}
    assert order.clocks_until == NOW + 1.5 * CLOCKS_HOLD
    assert api.writes == [PATH, PATH]
