"""The books as statuses show them: of a service and of a zone, by period, per token and per request, with bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fallow.adapters.reports import gaps
from fallow.adapters.reports.texts import line
from fallow.api import footprint as api
from fallow.api.conditions import Figure as Shown
from fallow.api.conditions import moment
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Book, Ledger, LineKind, Period, Span, together
from fallow.domain.units import JOULES_PER_WH, Instant
from fallow.domain.workloads import Overhead, Service, ServiceKey
from fallow.domain.zones import Intensity

HOUR = 3600.0
MILLILITRES = 1000.0
METHOD = "fallow/2: counter differences at the GPU, split by what it did, host and PUE on top; docs/methodology.md"
# finer than any meter, and short to read; totals are added up by others and keep what they need for that
DIGITS, TOTAL_DIGITS = 6, 12
WH = 1 / JOULES_PER_WH


def footprints(
    ledger: Ledger, service: Service, intensity: Intensity | Missing, sources: Sequence[str] = ()
) -> api.Footprints | None:
    """None as long as nothing was booked on the service."""
    books = ledger.service_books(service.key)
    if not books:
        return None
    periods = {span: together(books, span) for span in Span}
    began, now = periods[Span.TOTAL].start, ledger.booked_until

    def closed(span: Span, following: Span) -> api.Footprint | None:
        """A period that ended before the service was first seen is not a period without energy."""
        end = periods[following].start
        return _footprint(periods[span], now, end=end) if began < end else None

    total = periods[Span.TOTAL]
    return api.Footprints(
        as_of=moment(now),
        time_zone=books[0].time_zone,
        last_hour=closed(Span.LAST_HOUR, Span.THIS_HOUR),
        today=_footprint(periods[Span.TODAY], now),
        yesterday=closed(Span.YESTERDAY, Span.TODAY),
        this_month=_footprint(periods[Span.THIS_MONTH], now),
        last_month=closed(Span.LAST_MONTH, Span.THIS_MONTH),
        total=_footprint(total, now, digits=TOTAL_DIGITS),
        overhead=None if service.overhead is None else _overhead(service.overhead),
        method=METHOD,
        sources=list(sources)[:16],
        missing=[*_missing(total.account, intensity), *gaps.told(ledger.gaps, periods[Span.TODAY].start)][:16],
    )


def today(ledger: Ledger, key: ServiceKey) -> Account | None:
    books = ledger.service_books(key)
    return together(books, Span.TODAY).account if books else None


def zone_footprints(ledger: Ledger) -> Mapping[str, api.ZoneFootprint]:
    """By name of the zone; the lines of nodes without one are under the empty name."""
    lines: dict[str, dict[LineKind, list[Book]]] = {}
    for key, book in ledger.books.items():
        lines.setdefault(key.zone, {}).setdefault(key.kind, []).append(book)
    return {zone: _zone_footprint(ledger.booked_until, kinds) for zone, kinds in lines.items()}


def _zone_footprint(now: Instant, kinds: Mapping[LineKind, Sequence[Book]]) -> api.ZoneFootprint:
    books = [book for of_kind in kinds.values() for book in of_kind]
    lines = {
        kind: _amounts(together(of_kind, Span.TOTAL), digits=TOTAL_DIGITS) for kind, of_kind in kinds.items() if of_kind
    }
    return api.ZoneFootprint(
        as_of=moment(now),
        today=_amounts(together(books, Span.TODAY)),
        this_month=_amounts(together(books, Span.THIS_MONTH)),
        total=_amounts(together(books, Span.TOTAL), digits=TOTAL_DIGITS),
        lines=api.Lines(
            services=lines.get(LineKind.SERVICE),
            foreign=lines.get(LineKind.FOREIGN),
            unallocated=lines.get(LineKind.UNALLOCATED),
            unattributed=lines.get(LineKind.UNATTRIBUTED),
        ),
    )


def _footprint(period: Period, now: Instant, *, end: Instant | None = None, digits: int = DIGITS) -> api.Footprint:
    account = period.account
    hours = ((now if end is None else end) - period.start) / HOUR
    cached = int(account.cached_prompt_tokens)
    return api.Footprint(
        **_fields(period, end=end, digits=digits),
        tokens=api.Tokens(
            prompt=int(account.prompt_tokens), cached_prompt=cached or None, generated=int(account.generated_tokens)
        ),
        requests=int(account.requests),
        per_token=_per(account, account.generated_tokens),
        per_request=_per(account, account.requests),
        sci=_sci(account, hours),
    )


def _amounts(period: Period, *, digits: int = DIGITS) -> api.Amounts:
    return api.Amounts(**_fields(period, end=None, digits=digits))


def _fields(period: Period, *, end: Instant | None, digits: int) -> dict[str, Any]:
    account = period.account
    energy = account.energy.best.value

    def wh(joules: Any) -> float:
        return _round(joules.watt_hours, digits)

    return {
        "start": moment(period.start),
        "end": None if end is None else moment(end),
        "energy_wh": _shown(account.energy, WH, digits),
        "parts_wh": api.EnergyParts(
            useful=wh(account.useful),
            underfilled=wh(account.underfilled),
            loaded_idle=wh(account.parked),
            bare=wh(account.bare),
            starting=wh(account.starting),
        ),
        "idle_energy_wh": wh(account.idle),
        "idle_share": _share(account.idle.value, energy),
        "measured_share": _share(energy - account.modelled.value, energy),
        "host_energy_wh": _shown(account.host, WH, digits),
        "facility_energy_wh": _shown(account.facility, WH, digits),
        "unpriced_energy_wh": wh(account.unpriced),
        "unwatered_energy_wh": wh(account.unwatered),
        "carbon_grams": _carbon(account, digits=digits),
        "market_carbon_grams": _shown(account.market_carbon, 1, digits) if _is_marketed(account) else None,
        "unmarketed_energy_wh": wh(account.unmarketed) if _is_marketed(account) else None,
        "water_millilitres": _water(account, digits=digits),
        "embodied_grams": _shown(account.embodied, 1, digits),
        "cost": [
            api.Cost(currency=currency, amount=_shown(amount, 1, digits))
            for currency, amount in sorted(account.costs.items())
        ],
        "uncosted_energy_wh": wh(account.uncosted) if account.costs else None,
    }


def _share(part: float, whole: float) -> float | None:
    return _round(min(max(part / whole, 0.0), 1.0)) if whole > 0 else None


def _is_marketed(account: Account) -> bool:
    return account.facility.best.value > 0 and account.unmarketed < account.facility.best


def _per(account: Account, count: float) -> api.PerUnit | None:
    if count <= 0:
        return None
    return api.PerUnit(
        energy_joules=_shown(account.energy, 1 / count),
        carbon_grams=_carbon(account, 1 / count),
        water_millilitres=_water(account, 1 / count),
    )


def _sci(account: Account, hours: float) -> api.Sci | None:
    """R3: operational emissions and manufacture per unit (SCI); absent while any of it is unpriced."""
    if account.unpriced.value > 0:
        return None
    everything = account.carbon + account.embodied

    def per(count: float) -> Shown | None:
        return _shown(everything, 1 / count) if count > 0 else None

    return api.Sci(
        per_token=per(account.generated_tokens), per_request=per(account.requests), per_service_hour=per(hours)
    )


def _overhead(declared: Overhead) -> api.Overhead:
    energy, carbon = declared.energy_per_token, declared.carbon_per_token
    return api.Overhead(
        energy_joules_per_token=None if energy is None else _shown(energy),
        carbon_grams_per_token=None if carbon is None else _shown(carbon),
    )


def _carbon(account: Account, factor: float = 1.0, digits: int = DIGITS) -> Shown | None:
    """Absent where none of the energy could be priced; zero where there was no energy."""
    unknown = account.facility.best.value > 0 and account.unpriced >= account.facility.best
    return None if unknown else _shown(account.carbon, factor, digits)


def _water(account: Account, factor: float = 1.0, digits: int = DIGITS) -> Shown | None:
    """Absent where no factor was known; what is known of it is shown, and `missing` says that it is incomplete."""
    unknown = account.unwatered.value > 0 and account.water.high.value == 0
    return None if unknown else _shown(account.water, MILLILITRES * factor, digits)


def _shown(figure: Figure[Any], factor: float = 1.0, digits: int = DIGITS) -> Shown:
    return Shown(
        low=_round(figure.low.value * factor, digits),
        best=_round(figure.best.value * factor, digits),
        high=_round(figure.high.value * factor, digits),
    )


def _round(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")


def _missing(total: Account, intensity: Intensity | Missing) -> list[str]:
    remarks = []
    if isinstance(intensity, Missing):
        remarks.append(line(f"carbon is not counted now: {intensity}"))
    if total.unpriced.value > 0:
        remarks.append(f"carbon leaves out {total.unpriced.watt_hours:.1f} Wh for which no intensity was known")
    if total.unwatered.value > 0:
        remarks.append(f"water is incomplete for {total.unwatered.watt_hours:.1f} Wh: a zone gives no water factor")
    if _is_marketed(total) and total.unmarketed.value > 0:
        remarks.append(f"market-based carbon leaves out {total.unmarketed.watt_hours:.1f} Wh without a contract")
    if total.costs and total.uncosted.value > 0:
        remarks.append(f"cost leaves out {total.uncosted.watt_hours:.1f} Wh for which no price was known")
    if total.modelled.value > 0:
        remarks.append(f"{total.modelled.watt_hours:.1f} Wh at the GPU are modelled: no counter measured them")
    if total.apportioned.value > 0:
        remarks.append(
            f"{total.apportioned.watt_hours:.1f} Wh of shared GPUs were split by a rule, for want of a meter"
        )
    return remarks
