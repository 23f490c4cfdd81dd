"""A simulation as JSON: what goes in comes out, unknown stays null, and a week is not too long to read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fallow.app.simulation.telling import MOST_SAMPLES, About, Saved, as_json
from tests.support.outcomes import (
    ASKED,
    KWH,
    SERVICES,
    a_week,
    bounds,
    decided,
    outcome,
    service_outcome,
    without_traffic,
)

ABOUT = About(
    "A week",
    [("nodes", "4 x 8 H100")],
    "1.2",
    ASKED,
    bounds(120, 130, 150),
    savings={"rest": Saved(2 * KWH, 0.995, 3 * KWH)},
)


def told(*outcomes: Any, about: About = ABOUT) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(as_json(outcomes, about), allow_nan=False))
    assert found == as_json(outcomes, about)
    return found


def test_every_controller_is_an_object_with_the_figures_of_the_table() -> None:
    found = told(*a_week())

    assert [one["controller"] for one in found["controllers"]] == ["fallow", "static-70", "hpa"]
    own = found["controllers"][0]
    assert own["energy_kwh"] == 385
    assert own["attainment"] == pytest.approx(0.995, abs=1e-3)
    assert own["gap_to_schedule"] == pytest.approx(385 / 150 - 1, rel=1e-5)
    assert [one["keeps_objectives"] for one in found["controllers"]] == [True, True, False]
    assert found["bounds_kwh"] == {"reference": {"floor": 120, "integer": 130, "schedule": 150}, "all_levers": None}
    assert found["savings_by_lever"] == {"rest": {"kwh": 2, "fleet_kwh": 3, "attainment_without": 0.995}}


def test_a_controller_keeps_the_objectives_where_every_service_gets_the_share_it_asks_for() -> None:
    """Each is held to its own share; one whose requests all wait has not kept it."""
    both = (service_outcome(SERVICES[0]), service_outcome(SERVICES[1]))
    waits = replace(without_traffic(SERVICES[1]), requests=50, unfinished=50)
    asked = {SERVICES[0]: 0.99, SERVICES[1]: 0.999}

    for services, kept in ((both, [True, False]), ((both[0], waits), [True, False]), (both[:1], [True])):
        own = told(outcome("fallow", *services), about=replace(ABOUT, asked=asked))["controllers"][0]
        assert [one["keeps_objectives"] for one in own["services"]] == kept
        assert own["keeps_objectives"] == all(kept)


def test_services_add_up_to_the_controller() -> None:
    for one in told(*a_week())["controllers"]:
        assert sum(service["energy_kwh"] for service in one["services"]) == pytest.approx(one["energy_kwh"])
        assert sum(service["requests"] for service in one["services"]) == one["requests"]


def test_a_week_of_minutes_has_few_samples_of_equal_number() -> None:
    own = told(*a_week(2, "fallow", sample=60))["controllers"][0]["series"]
    lengths = {len(values) for values in own["services"]["llm/chat"]["ready"].values()}

    assert len(own["times_seconds"]) <= MOST_SAMPLES
    assert lengths == {len(own["times_seconds"])} == {len(own["services"]["llm/code"]["watts"])}


def test_decisions_keep_what_was_before_and_why() -> None:
    one = decided(3)
    made = told(outcome("fallow", decisions=(one,)))["controllers"][0]["decisions_made"]

    assert made == [
        {
            "at_seconds": 3600,
            "service": "llm/chat",
            "action": "ScaleUp",
            "before": {"bf16": 4},
            "after": {"bf16": 5},
            "lever": "Replicas",
            "reason": "Load",
            "message": one.message,
        }
    ]


def test_what_is_not_known_is_null() -> None:
    own = told(outcome("fallow", without_traffic(), service_outcome(cost=None)))["controllers"][0]

    assert own["cost"] is None
    assert own["services"][0]["attainment"] is None
    assert own["services"][0]["joules_per_good_token"] is None
