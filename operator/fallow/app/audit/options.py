"""Choices of `fallow audit`, kept apart from what takes long to import."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """How the audit is printed."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class Sort(StrEnum):
    """The order of GPUs."""

    WASTE = "waste"
    WATTS = "watts"
    NODE = "node"
    HOLDER = "holder"


class Way(StrEnum):
    """How pages are reached without a Prometheus: AUTO is DIRECT in a pod and PROXY elsewhere."""

    AUTO = "auto"
    DIRECT = "direct"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class View:
    """`top` GPUs and findings are listed, 0 for all; what wastes less than `min_waste_kwh` a day is left out."""

    top: int = 20
    sort: Sort = Sort.WASTE
    min_waste_kwh: float = 0.0
