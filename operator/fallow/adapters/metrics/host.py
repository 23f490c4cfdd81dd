"""From the samples of node-exporter (RAPL) and Kepler to a node's energy outside its GPUs: CPU packages and memory.

The core and uncore zones are inside the package, psys and platform hold the GPUs too: none of these is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fallow.adapters.metrics.dcgm import host_of
from fallow.adapters.metrics.samples import MetricSpec, Sample, checked
from fallow.domain.figures import Missing
from fallow.domain.readings import HostMeter, HostReading
from fallow.domain.units import Joules

# node-exporter's own names, one metric for each zone; or one for all with --collector.rapl.enable-zone-label
RAPL_PACKAGE = MetricSpec("node_rapl_package_joules_total", "counter", frozenset({"index", "path"}))
RAPL_DRAM = MetricSpec("node_rapl_dram_joules_total", "counter", frozenset({"index", "path"}))
RAPL_ZONES = MetricSpec("node_rapl_joules_total", "counter", frozenset({"index", "path", "rapl_zone"}))
# Kepler 0.10 and later
KEPLER = MetricSpec("kepler_node_cpu_joules_total", "counter", frozenset({"zone", "path", "node_name"}))

READ_METRICS = (RAPL_PACKAGE, RAPL_DRAM, RAPL_ZONES, KEPLER)
READ_NAMES = frozenset(name for spec in READ_METRICS for name in spec.names)

PACKAGE, DRAM = "package", "dram"
# the same registers a second time, read through memory: node-exporter shows the package twice (its issue 2147)
MMIO = "intel-rapl-mmio"
ZONE_LABELS = ("rapl_zone", "exported_zone", "zone")
NODE_LABELS = ("node_name", "node", "kubernetes_node", "nodename", "Hostname", "hostname")


def read_hosts(samples: Iterable[Sample], nodes: Mapping[str, str]) -> dict[str, HostReading]:
    """By node; `nodes` are names by address. Where both are there Kepler counts, which follows the registers' ends."""
    found: dict[tuple[str, HostMeter], list[Sample]] = defaultdict(list)
    known = set(nodes.values())
    for sample in samples:
        node = _node(sample.labels, nodes, known)
        if sample.name in READ_NAMES and node and _zone(sample) in {PACKAGE, DRAM}:
            meter = HostMeter.KEPLER if sample.name == KEPLER.sample else HostMeter.RAPL
            found[node, meter].append(sample)
    readings: dict[str, HostReading] = {}
    for node in sorted({node for node, _ in found}):
        either = (_reading(node, meter, found.get((node, meter), [])) for meter in (HostMeter.KEPLER, HostMeter.RAPL))
        if (reading := next((one for one in either if one is not None), None)) is not None:
            readings[node] = reading
    return readings


def _reading(node: str, meter: HostMeter, samples: Sequence[Sample]) -> HostReading | None:
    """None without a package, or where one of the counters is no number: a part of them would look like a fall."""
    instances = {sample.labels.get("instance", "") for sample in samples}
    one = [sample for sample in samples if sample.labels.get("instance", "") == min(instances)]
    twice = any(_zone(sample) == PACKAGE and MMIO not in sample.labels.get("path", "") for sample in one)
    counters: dict[str, Joules] = {}
    for sample in one:
        path = sample.labels.get("path", "")
        if twice and MMIO in path:
            continue
        value = checked(sample)
        if isinstance(value, Missing):
            return None
        index = sample.labels.get("index", "")
        counters[f"{_zone(sample)}-{index}-{path.rsplit('/', 1)[-1]}"] = Joules(value)
    if not any(name.startswith(PACKAGE) for name in counters):
        return None
    return HostReading(node, counters, min(sample.at for sample in one), meter)


def _zone(sample: Sample) -> str:
    """The zone without its number: package-0 and package are the package.

    Where targets carry a zone of their own, such as a cloud's, Prometheus calls Kepler's exported_zone.
    """
    by_name = {RAPL_PACKAGE.sample: PACKAGE, RAPL_DRAM.sample: DRAM}
    label = next((sample.labels[name] for name in ZONE_LABELS if sample.labels.get(name)), "")
    return by_name.get(sample.name) or label.split("-")[0]


def _node(labels: Mapping[str, str], nodes: Mapping[str, str], known: set[str]) -> str:
    """The first label that names a node of the cluster, else the node at the scraped address; others are not ours."""
    named = next((labels[label] for label in NODE_LABELS if labels.get(label) in known), "")
    return named or nodes.get(host_of(labels.get("instance", "")), "")
