"""The ledger as bytes: nothing that is booked on is lost on the way, and foreign bytes are refused in words."""

import gzip
import json
import random
import uuid
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.adapters.cluster.ledger_codec import Unreadable, decode, encode
from fallow.adapters.cluster.ledger_store import MOST_PARTS, PART_BYTES
from fallow.domain.figures import Figure
from fallow.domain.ledger import (
    Account,
    Baseline,
    Book,
    EngineMark,
    GpuMark,
    HeldPart,
    HostMark,
    Ledger,
    Level,
    LineKey,
    LineKind,
    Period,
    Spent,
)
from fallow.domain.readings import HostMeter, PodRef
from fallow.domain.units import Grams, Instant, Joules, Litres, Money, Quantity, Watts
from tests.support.metered import NOON

numbers = st.floats(0, 1e15, allow_subnormal=False)
instants = numbers.map(Instant)
words = st.text(min_size=1, max_size=8)
lines = st.builds(LineKey, st.sampled_from(LineKind), words, words, words, words)


def figures(unit: type[Quantity]) -> st.SearchStrategy[Figure]:  # type: ignore[type-arg]
    return st.tuples(numbers, numbers, numbers).map(lambda three: Figure(*map(unit, sorted(three))))


def some(empty: Any) -> st.SearchStrategy[Any]:
    """Values like the default of a field of an account, so that a new field is tested without being named here."""
    if isinstance(empty, Figure):
        return figures(type(empty.best))
    if isinstance(empty, dict):
        return st.dictionaries(st.sampled_from(["EUR", "USD"]), figures(Money), max_size=2)
    return numbers if isinstance(empty, float) else numbers.map(type(empty))


accounts = st.builds(Account, **{one.name: some(getattr(Account(), one.name)) for one in fields(Account)})
periods = st.builds(Period, instants, st.one_of(accounts, st.just(Account())))
books = st.builds(Book, periods, periods, periods, periods, periods)
meters = st.fixed_dictionaries({"joules": numbers.map(Joules)}) | st.fixed_dictionaries({"watts": numbers.map(Watts)})
parts = st.builds(HeldPart, lines, st.none() | st.builds(PodRef, words, words), words, st.floats(0, 1), st.booleans())
gpu_marks = st.builds(
    lambda meter, **rest: GpuMark(**({"joules": None} | meter | rest)),
    meters,
    at=instants,
    line=lines,
    holder=st.none() | st.builds(PodRef, words, words),
    node=words,
    worked=st.booleans(),
    away=st.booleans(),
    left=st.none() | instants,
    parts=st.lists(parts, max_size=3).map(tuple),
)
seen_engines = st.builds(
    EngineMark, instants, numbers, numbers, numbers, st.booleans(), lines, st.builds(PodRef, words, words)
)
host_marks = st.builds(
    HostMark, instants, st.dictionaries(words, numbers.map(Joules), max_size=3), st.sampled_from(HostMeter)
)
engine_marks = st.builds(EngineMark, instants, numbers, numbers, numbers, st.booleans()) | seen_engines
ledgers = st.builds(
    Ledger,
    since=instants,
    at=instants,
    gpus=st.dictionaries(words, gpu_marks, max_size=3),
    engines=st.dictionaries(words, engine_marks, max_size=3),
    books=st.dictionaries(lines, books, max_size=2),
    hosts=st.dictionaries(words, host_marks, max_size=2),
    resets=st.integers(0, 1000),
)


def amounts(account: Account) -> list[float]:
    """Every best amount of an account."""
    values = [getattr(account, one.name) for one in fields(Account) if one.name != "costs"]
    values += [account.costs[currency] for currency in sorted(account.costs)]
    plain = [value.best if isinstance(value, Figure) else value for value in values]
    return [value.value if isinstance(value, Quantity) else value for value in plain]


@given(st.tuples(*[st.floats(1e-6, 1e12)] * 3).map(sorted))
def test_no_bound_of_a_total_falls_with_a_restart(amounts: list[float]) -> None:
    low, best, high = map(Joules, amounts)
    period = Period(NOON, Account(energy=Figure(low, best, high)))
    line = LineKey(LineKind.UNALLOCATED)
    ledger = Ledger(since=NOON, at=NOON, books={line: Book(period, period, period, period, period)})
    after = decode(encode(ledger)).books[line].total.account.energy
    assert low.value <= after.low.value <= after.best.value == best.value
    assert high.value <= after.high.value


@settings(max_examples=100, deadline=None)
@given(ledgers)
def test_marks_and_totals_return_exactly_and_the_rest_nearly(ledger: Ledger) -> None:
    again = decode(encode(ledger))
    assert (again.since, again.at, again.resets) == (ledger.since, ledger.at, ledger.resets)
    assert again.gpus == ledger.gpus
    assert again.engines == ledger.engines
    assert again.hosts == ledger.hosts
    assert set(again.books) == set(ledger.books)
    for line, book in ledger.books.items():
        read = again.books[line]
        assert amounts(read.total.account) == amounts(book.total.account)
        for old, new in ((book.month, read.month), (book.day, read.day), (book.hour, read.hour)):
            assert new.start == old.start
            assert amounts(new.account) == pytest.approx(amounts(old.account), rel=1e-6)
            bounds, kept = old.account.carbon, new.account.carbon
            assert kept.low.value == pytest.approx(bounds.low.value, rel=1e-6)
            assert kept.high.value == pytest.approx(bounds.high.value, rel=1e-6)
        assert read.week is None


def test_what_budgets_count_returns_and_may_be_absent() -> None:
    period, line = Period(NOON), LineKey(LineKind.SERVICE, "llm", "chat", "bf16")
    week = Spent(NOON, Joules(123_456.7), Grams(89.25), Joules(10.5))
    book = Book(period, period, period, period, period, week=week, quarter=Spent(NOON), year=Spent(Instant(NOON - 5)))
    content = encode(Ledger(since=NOON, at=NOON, books={line: book}))

    again = decode(content).books[line]
    assert (again.week, again.quarter, again.year) == (book.week, book.quarter, book.year)
    raw = json.loads(gzip.decompress(content))
    del raw["spent"]
    assert decode(gzip.compress(json.dumps(raw).encode())).books[line].year is None


@settings(max_examples=30, deadline=None)
@given(ledgers)
def test_a_ledger_that_was_read_is_written_alike(ledger: Ledger) -> None:
    once = decode(encode(ledger))
    assert amounts_of(decode(encode(once))) == amounts_of(once)


levels = st.none() | st.builds(
    Level, st.floats(0.1, 2000).map(Watts), st.integers(1, 10**6), st.floats(0, 4e9).map(Instant)
)


@given(st.dictionaries(words, gpu_marks, max_size=4), st.lists(st.builds(Baseline, levels, levels), max_size=4))
def test_what_a_gpu_draws_at_rest_outlives_a_restart(marks: dict[str, GpuMark], known: list[Baseline]) -> None:
    baselines = dict(zip(marks, known, strict=False))
    again = decode(encode(Ledger(NOON, NOON, gpus=marks, baselines=baselines))).baselines
    assert set(again) == {gpu for gpu, one in baselines.items() if one != Baseline()}
    for gpu, one in again.items():
        for old, new in ((baselines[gpu].bare, one.bare), (baselines[gpu].loaded, one.loaded)):
            assert (old is None) == (new is None)
            if old is not None and new is not None:
                assert new.watts.value == pytest.approx(old.watts.value, abs=0.051)
                assert (new.samples, old.since - new.since < 86_400) == (old.samples, True)


def amounts_of(ledger: Ledger) -> list[list[float]]:
    return [amounts(period.account) for book in ledger.books.values() for period in (book.total, book.day, book.hour)]


def test_the_same_ledger_gives_the_same_bytes() -> None:
    ledger = Ledger(NOON, NOON, resets=3)
    assert encode(ledger) == encode(ledger)


def zipped(content: object) -> bytes:
    return gzip.compress(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "not gzipped JSON"),
        (gzip.compress(b"hello"), "not gzipped JSON"),
        (encode(Ledger(NOON, NOON))[:30], "not gzipped JSON"),
        (gzip.compress(b'{"schema":2,"since":NaN}'), "NaN is no amount"),
        (zipped([]), "schema None"),
        (zipped({"schema": 3}), "schema 3 where this version of Fallow reads schemas up to 2"),
        (zipped({"schema": 2}), "damaged: KeyError"),
        (
            zipped({"schema": 2, "since": 0, "at": 0, "resets": 0, "lines": [[1]], "gpus": {}}),
            "damaged: ValueError",
        ),
    ],
    ids=["text", "zipped text", "cut", "no number", "a list", "newer schema", "empty", "wrong rows"],
)
def test_bytes_that_are_no_ledger_are_refused_in_words(content: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        decode(content)


def large(gpus: int, services: int, variants: int) -> Ledger:
    """A cluster of 8-GPU nodes with noise in every number, as a counter has."""
    chance = random.Random(7)
    keys = [
        LineKey(LineKind.SERVICE, f"team-{number % 50}", f"service-{number}", variant)
        for number in range(services)
        for variant in ("bf16", "fp8")[:variants]
    ]

    def account(energy: float) -> Account:
        return Account(
            energy=Figure(Joules(energy * 0.95), Joules(energy), Joules(energy * 1.05)),
            parked=Joules(energy * chance.random()),
            facility=Figure(Joules(energy * 1.1), Joules(energy * 1.43), Joules(energy * 2.2)),
            carbon=Figure(Grams(energy * 1e-4), Grams(energy * 1.4e-4), Grams(energy * 2.6e-4)),
            water=Figure(Litres(energy * 1e-7), Litres(energy * 2.1e-7), Litres(energy * 4e-7)),
            embodied=Figure(Grams(energy * 1e-5), Grams(energy * 3.3e-5), Grams(energy * 7e-5)),
            prompt_tokens=float(chance.randrange(10**9)),
            generated_tokens=float(chance.randrange(10**9)),
            requests=float(chance.randrange(10**6)),
        )

    def book() -> Book:
        sizes = (1e10, 1e9, 1e8, 1e7, 1e7)
        total, month, day, hour, last = (Period(NOON, account(chance.uniform(0.1, 1) * size)) for size in sizes)
        return Book(total, month, day, hour, last)

    marks = {
        f"GPU-{uuid.UUID(int=chance.getrandbits(128))}": GpuMark(
            at=Instant(NOON + (number // 8) % 15 + 0.125),
            joules=Joules(chance.randrange(10**12) / 1000),
            line=keys[number % len(keys)],
            watts=Watts(chance.randrange(70_000, 700_000) / 1000),
            holder=PodRef(f"team-{number % 50}", f"service-{number % services}-{chance.getrandbits(48):x}"),
            node=f"node-{number // 8}",
        )
        for number in range(gpus)
    }
    engines = {
        str(uuid.UUID(int=chance.getrandbits(128))): EngineMark(
            NOON,
            chance.randrange(10**9),
            chance.randrange(10**9),
            chance.randrange(10**6),
            line=mark.line,
            pod=mark.holder,
        )
        for mark in list(marks.values())[::4]
    }

    def level(watts: float) -> Level:
        return Level(Watts(chance.gauss(watts, 5)), chance.randrange(1, 900), Instant(NOON - chance.randrange(10**7)))

    return Ledger(
        NOON,
        NOON,
        gpus=marks,
        engines=engines,
        books={key: book() for key in keys},
        baselines={gpu: Baseline(level(75), level(130)) for gpu in marks},
        hosts={
            f"node-{number}": HostMark(
                Instant(NOON + number % 15 + 0.25),
                {
                    f"{part}-{socket}": Joules(chance.randrange(262 * 10**9) / 10**6)
                    for part in ("package", "dram")
                    for socket in (0, 1)
                },
                HostMeter.RAPL,
            )
            for number in range(gpus // 8)
        },
    )


def test_ten_thousand_gpus_and_a_thousand_services_fit_into_a_few_objects() -> None:
    size = len(encode(large(10_000, 1000, 1)))
    print(f"10,000 GPUs, 2,500 engines, 1,000 lines: {size} bytes")  # noqa: T201 - the figure is quoted in the docs
    assert size < PART_BYTES * MOST_PARTS / 5


def test_a_ledger_of_the_first_schema_is_read() -> None:
    amounts = [[90.0, 0.9, 1.1], [130.0, 0.8, 1.4], 5.0, 0.1, 2.0, 30.0, 4.0, 3.0, 700.0, 800.0, 9.0]
    raw = {
        "schema": 1,
        "since": 0,
        "at": 60,
        "resets": 0,
        "lines": [["service", "llm", "chat", "bf16"]],
        "gpus": {"node-a": [["GPU-a", 60, 12.0, 0, None, ["llm", "chat-1"], 0]]},
        "engines": {"uid": [60, 700, 800, 9, 1, 0, "llm", "chat-1"]},
        "books": [[0, [0, *amounts], [0], [0], [0], [0]]],
    }
    ledger = decode(zipped(raw))
    (line,) = ledger.books
    total = ledger.books[line].total.account
    assert line == LineKey(LineKind.SERVICE, "llm", "chat", "bf16")
    assert (total.energy.best, total.idle, total.unpriced, total.unwatered) == tuple(map(Joules, (90, 30, 4, 3)))
    assert (total.prompt_tokens, total.generated_tokens, total.requests) == (700, 800, 9)
    assert ledger.engines["uid"].pod == PodRef("llm", "chat-1")
    assert ledger.gpus["GPU-a"].line == line
