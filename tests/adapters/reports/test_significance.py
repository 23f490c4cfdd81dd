"""What of a status is worth a write."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.adapters.reports.significance import SERVICE, Grade, difference

BEFORE: dict[str, Any] = {
    "replicas": 1,
    "idle": {"state": "Active", "evidence": {"watts": "400 W"}},
    "conditions": [
        {"type": "Ready", "status": "True", "message": "1 ready"},
        {"type": "ObjectivesMet", "status": "True", "message": "within"},
    ],
    "footprint": {"total": {"energyWh": {"best": 1}}},
}


def condition(name: str, **change: str) -> dict[str, Any]:
    return {"conditions": [part | change if part["type"] == name else part for part in BEFORE["conditions"]]}


@pytest.mark.parametrize(
    ("change", "grade"),
    [
        pytest.param({}, Grade.NOTHING, id="nothing"),
        pytest.param({"decision": []}, Grade.NOTHING, id="an-empty-list"),
        pytest.param({"footprint": {"total": {"energyWh": {"best": 2}}}}, Grade.FIGURES, id="figure"),
        pytest.param({"summary": {"watts": "400 W"}}, Grade.SETTLING, id="a-figure-where-there-was-none"),
        pytest.param(
            {"footprint": {"total": {"energyWh": {"best": 1}, "phases": {"steps": 1}}}},
            Grade.FIGURES,
            id="what-was-learned-meanwhile",
        ),
        pytest.param(condition("Ready", message="2 ready"), Grade.FIGURES, id="message"),
        pytest.param({"idle": {"state": "Active", "evidence": {"watts": "90 W"}}}, Grade.FIGURES, id="evidence"),
        pytest.param({"work": {"regime": "MemoryBound", "flopsPerByte": {"best": 34}}}, Grade.FIGURES, id="work"),
        pytest.param({"idle": {"state": "Standby", "evidence": {"watts": "90 W"}}}, Grade.SETTLING, id="idle-state"),
        pytest.param(condition("ObjectivesMet", status="Unknown"), Grade.SETTLING, id="objectives"),
        pytest.param(condition("Ready", status="False"), Grade.URGENT, id="condition"),
        pytest.param({"replicas": 2, "footprint": {}}, Grade.URGENT, id="replicas-and-figures"),
        pytest.param({"anything": "new"}, Grade.URGENT, id="a-field-nobody-graded"),
    ],
)
def test_the_gravest_difference_decides(change: dict[str, Any], grade: Grade) -> None:
    assert difference(BEFORE, {**BEFORE, **change}, SERVICE) is grade
