"""A statement as Markdown, HTML, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fallow.app.reports.chart import stacked
from fallow.app.reports.figures import change, numbers, rounded, text
from fallow.app.reports.forms import Form
from fallow.domain.history import History
from fallow.domain.ledger import Account
from fallow.footprint.statement import Progress, Row, Statement

PARTS = ("useful", "starting", "underfilled", "parked", "bare")


@dataclass(frozen=True, slots=True)
class Heading:
    """What a report is about: the period's title and first and last day, the source, and when it was made."""

    title: str
    first: str
    last: str
    time_zone: str
    source: str
    made: str


def rendered(told: Statement, history: History, heading: Heading, form: Form) -> str:
    forms: Mapping[Form, Callable[[], str]] = {
        Form.MARKDOWN: lambda: _page("report.md.j2", told, history, heading),
        Form.HTML: lambda: _page("report.html.j2", told, history, heading),
        Form.CSV: lambda: _table(told, heading),
        Form.JSON: lambda: json.dumps(_document(told, history, heading), indent=2) + "\n",
    }
    return forms[form]()


def _page(template: str, told: Statement, history: History, heading: Heading) -> str:
    environment = Environment(
        loader=PackageLoader("fallow.app.reports"),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    days = [day.date for day in history.days]
    series = {part: [getattr(day.total, part).kilowatt_hours for day in history.days] for part in PARTS}
    carbon = {"operational": [day.total.carbon.best.value / 1e3 for day in history.days]}
    return environment.get_template(template).render(
        told=told,
        heading=heading,
        rows=[_shown(row) for row in told.rows],
        total=_shown(told.total),
        waste=[_wasted(one.name, one.account, told.total.account) for one in told.waste],
        goals=[_goal(one) for one in told.progress],
        parts=PARTS,
        energy_chart=stacked(days, series, "kWh"),
        carbon_chart=stacked(days, carbon, "kg"),
        text=text,
    )


def _shown(row: Row) -> Mapping[str, Any]:
    now, before = numbers(row.account), numbers(row.before) if row.before else {}
    energy = row.account.energy.best.value
    return {
        "name": row.name,
        **now,
        "cost": [(currency, now[f"cost_{currency}_best"]) for currency in sorted(row.account.costs)],
        "idle_share": row.account.idle.value / energy if energy else None,
        "change": {name: change(value, before.get(name)) for name, value in now.items()},
    }


def _wasted(name: str, account: Account, whole: Account) -> Mapping[str, Any]:
    wasted = account.idle + account.underfilled
    return {
        "name": name,
        "kwh": wasted.kilowatt_hours,
        "share": wasted.value / account.energy.best.value if account.energy.best.value else 0.0,
        "of_all": wasted.value / whole.energy.best.value if whole.energy.best.value else 0.0,
        "bare": account.bare.kilowatt_hours,
        "parked": account.parked.kilowatt_hours,
        "underfilled": account.underfilled.kilowatt_hours,
    }


def _goal(progress: Any) -> Mapping[str, Any]:
    target = progress.target if isinstance(progress, Progress) else progress[0]
    told = {
        "policy": target.policy,
        "measure": target.measure.value,
        "reduce": target.reduce,
        "since": target.since,
        "by": target.by,
    }
    if isinstance(progress, Progress):
        return {**told, "reached": progress.reached, "due": progress.due, "standing": progress.standing.value}
    return {**told, "reached": None, "due": None, "standing": f"not known: {progress[1]}"}


def _table(told: Statement, heading: Heading) -> str:
    """One line for each row and one for the whole, with every amount; empty where it is not known."""
    records = [
        {"period": heading.title, told.by.value: row.name, **numbers(row.account)} for row in (*told.rows, told.total)
    ]
    columns = list(dict.fromkeys(name for record in records for name in record if not name.startswith("cost_")))
    columns += sorted({name for record in records for name in record if name.startswith("cost_")})
    columns = list(dict.fromkeys(["period", told.by.value, *columns]))
    output = io.StringIO()
    writer = csv.DictWriter(output, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return output.getvalue()


def _document(told: Statement, history: History, heading: Heading) -> Mapping[str, Any]:
    return {
        "period": heading.title,
        "first_day": heading.first,
        "last_day": heading.last,
        "time_zone": heading.time_zone,
        "by": told.by.value,
        "total": _record(told.total),
        "rows": [_record(row) for row in told.rows],
        "days": [{"date": day.date, "seen": rounded(day.seen), **numbers(day.total)} for day in history.days],
        "waste": [_wasted(one.name, one.account, told.total.account) for one in told.waste],
        "targets": [_goal(one) for one in told.progress],
        "budgets": [
            {
                "policy": burn.budget.policy,
                "period": burn.budget.period.value,
                "unit": burn.unit,
                "allowed": burn.allowed,
                "used": rounded(burn.used),
                "share": rounded(burn.share),
                "days_over": burn.over,
            }
            for burn in told.burns
        ],
        "gaps": list(told.gaps),
        "versions": list(told.versions),
        "source": heading.source,
        "made": heading.made,
    }


def _record(row: Row) -> Mapping[str, Any]:
    return {
        "name": row.name,
        **numbers(row.account),
        "before": numbers(row.before) if row.before else None,
    }
