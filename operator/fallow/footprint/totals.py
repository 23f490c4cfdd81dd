"""Reading the books: amounts of a service or of the cluster by period, and per token and request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Book, Ledger, LineKind, Period, Span, together
from fallow.domain.reasons import Reason
from fallow.domain.units import Joules, Quantity
from fallow.domain.workloads import ServiceKey

Q = TypeVar("Q", bound=Quantity)


def service_periods(ledger: Ledger, key: ServiceKey) -> Mapping[Span, Period]:
    """A service's periods, its variants summed; empty where nothing was ever booked on it."""
    return _together(ledger.service_books(key))


def kind_periods(ledger: Ledger, kind: LineKind) -> Mapping[Span, Period]:
    """The periods of all lines of one kind, such as the GPUs that nobody holds; empty where there is no such line."""
    return _together(book for line, book in ledger.books.items() if line.kind is kind)


def cluster_periods(ledger: Ledger) -> Mapping[Span, Period]:
    """The periods of the whole cluster: the sum of all lines."""
    return _together(ledger.books.values())


def energy_per_token(account: Account) -> Figure[Joules] | Missing:
    """R1: energy at the GPU per generated token, idle time and prompt work included."""
    return per(account.energy, account.generated_tokens, "generated token")


def energy_per_request(account: Account) -> Figure[Joules] | Missing:
    return per(account.energy, account.requests, "finished request")


def per(figure: Figure[Q], count: float, unit: str) -> Figure[Q] | Missing:
    """R1: an amount per unit of service; without a unit there is none, neither zero nor infinity."""
    if count <= 0:
        return Missing(Reason.NO_WORK, f"no {unit} in this period")
    return figure * (1 / count)


def idle_share(account: Account) -> float | Missing:
    """R2: the share of the energy that was used while no request was in work."""
    if account.energy.best.value <= 0:
        return Missing(Reason.NO_WORK, "no energy in this period")
    return account.idle / account.energy.best


def window_joules_per_token(
    earlier: Ledger, later: Ledger, key: ServiceKey, variant: str | None = None
) -> float | Missing:
    """R1 between two states of the ledger: best energy over generated tokens, of a service or one of its variants."""
    then, now = _total(earlier, key, variant), _total(later, key, variant)
    if now is None:
        return Missing(Reason.NO_HISTORY, f"nothing was booked on {key} yet")
    tokens = now.generated_tokens - (then.generated_tokens if then else 0.0)
    used = now.energy.best.value - (then.energy.best.value if then else 0.0)
    if tokens <= 0:
        return Missing(Reason.NO_WORK, f"{key} generated no token in the window")
    return used / tokens


def _total(ledger: Ledger, key: ServiceKey, variant: str | None) -> Account | None:
    accounts = [
        book.total.account
        for line, book in ledger.books.items()
        if line.service == key and (variant is None or line.variant == variant)
    ]
    return _sum(accounts) if accounts else None


def _together(books: Iterable[Book]) -> Mapping[Span, Period]:
    known = tuple(books)
    return {span: together(known, span) for span in Span} if known else {}


def _sum(accounts: Iterable[Account]) -> Account:
    return sum(accounts, start=Account())
