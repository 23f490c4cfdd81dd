"""The books of a service as its status shows them: by period, per token and per request, with bounds."""

from __future__ import annotations

from fallow.api.conditions import Figure as Shown
from fallow.api.conditions import moment
from fallow.api.footprint import Footprint, Footprints, PerUnit, Tokens
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Ledger, Period, Span, together
from fallow.domain.units import Grams, Instant, Joules, Litres
from fallow.domain.workloads import ServiceKey
from fallow.domain.zones import Intensity

HOUR = 3600.0
MILLILITRES = 1000.0
METHOD = "energy counter differences at the GPU, host share and PUE on top, location-based; docs/methodology.md"
DIGITS = 6


def footprints(ledger: Ledger, key: ServiceKey, intensity: Intensity | Missing, now: Instant) -> Footprints | None:
    """None as long as nothing was booked on the service."""
    books = ledger.service_books(key)
    if not books:
        return None
    periods = {span: together(books, span) for span in Span}
    total = periods[Span.TOTAL].account
    last_hour = periods[Span.LAST_HOUR]
    # an hour that ended before the service was first seen is not an hour without energy
    was_seen = periods[Span.TOTAL].start < last_hour.start + HOUR
    return Footprints(
        as_of=moment(now),
        last_hour=_footprint(last_hour, closed=True) if was_seen else None,
        today=_footprint(periods[Span.TODAY]),
        this_month=_footprint(periods[Span.THIS_MONTH]),
        total=_footprint(periods[Span.TOTAL]),
        method=METHOD,
        sources=["energy: dcgm-exporter counters, power where there is no counter", _source(intensity)],
        missing=_missing(total, intensity),
    )


def today(ledger: Ledger, key: ServiceKey) -> Account | None:
    books = ledger.service_books(key)
    return together(books, Span.TODAY).account if books else None


def _footprint(period: Period, *, closed: bool = False) -> Footprint:
    account = period.account
    energy = account.energy.best.value
    return Footprint(
        start=moment(period.start),
        end=moment(Instant(period.start + HOUR)) if closed else None,
        energy_wh=_watt_hours(account.energy),
        idle_energy_wh=_round(account.idle.watt_hours),
        idle_share=_round(min(account.idle.value / energy, 1.0)) if energy > 0 else None,
        facility_energy_wh=_watt_hours(account.facility),
        unpriced_energy_wh=_round(account.unpriced.watt_hours),
        unwatered_energy_wh=_round(account.unwatered.watt_hours),
        carbon_grams=_carbon(account),
        water_millilitres=_water(account),
        embodied_grams=_shown(account.embodied),
        tokens=Tokens(prompt=int(account.prompt_tokens), generated=int(account.generated_tokens)),
        requests=int(account.requests),
        per_token=_per(account, account.generated_tokens),
        per_request=_per(account, account.requests),
    )


def _per(account: Account, count: float) -> PerUnit | None:
    if count <= 0:
        return None
    return PerUnit(
        energy_joules=_shown(account.energy, 1 / count),
        carbon_grams=_carbon(account, 1 / count),
        water_millilitres=_water(account, 1 / count),
    )


def _carbon(account: Account, factor: float = 1.0) -> Shown | None:
    """Absent where none of the energy could be priced; zero where there was no energy."""
    unknown = account.facility.best.value > 0 and account.unpriced >= account.facility.best
    return None if unknown else _shown(account.carbon, factor)


def _water(account: Account, factor: float = 1.0) -> Shown | None:
    """Absent where no factor was known; what is known of it is shown, and `missing` says that it is incomplete."""
    unknown = account.unwatered.value > 0 and account.water.high.value == 0
    return None if unknown else _shown(account.water, MILLILITRES * factor)


def _watt_hours(figure: Figure[Joules]) -> Shown:
    return Shown(
        low=_round(figure.low.watt_hours), best=_round(figure.best.watt_hours), high=_round(figure.high.watt_hours)
    )


def _shown(figure: Figure[Grams] | Figure[Joules] | Figure[Litres], factor: float = 1.0) -> Shown:
    return Shown(
        low=_round(figure.low.value * factor),
        best=_round(figure.best.value * factor),
        high=_round(figure.high.value * factor),
    )


def _round(value: float) -> float:
    """Six significant digits: finer than any meter, and short to read."""
    return float(f"{value:.{DIGITS}g}")


def _source(intensity: Intensity | Missing) -> str:
    return "intensity: not known" if isinstance(intensity, Missing) else f"intensity: {intensity.source}"[:256]


def _missing(total: Account, intensity: Intensity | Missing) -> list[str]:
    remarks = []
    if isinstance(intensity, Missing):
        remarks.append(f"carbon is not counted now: {intensity}"[:256])
    if total.unpriced.value > 0:
        remarks.append(f"carbon leaves out {total.unpriced.watt_hours:.1f} Wh for which no intensity was known")
    if total.unwatered.value > 0:
        remarks.append(f"water is incomplete for {total.unwatered.watt_hours:.1f} Wh: a zone gives no water factor")
    return remarks
