"""Loaded without work: on purpose or not, by recent work and by what was declared."""

from __future__ import annotations

import pytest

from fallow.domain.readings import PodRef
from fallow.domain.units import Instant
from fallow.domain.windows import Scaled
from fallow.footprint.audit.standby import Life, Standby

MINUTE, HOUR = 60.0, 3600.0
ONE, TWO = PodRef("llm", "chat-1"), PodRef("llm", "chat-2")
DECLARED = Scaled(1, "minReplicas 1")


def life(slots: int, *, worked: set[int] = frozenset(), pods: tuple[PodRef, ...] = (ONE,)) -> Life:  # type: ignore[assignment]
    """The first pod did the work."""
    told = Life()
    for pod in pods:
        for slot in range(slots):
            told.note(pod, slot, worked=pod == pods[0] and slot in worked)
    return told


def standby(told: Life, scaled: Scaled, *, slot: float, slots: int) -> Standby:
    return Standby(told, scaled, tuple(Instant(slot * number) for number in range(slots + 1)))


@pytest.mark.parametrize(
    ("scaled", "slot_length", "slots", "worked", "asked", "expected"),
    [
        pytest.param(Scaled(), 10 * MINUTE, 12, {3}, 5, 0.0, id="plain, quiet until the window ends: 80 min"),
        pytest.param(Scaled(), 10 * MINUTE, 12, {3, 8}, 5, 1.0, id="plain, 40 min between requests"),
        pytest.param(Scaled(), 15 * MINUTE, 96, {3, 20}, 10, 0.0, id="plain, 4 h between requests"),
        pytest.param(DECLARED, 15 * MINUTE, 96, {3, 20}, 10, 1.0, id="declared, 4 h between requests"),
        pytest.param(Scaled(), MINUTE, 5, set(), 2, 0.0, id="plain, never asked"),
        pytest.param(DECLARED, MINUTE, 5, set(), 2, 1.0, id="declared, never asked in minutes"),
        pytest.param(DECLARED, 15 * MINUTE, 95, set(), 2, 1.0 * (95 * 15 * 60 < 0.95 * 86_400), id="declared, a day"),
        pytest.param(DECLARED, HOUR, 168, {0}, 100, 0.0, id="declared, quiet for a week"),
        pytest.param(Scaled(0, "ScaledObject x"), 10 * MINUTE, 6, set(), 2, 0.0, id="declared zero, never asked"),
        pytest.param(Scaled(0, "ScaledObject x"), 2 * MINUTE, 12, {0, 11}, 5, 0.0, id="declared zero, 20 min quiet"),
        pytest.param(Scaled(0, "ScaledObject x"), MINUTE, 12, {2, 8}, 5, 1.0, id="declared zero, 5 min quiet"),
    ],
)
def test_a_replica_without_work_stands_by(
    scaled: Scaled, slot_length: float, slots: int, worked: set[int], asked: int, expected: float
) -> None:
    judged = standby(life(slots, worked=worked), scaled, slot=slot_length, slots=slots)
    assert judged.share(ONE, asked) == expected


def test_replicas_above_the_declared_minimum_do_not_stand_by_for_long() -> None:
    told = life(20, worked=set(range(20)), pods=(ONE, TWO))
    judged = standby(told, DECLARED, slot=MINUTE, slots=20)
    assert judged.share(TWO, 10) == 0.0


def test_of_several_still_replicas_as_many_stand_by_as_were_declared() -> None:
    pods = tuple(PodRef("llm", f"chat-{number}") for number in range(4))
    judged = standby(life(20, worked={0, 19}, pods=pods), DECLARED, slot=MINUTE, slots=20)
    assert judged.share(pods[3], 10) == pytest.approx(1 / 4)


def test_a_surplus_replica_that_was_quiet_for_minutes_still_stands_by() -> None:
    told = life(20, worked=set(range(20)), pods=(ONE, TWO))
    told.note(TWO, 8, worked=True)
    told.note(TWO, 14, worked=True)
    assert standby(told, DECLARED, slot=MINUTE, slots=20).share(TWO, 10) == 1.0


def test_without_a_declaration_every_replica_of_a_used_workload_stands_by() -> None:
    told = life(20, worked={0, 19}, pods=(ONE, TWO))
    assert standby(told, Scaled(), slot=MINUTE, slots=20).share(TWO, 10) == 1.0
