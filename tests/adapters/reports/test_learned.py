"""Phases, models and savings as statuses and metrics show them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from fallow.adapters.reports.footprints import footprints
from fallow.adapters.reports.learned import baseline_words, learned_families, with_learned
from fallow.domain.counterfactual import BaselineKind, BaselineRule, Counterfactual, Terms
from fallow.domain.figures import Figure, Missing
from fallow.domain.learned import LoadPoint, Phases, StepModel, VariantEnergy
from fallow.domain.ledger import Book, Ledger, Period, Span
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.units import Grams, Joules, Watts
from tests.adapters.reports.scenes import ledger, report
from tests.support.builders import CHAT, H100, NOW, intensity, service

VAGUE = Missing(Reason.NOT_IDENTIFIABLE, "the load has varied too little")
TERMS = Terms(BaselineRule(), "bf16", 0, 8, target=20.0)
FOLLOWER = Counterfactual(TERMS, 2, NOW, running=3)
MODEL = StepModel(
    prefill=Figure(Joules(0.01), Joules(0.02), Joules(0.03)),
    decode=Figure.exact(Joules(0.06)),
    step=Figure.exact(Joules(2.5)),
    idle=Figure.exact(Watts(122)),
    spread=0.03,
    windows=200,
    refits=1,
)
POINT = LoadPoint(12.0, Figure.exact(Joules(0.3)), Missing(Reason.NO_WORK), 900.0, 400.0, 42.4)
PHASES = Phases(*(Figure.exact(Joules(part)) for part in (720, 3600, 1440, 1440)))


def books(**avoided: Any) -> Ledger:
    made = ledger()
    changed = {}
    for line, book in made.books.items():
        total, month, day, hour, last_hour = (
            Period(one.start, replace(one.account, **avoided))
            for one in (book.total, book.month, book.day, book.hour, book.last_hour)
        )
        changed[line] = Book(total, month, day, hour, last_hour)
    return replace(made, books=changed, counterfactuals={CHAT: FOLLOWER} if avoided else {})


SAVED = books(
    compared=Joules(7200),
    avoided_replicas=Figure(Joules(1800), Joules(3600), Joules(7200)),
    avoided_rest=Figure(Joules(-3600), Joules(-1800), Joules(0)),
    avoided_carbon=Figure(Grams(-1), Grams(2), Grams(9)),
)


def told(made: Ledger, **known: Any) -> CycleReport:
    estimates = {"energies": {CHAT: {"bf16": VariantEnergy(H100, MODEL, (POINT,), Figure.exact(Joules(40)))}}}
    one = report(books=made)
    return replace(one, ledger=made, estimates=replace(one.estimates, **{**estimates, **known}))


def shown(one: CycleReport) -> dict[str, Any]:
    assert one.ledger is not None
    found = with_learned(footprints(one.ledger, service(), intensity(300)), one, CHAT)
    assert found is not None
    return found.as_json()


def page(one: CycleReport) -> str:
    class Families(Collector):
        def collect(self) -> list[Metric]:
            return list(learned_families(one))

    registry = CollectorRegistry()
    registry.register(Families())
    return generate_latest(registry).decode()


def test_avoided_is_the_difference_of_two_figures_that_stand_beside_it() -> None:
    avoided = shown(told(SAVED, rebounds={CHAT: 0.25}))["total"]["avoided"]
    assert avoided["energyWh"] == {"low": -0.5, "best": 0.5, "high": 2}
    assert avoided["comparedEnergyWh"] == 2
    assert avoided["baselineEnergyWh"] == {"low": 1.5, "best": 2.5, "high": 4}
    assert avoided["parts"] == [
        {"cause": "Replicas", "energyWh": {"low": 0.5, "best": 1, "high": 2}},
        {"cause": "Rest", "energyWh": {"low": -1, "best": -0.5, "high": 0}},
    ]
    assert avoided["carbonGrams"] == {"low": -1, "best": 2, "high": 9}
    assert avoided["demandGrowth"] == 0.25


def test_avoided_is_in_no_other_figure() -> None:
    plain, saved = shown(told(books())), shown(told(SAVED))
    for period in ("today", "total"):
        assert "avoided" not in plain[period]
        assert {**saved[period], "avoided": None} == {**plain[period], "avoided": None}


def test_savings_without_an_intensity_have_no_carbon() -> None:
    made = books(compared=Joules(10), avoided_rest=Figure.exact(Joules(5)), avoided_unpriced=Joules(5))
    assert "carbonGrams" not in shown(told(made))["total"]["avoided"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            BaselineRule(),
            "HorizontalPodAutoscaler at 20 requests in flight a replica, 1 to 8 replicas of bf16; version 2",
        ),
        (BaselineRule(BaselineKind.STATIC, replicas=4, note="as in 2025"), "4 replicas of bf16; version 2 since"),
        (
            BaselineRule(BaselineKind.JOULES_PER_TOKEN, joules_per_token=Figure.exact(Joules(0.45))),
            "0.45 J/token; version 2 since 2027-01-15 08:00 UTC",
        ),
    ],
    ids=["autoscaler", "static", "per token"],
)
def test_a_baseline_is_told_with_version_and_date(rule: BaselineRule, words: str) -> None:
    line = baseline_words(replace(FOLLOWER, terms=replace(TERMS, rule=rule)))
    assert line.startswith(words)
    assert "2027-01-15" in line
    assert rule.note in line


def test_phases_are_shown_for_the_period_and_for_each_token_and_request() -> None:
    total = shown(told(books(), phases={CHAT: {Span.TOTAL: PHASES}}))["total"]
    assert total["phases"]["decodeWh"]["best"] == 1
    assert sum(part["best"] for part in total["phases"].values()) == pytest.approx(total["energyWh"]["best"])
    assert total["perToken"]["phases"]["decodeJoules"]["best"] == 1
    assert total["perRequest"]["phases"]["prefillJoules"]["best"] == 72


def test_without_a_model_there_are_plain_figures_and_the_reason() -> None:
    energies = {CHAT: {"bf16": VariantEnergy(H100, VAGUE, (POINT,))}}
    found = shown(told(books(), energies=energies, phases={CHAT: {Span.TOTAL: VAGUE}}))
    assert "phases" not in found["total"]
    (model,) = found["models"]
    assert "NotIdentifiable" in model["missing"]
    assert "stepJoules" not in model
    assert model["points"][0]["joulesPerToken"]["best"] == 0.3
    assert model["points"][0]["windows"] == 42


def test_a_model_is_shown_with_its_intervals() -> None:
    (model,) = shown(told(books()))["models"]
    assert model["prefillJoulesPerToken"] == {"low": 0.01, "best": 0.02, "high": 0.03}
    assert (model["stepJoules"]["best"], model["idleWatts"]["best"], model["requestJoules"]["best"]) == (2.5, 122, 40)
    assert (model["variant"], model["gpuProduct"], model["windows"], model["refits"]) == ("bf16", H100, 200, 1)


def test_metrics_tell_models_bins_phases_and_savings() -> None:
    text = page(told(SAVED, phases={CHAT: {Span.TODAY: PHASES}}, rebounds={CHAT: 0.25}))
    variant = f'gpu="{H100}",namespace="llm",'
    for line in (
        f'fallow_service_model_joules{{bound="best",{variant}of="step",service="chat",variant="bf16"}} 2.5',
        f'fallow_service_load_joules_per_token{{concurrency="8",{variant}service="chat",variant="bf16"}} 0.3',
        'fallow_service_phase_joules_per_token{bound="best",namespace="llm",phase="decode",service="chat"} 1.0',
        'fallow_service_avoided_energy_joules{bound="low",lever="Rest",namespace="llm",service="chat"} -3600.0',
        'fallow_service_compared_energy_joules{namespace="llm",service="chat"} 7200.0',
        'fallow_service_baseline_replicas{namespace="llm",service="chat"} 3.0',
        'fallow_service_demand_growth_ratio{namespace="llm",service="chat"} 0.25',
    ):
        assert line in text


def test_a_service_whose_first_energy_is_not_stored_yet_has_no_phases() -> None:
    text = page(told(replace(books(), books={}), phases={CHAT: {Span.TODAY: PHASES}}))
    assert "fallow_service_phase_joules_per_token{" not in text


def test_what_is_not_known_has_no_series() -> None:
    energies = {CHAT: {"bf16": VariantEnergy(H100, VAGUE)}}
    text = page(told(books(), energies=energies, phases={CHAT: {Span.TODAY: VAGUE}}, rebounds={CHAT: VAGUE}))
    assert not [line for line in text.splitlines() if line and not line.startswith("#")]
