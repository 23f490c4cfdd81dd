"""Where a service's figures come from, in words: which meters, which levels at rest, which factors, which defaults."""

from __future__ import annotations

from collections.abc import Iterator

from fallow.adapters.reports.texts import line, significant
from fallow.api.conditions import moment
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Baseline, Ledger
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Watts
from fallow.domain.workloads import ServiceKey
from fallow.domain.zones import Intensity, Ratio, ZoneReading


def sources(
    snapshot: Snapshot, ledger: Ledger, key: ServiceKey, intensity: Intensity | Missing, zone: ZoneReading | None
) -> list[str]:
    """One line each, at most 256 characters; the same state gives the same words."""
    return [line(text) for text in _sources(snapshot, ledger, key, intensity, zone)]


def _sources(
    snapshot: Snapshot, ledger: Ledger, key: ServiceKey, intensity: Intensity | Missing, zone: ZoneReading | None
) -> Iterator[str]:
    yield "energy: dcgm-exporter counters, power where there is no counter"
    pods = snapshot.pods_of(key)
    gpus = [gpu.uuid for pod in pods for gpu in snapshot.readings.gpus_by_holder.get(pod.ref, ())]
    yield f"idle: {_levels([ledger.baselines.get(uuid) for uuid in gpus])}"
    yield f"under-filled: {_targets(snapshot, key)}"
    nodes = sorted({pod.node for pod in pods if pod.node})
    yield f"host: {_host(ledger, nodes, zone)}"
    yield "intensity: not known" if isinstance(intensity, Missing) else f"intensity: {intensity.source}"
    if zone is None:
        yield "PUE, water, price: no GridZone covers the nodes; PUE 1.2 (1.08 to 1.58) is assumed"
        return
    live = zone.live_pue
    whence = "measured" if isinstance(live, Ratio) else f"as GridZone {zone.zone.name} says"
    yield f"PUE: {_ratio(zone.pue)}, {whence}"
    if zone.zone.market is not None:
        yield f"market-based: {significant(zone.zone.market.best.value)} g/kWh, as GridZone {zone.zone.name} says"
    if zone.zone.price_per_kwh is not None:
        yield f"price: {zone.zone.price_per_kwh:g} {zone.zone.currency}/kWh, as GridZone {zone.zone.name} says"


def _levels(known: list[Baseline | None]) -> str:
    learned = [one.loaded for one in known if one is not None and one.loaded is not None]
    if not known:
        return "no GPU is held now"
    if not learned:
        return f"constants of the GPU model for {len(known)} GPUs, none of them has rested long enough yet"
    watts = [level.watts.value for level in learned]
    samples = sum(level.samples for level in learned)
    between = f"{min(watts):.0f} W" if len(watts) == 1 else f"{min(watts):.0f} to {max(watts):.0f} W"
    since = moment(min(level.since for level in learned))
    words = f"loaded without work {between}, learned on {len(learned)} of {len(known)} GPUs"
    return f"{words} from {samples} samples since {since:%Y-%m-%d}, with the constants as prior"


def _targets(snapshot: Snapshot, key: ServiceKey) -> str:
    found = {name: target for (service, name), target in snapshot.targets.items() if service == key}
    if not found:
        return "not told, since nothing says how many requests a replica should carry"
    listed = ", ".join(f"{significant(target)} for {name}" for name, target in sorted(found.items()))
    return f"against {listed} requests in flight a replica"


def _host(ledger: Ledger, nodes: list[str], zone: ZoneReading | None) -> str:
    declared = f"{_watts(zone.zone.host_per_gpu)} per GPU" if zone else "150 W per GPU (75 to 290) is assumed"
    metered = [ledger.hosts[node].meter for node in nodes if node in ledger.hosts]
    if not metered:
        return f"{declared}, no node meter is read"
    meters = " and ".join(sorted(set(metered)))
    words = f"{meters}, packages and memory, on {len(metered)} of {len(nodes)} nodes"
    return words if len(metered) == len(nodes) else f"{words}, else {declared}"


def _watts(figure: Figure[Watts]) -> str:
    low, best, high = figure.low.value, figure.best.value, figure.high.value
    return f"{best:g} W ({low:g} to {high:g})" if low < high else f"{best:g} W"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.best:g} ({ratio.low:g} to {ratio.high:g})" if ratio.low < ratio.high else f"{ratio.best:g}"
