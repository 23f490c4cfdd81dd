"""What a plan asks of the cluster, where an autoscaler of others owns the replicas and where none does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.autoscalers import Autoscaler, AutoscalerKind
from fallow.domain.plans import Change, KeepVariant, RunVariant, ServicePlan, SetFloor
from fallow.planner.changes import changes, takes_away
from tests.support.builders import Running, Scene, scaler, service
from tests.unit.planner.asking import planned

KEDA = AutoscalerKind.SCALED_OBJECT
ADOPTED = service(target="vllm-chat", minimum=0)


def asked(scene: Scene, count: int) -> list[Change]:
    """What follows where the plan is to run this many."""
    plan: ServicePlan = replace(planned(scene), replicas={"bf16": count})
    return changes(scene.snapshot(), plan)


def scene(replicas: int, *owners: Autoscaler) -> Scene:
    return Scene(service=ADOPTED, variants={"bf16": Running(replicas)}, scalers={"bf16": owners})


def writes(found: list[Change]) -> list[Change]:
    return [change for change in found if not isinstance(change, KeepVariant)]


def test_without_an_autoscaler_replicas_are_set() -> None:
    (change,) = asked(scene(2), 3)
    assert isinstance(change, RunVariant)
    assert change.replicas == 3


def test_under_an_autoscaler_its_minimum_is_set_and_no_replicas() -> None:
    kept, floor = asked(scene(2, scaler(2)), 3)
    assert isinstance(kept, KeepVariant)
    assert isinstance(floor, SetFloor)
    assert (floor.scaler, floor.minimum) == (scaler(2), 3)


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 2)], ids=["to zero", "from zero"])
def test_to_and_from_zero_replicas_are_set_and_no_minimum(before: int, after: int) -> None:
    (change,) = asked(scene(before, scaler(2)), after)
    assert isinstance(change, RunVariant)
    assert change.replicas == after


@pytest.mark.parametrize(("count", "minimum"), [(1, 0), (3, 3)], ids=["the last one is its own to take", "more"])
def test_a_scaled_object_may_go_on_resting_where_one_replica_will_do(count: int, minimum: int) -> None:
    (floor,) = writes(asked(scene(2, scaler(2, kind=KEDA, declared=0)), count))
    assert isinstance(floor, SetFloor)
    assert floor.minimum == minimum


def test_where_two_own_the_replicas_no_number_is_written() -> None:
    assert writes(asked(scene(2, scaler(2, name="a"), scaler(1, name="b")), 5)) == []


def test_a_lower_minimum_takes_away() -> None:
    lower, higher = scene(3, scaler(3)), scene(3, scaler(3))
    assert [takes_away(lower.snapshot(), one) for one in writes(asked(lower, 2))] == [True]
    assert [takes_away(higher.snapshot(), one) for one in writes(asked(higher, 4))] == [False]


OWNERS = st.lists(
    st.builds(
        lambda name, minimum, kind: scaler(minimum, name=name, kind=kind),
        st.sampled_from("abc"),
        st.integers(0, 6),
        st.sampled_from(AutoscalerKind),
    ),
    min_size=1,
    max_size=2,
)


@given(replicas=st.integers(0, 6), owners=OWNERS, count=st.integers(0, 8))
def test_no_number_of_replicas_is_written_beside_an_autoscaler_but_from_and_to_zero(
    replicas: int, owners: list[Autoscaler], count: int
) -> None:
    found = writes(asked(scene(replicas, *owners), count))
    assert len(found) <= 1
    for change in found:
        assert isinstance(change, RunVariant | SetFloor)
        if isinstance(change, RunVariant):
            assert 0 in {replicas, change.replicas}
        else:
            assert (len(owners), min(replicas, count) > 0) == (1, True)
