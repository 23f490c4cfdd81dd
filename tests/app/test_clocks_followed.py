"""Clocks that follow the load on the simulated fleet, under the operator's own cycle, as a scenario declares them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from fallow.app.cli import app

SAMPLE = Path(__file__).parents[2] / "docs/samples/simulation/standby.yaml"


def test_replicas_with_room_run_slower_and_answer_in_time() -> None:
    words = ("--days", "0.03", "--cycle", "30", "--compare", "none", "--levers", "-o", "json")
    told: dict[str, Any] = json.loads(CliRunner().invoke(app, ["simulate", str(SAMPLE), *words]).stdout)
    own, saved = told["controllers"][0], told["savings_by_lever"]["clocks"]

    assert saved["kwh"] > 0.1 * (own["energy_kwh"] + saved["kwh"])
    assert own["attainment"] > saved["attainment_without"] - 0.002
    assert (own["starts"], own["decisions"]) == (2, 0)
