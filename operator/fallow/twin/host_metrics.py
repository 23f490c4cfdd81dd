"""The /metrics answers about a node's CPUs and memory: node-exporter's RAPL collector, and Kepler."""

from __future__ import annotations

from math import nan

from fallow.twin.exposition import Labels, Page
from fallow.twin.host import Host
from fallow.twin.physics.constants import DRAM_RANGE_JOULES, PACKAGE_RANGE_JOULES, PACKAGES

POWERCAP = "/sys/class/powercap/intel-rapl"


def rapl_metrics(host: Host, *, broken: bool = False) -> str:
    """As node-exporter writes it: the register as it is, so it starts anew at its range, every half hour or so."""
    page = Page(0.0)
    for zone, joules, wrap in (
        ("dram", host.dram_joules, DRAM_RANGE_JOULES),
        ("package", host.package_joules, PACKAGE_RANGE_JOULES),
    ):
        suffix = ":0" if zone == "dram" else ""
        rows: list[tuple[Labels, float]] = [
            ((("index", str(index)), ("path", f"{POWERCAP}:{index}{suffix}")), nan if broken else joules % wrap)
            for index in range(PACKAGES)
        ]
        page.plain_counter(f"node_rapl_{zone}_joules_total", f"Current RAPL {zone} value in joules", rows)
    return page.text()


def kepler_metrics(host: Host, node: str, *, broken: bool = False) -> str:
    """As Kepler 0.10 and later write it: it follows the register over its range, and adds the packages up."""
    page = Page(0.0)
    zones = {"dram": host.dram_joules * PACKAGES, "package": host.package_joules * PACKAGES}
    page.plain_counter(
        "kepler_node_cpu_joules_total",
        "Energy consumption of cpu at node level in joules",
        [
            ((("node_name", node), ("path", f"{POWERCAP}:0"), ("zone", zone)), nan if broken else joules)
            for zone, joules in zones.items()
        ],
    )
    return page.text()
