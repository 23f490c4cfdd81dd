"""Whose midnights end whose days: a service follows its policy, everything else the policy that leaves nobody out."""

from __future__ import annotations

from fallow.domain.policies import Operator, Policy, Requirement, Selector
from fallow.domain.snapshots import ClusterView
from fallow.planner.selection import cluster_time_zone, time_zones
from tests.support.builders import CHAT, policy, service

GREEN = Selector((Requirement("team", Operator.IN, ("green",)),))
EVERYBODY = policy(name="all", time_zone="Europe/Berlin")
TEAM = policy(name="team", time_zone="Asia/Tokyo", priority=10, services=GREEN)


def view(*policies: Policy, labels: dict[str, str] | None = None) -> ClusterView:
    return ClusterView(services={CHAT: service(labels=labels or {})}, policies=policies)


def test_a_service_follows_the_policy_that_governs_it() -> None:
    assert time_zones(view(EVERYBODY, TEAM)) == {CHAT: "Europe/Berlin"}
    assert time_zones(view(EVERYBODY, TEAM, labels={"team": "green"})) == {CHAT: "Asia/Tokyo"}


def test_a_service_without_a_policy_follows_the_cluster() -> None:
    assert time_zones(view(TEAM)) == {}
    assert cluster_time_zone((TEAM,)) == "UTC"


def test_everything_else_follows_the_highest_policy_that_leaves_nobody_out() -> None:
    higher = policy(name="higher", time_zone="America/New_York", priority=5)
    assert cluster_time_zone((EVERYBODY, TEAM)) == "Europe/Berlin"
    assert cluster_time_zone((EVERYBODY, TEAM, higher)) == "America/New_York"
