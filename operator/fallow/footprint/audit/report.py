"""The audit as a value: every GPU by holder, findings ranked by waste, totals a day with bounds, what was not seen.

Carbon and money are those of the GPU boards' energy times PUE; the servers around them are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fallow.domain.figures import Bounds, Figure
from fallow.domain.units import Grams, GramsPerKWh, Instant, Joules, Money, Seconds, Watts, cost
from fallow.domain.windows import EnergyMethod, Survey, Window, WorkloadRef
from fallow.domain.zones import Ratio
from fallow.footprint.audit.rows import Row, rows
from fallow.footprint.audit.unseen import Unseen, unseen
from fallow.footprint.audit.uses import WASTE, Use
from fallow.footprint.audit.words import Confidence, advice, confidence, evidence
from fallow.footprint.energy import COUNTER_BOUNDS, POWER_BOUNDS
from fallow.footprint.impacts import carbon, facility_energy

DAY = Seconds(86_400)
# below this share of a holder's energy a waste is no finding: meters and rates of one per cent are no ground to accuse
MATERIAL = 0.05
_METERS: Mapping[EnergyMethod, Bounds] = {EnergyMethod.COUNTER: COUNTER_BOUNDS, EnergyMethod.POWER: POWER_BOUNDS}


@dataclass(frozen=True, slots=True)
class Rates:
    """What a kilowatt-hour at the facility costs the world; None where nobody said. `intensity_source` names it."""

    pue: Ratio
    intensity: Figure[GramsPerKWh] | None = None
    intensity_source: str = ""
    price_per_kwh: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class PerDay:
    """Energy of the GPU boards a day, and what it costs with PUE; None where its rate is not known."""

    energy: Figure[Joules]
    carbon: Figure[Grams] | None
    money: Figure[Money] | None


@dataclass(frozen=True, slots=True)
class Line:
    """One GPU (or MIG instance) and one holder. `shares` of its energy by use add up to 1.

    `share_of_time` of the GPU's observed time; `coverage` is the share of the window in which the GPU was seen.
    `watts` and `activity` are means over the holder's time. `findings` are the uses that accuse it.
    """

    row: Row
    share_of_time: float
    coverage: float
    watts: Watts
    activity: float | None
    energy: Figure[Joules]
    per_day: PerDay
    waste: PerDay
    shares: Mapping[Use, float]
    findings: tuple[Use, ...]
    evidence: str
    confidence: Confidence

    @property
    def workload(self) -> WorkloadRef | None:
        return self.row.key.workload


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of waste of one holder (None: nobody) on GPUs of one product. `watts` are wasted, on average."""

    use: Use
    workload: WorkloadRef | None
    product: str
    lines: tuple[Line, ...]
    watts: Watts
    waste: PerDay
    evidence: str
    confidence: Confidence
    advice: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Of everything seen. `observed` is the energy counted in the window; `uses` its parts, which add up to it."""

    gpus: int
    watts: Watts
    observed: Figure[Joules]
    per_day: PerDay
    waste: PerDay
    uses: Mapping[Use, PerDay]
    gpus_by_use: Mapping[Use, int]


@dataclass(frozen=True, slots=True)
class Audit:
    start: Instant
    end: Instant
    source: str
    rates: Rates
    lines: tuple[Line, ...]
    findings: tuple[Finding, ...]
    totals: Totals
    unseen: tuple[Unseen, ...]


def audit(window: Window, survey: Survey, rates: Rates, *, namespaces: Collection[str] = ()) -> Audit:
    """Judge a window. `namespaces` keeps the lines of holders in these only; energy of nobody is then left out."""
    found = rows(window, survey)
    kept = [row for row in found if not namespaces or (row.key.workload and row.key.workload.namespace in namespaces)]
    lines = sorted((_line(row, window, survey, rates) for row in kept), key=_by_waste)
    return Audit(
        start=window.start,
        end=window.end,
        source=window.source,
        rates=rates,
        lines=tuple(lines),
        findings=tuple(sorted(_findings(lines, rates), key=lambda one: -one.waste.energy.best.value)),
        totals=_totals(lines, rates),
        unseen=unseen(window, survey, found),
    )


def _by_waste(line: Line) -> tuple[float, float, str, str]:
    return -line.waste.energy.best.value, -line.per_day.energy.best.value, line.row.gpu.node, line.row.gpu.uuid


def _line(row: Row, window: Window, survey: Survey, rates: Rates) -> Line:
    tally, total = row.tally, row.tally.joules
    daily = DAY / row.gpu_seconds if row.gpu_seconds else 0.0
    energy, seconds = _metered(row), max(tally.seconds, 1e-9)
    wasted = sum(tally.uses.get(use, 0.0) for use in WASTE)
    accused = tuple(use for use in WASTE if total > 0 and tally.uses.get(use, 0.0) / total >= MATERIAL)
    worst = max(accused, key=lambda use: tally.uses[use], default=None)
    coverage = min(row.gpu_seconds / window.seconds, 1.0)
    return Line(
        row=row,
        share_of_time=tally.seconds / row.gpu_seconds if row.gpu_seconds else 0.0,
        coverage=coverage,
        watts=Watts(total / seconds),
        activity=tally.activity / tally.activity_seconds if tally.activity_seconds else None,
        energy=energy,
        per_day=per_day(energy * daily, rates),
        waste=per_day(_part(energy, wasted, total) * daily, rates),
        shares={use: tally.uses.get(use, 0.0) / total if total > 0 else 0.0 for use in Use},
        findings=accused,
        evidence=evidence([row], worst),
        confidence=confidence(row, worst, coverage, survey),
    )


def _metered(row: Row) -> Figure[Joules]:
    """The row's energy with its meters' bounds."""
    total = Figure.exact(Joules(0))
    for method, joules in row.tally.methods.items():
        total += Figure.around(Joules(joules), _METERS[method])
    return total


def _part(whole: Figure[Joules], part: float, total: float) -> Figure[Joules]:
    return whole * (part / total) if total > 0 else Figure.exact(Joules(0))


def per_day(energy: Figure[Joules], rates: Rates) -> PerDay:
    facility = facility_energy(energy, rates.pue)
    price = rates.price_per_kwh
    money = None
    if price is not None:
        money = Figure(cost(facility.low, price), cost(facility.best, price), cost(facility.high, price))
    return PerDay(energy, None if rates.intensity is None else carbon(facility, rates.intensity), money)


def _findings(lines: Iterable[Line], rates: Rates) -> list[Finding]:
    groups: defaultdict[tuple[Use, WorkloadRef | None, str], list[Line]] = defaultdict(list)
    for line in lines:
        for use in line.findings:
            groups[use, line.workload, line.row.product].append(line)
    return [_finding(key, found, rates) for key, found in groups.items()]


def _finding(key: tuple[Use, WorkloadRef | None, str], lines: list[Line], rates: Rates) -> Finding:
    use, workload, product = key
    energies = [_use_per_day(line, use) for line in lines]
    energy = sum(energies, start=Figure.exact(Joules(0)))
    return Finding(
        use=use,
        workload=workload,
        product=product,
        lines=tuple(lines),
        watts=Watts(energy.best.value / DAY),
        waste=per_day(energy, rates),
        evidence=evidence([line.row for line in lines], use),
        confidence=min((line.confidence for line in lines), key=list(Confidence).index),
        advice=advice(use, workload),
    )


def _use_per_day(line: Line, use: Use) -> Figure[Joules]:
    return line.per_day.energy * line.shares[use]


def _totals(lines: list[Line], rates: Rates) -> Totals:
    nothing = Figure.exact(Joules(0))
    everything = sum((line.per_day.energy for line in lines), start=nothing)
    by_use = {use: sum((_use_per_day(line, use) for line in lines), start=nothing) for use in Use}
    touched = {use: {line.row.key.uuid for line in lines if line.shares[use] >= MATERIAL} for use in Use}
    return Totals(
        gpus=len({line.row.key.uuid for line in lines}),
        watts=Watts(everything.best.value / DAY),
        observed=sum((line.energy for line in lines), start=nothing),
        per_day=per_day(everything, rates),
        waste=per_day(sum((line.waste.energy for line in lines), start=nothing), rates),
        uses={use: per_day(energy, rates) for use, energy in by_use.items()},
        gpus_by_use={use: len(uuids) for use, uuids in touched.items()},
    )
