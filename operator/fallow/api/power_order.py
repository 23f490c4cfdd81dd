"""What the operator tells a node's agent: how far each of its GPUs may draw, how fast it may run, and until when.

A ConfigMap for each node, in the operator's namespace. An order that is not renewed ends, and the agent puts back what
was before: without Fallow nobody would.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from fallow.domain.units import Hertz, Instant, Watts

PREFIX = "fallow-power-"
COMPONENT = "power-order"
NODE = "fallow.dev/node"
NEVER = Instant(0)
_UNTIL, _LIMITS, _CLOCKS_UNTIL, _CLOCKS = "until", "limits", "clocksUntil", "clocks"


@dataclass(frozen=True, slots=True)
class PowerOrder:
    """Power limits and highest SM clocks by the GPU's UUID. Clocks end sooner: while they are low a load that grows is
    served late, and only Fallow raises them.
    """

    until: Instant
    limits: Mapping[str, Watts] = field(default_factory=dict)
    clocks_until: Instant = NEVER
    clocks: Mapping[str, Hertz] = field(default_factory=dict)


def order_name(node: str) -> str:
    return f"{PREFIX}{node}"


def written(order: PowerOrder) -> dict[str, str]:
    """The data of the ConfigMap: Unix seconds, and watts and hertz by UUID as JSON."""
    data = {
        _UNTIL: f"{order.until:.0f}",
        _LIMITS: json.dumps({uuid: watts.value for uuid, watts in sorted(order.limits.items())}),
    }
    if order.clocks:
        data[_CLOCKS_UNTIL] = f"{order.clocks_until:.0f}"
        data[_CLOCKS] = json.dumps({uuid: clock.value for uuid, clock in sorted(order.clocks.items())})
    return data


def read_order(data: Mapping[str, str]) -> PowerOrder:
    """Raises ValueError for what is no order."""
    try:
        limits = {str(uuid): Watts(float(watts)) for uuid, watts in json.loads(data[_LIMITS]).items()}
        clocks = {str(uuid): Hertz(float(hertz)) for uuid, hertz in json.loads(data.get(_CLOCKS, "{}")).items()}
        ends = Instant(float(data[_CLOCKS_UNTIL])) if clocks else NEVER
        order = PowerOrder(Instant(float(data[_UNTIL])), limits, ends, clocks)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no power order: {type(error).__name__}: {error}") from error
    if not all(isfinite(watts.value) and watts.value > 0 for watts in limits.values()):
        raise ValueError("no power order: limits must be above 0 W")
    if not all(isfinite(clock.value) and clock.value > 0 for clock in clocks.values()):
        raise ValueError("no power order: clocks must be above 0 Hz")
    return order
