"""Statuses: what is written, what is read back, and the memory that outlives a restart."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fallow.api.conditions import Condition, Figure, instant, moment
from fallow.api.footprint import Footprint, Footprints
from fallow.api.inference_service_status import Decision, Evidence, InferenceServiceStatus, Transition
from fallow.api.memory import recalled, remembered
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import GivenUp, IdleState, Proposed, ServiceMemory

FULL = ServiceMemory(
    serving="bf16",
    switching_to="fp8",
    approval="3f9a01c2",
    resting=True,
    idle_state=IdleState.IDLE,
    idle_state_since=Instant(1_772_323_200),
    quiet_since=Instant(1_772_322_600),
    changed_at=Instant(1_772_323_260),
    request_seen=2,
    request_at=Instant(1_772_323_000),
    wake_handled="2026-03-01",
    wake_started=Instant(1_772_323_250),
    wake_took=Seconds(41.5),
    moving=2,
)
SERVING = ServiceMemory(serving="bf16", idle_state=IdleState.ACTIVE, idle_state_since=Instant(1_772_323_200))
STOPPED = ServiceMemory(serving="bf16", request_seen=0, request_at=None)
WAKEN = ServiceMemory(serving="bf16", wake_took=Seconds(9.0))
SHIFTING = ServiceMemory(serving="bf16", switching_to="fp8", changed_at=Instant(1_772_323_260), before=10)
RETURNED = ServiceMemory(serving="bf16", given_up=GivenUp("fp8", Instant(1_772_323_260), 2, "9 of 80 failed"))
ASKED = ServiceMemory(proposal=Proposed("3f9a01c2", "Rest to bf16 0", Instant(1_772_323_200)))


@pytest.mark.parametrize(
    "memory",
    [FULL, SERVING, STOPPED, WAKEN, ASKED, SHIFTING, RETURNED, ServiceMemory()],
    ids=["full", "serving", "stopped", "waken", "asked", "shifting", "returned", "empty"],
)
def test_memory_comes_back_from_the_status(memory: ServiceMemory) -> None:
    written = remembered(InferenceServiceStatus(), memory).as_json()

    assert recalled(InferenceServiceStatus.model_validate(written)) == memory


def test_memory_is_kept_to_the_second() -> None:
    written = remembered(InferenceServiceStatus(), ServiceMemory(changed_at=Instant(1_772_323_260.9)))

    assert recalled(written).changed_at == Instant(1_772_323_260)
    assert written.as_json()["lastChange"] == "2026-03-01T00:01:00Z"


def test_memory_leaves_the_rest_of_the_status_alone() -> None:
    before = InferenceServiceStatus(replicas=3, policy="rest-when-idle", idle={"evidence": Evidence(watts="122 W")})

    after = remembered(before, FULL)

    assert (after.replicas, after.policy) == (3, "rest-when-idle")
    assert after.idle.evidence.watts == "122 W"
    since = moment(Instant(1_772_323_260))
    assert after.transition == Transition(from_="bf16", to="fp8", since=since, approval="3f9a01c2")


def test_status_is_written_in_camel_case_without_what_is_not_known() -> None:
    status = InferenceServiceStatus(
        observed_generation=4,
        decision=[
            Decision(
                at=datetime(2026, 3, 1, 12, 0, 0, 999, tzinfo=UTC),
                action="replicas 1 -> 0",
                reason="IdleLongEnough",
                lever="idle",
                saves_watts=122.0,
            )
        ],
    )

    written = status.as_json()

    assert written["observedGeneration"] == 4
    assert written["decision"][0]["savesWatts"] == 122.0
    assert written["decision"][0]["at"] == "2026-03-01T12:00:00Z"
    assert "footprint" not in written
    assert "transition" not in written


def test_transition_is_written_with_the_plain_names() -> None:
    assert Transition(from_="bf16", to="fp8").as_json() == {"from": "bf16", "to": "fp8"}


def test_footprint_has_one_shape_for_every_period() -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    figure = Figure(low=0.95, best=1.0, high=1.05)
    footprint = Footprints(as_of=start, total=Footprint(start=start, energy_wh=figure, idle_share=0.25))

    written = footprint.as_json()["total"]

    assert written["energyWh"] == {"low": 0.95, "best": 1.0, "high": 1.05}
    assert written["idleShare"] == 0.25
    assert written["tokens"] == {"prompt": 0, "generated": 0}
    assert "carbonGrams" not in written, "what is not known is absent, never zero"


def test_times_are_read_in_any_zone() -> None:
    berlin = timezone(timedelta(hours=1))

    assert instant(datetime(2026, 3, 1, 1, 0, 0, tzinfo=berlin)) == instant(datetime(2026, 3, 1, tzinfo=UTC))
    assert instant(datetime(2026, 3, 1)) == instant(datetime(2026, 3, 1, tzinfo=UTC))  # noqa: DTZ001 - the case tested


def test_condition_needs_a_reason_in_one_word() -> None:
    with pytest.raises(ValueError, match="one CamelCase word"):
        Condition(
            type="Ready",
            status="True",
            last_transition_time=datetime(2026, 3, 1, tzinfo=UTC),
            reason="all is well",
            message="",
        )
