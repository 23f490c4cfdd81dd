"""Grid zones of a scenario: those of its nodes, and the hours of their carbon intensity."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fallow.app.simulation.scenario import GridFile, ScenarioError
from fallow.domain.policies import Operator, Requirement, Selector
from fallow.domain.zones import IntensitySource, Zone
from fallow.twin.simulation.demand import Array
from fallow.twin.simulation.grid import GridSeries
from fallow.twin.simulation.ports import ZONE_LABEL, GridCarbon
from fallow.twin.simulation.setup import NodeKind

# gCO2e/kWh of a zone that says nothing: the world's mean of recent years is near it
USUAL_GRAMS = 450.0


def zones_of(declared: Sequence[Zone], kinds: Sequence[NodeKind]) -> list[Zone]:
    """Of the nodes, as declared; one that is not is as the default."""
    known = {zone.name: zone for zone in declared}
    default = next((zone for zone in declared if zone.is_default), declared[0] if declared else None)
    found = []
    for name in dict.fromkeys(kind.zone for kind in kinds):
        zone = known.get(name) or default or Zone(name, IntensitySource("Static"))
        here = Selector((Requirement(ZONE_LABEL, Operator.IN, (name,)),))
        found.append(replace(zone, name=name, nodes=here, is_default=False))
    return found


def simulated(zone: Zone) -> Zone:
    """As the operator sees it: its intensity is read from the simulation."""
    source = IntensitySource(GridCarbon.KIND, {"zone": zone.name})
    return replace(zone, source=source, fallbacks=(), marginal=None, pue_query="")


def series_of(zone: Zone, written: GridFile | None, folder: Path) -> GridSeries:
    """What is `written` of it, else what it declares. Raises ScenarioError for a file that cannot be read."""
    water_on_site = 0.0 if zone.water_on_site is None else zone.water_on_site.best.value
    water = 0.0 if zone.water_at_source is None else zone.water_at_source.best.value
    times: Array = np.zeros(1)
    grams: Array = np.array([_grams(zone)], dtype=np.float64)
    if written is not None and written.grams is not None:
        grams = np.array([written.grams], dtype=np.float64)
    elif written is not None and written.file is not None:
        grams = _hours(folder / written.file, written.column)[written.start :]
        times = np.arange(len(grams), dtype=np.float64) * 3600.0
    return GridSeries(
        times, grams, pue=zone.pue.best, water_on_site=water_on_site, water_at_source=water, price=zone.price_per_kwh,
        currency=zone.currency, host=zone.host_per_gpu.best.value, gpu_hours=zone.price_per_gpu_hour,
    )  # fmt: skip


def _grams(zone: Zone) -> float:
    written = zone.source.parameters.get("gramsPerKWh") or zone.source.parameters.get("grams")
    best = getattr(written, "best", written)
    value = getattr(best, "value", best)
    return float(value) if isinstance(value, int | float) else USUAL_GRAMS


def _hours(path: Path, column: str | None) -> Array:
    """Hourly values; an empty one is that of the hour before."""
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise ScenarioError(f"grid: {path} cannot be read ({error.strerror})") from error
    if not lines or column not in lines[0]:
        names = ", ".join(lines[0]) if lines else "none"
        raise ScenarioError(f"grid: {path} has no column {column!r}; it has {names}")
    values: list[float] = []
    for number, line in enumerate(lines, start=2):
        text = (line[column] or "").strip()
        try:
            values.append(float(text) if text else values[-1])
        except (ValueError, IndexError) as error:
            raise ScenarioError(f"grid: {path}, line {number}: {column} needs a number, not {text!r}") from error
    return np.array(values)
