"""Half an hour without faults: what the books call waste is waste by the twin's own account, and none is invented.

The figures of the run are printed with `pytest -s`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, replace

import pytest

from fallow.domain.ledger import Account, LineKind
from fallow.domain.readings import Readings
from fallow.domain.snapshots import Snapshot
from fallow.twin.simulated import Energy, SimulatedPod
from tests.accounting.run import DEPLOYMENTS, Run, booked

pytestmark = pytest.mark.long

WH = 3600.0
# what a replica should carry, as somebody may have declared
TARGET = 32.0
# what the twin's H100s draw
BARE, CONTEXT = 71.8, 121.6


@dataclass
class Watched(Run):
    """The operator also remembers the readings before, and knows what its replicas should carry."""

    before: Readings | None = None

    async def look(self) -> Snapshot:
        snapshot = await super().look()
        seen, self.before = self.before, snapshot.readings
        return replace(snapshot, previous=seen, targets={(one.key, one.variant): TARGET for one in DEPLOYMENTS})


@pytest.fixture(scope="module")
def run() -> Watched:
    run = Watched(seed=3, seconds=1800, calm=True)
    asyncio.run(run.live())
    for name, (true, told) in sorted(both(run).items()):
        print(  # noqa: T201 -- the table that -s shows
            f"{name:12} true: start {(true.pulling + true.loading) / WH:7.1f} idle {true.idle / WH:7.1f} "
            f"active {true.active / WH:7.1f}; booked: start {told.starting.value / WH:7.1f} "
            f"idle {told.idle.value / WH:7.1f} under-filled {told.underfilled.value / WH:7.1f} "
            f"useful {told.useful.value / WH:7.1f} Wh"
        )
    return run


def both(run: Run) -> dict[str, tuple[Energy, Account]]:
    """By service, and of all other pods together: what the pods did, and what was booked."""
    true: dict[str, Energy] = defaultdict(Energy)
    told: dict[str, Account] = defaultdict(Account)
    fleet = run.stage.world.fleet
    for pod in (*fleet.gone, *map(SimulatedPod.account, fleet.pods.values())):
        true[pod.service.name if pod.service else "others"].add(pod.energy)
    for line, account in booked(run.operator.ledger).items():
        if line.kind is LineKind.SERVICE:
            told[line.name] += account
        elif line.kind is LineKind.FOREIGN:
            told["others"] += account
    return {name: (energy, told[name]) for name, energy in true.items()}


def test_the_host_s_meters_are_booked_to_the_last_joule(run: Watched) -> None:
    true = sum(host.joules for host in run.stage.world.fleet.hosts.values())
    assert sum(account.host.best.value for account in booked(run.operator.ledger).values()) == pytest.approx(
        true, rel=1e-9
    )


def test_what_gpus_draw_at_rest_is_learned_within_one_percent(run: Watched) -> None:
    baselines = run.operator.ledger.baselines.values()
    bare = [one.bare.watts.value for one in baselines if one.bare]
    loaded = [one.loaded.watts.value for one in baselines if one.loaded]
    assert bare
    assert bare == pytest.approx([BARE] * len(bare), rel=0.01)
    assert loaded == pytest.approx([CONTEXT] * len(loaded), rel=0.01)


def test_no_more_is_called_idle_or_starting_than_was(run: Watched) -> None:
    """Within what one look at each end of a change can move between two parts."""
    for name, (true, told) in both(run).items():
        slack = 0.01 * true.total
        assert told.idle.value <= true.idle + slack, name
        assert told.starting.value <= true.pulling + true.loading + slack, name


def test_most_of_what_pods_of_others_leave_unused_is_found(run: Watched) -> None:
    true, told = both(run)["others"]
    assert told.idle.value >= 0.6 * true.idle


def test_most_of_the_energy_of_starts_is_found(run: Watched) -> None:
    found = both(run)
    started = sum(true.pulling + true.loading for name, (true, _) in found.items() if name != "others")
    assert sum(told.starting.value for told in (told for _, told in found.values())) >= 0.8 * started
