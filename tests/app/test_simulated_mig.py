"""Nodes of MIG instances in a scenario: what they offer, what is wrong with them, and services that move to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fallow.app.cli import app
from fallow.app.simulation.assembling import Assembled, assembled
from fallow.app.simulation.scenario import ScenarioError, read_scenario
from fallow.twin.physics.constants import GPUS, Gpu

SAMPLES = Path(__file__).parents[2] / "docs/samples/simulation"
BOARD = "NVIDIA-H100-80GB-HBM3"
PARTS = f"{BOARD}-MIG-3g.40gb"
LEVERS = ("--levers", "-o", "json")


def built(tmp_path: Path, *nodes: dict[str, Any], gpus: Any = None, model: str = "") -> Assembled:
    """A service of one variant that may run on any nodes, unless `gpus` says on which."""
    manifest = next(yaml.safe_load_all((SAMPLES / "mig-services.yaml").read_text()))
    variant = {"name": "bf16", "precision": "BF16"} | ({} if gpus is None else {"gpus": gpus})
    manifest["spec"]["variants"] = [variant]
    if model:
        manifest["spec"]["model"]["name"] = model
    (tmp_path / "service.yaml").write_text(yaml.safe_dump(manifest))
    traffic = {"llm/helpdesk": {"rate": 1, "prompt": {"mean": 500}, "output": {"mean": 100}}}
    content = {"manifests": ["service.yaml"], "nodes": list(nodes), "traffic": traffic, "days": 0.01}
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(content))
    return assembled(read_scenario(path), tmp_path)


def test_a_node_of_instances_offers_them_as_gpus_and_each_has_its_share_of_a_board(tmp_path: Path) -> None:
    one = built(tmp_path, {"product": PARTS, "count": 2, "gpus": 16})
    kind, table = one.setup.nodes[0], one.setup.services[0].variants[0].tables[PARTS]

    assert (kind.gpus, kind.boards, kind.spare) == (16, 8, 1)
    assert (kind.design, kind.clock) == (None, None)
    assert kind.bare == table.bare == pytest.approx(GPUS[Gpu.H100].bare * 3 / 7)
    profile = next(one for one in one.declared.profiles if one.gpu_product == PARTS)
    assert profile.idle_watts is not None
    assert profile.idle_watts.value == pytest.approx(kind.bare)


@pytest.mark.parametrize(
    ("product", "gpus"), [(BOARD, 8), (PARTS, 16), (f"{BOARD}-MIG-1g.10gb", 56), (f"{BOARD}-MIG-1g.20gb", 32)]
)
def test_nodes_that_do_not_say_how_many_have_those_of_eight_gpus(tmp_path: Path, product: str, gpus: int) -> None:
    nodes = {"product": product, "count": 1}, {"product": BOARD, "count": 1}
    one = built(tmp_path, *nodes, gpus={"products": [BOARD]})
    assert (one.setup.nodes[0].gpus, one.setup.nodes[0].boards) == (gpus, 8)


@pytest.mark.parametrize(
    ("node", "more", "says"),
    [
        (
            {"product": f"{BOARD}-MIG-3g.20gb"},
            {},
            f"H100 has no MIG profile 3g.20gb: write {BOARD}-MIG- and one of 1g.10gb, 1g.20gb, 2g.20gb, 3g.40gb",
        ),
        (
            {"product": "NVIDIA-L4-MIG-1g.3gb"},
            {},
            "MIG divides no L4 here: write NVIDIA-L4, or instances of one of A100",
        ),
        ({"product": PARTS, "gpus": 15}, {}, "which have 2 each: write 14 for 7 GPUs or 16 for 8"),
        ({"product": PARTS, "gpus": 1}, {}, "which have 2 each: write 2 for one GPU"),
        (
            {"product": PARTS},
            {"gpus": {"count": 2}},
            "a replica uses one MIG instance, not 2: write gpus.count: 1 with a larger profile, or whole GPUs",
        ),
        (
            {"product": f"{BOARD}-MIG-1g.10gb"},
            {},
            "16 GB of weights leave no room for a cache in a MIG instance 1g.10gb: write a larger profile",
        ),
        ({"product": PARTS}, {"model": "Qwen/Qwen3-32B"}, "leave no room for a cache in a MIG instance 3g.40gb"),
    ],
)
def test_instances_that_there_cannot_be_are_refused_with_what_to_write(
    tmp_path: Path, node: dict[str, Any], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(ScenarioError) as refused:
        built(tmp_path, {"count": 1, **node}, **more)
    assert says in str(refused.value)


def test_small_services_move_to_instances_where_these_take_less() -> None:
    words = ["simulate", str(SAMPLES / "mig.yaml"), "--days", "0.035", "--cycle", "30", "--compare", "", *LEVERS]
    told = json.loads(CliRunner().invoke(app, words).stdout)
    own = told["controllers"][0]
    moved = {one["service"] for one in own["decisions_made"] if one["lever"] == "Hardware"}

    assert moved == {"llm/helpdesk", "llm/search", "llm/translate"}
    assert own["failed"] == 0
    assert own["attainment"] > 0.99
    assert {name: one["kwh"] > 0 for name, one in told["savings_by_lever"].items()}["hardware"]
