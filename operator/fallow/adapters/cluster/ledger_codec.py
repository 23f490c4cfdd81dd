"""The ledger as bytes and back: JSON with short rows, gzipped, with the version of the schema.

Marks and totals are kept exactly, but for the power of a GPU with a counter, which a next sample gives again;
the amounts of calendar periods are kept to 7 digits, and bounds to 8, rounded so that none falls.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeVar

from fallow.adapters.cluster import learned_codec
from fallow.domain.figures import Figure
from fallow.domain.ledger import (
    Account,
    Baseline,
    Book,
    EngineMark,
    Filling,
    Gap,
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

SCHEMA = 2
DAY = 86_400.0
# what an account's row holds, in this order; a later schema only appends
_FIGURES: tuple[tuple[str, type[Quantity]], ...] = (
    ("energy", Joules),
    ("facility", Joules),
    ("carbon", Grams),
    ("water", Litres),
    ("embodied", Grams),
    ("host", Joules),
    ("market_carbon", Grams),
    ("avoided_replicas", Joules),
    ("avoided_rest", Joules),
    ("avoided_precision", Joules),
    ("avoided_other", Joules),
    ("avoided_carbon", Grams),
)
_AMOUNTS = (
    "bare",
    "parked",
    "underfilled",
    "starting",
    "modelled",
    "unpriced",
    "unwatered",
    "unmarketed",
    "uncosted",
    "compared",
    "avoided_unpriced",
    "weighed",
    "apportioned",
)
_COUNTS = ("prompt_tokens", "cached_prompt_tokens", "generated_tokens", "iterations", "requests")

Q = TypeVar("Q", bound=Quantity)
Round = Callable[[float], float]


class Unreadable(ValueError):
    """Bytes that are no ledger of this version; the message says what they are instead."""


def encode(ledger: Ledger) -> bytes:
    holders = {mark.line for mark in ledger.engines.values() if mark.line is not None}
    held = {part.line for mark in ledger.gpus.values() for part in mark.parts}
    lines = sorted({*ledger.books, *holders, *held, *(mark.line for mark in ledger.gpus.values())})
    index = {line: number for number, line in enumerate(lines)}
    gpus: dict[str, list[list[Any]]] = defaultdict(list)
    for uuid, mark in ledger.gpus.items():
        gpus[mark.node].append([uuid, *_gpu_row(mark, index)])
    content = {
        "schema": SCHEMA,
        "since": ledger.since,
        "at": ledger.at,
        "resets": ledger.resets,
        "learned": learned_codec.learned_rows(ledger),
        "learnedFurther": learned_codec.further_rows(ledger),
        "counterfactuals": learned_codec.counterfactual_rows(ledger),
        "habits": learned_codec.habit_rows(ledger),
        "gaps": [[gap.start, gap.end, gap.filled] for gap in ledger.gaps],
        "lines": [[line.kind, line.namespace, line.name, line.variant, line.zone] for line in lines],
        "gpus": gpus,
        "engines": {uid: _engine_row(mark, index) for uid, mark in ledger.engines.items()},
        "books": [[index[line], *_book_row(book)] for line, book in ledger.books.items()],
        "spent": [[index[line], *_spent_rows(book)] for line, book in ledger.books.items() if book.year is not None],
        "hosts": {node: _host_row(mark) for node, mark in ledger.hosts.items()},
        "baselines": _baseline_columns([ledger.baselines.get(row[0]) for rows in gpus.values() for row in rows]),
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    # no time stamp: the same ledger gives the same bytes
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def decode(content: bytes) -> Ledger:
    """The ledger, without the store's version; raises Unreadable."""
    try:
        raw = json.loads(gzip.decompress(content), parse_constant=_refuse_constant)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise Unreadable(f"not gzipped JSON: {error}") from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema not in {SCHEMA, *UPGRADES}:
        raise Unreadable(f"schema {schema!r} where this version of Fallow reads schemas up to {SCHEMA}")
    try:
        for older in range(schema, SCHEMA):
            UPGRADES[older](raw)
        return _ledger(raw)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Unreadable(f"damaged: {type(error).__name__}: {error}") from error


def _ledger(raw: dict[str, Any]) -> Ledger:
    lines = [LineKey(LineKind(kind), *names) for kind, *names in raw["lines"]]
    return Ledger(
        since=Instant(float(raw["since"])),
        at=Instant(float(raw["at"])),
        gpus={str(row[0]): _gpu_mark(row, node, lines) for node, rows in raw["gpus"].items() for row in rows},
        engines={str(uid): _engine_mark(row, lines) for uid, row in raw["engines"].items()},
        books=_books(raw, lines),
        hosts={str(node): _host_mark(row) for node, row in raw.get("hosts", {}).items()},
        baselines=_baselines([str(row[0]) for rows in raw["gpus"].values() for row in rows], raw.get("baselines", [])),
        resets=int(raw["resets"]),
        learned=learned_codec.learned(raw.get("learned", []), raw.get("learnedFurther", [])),
        counterfactuals=learned_codec.counterfactuals(raw.get("counterfactuals", [])),
        habits=learned_codec.habits(raw.get("habits", [])),
        gaps=tuple(Gap(Instant(float(gap[0])), Instant(float(gap[1])), Filling(gap[2])) for gap in raw["gaps"]),
    )


def _engine_row(mark: EngineMark, index: dict[LineKey, int]) -> list[Any]:
    row: list[Any] = [mark.at, mark.prompt_tokens, mark.generated_tokens, mark.requests, int(mark.working)]
    row += [mark.cached_prompt_tokens, mark.iterations]
    if mark.line is None or mark.pod is None:
        return row
    return [*row, index[mark.line], mark.pod.namespace, mark.pod.name]


def _engine_mark(row: list[Any], lines: list[LineKey]) -> EngineMark:
    at, prompt, generated, requests, working, cached, iterations, *whose = row
    mark = EngineMark(
        at=Instant(float(at)),
        prompt_tokens=float(prompt),
        generated_tokens=float(generated),
        requests=float(requests),
        working=bool(working),
        cached_prompt_tokens=None if cached is None else float(cached),
        iterations=None if iterations is None else float(iterations),
    )
    if not whose:
        return mark
    line, namespace, name = whose
    return replace(mark, line=lines[line], pod=PodRef(namespace, name))


def _gpu_row(mark: GpuMark, index: dict[LineKey, int]) -> list[Any]:
    """What is at the end is left out of a GPU that one pod holds and still does, as nearly all are."""
    row = [
        mark.at,
        None if mark.joules is None else mark.joules.value,
        index[mark.line],
        mark.watts.value if mark.watts is not None and mark.joules is None else None,
        None if mark.holder is None else [mark.holder.namespace, mark.holder.name],
        int(mark.worked) + 2 * int(mark.away),
    ]
    if mark.parts:
        return [*row, mark.left, [_part_row(part, index) for part in mark.parts]]
    return row if mark.left is None else [*row, mark.left]


def _part_row(part: HeldPart, index: dict[LineKey, int]) -> list[Any]:
    row = [index[part.line], part.place, part.share, int(part.worked)]
    return row if part.holder is None else [*row, part.holder.namespace, part.holder.name]


def _part(row: list[Any], lines: list[LineKey]) -> HeldPart:
    line, place, share, worked, *holder = row
    return HeldPart(lines[line], PodRef(*holder) if holder else None, str(place), float(share), bool(worked))


def _gpu_mark(row: list[Any], node: str, lines: list[LineKey]) -> GpuMark:
    _, at, joules, line, watts, holder, meanwhile, *more = row
    left = more[0] if more else None
    return GpuMark(
        at=Instant(float(at)),
        joules=None if joules is None else Joules(float(joules)),
        line=lines[line],
        watts=None if watts is None else Watts(float(watts)),
        holder=None if holder is None else PodRef(*holder),
        node=node,
        worked=bool(meanwhile & 1),
        away=bool(meanwhile & 2),
        left=None if left is None else Instant(float(left)),
        parts=tuple(_part(one, lines) for one in more[1]) if len(more) > 1 else (),
    )


def _host_row(mark: HostMark) -> list[Any]:
    return [mark.at, mark.meter, {name: joules.value for name, joules in sorted(mark.counters.items())}]


def _host_mark(row: list[Any]) -> HostMark:
    at, meter, counters = row
    return HostMark(
        at=Instant(float(at)),
        counters={str(name): Joules(float(value)) for name, value in counters.items()},
        meter=HostMeter(meter),
    )


def _baseline_columns(baselines: Sequence[Baseline | None]) -> list[list[float]]:
    """Watts to 0.1 W, samples and day of the first, of the bare and of the loaded level; 0 where there is none.

    Columns over the GPUs in their order compress better than rows.
    """
    levels = [(one.bare, one.loaded) if one else (None, None) for one in baselines]
    if not any(bare or loaded for bare, loaded in levels):
        return []
    rows = [[*_level_cells(bare), *_level_cells(loaded)] for bare, loaded in levels]
    return [list(column) for column in zip(*rows, strict=True)]


def _level_cells(level: Level | None) -> tuple[float, int, int]:
    return (0, 0, 0) if level is None else (round(level.watts.value, 1), level.samples, int(level.since // DAY))


def _baselines(uuids: Sequence[str], columns: list[list[float]]) -> dict[str, Baseline]:
    if not columns:
        return {}
    rows = zip(uuids, *columns, strict=True)
    known = {uuid: Baseline(_level(*cells[:3]), _level(*cells[3:])) for uuid, *cells in rows}
    return {uuid: one for uuid, one in known.items() if one != Baseline()}


def _level(watts: float, samples: float, day: float) -> Level | None:
    return Level(Watts(float(watts)), int(samples), Instant(day * DAY)) if samples else None


def _book_row(book: Book) -> list[Any]:
    calendar = (book.month, book.day, book.hour, book.last_hour, book.yesterday, book.last_month)
    return [book.time_zone, _period_row(book.total, _exact), *(_period_row(one, _seven_digits) for one in calendar)]


def _book(rows: list[Any]) -> Book:
    time_zone, *periods = rows
    total, month, day, hour, last_hour, yesterday, last_month = map(_period, periods)
    return Book(total, month, day, hour, last_hour, yesterday, last_month, time_zone=str(time_zone))


def _books(raw: dict[str, Any], lines: list[LineKey]) -> dict[LineKey, Book]:
    """What is spent stands beside the books, where a Fallow that does not know of it leaves it aside."""
    spent = {row[0]: row[1:] for row in raw.get("spent", [])}
    books = {row[0]: _book(row[1:]) for row in raw["books"]}
    for number in spent.keys() & books.keys():
        week, quarter, year = map(_spent, spent[number])
        books[number] = replace(books[number], week=week, quarter=quarter, year=year)
    return {lines[number]: book for number, book in books.items()}


def _spent_rows(book: Book) -> list[list[float] | None]:
    return [None if one is None else _spent_row(one) for one in (book.week, book.quarter, book.year)]


def _spent_row(one: Spent) -> list[float]:
    """The start alone stands for nothing spent."""
    amounts = [one.facility.value, one.carbon.value, one.unpriced.value]
    return [one.start, *map(_seven_digits, amounts)] if any(amounts) else [one.start]


def _spent(row: list[float] | None) -> Spent | None:
    if row is None:
        return None
    start, *amounts = row
    facility, carbon, unpriced = amounts or (0.0, 0.0, 0.0)
    return Spent(Instant(float(start)), Joules(float(facility)), Grams(float(carbon)), Joules(float(unpriced)))


def _period_row(period: Period, rounded: Round) -> list[Any]:
    """The start alone stands for an empty account, which most of the hours are."""
    account = period.account
    if account == Account():
        return [period.start]
    return [
        period.start,
        *(_figure_row(getattr(account, name), rounded) for name, _ in _FIGURES),
        *(rounded(getattr(account, name).value) for name in _AMOUNTS),
        *(rounded(getattr(account, name)) for name in _COUNTS),
        {currency: _figure_row(figure, rounded) for currency, figure in sorted(account.costs.items())},
    ]


def _period(row: list[Any]) -> Period:
    start, *amounts = row
    if not amounts:
        return Period(Instant(float(start)))
    figures, rest = amounts[: len(_FIGURES)], amounts[len(_FIGURES) :]
    plain, counts, (costs,) = rest[: len(_AMOUNTS)], rest[len(_AMOUNTS) : -1], rest[-1:]
    values: dict[str, Any] = {
        **{name: _figure(raw, unit) for (name, unit), raw in zip(_FIGURES, figures, strict=True)},
        **{name: Joules(float(raw)) for name, raw in zip(_AMOUNTS, plain, strict=True)},
        **{name: float(raw) for name, raw in zip(_COUNTS, counts, strict=True)},
    }
    if costs:
        values["costs"] = {str(currency): _figure(raw, Money) for currency, raw in costs.items()}
    return Period(Instant(float(start)), Account(**values))


# below this a bound's ratio to the best value can overflow, so the bounds are written themselves
TINY = 1e-200


def _figure_row(figure: Figure[Any], rounded: Round) -> list[float] | float:
    """The best value with its bounds as ratios, which repeat and so compress; the value alone where it is exact."""
    best = figure.best.value
    if figure.low == figure.high:
        return rounded(best)
    if best < TINY:
        return [best, figure.low.value, figure.high.value]
    return [rounded(best), min(_ratio(figure.low.value, best), 1.0), _ratio(figure.high.value, best)]


def _ratio(bound: float, best: float) -> float:
    """Never below the true one: bounds are counters too, and one that fell with a restart would look like a reset."""
    ratio = float(f"{bound / best:.8g}")
    return ratio if best * ratio >= bound else float(f"{ratio * (1 + 1e-7):.8g}")


def _figure(row: list[float] | float, unit: Callable[[float], Q]) -> Figure[Q]:
    if not isinstance(row, list):
        return Figure.exact(unit(float(row)))
    best, low, high = row
    if best < TINY:
        return Figure(unit(float(low)), unit(float(best)), unit(float(high)))
    return Figure(unit(best * low), unit(float(best)), unit(best * high))


def _exact(value: float) -> float:
    return value


def _seven_digits(value: float) -> float:
    return float(f"{value:.7g}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no amount")


def _upgrade_1(raw: dict[str, Any]) -> None:
    """Schema 1 knew idle energy as a whole, which was drawn by loaded engines, no host share of its own, and UTC."""
    none = [0.0] * len(_AMOUNTS)
    for _, *periods in raw["books"]:
        for row in periods:
            if len(row) == 1:
                continue
            start, energy, facility, carbon, water, embodied, idle, unpriced, unwatered, prompt, generated, requests = (
                row
            )
            known = {"parked": idle, "unpriced": unpriced, "unwatered": unwatered}
            amounts = [known.get(name, zero) for name, zero in zip(_AMOUNTS, none, strict=True)]
            figures = [energy, facility, carbon, water, embodied]
            row[:] = [start, *figures, *[0.0] * (len(_FIGURES) - len(figures)), *amounts]
            row += [prompt, 0.0, generated, 0.0, requests, {}]
    for row in raw["books"]:
        row[1:1] = ["UTC"]
        row += [[0.0], [0.0]]
    for row in raw["engines"].values():
        row[5:5] = [None, None]
    raw["gaps"] = []


# from each older schema to the next one
UPGRADES: dict[int, Callable[[dict[str, Any]], None]] = {1: _upgrade_1}
