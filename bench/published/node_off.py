"""Energy with nodes powered off by load, against all of them on, as wattproof simulated it on Azure's 2024 weeks.

Published there: 27 to 52 % less on coding, 8 to 24 % on conversation, for idle shares of 15 to 45 % and loads of 2 to
10 minutes (docs/notebook/2026-10-09-gpu-inference-simulation.md of that project).
"""

from __future__ import annotations

from dataclasses import replace

from bench.scoreboard.work import PRODUCT, SCALES, assembled
from fallow.app.simulation.running import How, all_run
from fallow.twin.demand.weeks import week
from fallow.twin.simulation.setup import PowerOff

PUBLISHED = {"coding": (0.27, 0.52), "conversation": (0.08, 0.24)}
ON, OFF = "static-100", "strong"
# Minutes of a boot; one GPU a node, so that what is not needed can be off.
BOOT = 4.0


def rows(days: float = 7.0) -> list[str]:
    """Of Markdown. All on: as many replicas as the peak minute needs. Off by load: sized by the rate of a minute; GPUs
    without a replica count until their node is off, and while it boots.
    """
    found = ["| week | published | here | idle share of a GPU |", "|---|---|---|---|"]
    for name, (low, high) in PUBLISHED.items():
        one = assembled(week(name, seed=1, scale=SCALES[name], days=days))
        kinds = tuple(replace(kind, gpus=1, count=kind.count * kind.gpus) for kind in one.setup.nodes)
        one = replace(one, setup=replace(one.setup, nodes=kinds, power_off=PowerOff(after=600.0, boot=BOOT * 60)))
        on, off = all_run(one, [ON, OFF], _quiet, How(0))
        idle = one.setup.services[0].variants[0].tables[PRODUCT]
        less = 1.0 - off.fleet.value / on.energy.value
        share = idle.context / float(idle.watts.max())
        found.append(f"| {name} | {low:.0%} to {high:.0%} | {less:.0%} | {share:.0%} |")
    return found


def _quiet(_name: str, _share: float) -> None:
    """Nobody watches."""
