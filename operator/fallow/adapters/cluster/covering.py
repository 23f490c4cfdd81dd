"""Whether a live object already holds everything that is wanted of it, whatever else others and defaults have added."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fallow.adapters.cluster.strategic_merge import MERGE_KEYS

_QUANTITY = re.compile(r"^([0-9.]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|)$")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")} | {
    prefix + suffix: Decimal(base) ** power
    for suffix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kMGTPE" if not suffix else "KMGTPE", start=1)
}
# their values are rewritten by the API server into a canonical form: 1000m becomes 1
_QUANTITIES = frozenset({"limits", "requests"})


def covers(live: Any, wanted: Any, name: str = "") -> bool:
    """Whether `wanted` is found in `live`; lists that Kubernetes merges by a key are compared by that key."""
    if isinstance(wanted, Mapping):
        if name in _QUANTITIES:
            return all(_same_quantity((live or {}).get(part), amount) for part, amount in wanted.items())
        found = live if isinstance(live, Mapping) else {}
        return all(covers(found.get(part), value, part) for part, value in wanted.items())
    if isinstance(wanted, list):
        return _covers_list(live or [], wanted, name)
    return bool(live == wanted) or (name == "sizeLimit" and _same_quantity(live, wanted))


def _covers_list(live: Any, wanted: list[Any], name: str) -> bool:
    key = MERGE_KEYS.get(name)
    if key is None or not all(isinstance(entry, Mapping) and key in entry for entry in wanted):
        return len(live) == len(wanted) and all(covers(*pair) for pair in zip(live, wanted, strict=True))
    found = {entry.get(key): entry for entry in live}
    return all(entry[key] in found and covers(found[entry[key]], entry) for entry in wanted)


def _same_quantity(live: Any, wanted: Any) -> bool:
    return str(live) == str(wanted) or (live is not None and _amount(live) == _amount(wanted))


def _amount(quantity: Any) -> Decimal | None:
    match = _QUANTITY.match(str(quantity))
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None
