"""What the operator tells a node's agent: how far each of its GPUs may draw, and until when that holds.

A ConfigMap for each node, in the operator's namespace. An order that is not renewed ends, and the agent puts back what
was before: without Fallow nobody would.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from fallow.domain.units import Instant, Watts

PREFIX = "fallow-power-"
COMPONENT = "power-order"
NODE = "fallow.dev/node"
_UNTIL, _LIMITS = "until", "limits"


@dataclass(frozen=True, slots=True)
class PowerOrder:
    """Power limits by the GPU's UUID."""

    until: Instant
    limits: Mapping[str, Watts] = field(default_factory=dict)


def order_name(node: str) -> str:
    return f"{PREFIX}{node}"


def written(order: PowerOrder) -> dict[str, str]:
    """The data of the ConfigMap: Unix seconds, and watts by UUID as JSON."""
    limits = {uuid: watts.value for uuid, watts in sorted(order.limits.items())}
    return {_UNTIL: f"{order.until:.0f}", _LIMITS: json.dumps(limits)}


def read_order(data: Mapping[str, str]) -> PowerOrder:
    """Raises ValueError for what is no order."""
    try:
        limits = {str(uuid): Watts(float(watts)) for uuid, watts in json.loads(data[_LIMITS]).items()}
        order = PowerOrder(Instant(float(data[_UNTIL])), limits)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no power order: {type(error).__name__}: {error}") from error
    if not all(isfinite(watts.value) and watts.value > 0 for watts in limits.values()):
        raise ValueError("no power order: limits must be above 0 W")
    return order
