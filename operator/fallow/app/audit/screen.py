"""An audit for people: where the energy goes, findings with their evidence, every GPU, and what was not seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fallow.app.audit.options import Sort, View
from fallow.app.audit.plain import holder_name, product_name, stamp, waste_share
from fallow.domain.units import JOULES_PER_KWH
from fallow.footprint.audit.report import DAY, Audit, Finding, Line, PerDay
from fallow.footprint.audit.unseen import Unseen
from fallow.footprint.audit.uses import WASTE, Use
from fallow.footprint.audit.words import duration

T = TypeVar("T")

NARROWEST, WIDEST = 100, 118
_NAMED = 3
_NONE = "-"
_STYLES = {Use.USEFUL: "green", Use.STANDBY: "cyan", Use.UNKNOWN: "yellow"} | dict.fromkeys(WASTE, "red")
_MEANINGS = {
    Use.USEFUL: "work",
    Use.UNDER_FILLED: "room in the batch of engines at work",
    Use.LOADED_IDLE: "held and loaded, no work",
    Use.SPINNING: "busy without a result",
    Use.UNALLOCATED: "held by nobody",
    Use.STANDBY: "loaded without work, on purpose",
    Use.UNKNOWN: "counted, not known what for",
}


def show(audit: Audit, view: View, console: Console | None = None) -> None:
    shown = console or Console()
    if console is None:
        shown.width = min(max(shown.width, NARROWEST), WIDEST) if shown.is_terminal else WIDEST
    shown.print(screen(audit, view))


def screen(audit: Audit, view: View) -> Group:
    least = view.min_waste_kwh * JOULES_PER_KWH
    findings = [one for one in audit.findings if one.waste.energy.best.value >= least]
    lines = _sorted([line for line in audit.lines if line.waste.energy.best.value >= least], view.sort)
    parts: list[RenderableType] = [_head(audit)]
    if audit.lines:
        parts += [_uses(audit), _title("Findings, by waste"), _findings(findings, audit, view.top)]
        parts += [_title("GPUs"), _gpus(lines, view.top)]
    if audit.unseen:
        parts += [_title("What was not seen"), _unseen(audit.unseen)]
    return Group(*parts, _foot(audit))


def _sorted(lines: list[Line], sort: Sort) -> list[Line]:
    """They come by waste."""
    if sort is Sort.WATTS:
        return sorted(lines, key=lambda line: -line.watts.value)
    if sort is Sort.NODE:
        return sorted(lines, key=lambda line: (line.row.gpu.node, line.row.gpu.index.zfill(3), line.row.key.part))
    return sorted(lines, key=lambda line: holder_name(line.workload)) if sort is Sort.HOLDER else lines


def _head(audit: Audit) -> Text:
    nodes = len({line.row.gpu.node for line in audit.lines})
    text = Text()
    text.append("Fallow audit", style="bold")
    text.append(f"  {_many(audit.totals.gpus, 'GPU')} on {_many(nodes, 'node')}, ")
    text.append(f"{duration(audit.end - audit.start)} to {stamp(audit.end)}, {audit.source}")
    return text


def _uses(audit: Audit) -> Table:
    totals, shown = audit.totals, [use for use in Use if audit.totals.gpus_by_use[use]]
    money = f"{audit.rates.currency or 'money'}/day"
    table = _table("where the energy goes", "GPUs", "W", "%", "kWh/day", money, "kg CO2e/day", numbers=1)
    for use in shown:
        name = Text(f"{use.value:<13}", style=_STYLES[use])
        name.append(_MEANINGS[use], style="dim")
        per_day = totals.uses[use]
        share = per_day.energy.best / totals.per_day.energy.best if totals.per_day.energy.best.value else 0.0
        table.add_row(name, str(totals.gpus_by_use[use]), *_costs(per_day, share))
    table.add_section()
    table.add_row("all", str(totals.gpus), *_costs(totals.per_day, 1.0), style="bold")
    table.add_row("wasted", "", *_costs(totals.waste, waste_share(audit)), style="bold red")
    return table


def _costs(per_day: PerDay, share: float) -> tuple[str, ...]:
    kwh, carbon = per_day.energy.best.kilowatt_hours, per_day.carbon
    kilograms = _NONE
    if carbon is not None:
        low, best, high = (grams.value / 1000 for grams in (carbon.low, carbon.best, carbon.high))
        kilograms = f"{best:.1f} ({low:.1f} to {high:.1f})"
    return f"{per_day.energy.best.value / DAY:,.0f}", f"{share:.0%}", f"{kwh:,.2f}", _money(per_day), kilograms


def _money(per_day: PerDay) -> str:
    return _NONE if per_day.money is None else f"{per_day.money.best.value:,.2f}"


def _findings(findings: Sequence[Finding], audit: Audit, top: int) -> RenderableType:
    if not findings:
        return Text("  none: every GPU that was seen works, or stands by on purpose", style="green")
    currency = audit.rates.currency or "money"
    headings = ("#", "what", "who, and why", "GPUs", "W", "kWh/d", f"{currency}/d", "kg/d", "sure")
    table = _table(*headings, numbers=3, wide=2)
    for rank, one in enumerate(_first(findings, top), 1):
        why = Text(f"{holder_name(one.workload)}, {product_name(one.product)}\n")
        why.append(f"{one.evidence}\n", style="dim")
        why.append(f"on {_places(one.lines)}\n", style="dim")
        why.append(f"→ {one.advice}", style="dim italic")
        carbon = _NONE if one.waste.carbon is None else f"{one.waste.carbon.best.value / 1000:,.1f}"
        gpus = len({line.row.gpu.uuid for line in one.lines})
        kwh = f"{one.waste.energy.best.kilowatt_hours:,.2f}"
        what = Text(one.use.value, style=_STYLES[one.use])
        table.add_row(
            str(rank), what, why, str(gpus), f"{one.watts.value:,.0f}", kwh, _money(one.waste), carbon, one.confidence
        )
    return Group(table, *_more(len(findings), top))


def _places(lines: Iterable[Line]) -> str:
    """GPUs by node; of many nodes the first."""
    by_node: dict[str, int] = {}
    for line in lines:
        by_node[line.row.gpu.node] = by_node.get(line.row.gpu.node, 0) + 1
    named = [node if count == 1 else f"{node} ({count})" for node, count in sorted(by_node.items())]
    return _some(named)


def _gpus(lines: Sequence[Line], top: int) -> RenderableType:
    uses = [use for use in Use if any(line.shares[use] >= 0.005 for line in lines)]
    shared = any(line.share_of_time < 0.995 for line in lines)
    headings = ("GPU", "product", "holder", *(("time",) if shared else ()), "W", "act.", *(_SHORT[use] for use in uses))
    table = _table(*headings, "kWh/d", numbers=3, wide=2)
    for line in _first(lines, top):
        gpu = line.row.gpu
        name = f"{gpu.node} {f'#{gpu.index}' if gpu.index else gpu.uuid[:12]} {line.row.key.part}".strip()
        activity = _NONE if line.activity is None else f"{line.activity:.0%}"
        time = (f"{line.share_of_time:.0%}",) if shared else ()
        shares = [Text(f"{line.shares[use]:.0%}" if line.shares[use] >= 0.005 else "", _STYLES[use]) for use in uses]
        kwh = f"{line.per_day.energy.best.kilowatt_hours:.2f}"
        holder = holder_name(line.workload)
        table.add_row(
            name, product_name(line.row.product), holder, *time, f"{line.watts.value:,.0f}", activity, *shares, kwh
        )
    return Group(table, *_more(len(lines), top))


_SHORT = {
    Use.USEFUL: "use",
    Use.UNDER_FILLED: "under",
    Use.LOADED_IDLE: "idle",
    Use.SPINNING: "spin",
    Use.UNALLOCATED: "free",
    Use.STANDBY: "stby",
    Use.UNKNOWN: "?",
}


def _unseen(told: Iterable[Unseen]) -> Table:
    table = Table.grid(padding=(0, 1))
    for one in told:
        text = Text(one.what, style="yellow")
        if one.where:
            text.append(f": {_some(one.where)}", style="dim")
        text.append(f"\n→ {one.to_do}", style="dim italic")
        table.add_row(" •", text)
    return table


def _foot(audit: Audit) -> Text:
    rates, hints = audit.rates, []
    pue = rates.pue
    bounds = "" if pue.low == pue.high else f" ({pue.low:g} to {pue.high:g})"
    text = f"Energy: GPU boards as metered. Money and carbon: that times PUE {pue.best:g}{bounds}; servers left out."
    if rates.intensity is None:
        hints.append("--zone DE or --intensity 350 for carbon")
    else:
        text += f" {rates.intensity.best.value:g} g CO2e/kWh: {rates.intensity_source}."
    if rates.price_per_kwh is None:
        hints.append("--price-per-kwh 0.30 --currency EUR for money")
    else:
        text += f" {rates.price_per_kwh:g} {rates.currency}/kWh.".replace("  ", " ")
    if hints:
        text += f" Add {' and '.join(hints)}."
    return Text(f"\n{text}", style="dim")


def _table(*headings: str, numbers: int, wide: int | None = None) -> Table:
    """From column `numbers` on they stand to the right; `wide` takes the room that is left and breaks its lines."""
    table = Table(*headings, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, expand=True, header_style="bold")
    for place, column in enumerate(table.columns):
        column.no_wrap = place != wide
        column.justify = "right" if place >= numbers else "left"
    if wide is not None:
        table.columns[wide].ratio = 1
    return table


def _title(words: str) -> Text:
    return Text(words, style="bold underline")


def _first(things: Sequence[T], top: int) -> Sequence[T]:
    return things[:top] if top else things


def _more(count: int, top: int) -> list[Text]:
    return [Text(f"  and {count - top} more: --top 0 shows all", style="dim")] if 0 < top < count else []


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _many(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
