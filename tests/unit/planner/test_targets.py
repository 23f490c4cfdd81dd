"""What a replica should carry, for measuring how full it is: only what somebody said or measured."""

from dataclasses import replace

import pytest

from fallow.domain.profiles import Profile
from fallow.domain.snapshots import ClusterView
from fallow.domain.workloads import Service
from fallow.planner.targets import concurrency_targets
from tests.support.builders import BF16, CHAT, policy, profile, service

MEASURED = profile(BF16, (8, 800, 400, 0.01), (64, 2400, 600, 0.02))


def view(declared: Service, *profiles: Profile) -> ClusterView:
    return ClusterView(services={CHAT: declared}, policies=(policy(),), profiles=profiles)


@pytest.mark.parametrize(
    ("declared", "limit", "profiles", "expected"),
    [(24, None, (), 24), (None, 40, (), 32), (None, None, (MEASURED,), 51.2), (None, None, (), None)],
    ids=["declared", "the variant's own limit, with headroom", "measured, with headroom", "nothing is known"],
)
def test_a_replica_s_target_is_what_is_known_of_it(
    declared: float | None, limit: int | None, profiles: tuple[Profile, ...], expected: float | None
) -> None:
    chat = service(replace(BF16, max_concurrency=limit), concurrency=declared)
    targets = concurrency_targets(view(chat, *profiles))
    assert targets == ({} if expected is None else {(CHAT, "bf16"): pytest.approx(expected)})
