"""What follows from declarations alone: the same object until something is declared, and then that of today."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.domain.snapshots import ClusterView
from fallow.planner.declared import Declared, declared
from tests.support.builders import BF16, CHAT, pod, policy, profile, service

VIEW = ClusterView(
    services={CHAT: service(concurrency=24)},
    policies=(policy(time_zone="Europe/Berlin"),),
    profiles=(profile(BF16, (8, 800, 400, 0.01)),),
)


def test_pods_that_come_and_go_change_nothing_of_it() -> None:
    known = declared(VIEW, Declared())
    new = pod("chat-9")

    assert known.targets == {(CHAT, "bf16"): 24}
    assert (known.time_zones, known.time_zone) == ({CHAT: "Europe/Berlin"}, "Europe/Berlin")
    assert declared(replace(VIEW, pods={new.ref: new}), known) is known


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"services": {CHAT: service(concurrency=32)}}, {"targets": {(CHAT, "bf16"): 32}}),
        ({"policies": ()}, {"time_zones": {}, "time_zone": "UTC"}),
        ({"profiles": ()}, {}),
    ],
    ids=["a service", "a policy", "a profile"],
)
def test_whatever_is_declared_is_reckoned_with(changed: dict[str, Any], told: dict[str, Any]) -> None:
    known = declared(VIEW, Declared())
    now = declared(replace(VIEW, **changed), known)

    assert now is not known
    assert now == replace(known, **changed, **told)
