"""The page of a simulation: a file on its own that hides no missed objective and stands whatever is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from fallow.app.simulation.page import MOST_DECISIONS, page
from fallow.app.simulation.telling import About, Saved
from fallow.domain.workloads import ServiceKey
from tests.support.outcomes import (
    ASKED,
    KWH,
    a_week,
    bounds,
    decided,
    missed,
    outcome,
    series,
    service_outcome,
    without_traffic,
)

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Seen(HTMLParser):
    """Collects texts and attributes; raises where an element is closed that is not the last one open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in {"style", "script"}:
            self.words.append(data)


def about(**changes: Any) -> About:
    told: dict[str, Any] = {
        "title": "A week",
        "inputs": [("nodes", "4 x 8 H100")],
        "version": "1.2",
        "asked": ASKED,
    }
    return About(**(told | changes))


def seen(*outcomes: Any, **changes: Any) -> Seen:
    found = Seen(page(outcomes, about(**changes)))
    assert found.open == []
    return found


def test_every_controller_is_told_with_its_energy_and_what_was_in_time() -> None:
    text = seen(*a_week(), bounds=bounds(120, 130, 150)).text

    assert "Fallow would use 385 kWh and answer 99.50% of 300,000 requests in time" in text
    assert "against static-70 30% less energy -165 kWh, -64.3 kg CO2e, -64.3 EUR" in text
    assert "against hpa 46% less energy" in text
    assert "99.50% ✓ against 90.01% ✗ missed" in text
    assert "floor 120 kWh" in text
    assert "oracle 150 kWh" in text


def test_it_fetches_nothing() -> None:
    html = page(a_week(), about())

    assert not re.search(r"https?:|//\w|@import|url\((?!#)", html)
    assert not [one for one in Seen(html).attributes if one[1] in {"src", "href", "srcset"}]


def test_what_misses_the_objectives_saves_nothing() -> None:
    found = seen(outcome("fallow", missed(kwh=30)), outcome("static-70", service_outcome(kwh=60)))

    assert "none of what follows is a saving" in found.text
    assert "50% less energy" in found.text
    assert ("b", "class", "good") not in found.attributes


def test_a_service_that_misses_is_named_though_all_together_keep_them() -> None:
    small = missed(ServiceKey("llm", "code"))
    small = replace(small, requests=100, done=100, good=50, unfinished=0)
    found = seen(outcome("fallow", service_outcome(), small), outcome("hpa", service_outcome(kwh=90), small))

    assert "✗ missed by llm/code (50.00%)." in found.text
    assert "✗ missed ✗ in 1 service" in found.text
    assert "none of what follows is a saving" in found.text
    assert ("b", "class", "good") not in found.attributes


def test_names_are_escaped() -> None:
    wild = "<script>alert('&\"')</script>"
    keyed = ServiceKey("llm", wild)
    own = outcome(wild, service_outcome(keyed), decisions=(decided(0, keyed, message=wild),), notes=(wild,))
    html = page(
        [own, outcome(wild)],
        about(
            title=wild, inputs=[(wild, wild)], asked={**ASKED, keyed: 0.99}, savings={wild: Saved(KWH, None, 2 * KWH)}
        ),
    )

    assert wild not in html
    assert html.count("<script>") == 1
    assert wild in Seen(html).text


def test_every_drawing_has_words_instead() -> None:
    found = seen(*a_week())
    said = [value for tag, name, value in found.attributes if tag == "svg" and name == "aria-label"]

    assert "llm/chat with static-70, ready replicas: mean" in " ".join(said)
    assert "fallow: 385 kWh; active 308, idle 57.8, starting 19.2" in said
    hidden = [one for one in found.attributes if one == ("svg", "aria-hidden", "true")]
    assert len(said) + len(hidden) == found.tags.count("svg")


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (outcome("fallow"), "Nothing was changed"),
        (outcome("fallow", service_outcome(cost=None), currency=""), "no price known"),
        (outcome("fallow", without_traffic()), "no request ended"),
        (outcome("fallow", over=series(1, varies=False)), "The grid stands at 300 g CO2e/kWh"),
        (outcome("fallow", over=series(1, days=0.001)), "shorter than a sample"),
        (outcome("fallow", notes=("starts are assumed",)), "starts are assumed"),
    ],
    ids=["no decisions", "no price", "no traffic", "a steady grid", "no sample", "a note"],
)
def test_it_stands_without(own: Any, says: str) -> None:
    assert says in seen(own).text


def test_a_service_without_traffic_misses_nothing() -> None:
    text = seen(
        outcome("fallow", service_outcome(), without_traffic()), outcome("hpa", service_outcome(), without_traffic())
    ).text

    assert "missed by" not in text
    assert "batch/digest - -" not in text


def test_of_many_decisions_those_that_moved_most_are_shown() -> None:
    big = decided(2000, before={"bf16": 1}, after={"bf16": 9}, message="a storm")
    many = (*(decided(number) for number in range(MOST_DECISIONS + 50)), big)
    text = seen(outcome("fallow", decisions=many)).text

    assert f"Shown are the {MOST_DECISIONS} of {len(many)}" in text
    assert "bf16 1 → 9" in text
    assert f"ScaleUp {len(many)}." in text


def test_ten_services_a_week_and_five_controllers_are_below_two_megabytes() -> None:
    names = ("fallow", "static-70", "hpa", "strong", "keda")
    html = page(a_week(10, *names), about())

    assert len(html.encode()) < 2_000_000
