"""Ledger values: accounts add up field by field, books answer by period, lines know their service."""

from dataclasses import fields

import pytest

from fallow.domain.figures import Figure
from fallow.domain.ledger import Account, Book, Ledger, LineKey, LineKind, Period, Span
from fallow.domain.units import Instant, Joules, Money
from fallow.domain.workloads import ServiceKey


def test_every_amount_of_an_account_is_added() -> None:
    """A field that somebody adds and forgets in the sum would stay at its default."""
    values: dict[str, object] = {}
    for number, one in enumerate(fields(Account), start=1):
        empty = getattr(Account(), one.name)
        if isinstance(empty, Figure):
            unit = type(empty.best)
            values[one.name] = Figure(unit(number), unit(2 * number), unit(3 * number))
        elif isinstance(empty, dict):
            values[one.name] = {"EUR": Figure.exact(Money(number))}
        elif isinstance(empty, float):
            values[one.name] = float(number)
        else:
            values[one.name] = type(empty)(number)
    account = Account(**values)  # type: ignore[arg-type]
    twice = account + account
    assert twice.costs == {"EUR": account.costs["EUR"] * 2}
    for one in fields(Account):
        if one.name != "costs":
            assert getattr(twice, one.name) == getattr(account, one.name) * 2


def test_currencies_are_never_added_together() -> None:
    euros, dollars = (Account(costs={currency: Figure.exact(Money(5))}) for currency in ("EUR", "USD"))
    assert (euros + dollars).costs == {"EUR": Figure.exact(Money(5)), "USD": Figure.exact(Money(5))}


def test_a_book_answers_by_period() -> None:
    periods = {span: Period(Instant(number), Account(requests=number)) for number, span in enumerate(Span)}
    book = Book(
        total=periods[Span.TOTAL],
        month=periods[Span.THIS_MONTH],
        day=periods[Span.TODAY],
        hour=periods[Span.THIS_HOUR],
        last_hour=periods[Span.LAST_HOUR],
        yesterday=periods[Span.YESTERDAY],
        last_month=periods[Span.LAST_MONTH],
    )
    assert {span: book.period(span) for span in Span} == periods


@pytest.mark.parametrize("kind", [LineKind.FOREIGN, LineKind.UNALLOCATED, LineKind.UNATTRIBUTED])
def test_only_a_service_line_has_a_service(kind: LineKind) -> None:
    assert LineKey(kind, "llm", "chat").service is None
    assert LineKey(LineKind.SERVICE, "llm", "chat", "fp8").service == ServiceKey("llm", "chat")


def test_a_service_s_books_are_those_of_its_variants() -> None:
    def opened() -> Book:
        empty = Period(Instant(0))
        return Book(empty, empty, empty, empty, empty)

    bf16, fp8 = LineKey(LineKind.SERVICE, "llm", "chat", "bf16"), LineKey(LineKind.SERVICE, "llm", "chat", "fp8")
    other = LineKey(LineKind.SERVICE, "llm", "code", "bf16")
    ledger = Ledger(Instant(0), Instant(0), books={line: opened() for line in (bf16, fp8, other)})
    assert len(ledger.service_books(ServiceKey("llm", "chat"))) == 2
    assert Account().energy.best == Joules(0)
