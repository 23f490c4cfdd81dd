"""The statement of a period: rows add up, waste is ranked, goals are measured, and what is not known is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Bounds, Figure, Missing
from fallow.domain.goals import Budget, BudgetPeriod, Measure, Target
from fallow.domain.history import Day, History
from fallow.domain.ledger import Account, LineKey, LineKind
from fallow.domain.reasons import Reason
from fallow.domain.units import Grams, Instant, Joules
from fallow.domain.workloads import ServiceKey
from fallow.footprint.statement import By, Progress, Standing, sci, statement

CHAT = LineKey(LineKind.SERVICE, "llm", "chat", "bf16", "north")
CHAT_FP8 = LineKey(LineKind.SERVICE, "llm", "chat", "fp8", "north")
DOCS = LineKey(LineKind.SERVICE, "docs", "search", "bf16", "south")
LAB = LineKey(LineKind.FOREIGN, "lab", zone="north")
FREE = LineKey(LineKind.UNALLOCATED, zone="north")
POLICIES = {ServiceKey("llm", "chat"): "green", ServiceKey("docs", "search"): "green"}


def account(kwh: float, *, tokens: float = 0, idle: float = 0, unpriced: float = 0, modelled: float = 0) -> Account:
    """Carbon at 300 g/kWh of the GPU's energy, which is the facility's here."""
    energy = Figure.around(Joules(kwh * 3.6e6), Bounds(0.95, 1.05))
    return Account(
        energy=energy,
        facility=energy,
        parked=Joules(idle * 3.6e6),
        unpriced=Joules(unpriced * 3.6e6),
        modelled=Joules(modelled * 3.6e6),
        carbon=Figure.around(Grams(kwh * 300), Bounds(0.9, 1.1)),
        embodied=Figure.exact(Grams(kwh * 10)),
        generated_tokens=tokens,
        requests=tokens / 100,
    )


def day(number: int, accounts: dict[LineKey, Account], seen: float = 1.0, month: str = "2026-11") -> Day:
    start = Instant(number * 86_400.0)
    return Day(f"{month}-{number:02}", start, Instant(start + 86_400), accounts, seen)


def history(*days: Day, **parts: object) -> History:
    return History(days, policies=POLICIES, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (By.CLUSTER, ["cluster"]),
        (By.NAMESPACE, ["llm", "lab", "docs", "held by nobody"]),
        (By.SERVICE, ["llm/chat", "other pods in lab", "docs/search", "held by nobody"]),
        (By.POLICY, ["green", "other pods in lab", "held by nobody"]),
    ],
)
def test_rows_are_named_by_what_is_asked_for_the_largest_first(by: By, names: list[str]) -> None:
    used = {CHAT: account(5), CHAT_FP8: account(4), DOCS: account(2), LAB: account(3), FREE: account(1)}
    assert [row.name for row in statement(history(day(1, used)), by).rows] == names


amounts = st.floats(0, 1e6)


@given(st.lists(st.dictionaries(st.sampled_from([CHAT, CHAT_FP8, DOCS, LAB, FREE]), amounts), min_size=1, max_size=5))
def test_rows_and_days_add_up_to_the_total(days: list[dict[LineKey, float]]) -> None:
    past = history(
        *(day(number, {line: account(kwh) for line, kwh in used.items()}) for number, used in enumerate(days))
    )
    whole = sum(sum(used.values()) for used in days)
    for by in By:
        found = statement(past, by)
        assert found.total.account.energy.best.kilowatt_hours == pytest.approx(whole, rel=1e-9)
        assert sum(row.account.energy.best.kilowatt_hours for row in found.rows) == pytest.approx(whole, rel=1e-9)
        for row in (*found.rows, found.total):
            parts = sum(one.energy.best.kilowatt_hours for one in row.days)
            assert parts == pytest.approx(row.account.energy.best.kilowatt_hours, rel=1e-9)


def test_waste_is_ranked_by_its_energy_and_not_by_its_share() -> None:
    used = {CHAT: account(100, idle=20), DOCS: account(10, idle=9), LAB: account(50)}
    found = statement(history(day(1, used)), By.SERVICE).waste
    assert [waste.name for waste in found] == ["llm/chat", "docs/search"]
    assert [waste.joules.kilowatt_hours for waste in found] == pytest.approx([20, 9])


def test_the_period_before_is_shown_beside_each_row() -> None:
    now, before = history(day(1, {CHAT: account(5)})), history(day(1, {CHAT: account(8), LAB: account(1)}))
    found = statement(now, By.SERVICE, before=before)
    assert found.rows[0].before is not None
    assert found.rows[0].before.energy.best.kilowatt_hours == pytest.approx(8)
    assert found.total.before is not None
    assert found.total.before.energy.best.kilowatt_hours == pytest.approx(9)
    assert statement(now, By.SERVICE).total.before is None


def target(reduce: float = 0.3) -> Target:
    return Target("green", Measure.CARBON_PER_TOKEN, reduce, "2026-01", "2027-01")


@pytest.mark.parametrize(
    ("tokens", "standing"),
    [(2000, Standing.MET), (1400, Standing.ON_TRACK), (1100, Standing.BEHIND), (900, Standing.BEHIND)],
)
def test_a_target_is_measured_against_its_first_month(tokens: float, standing: Standing) -> None:
    """After ten of twelve months 25 % of the 30 % are due; foreign energy does not count."""
    then = history(day(1, {CHAT: account(10, tokens=1000), LAB: account(99)}, month="2026-01"))
    now = history(day(1, {CHAT: account(10, tokens=tokens)}), targets=(target(),))
    (progress,) = statement(now, By.CLUSTER, references={"2026-01": then}, month="2026-11").progress
    assert isinstance(progress, Progress)
    assert progress.due == pytest.approx(0.25)
    assert progress.reached == pytest.approx(1 - 1000 / tokens)
    assert progress.standing is standing


@pytest.mark.parametrize(
    ("references", "tokens", "reason"),
    [({}, 100, Reason.NO_HISTORY), ({"2026-01": history(day(1, {CHAT: account(1, tokens=5)}))}, 0, Reason.NO_WORK)],
    ids=["first month forgotten", "no token now"],
)
def test_a_target_that_cannot_be_measured_says_why(
    references: dict[str, History], tokens: float, reason: Reason
) -> None:
    now = history(day(1, {CHAT: account(10, tokens=tokens)}), targets=(target(),))
    (progress,) = statement(now, By.CLUSTER, references=references, month="2026-11").progress
    assert not isinstance(progress, Progress)
    assert progress[1].reason is reason


def test_a_monthly_budget_is_used_up_by_the_sum_and_a_daily_one_by_its_worst_day() -> None:
    budgets = (
        Budget("green", BudgetPeriod.MONTH, carbon=Grams(6000)),
        Budget("green", BudgetPeriod.DAY, energy=Joules(6 * 3.6e6)),
        Budget("other", BudgetPeriod.MONTH, carbon=Grams(1)),
    )
    past = history(day(1, {CHAT: account(5)}), day(2, {CHAT: account(7), LAB: account(90)}), budgets=budgets)
    month, daily, other = statement(past, By.CLUSTER).burns
    assert [month.unit, daily.unit] == ["kgCO2e", "kWh"]
    assert [month.used, month.share, daily.used, daily.over] == pytest.approx([3.6, 0.6, 7, 1])
    assert other.used == 0


def test_gaps_are_stated() -> None:
    used = {CHAT: account(10, unpriced=2, modelled=1)}
    gaps = statement(history(day(1, used, seen=0.5), day(2, used), remarks=("retention",)), By.CLUSTER).gaps
    assert gaps[0] == "2026-11-01: Fallow was seen 50% of the time; its counters cover the rest"
    assert gaps[1] == "10.0% of the energy was not measured by a counter"
    assert gaps[2] == "4 kWh of 20 has no carbon intensity and is not in the emissions"
    assert gaps[-1] == "retention"


def test_a_history_without_days_is_refused() -> None:
    with pytest.raises(ValueError, match="no day"):
        statement(history(), By.CLUSTER)


def test_sci_counts_use_and_manufacture_by_unit_and_needs_both() -> None:
    used = account(10, tokens=1000)
    figure = sci(used, used.generated_tokens, "generated token")
    assert isinstance(figure, Figure)
    assert figure.best == Grams((3000 + 100) / 1000)
    assert isinstance(sci(used, 0, "generated token"), Missing)
    assert isinstance(sci(account(10, tokens=5, unpriced=1), 5, "generated token"), Missing)
