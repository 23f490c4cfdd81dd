"""Two hours with kills, outages, resets, lost labels and shared GPUs: the books hold against the twin's true energy.

The figures of the run are printed with `pytest -s`.
"""

from __future__ import annotations

import asyncio
from functools import reduce
from operator import add

import pytest

from fallow.domain.figures import Figure
from fallow.domain.ledger import LineKey, LineKind
from fallow.domain.units import Joules
from fallow.footprint.bookkeeping import book
from fallow.twin.physics.constants import PACKAGE_RANGE_JOULES
from tests.accounting.run import Run, Truth, booked, truth

pytestmark = pytest.mark.long

WH = 3600.0


def energy(run: Run) -> Figure[Joules]:
    return reduce(add, (account.energy for account in booked(run.operator.ledger).values()))


def host_energy(run: Run) -> Figure[Joules]:
    return reduce(add, (account.host for account in booked(run.operator.ledger).values()))


def true_host_joules(run: Run) -> float:
    return sum(host.joules for host in run.stage.world.fleet.hosts.values())


def true_joules(run: Run) -> float:
    return sum(gpu.joules for gpu in run.stage.world.fleet.gpus())


def table(run: Run) -> str:
    """Each line with its truth, in Wh, and its tokens."""
    true, books = truth(run), booked(run.operator.ledger)
    total, exact = energy(run), true_joules(run)
    happened = ", ".join(f"{count} {what}" for what, count in sorted(run.happened.items()))
    rows = [
        f"\nseed {run.seed}, {run.seconds / 60:.0f} min, {len(run.seen)} engines: {happened}",
        f"{'line':42}{'true Wh':>10}{'low':>10}{'booked':>10}{'high':>10}{'true tokens':>13}{'booked':>10}",
    ]
    for line in sorted({*true, *books}):
        known, account = true.get(line, Truth()), books.get(line)
        name = f"{line.kind} {line.namespace} {line.name} {line.zone}"
        amounts = (0.0, 0.0, 0.0, 0.0)
        if account is not None:
            used = account.energy
            amounts = (used.low.value, used.best.value, used.high.value, account.generated_tokens)
        low, best, high, tokens = amounts
        rows.append(
            f"{name:42}{known.joules / WH:10.1f}{low / WH:10.1f}{best / WH:10.1f}{high / WH:10.1f}"
            f"{known.generated_tokens:13.0f}{tokens:10.0f}"
        )
    low, best, high = total.low.value / WH, total.best.value / WH, total.high.value / WH
    rows.append(f"{'all':42}{exact / WH:10.1f}{low:10.1f}{best:10.1f}{high:10.1f}  {best * WH / exact - 1:+.3%}")
    return "\n".join(rows)


@pytest.fixture(scope="module")
def run() -> Run:
    """One run for all tests of this module: it takes seconds."""
    run = Run(seed=1)
    asyncio.run(run.live())
    print(table(run))  # noqa: T201 -- the table that -s shows
    return run


def test_every_kind_of_misfortune_happened(run: Run) -> None:
    assert run.operator.kills == 8
    assert run.happened["times Prometheus was down"] == run.happened["times Prometheus could not be asked"] == 1
    assert run.happened["counters reset"] + run.happened["drivers reloaded"] == 4
    assert run.happened["exporter no_pod_labels"] == 4
    assert run.happened["pods gone"] > 50
    assert run.operator.ledger.resets > 0


def test_the_booked_total_is_the_integral_of_true_power_within_one_percent(run: Run) -> None:
    assert energy(run).best.value == pytest.approx(true_joules(run), rel=0.01)


def test_the_bounds_of_the_total_contain_the_truth(run: Run) -> None:
    total = energy(run)
    assert total.low.value <= true_joules(run) <= total.high.value


@pytest.mark.parametrize("zone", ["north", "south"])
def test_the_bounds_of_each_zone_contain_the_truth(run: Run, zone: str) -> None:
    true = sum(known.joules for line, known in truth(run).items() if line.zone == zone)
    booked_there = [account.energy for line, account in booked(run.operator.ledger).items() if line.zone == zone]
    total = reduce(add, booked_there)
    assert total.low.value <= true <= total.high.value


def test_the_bounds_of_the_hosts_energy_contain_the_truth(run: Run) -> None:
    """While nobody could read the meters, which run over every half hour, declared watts stood in."""
    used = host_energy(run)
    assert used.low.value <= true_host_joules(run) <= used.high.value
    assert used.best.value == pytest.approx(true_host_joules(run), rel=0.1)


def test_kills_cost_next_to_nothing(run: Run) -> None:
    """Another operator, that nobody killed, saw the same."""
    steady = sum(account.energy.best.value for account in booked(run.steady.ledger).values())
    assert energy(run).best.value == pytest.approx(steady, rel=0.005)


@pytest.mark.parametrize("who", ["steady", "operator"])
def test_every_token_that_was_scraped_is_booked_once_and_none_twice(run: Run, who: str) -> None:
    """An outage is read back every half minute: the last words of a pod that went meanwhile may be missed."""
    true, books = truth(run), booked(getattr(run, who).ledger)
    for line, readable in run.readable().items():
        assert readable.generated_tokens <= true[line].generated_tokens
        for counted in ("generated_tokens", "prompt_tokens"):
            most = getattr(readable, counted)
            assert 0.99 * most <= getattr(books[line], counted) <= most + 1e-6
    assert {line for line, account in books.items() if account.generated_tokens} == set(run.readable())


def test_the_same_readings_again_add_nothing(run: Run) -> None:
    again = book(run.operator.ledger, asyncio.run(run.look()))
    assert booked(again) == booked(run.operator.ledger)


def test_no_line_is_charged_more_than_its_truth_and_what_nobody_can_tell_is_told(run: Run) -> None:
    """Where labels were lost, a line may lack what is unattributed in its zone; it must not have more than it used."""
    true, books = truth(run), booked(run.operator.ledger)
    lost = {
        line.zone: account.energy.high.value for line, account in books.items() if line.kind is LineKind.UNATTRIBUTED
    }
    outside = {
        line: (books[line].energy.low.value / WH, known.joules / WH, books[line].energy.high.value / WH)
        for line, known in true.items()
        if line in books
        and not books[line].energy.low.value <= known.joules <= books[line].energy.high.value + lost.get(line.zone, 0.0)
    }
    assert outside == {}


SHARED = [
    LineKey(LineKind.SERVICE, "llm", "tiny", "awq", "north"),
    LineKey(LineKind.SERVICE, "llm", "mid", "fp8", "north"),
    LineKey(LineKind.SERVICE, "llm", "draft", "int4", "north"),
    LineKey(LineKind.SERVICE, "llm", "draft", "int4", "south"),
]


@pytest.fixture(scope="module")
def calm() -> Run:
    """Pods come and go and nothing fails."""
    run = Run(seed=3, seconds=1800, calm=True)
    asyncio.run(run.live())
    print(table(run))  # noqa: T201 -- the table that -s shows
    return run


def test_without_misfortune_the_total_is_exact_and_every_token_is_booked(calm: Run) -> None:
    assert energy(calm).best.value == pytest.approx(true_joules(calm), rel=1e-4)
    books = booked(calm.operator.ledger)
    for line, known in truth(calm).items():
        if line.kind is LineKind.SERVICE:
            assert books[line].generated_tokens == known.generated_tokens


def test_without_misfortune_the_hosts_energy_is_exact_over_the_end_of_rapls_registers(calm: Run) -> None:
    assert host_energy(calm).best.value == pytest.approx(true_host_joules(calm), rel=1e-4)
    per_package = max(host.package_joules for host in calm.stage.world.fleet.hosts.values())
    assert per_package > PACKAGE_RANGE_JOULES


def test_without_misfortune_the_bounds_of_every_line_contain_its_truth(calm: Run) -> None:
    true, books = truth(calm), booked(calm.operator.ledger)
    outside = {
        line: (books[line].energy.low.value / WH, known.joules / WH, books[line].energy.high.value / WH)
        for line, known in true.items()
        if line not in books or not books[line].energy.low.value <= known.joules <= books[line].energy.high.value
    }
    assert outside == {}


@pytest.mark.parametrize("line", SHARED, ids=lambda line: f"{line.name} {line.zone}")
def test_a_part_of_a_gpu_is_charged_what_it_used_within_its_bounds(calm: Run, line: LineKey) -> None:
    known, used = truth(calm)[line], booked(calm.operator.ledger)[line].energy
    assert used.low.value <= known.joules <= used.high.value
