"""Nodes whose GPUs are used in turns in a scenario: what they offer, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fallow.app.simulation.assembling import assembled
from fallow.app.simulation.scenario import ScenarioError, read_scenario
from fallow.twin.physics.constants import GPUS, Gpu
from tests.app.test_simulated_mig import BOARD, PARTS, SAMPLES, built

SHARED = f"{BOARD}-SHARED"


@pytest.mark.parametrize("product", [BOARD, SHARED])
def test_a_node_offers_copies_of_its_gpus(tmp_path: Path, product: str) -> None:
    one = built(tmp_path, {"product": product, "count": 2, "gpus": 4, "copies": 3})
    kind, table = one.setup.nodes[0], one.setup.services[0].variants[0].tables[product]

    assert (kind.gpus, kind.boards, kind.copies, kind.spare) == (12, 4, 3, 0)
    assert (kind.design, kind.clock) == (None, None)
    assert kind.bare == table.bare == pytest.approx(GPUS[Gpu.H100].bare)
    assert kind.share == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("node", "more", "says"),
    [
        (
            {"product": PARTS, "copies": 2},
            {},
            f"copies of MIG instances are not simulated: write product: {BOARD} with",
        ),
        (
            {"product": SHARED, "copies": 2},
            {"gpus": {"count": 2}},
            "one copy of a GPU in turns, not 2: write gpus.count: 1",
        ),
        ({"product": BOARD, "copies": 0}, {}, "copies: Input should be greater than or equal to 1"),
    ],
    ids=["of instances", "several for a replica", "none"],
)
def test_copies_that_there_cannot_be_are_refused_with_what_to_write(
    tmp_path: Path, node: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(ScenarioError) as refused:
        built(tmp_path, {"count": 1, **node}, **more)
    assert says in str(refused.value)


def test_the_sample_has_three_services_on_two_gpus() -> None:
    one = assembled(read_scenario(SAMPLES / "turns.yaml"), SAMPLES)
    (kind,) = one.setup.nodes
    assert (kind.boards, kind.gpus) == (2, 6)
    assert [service.start_replicas for service in one.setup.services] == [1, 1, 1]
