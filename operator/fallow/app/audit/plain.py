"""An audit as JSON and as CSV; docs/how-to/audit.md describes the fields, whose names carry their units."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

from fallow.domain.figures import Figure
from fallow.domain.units import Instant, Joules
from fallow.domain.windows import WorkloadRef
from fallow.footprint.audit.report import Audit, Finding, Line, PerDay
from fallow.footprint.audit.rows import UNNAMED
from fallow.footprint.audit.uses import Use
from fallow.footprint.hardware import UNKNOWN, hardware_of

SCHEMA = "fallow.dev/audit/v1"


def as_json(audit: Audit) -> dict[str, Any]:
    rates, totals = audit.rates, audit.totals
    return {
        "schema": SCHEMA,
        "window": {
            "start": stamp(audit.start),
            "end": stamp(audit.end),
            "seconds": audit.end - audit.start,
        },
        "source": audit.source,
        "rates": {
            "pue": {"low": rates.pue.low, "best": rates.pue.best, "high": rates.pue.high},
            "intensity_g_per_kwh": None if rates.intensity is None else _bounds(rates.intensity),
            "intensity_source": rates.intensity_source,
            "price_per_kwh": rates.price_per_kwh,
            "currency": rates.currency,
        },
        "totals": {
            "gpus": totals.gpus,
            "watts": totals.watts.value,
            "observed_kwh": _kwh(totals.observed),
            "per_day": _per_day(totals.per_day),
            "waste_per_day": _per_day(totals.waste),
            "waste_share": waste_share(audit),
            "uses": {
                use.value: {
                    "gpus": totals.gpus_by_use[use],
                    "share": _ratio(per_day.energy, totals.per_day.energy),
                    "per_day": _per_day(per_day),
                }
                for use, per_day in totals.uses.items()
            },
        },
        "findings": [_finding(rank, one) for rank, one in enumerate(audit.findings, 1)],
        "gpus": [_line(line) for line in audit.lines],
        "not_seen": [{"what": one.what, "where": list(one.where), "to_do": one.to_do} for one in audit.unseen],
    }


def as_csv(audit: Audit) -> str:
    """One line a GPU (or MIG instance) and holder, ranked by waste."""
    rows = [_flat(line) for line in audit.lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def waste_share(audit: Audit) -> float:
    return _ratio(audit.totals.waste.energy, audit.totals.per_day.energy)


def stamp(at: Instant) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def holder_name(workload: WorkloadRef | None) -> str:
    if workload is None:
        return "nobody"
    return "not named" if workload == UNNAMED else str(workload)


def product_name(product: str) -> str:
    """Short where the hardware is known."""
    hardware = hardware_of(product)
    return product if hardware is UNKNOWN else hardware.name


def _finding(rank: int, finding: Finding) -> dict[str, Any]:
    return {
        "rank": rank,
        "kind": finding.use.value,
        "holder": _holder(finding.workload),
        "product": finding.product,
        "gpus": sorted({line.row.gpu.uuid for line in finding.lines}),
        "nodes": sorted({line.row.gpu.node for line in finding.lines}),
        "watts": finding.watts.value,
        "per_day": _per_day(finding.waste),
        "confidence": finding.confidence.value,
        "evidence": finding.evidence,
        "advice": finding.advice,
    }


def _line(line: Line) -> dict[str, Any]:
    row, source = line.row, line.row.tally.activity_source
    return {
        "uuid": row.gpu.uuid,
        "node": row.gpu.node,
        "index": row.gpu.index,
        "part": row.key.part,
        "product": row.product,
        "holder": _holder(line.workload),
        "pods": sorted(pod.name for pod in row.tally.pods),
        "share_of_time": line.share_of_time,
        "coverage": line.coverage,
        "watts": line.watts.value,
        "activity": line.activity,
        "activity_source": None if source is None else source.value,
        "observed_kwh": _kwh(line.energy),
        "energy_method": "+".join(sorted(method.value for method in row.tally.methods)),
        "shares": {use.value: share for use, share in line.shares.items()},
        "per_day": _per_day(line.per_day),
        "waste_per_day": _per_day(line.waste),
        "findings": [use.value for use in line.findings],
        "evidence": line.evidence,
        "confidence": line.confidence.value,
    }


COLUMNS = (
    "node",
    "index",
    "uuid",
    "part",
    "product",
    "holder_namespace",
    "holder_kind",
    "holder_name",
    "pods",
    "share_of_time",
    "coverage",
    "watts",
    "activity",
    *(f"share_{use.value.replace('-', '_')}" for use in Use),
    "energy_kwh_per_day",
    "waste_kwh_per_day",
    "waste_money_per_day",
    "waste_carbon_g_per_day",
    "findings",
    "confidence",
    "evidence",
)


def _flat(line: Line) -> dict[str, object]:
    plain = _line(line)
    holder = line.workload
    return {
        **{name: plain[name] for name in COLUMNS if name in plain},
        "holder_namespace": holder.namespace if holder else "",
        "holder_kind": holder.kind if holder else "",
        "holder_name": holder.name if holder else "",
        "pods": " ".join(plain["pods"]),
        **{f"share_{use.value.replace('-', '_')}": share for use, share in line.shares.items()},
        "energy_kwh_per_day": line.per_day.energy.best.kilowatt_hours,
        "waste_kwh_per_day": line.waste.energy.best.kilowatt_hours,
        "waste_money_per_day": None if line.waste.money is None else line.waste.money.best.value,
        "waste_carbon_g_per_day": None if line.waste.carbon is None else line.waste.carbon.best.value,
        "findings": " ".join(plain["findings"]),
    }


def _holder(workload: WorkloadRef | None) -> dict[str, str] | None:
    if workload is None:
        return None
    return {"namespace": workload.namespace, "kind": workload.kind, "name": workload.name}


def _per_day(per_day: PerDay) -> dict[str, Any]:
    return {
        "energy_kwh": _kwh(per_day.energy),
        "carbon_g": None if per_day.carbon is None else _bounds(per_day.carbon),
        "money": None if per_day.money is None else _bounds(per_day.money),
    }


def _kwh(figure: Figure[Joules]) -> dict[str, float]:
    return {
        "low": figure.low.kilowatt_hours,
        "best": figure.best.kilowatt_hours,
        "high": figure.high.kilowatt_hours,
    }


def _bounds(figure: Figure[Any]) -> dict[str, float]:
    return {"low": figure.low.value, "best": figure.best.value, "high": figure.high.value}


def _ratio(part: Figure[Joules], whole: Figure[Joules]) -> float:
    return part.best / whole.best if whole.best.value > 0 else 0.0
