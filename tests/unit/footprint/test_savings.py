"""Savings: the difference of two stated figures, split by cause, signed, never where something is not known."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.domain.counterfactual import BaselineKind, BaselineRule, Counterfactual, Demand, Terms
from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import Learned, Placement
from fallow.domain.ledger import Account, Book, Ledger, LineKey, LineKind, Period
from fallow.domain.units import Instant, Joules, Seconds
from fallow.domain.zones import ZoneReading
from fallow.footprint.bins import binned
from fallow.footprint.savings import DAY, WEEK, Situation, compared, counterfactual, rebound, total
from tests.support.builders import BF16, CHAT, FP8, H100, profile, service
from tests.support.learning import PLACEMENT, Traffic, engine_windows, learned, placed, served, window
from tests.support.metered import NOON, later, zone
from tests.support.twin import an_engine

BARE, LOADED = 71.8, 121.6
LINE = LineKey(LineKind.SERVICE, CHAT.namespace, CHAT.name, "bf16", "north")
FP8_LINE = LINE._replace(variant="fp8")
ZONES: dict[str, ZoneReading] = {"north": zone(grams=400)}
CYCLE = Seconds(15)


def exactly(joules: float) -> Figure[Joules]:
    return Figure(Joules(0.95 * joules), Joules(joules), Joules(1.05 * joules))


def book(account: Account) -> Book:
    period = Period(NOON, account)
    return Book(period, period, period, period, period)


def ledger(seconds: float, accounts: Mapping[LineKey, Account], **more: Any) -> Ledger:
    return Ledger(NOON, later(seconds), books={line: book(one) for line, one in accounts.items()}, **more)


def follower(running: int, *, rule: BaselineRule | None = None, minimum: int = 0, **more: Any) -> Counterfactual:
    terms = Terms(rule or BaselineRule(), "bf16", minimum, 8, target=10.0, declared_target=10.0)
    return Counterfactual(terms, 1, NOON, running, product=H100, **more)


def situation(held: Mapping[str, int], *, minimum: int = 0, rule: BaselineRule | None = None, **more: Any) -> Situation:
    return Situation(
        service=service(BF16, FP8, minimum=minimum, maximum=8),
        rule=rule or BaselineRule(),
        in_flight=5.0,
        target=10.0,
        held=held,
        product=H100,
        **more,
    )


def saved(
    one: Situation,
    running: int,
    *,
    used: Mapping[LineKey, Account] | None = None,
    seconds: float = CYCLE,
    zones: Mapping[str, ZoneReading] = ZONES,
    known: Mapping[Any, Learned] | None = None,
    **more: Any,
) -> Account | None:
    """What one cycle avoids where the baseline runs `running` replicas."""
    rule = {CHAT: follower(running, rule=one.rule, minimum=one.service.scaling.min_replicas, **more)}
    work = used or {LINE: Account(energy=exactly(LOADED * seconds * sum(one.held.values())))}
    before = ledger(0, dict.fromkeys(work, Account()), counterfactuals=rule, learned=known or {})
    after = ledger(seconds, work, counterfactuals=rule, learned=known or {})
    return compared(before, after, {CHAT: one}, zones)[1].get(LINE)


def certain(account: Account | None) -> Account:
    assert account is not None
    return account


def test_a_replica_less_saves_what_a_loaded_gpu_draws_above_an_empty_one() -> None:
    part = certain(saved(situation({"bf16": 2}), running=5)).avoided_replicas
    assert part.best.value == pytest.approx(3 * (LOADED - BARE) * CYCLE)
    assert part.low.value == pytest.approx(3 * (0.9 * LOADED - BARE) * CYCLE)
    # the machine of a GPU that is left may be turned off
    assert part.high.value == pytest.approx(3 * 1.4 * LOADED * CYCLE)


def test_replicas_of_the_baseline_keep_their_clocks_up_where_ours_let_them_fall() -> None:
    low = {Placement(CHAT, "bf16", H100): Learned(1, NOON, idle_watts=BARE + 1.0, idle_windows=50.0)}
    plain, throttled = (
        certain(saved(situation({"bf16": 2}, throttled=on), running=5, known=low)).avoided_replicas
        for on in (False, True)
    )
    assert plain.best.value == pytest.approx(3 * 1.0 * CYCLE)
    assert throttled.best.value == pytest.approx(3 * (LOADED - BARE) * CYCLE)


def test_where_the_baseline_would_have_run_the_same_nothing_is_saved() -> None:
    whole = total(certain(saved(situation({"bf16": 3}), running=3)).avoided)
    assert (whole.low.value, whole.best.value, whole.high.value) == (0, 0, 0)


def test_more_replicas_than_the_baseline_save_less_than_nothing() -> None:
    part = certain(saved(situation({"bf16": 4}), running=2)).avoided_replicas
    assert part.best.value == pytest.approx(-2 * (LOADED - BARE) * CYCLE)
    assert part.low.value < part.best.value < part.high.value <= 0


def test_rest_saves_the_last_replica_and_packing_the_others() -> None:
    account = certain(saved(situation({}, resting=True), running=3, used={LINE: Account()}))
    one = (LOADED - BARE) * CYCLE
    assert account.avoided_rest.best.value == pytest.approx(one)
    assert account.avoided_replicas.best.value == pytest.approx(2 * one)


def test_no_gpu_and_no_rest_is_no_saving() -> None:
    """Pods that wait for a place have not been saved."""
    assert saved(situation({}), running=3, used={LINE: Account()}) is None


def test_a_start_beyond_loaded_idle_is_taken_off_the_rest() -> None:
    used = {LINE: Account(energy=exactly(300 * CYCLE), starting=Joules(300 * CYCLE))}
    account = certain(saved(situation({"bf16": 1}, starting=1), running=1, used=used))
    assert account.avoided_rest.best.value == pytest.approx(-(300 - LOADED) * CYCLE)
    assert account.avoided_replicas.best.value == 0


def test_a_service_that_never_rests_pays_its_starts_under_replicas() -> None:
    used = {LINE: Account(energy=exactly(300 * CYCLE), starting=Joules(300 * CYCLE))}
    account = certain(saved(situation({"bf16": 1}, minimum=1, starting=1), running=1, used=used))
    assert account.avoided_replicas.best.value < 0
    assert account.avoided_rest.best.value == 0


@pytest.mark.parametrize("seconds", [121.0, 3600.0])
def test_time_that_nobody_watched_avoids_nothing_and_is_not_compared(seconds: float) -> None:
    assert saved(situation({"bf16": 1}), running=5, seconds=seconds) is None


def test_without_an_intensity_energy_is_saved_and_carbon_is_not_known() -> None:
    account = certain(saved(situation({"bf16": 1}), running=2, zones={}))
    assert account.avoided_carbon.high.value == 0
    assert account.avoided_unpriced == account.avoided_replicas.best


@pytest.mark.parametrize(("held", "running", "sign"), [(1, 3, 1), (3, 1, -1)])
def test_carbon_is_energy_times_pue_times_intensity_with_bounds_in_order(held: int, running: int, sign: int) -> None:
    account = certain(saved(situation({"bf16": held}), running=running))
    grams, joules = account.avoided_carbon, account.avoided_replicas
    assert grams.best.value == pytest.approx(joules.best.kilowatt_hours * 1.2 * 400)
    assert grams.low.value <= grams.best.value <= grams.high.value
    assert sign * grams.best.value > 0


# declared baselines


def test_a_declared_energy_per_token_is_compared_with_the_counter_itself() -> None:
    rule = BaselineRule(BaselineKind.JOULES_PER_TOKEN, joules_per_token=Figure.exact(Joules(0.5)))
    used = {LINE: Account(energy=exactly(3000), generated_tokens=10_000)}
    account = certain(saved(situation({"bf16": 1}, rule=rule), running=1, used=used))
    assert account.avoided_other.best.value == pytest.approx(2000)
    assert (account.avoided_other.low.value, account.avoided_other.high.value) == pytest.approx((1850, 2150))
    assert counterfactual(account).best.value == pytest.approx(5000)


def test_a_baseline_is_frozen_until_its_declaration_changes() -> None:
    one = situation({"bf16": 2})
    state = {CHAT: follower(4)}
    before, after = (ledger(at, {LINE: Account()}, counterfactuals=state) for at in (0, 15))
    same = compared(before, after, {CHAT: replace(one, target=25.0)}, ZONES)[0][CHAT]
    assert (same.version, same.terms.target, same.since) == (1, 10.0, NOON)
    other = compared(before, after, {CHAT: situation({"bf16": 2}, minimum=2)}, ZONES)[0][CHAT]
    assert (other.version, other.terms.minimum, other.since) == (2, 2, later(15))


def test_a_new_baseline_begins_from_what_runs() -> None:
    before, after = ledger(0, {}), ledger(15, {})
    begun = compared(before, after, {CHAT: situation({"bf16": 1})}, ZONES)[0][CHAT]
    assert (begun.version, begun.running, begun.product, begun.since) == (1, 1, H100, later(15))


# another variant


def switched(tokens: float = 60_000, batch: float = 32) -> dict[LineKey, Account]:
    work = Account(
        energy=exactly(9000), generated_tokens=tokens, iterations=tokens / batch, prompt_tokens=tokens, requests=100
    )
    return {LINE: Account(), FP8_LINE: work}


def test_another_variant_is_compared_by_profiles_where_nothing_better_is_known() -> None:
    profiles = {"bf16": profile(BF16, (32, 3391, 560)), "fp8": profile(FP8, (32, 3391, 500))}
    one = situation({"fp8": 1}, profiles=profiles)
    part = certain(saved(one, running=1, used=switched())).avoided_precision
    assert part.best.value == pytest.approx(60_000 * 60 / 3391)
    assert part.low.value < 0 < part.high.value


def test_another_variant_is_compared_by_what_both_were_measured_at() -> None:
    def at_batch(joules: float) -> Learned:
        return Learned(1, NOON, bins=binned({}, window(joules, generated=6000, iterations=200, requests=9)))

    known = {placed(CHAT, "bf16"): at_batch(1200), placed(CHAT, "fp8"): at_batch(900)}
    part = certain(saved(situation({"fp8": 1}), running=1, used=switched(batch=30), known=known)).avoided_precision
    assert part.best.value == pytest.approx(60_000 * 300 / 6000)


def test_a_variant_of_which_nothing_is_known_makes_the_whole_interval_unknown() -> None:
    assert saved(situation({"fp8": 1}), running=4, used=switched()) is None


def test_a_variant_that_neither_runs_nor_worked_needs_no_model() -> None:
    used = {LINE: Account(energy=exactly(900)), FP8_LINE: Account()}
    assert certain(saved(situation({"bf16": 1}), running=2, used=used)).avoided_precision.best.value == 0


# laws

amounts = st.floats(0, 1e6)


@settings(deadline=None)
@given(
    held=st.integers(0, 8),
    running=st.integers(1, 8),
    resting=st.booleans(),
    work=st.tuples(amounts, amounts, st.floats(1, 1e5), amounts),
    starting=st.integers(0, 2),
)
def test_actual_and_avoided_are_the_baseline_exactly_and_the_parts_are_the_whole(
    *, held: int, running: int, resting: bool, work: tuple[float, ...], starting: int
) -> None:
    energy, tokens, steps, starts = work
    used = {
        LINE: Account(
            energy=exactly(energy), generated_tokens=tokens, iterations=steps, starting=Joules(min(starts, energy))
        )
    }
    one = situation({"bf16": held} if held else {}, resting=resting and not held, starting=min(starting, held))
    account = saved(one, running, used=used)
    if account is None:
        assert held == 0
        assert not one.resting
        return
    whole = total(account.avoided)
    assert whole.best.value == sum((part.best.value for part in account.avoided.values()), start=0.0)
    assert counterfactual(account).best.value == account.compared.value + whole.best.value
    assert account.compared.value == energy
    for part in account.avoided.values():
        assert part.low <= part.best <= part.high
    assert account.avoided_carbon.low <= account.avoided_carbon.best <= account.avoided_carbon.high


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 60), st.floats(1, 200)), min_size=1, max_size=12))
def test_every_interval_is_counted_once_however_often_the_cycle_is_killed(
    course: list[tuple[int, int, float]],
) -> None:
    """A cycle that dies before the ledger is stored begins again from the stored one: nothing is counted twice."""
    stored = live = ledger(0, {LINE: Account()})
    expected = 0.0
    for held, load, seconds in course:
        one = replace(situation({"bf16": held} if held else {}, resting=held == 0), in_flight=float(load))
        for kill in (True, False):
            at = Instant(stored.at + seconds)
            grown = stored.books[LINE].total.account + Account(energy=exactly(500.0))
            after = replace(stored, at=at, books={LINE: book(grown)})
            followers, parts = compared(stored, after, {CHAT: one}, ZONES)
            added = parts.get(LINE, Account())
            live = replace(after, counterfactuals=followers, books={LINE: book(grown + added)})
            if not kill:
                expected += total(added.avoided).best.value
        stored = live
    assert total(stored.books[LINE].total.account.avoided).best.value == pytest.approx(expected)


# the same demand in two worlds of the twin


@cache
def taught(rate: float) -> Learned:
    """By an hour of one engine at that many requests a second, and five minutes of rest."""
    windows = engine_windows(Traffic(rate, 0.9, seed=5), hours=1.0)
    return learned([*[window(121.7 * 60)] * 5, *windows])


WORLDS = [(0.3, 1, 2), (1.0, 1, 3), (3.0, 1, 3), (6.0, 2, 4)]


@pytest.mark.parametrize(("rate", "packed", "spread"), WORLDS)
def test_two_worlds_differ_by_what_is_said_to_be_avoided(rate: float, packed: int, spread: int) -> None:
    """The same requests on few and on many engines; the GPUs that the few leave empty draw on, and are counted."""
    seconds, traffic = 600.0, Traffic(rate, 0.3)
    few, many = ([an_engine() for _ in range(count)] for count in (packed, spread))
    for engines in (few, many):
        served(engines, traffic.arrivals(seconds), seconds)
    joules = [sum(one.joules for one in engines) for engines in (few, many)]
    truth = joules[1] - joules[0] - (spread - packed) * BARE * seconds
    known = {PLACEMENT: taught(rate / packed)}
    work = Account(
        energy=exactly(joules[0]),
        prompt_tokens=sum(one.counters.prompt_tokens for one in few),
        generated_tokens=sum(one.counters.generated_tokens for one in few),
        iterations=sum(one.counters.iterations.count for one in few),
    )
    share = CYCLE / seconds
    part = Account(
        energy=work.energy * share,
        prompt_tokens=work.prompt_tokens * share,
        generated_tokens=work.generated_tokens * share,
        iterations=work.iterations * share,
    )
    account = certain(saved(situation({"bf16": packed}), spread, used={LINE: part}, known=known))
    found = total(account.avoided) * (1 / share)
    print(  # noqa: T201 - the figures are quoted in docs/methodology.md
        f"{rate} requests/s on {packed} instead of {spread}: true {truth / 1e3:.0f} kJ, "
        f"said {found.best.value / 1e3:.0f} ({found.low.value / 1e3:.0f} to {found.high.value / 1e3:.0f})"
    )
    assert found.low.value <= truth <= found.high.value
    assert found.best.value == pytest.approx(truth, rel=0.35)


# the rebound


def test_demand_is_compared_with_the_baseline_s_first_week() -> None:
    assert rebound(Demand(700.0, WEEK, 700.0 * 1.3 / WEEK)) == pytest.approx(0.3)


@pytest.mark.parametrize("demand", [Demand(700.0, 3 * DAY, 1.0), Demand(0.0, WEEK, 1.0)], ids=["too early", "none"])
def test_without_a_first_week_of_tokens_there_is_no_rebound(demand: Demand) -> None:
    assert isinstance(rebound(demand), Missing)


def test_demand_is_followed_over_a_week() -> None:
    state = {CHAT: follower(1, demand=Demand(1000.0, WEEK, 1000.0 / WEEK))}
    for _ in range(28):
        before = ledger(0, {LINE: Account()}, counterfactuals=state)
        after = ledger(DAY, {LINE: Account(generated_tokens=2000.0 / 7)}, counterfactuals=state)
        state = dict(compared(before, after, {CHAT: situation({"bf16": 1})}, ZONES)[0])
    grown = rebound(state[CHAT].demand)
    assert not isinstance(grown, Missing)
    assert grown == pytest.approx(1.0, abs=0.05)


def test_services_without_a_baseline_are_left_alone() -> None:
    before, after = ledger(0, {LINE: Account()}), ledger(15, {LINE: Account(energy=exactly(100))})
    assert compared(before, after, {}, ZONES) == ({}, {})
