"""Label selectors with the semantics of Kubernetes."""

from collections.abc import Mapping

import pytest

from fallow.domain.policies import Operator, Requirement, Selector

LABELS = {"tier": "gold", "team": "search"}


@pytest.mark.parametrize(
    ("requirement", "labels", "matches"),
    [
        (Requirement("tier", Operator.IN, ("gold", "silver")), LABELS, True),
        (Requirement("tier", Operator.IN, ("silver",)), LABELS, False),
        (Requirement("zone", Operator.IN, ("north",)), LABELS, False),
        (Requirement("tier", Operator.NOT_IN, ("silver",)), LABELS, True),
        (Requirement("tier", Operator.NOT_IN, ("gold",)), LABELS, False),
        (Requirement("zone", Operator.NOT_IN, ("north",)), LABELS, True),
        (Requirement("tier", Operator.EXISTS), LABELS, True),
        (Requirement("zone", Operator.EXISTS), LABELS, False),
        (Requirement("zone", Operator.DOES_NOT_EXIST), LABELS, True),
        (Requirement("tier", Operator.DOES_NOT_EXIST), LABELS, False),
    ],
    ids=[
        "one of several values",
        "not another value",
        "not without the label",
        "not one of these values",
        "but one of them",
        "nor without the label",
        "a label that is there",
        "a label that is not",
        "the absence of a label",
        "not its presence",
    ],
)
def test_a_requirement_matches(requirement: Requirement, labels: Mapping[str, str], *, matches: bool) -> None:
    assert requirement.matches(labels) is matches


def test_an_empty_selector_matches_everything() -> None:
    assert Selector().matches({})
    assert Selector().matches(LABELS)


def test_every_requirement_has_to_match() -> None:
    gold = Requirement("tier", Operator.IN, ("gold",))
    ads = Requirement("team", Operator.IN, ("ads",))
    assert Selector((gold,)).matches(LABELS)
    assert not Selector((gold, ads)).matches(LABELS)
