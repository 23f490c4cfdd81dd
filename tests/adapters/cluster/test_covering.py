"""Whether the live object already holds what is wanted, whatever defaults the API server added."""

from __future__ import annotations

from typing import Any

import pytest

from fallow.adapters.cluster.covering import covers


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, id="more-fields"),
        pytest.param({}, {"emptyDir": {}}, id="empty-map-left-out"),
        pytest.param({"limits": {"cpu": "1"}}, {"limits": {"cpu": "1000m"}}, id="canonical-quantity"),
        pytest.param({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, id="binary-quantity"),
        pytest.param(
            {"env": [{"name": "B"}, {"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}]},
            id="list-by-key",
        ),
        pytest.param({"args": ["a", "b"]}, {"args": ["a", "b"]}, id="same-list"),
        pytest.param(
            {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 3}]}, {"ports": [{"port": 80}]}, id="defaulted-entry"
        ),
    ],
)
def test_covered(live: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert covers(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        pytest.param({"a": 2}, {"a": 1}, id="other-value"),
        pytest.param({}, {"a": 1}, id="missing-field"),
        pytest.param({"limits": {"cpu": "2"}}, {"limits": {"cpu": "1"}}, id="other-quantity"),
        pytest.param({"limits": {}}, {"limits": {"cpu": "1"}}, id="missing-quantity"),
        pytest.param({"env": [{"name": "A", "value": "2"}]}, {"env": [{"name": "A", "value": "1"}]}, id="other-entry"),
        pytest.param({"env": []}, {"env": [{"name": "A"}]}, id="missing-entry"),
        pytest.param({"args": ["a", "b", "c"]}, {"args": ["a", "b"]}, id="longer-list"),
    ],
)
def test_not_covered(live: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert not covers(live, wanted)
