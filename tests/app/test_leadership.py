"""Who leads: never two at once, soon somebody, and nobody who cannot renew; clocks of replicas are never compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.app.leadership import DEADLINE, DURATION, PERIOD, Alone, Elected
from fallow.domain.errors import Refused, Unreachable
from tests.support.lease import InMemoryLease


class Time:
    """Seconds that only go forward; each replica's wall clock is off by its own error."""

    def __init__(self) -> None:
        self.now = 1000.0

    def replica(self, lease: InMemoryLease, name: str, error: float = 0.0) -> Elected:
        return Elected(lease, name, clock=lambda: self.now, wall=lambda: 1.8e9 + self.now + error)


async def test_the_first_to_come_leads_and_the_second_stands_by() -> None:
    time, lease = Time(), InMemoryLease()
    one, other = time.replica(lease, "one"), time.replica(lease, "other")

    await one.step()
    await other.step()

    assert (one.leads, other.leads) == (True, False)
    assert (one.term, other.term) == (0, None)


async def test_nobody_leads_before_it_has_claimed() -> None:
    assert not Time().replica(InMemoryLease(), "one").leads


async def test_a_leader_that_renews_stays_and_its_reign_is_one() -> None:
    time, lease = Time(), InMemoryLease()
    one, other = time.replica(lease, "one"), time.replica(lease, "other")
    for _ in range(30):
        await one.step()
        await other.step()
        assert (one.leads, one.term, other.leads) == (True, 0, False)
        time.now += PERIOD


async def test_a_crashed_leader_is_followed_once_its_claim_has_run_out() -> None:
    time, lease = Time(), InMemoryLease()
    one, other = time.replica(lease, "one"), time.replica(lease, "other")
    await one.step()
    await other.step()
    time.now += DURATION - 0.1
    await other.step()
    assert not other.leads
    time.now += 0.2
    await other.step()
    assert (one.leads, other.leads, other.term) == (False, True, 1)


async def test_a_leader_that_ends_in_good_order_is_followed_at_once() -> None:
    time, lease = Time(), InMemoryLease()
    one, other = time.replica(lease, "one"), time.replica(lease, "other")
    await one.step()
    await other.step()
    await one.release()
    assert not one.leads
    await other.step()
    assert other.leads


@pytest.mark.parametrize("fault", [Unreachable("no answer"), Refused("forbidden")], ids=["unreachable", "refused"])
async def test_a_leader_that_cannot_renew_stops_before_anybody_follows(fault: Unreachable | Refused) -> None:
    time, lease = Time(), InMemoryLease()
    one = time.replica(lease, "one")
    await one.step()
    lease.fault = fault
    time.now += DEADLINE - 0.1
    await one.step()
    assert one.leads
    time.now += 0.2
    assert not one.leads
    assert DEADLINE + 10 <= DURATION


async def test_after_an_outage_in_which_nobody_led_the_reign_goes_on() -> None:
    time, lease = Time(), InMemoryLease()
    one = time.replica(lease, "one")
    await one.step()
    lease.fault = Unreachable("no answer")
    time.now += 600
    await one.step()
    assert one.term is None
    lease.fault = None
    await one.step()
    assert one.leads
    assert one.term == 0


async def test_a_reign_after_another_s_is_a_new_one() -> None:
    time, lease = Time(), InMemoryLease()
    one, other = time.replica(lease, "one"), time.replica(lease, "other")
    await one.step()
    await one.release()
    await other.step()
    await other.release()
    await one.step()
    assert (one.leads, one.term) == (True, 2)


async def test_a_claim_that_somebody_deleted_is_made_anew() -> None:
    time, lease = Time(), InMemoryLease()
    one = time.replica(lease, "one")
    await one.step()
    lease.stored = None
    lease.writes = 0
    time.now += PERIOD
    await one.step()
    assert one.leads


async def test_trouble_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    time, lease = Time(), InMemoryLease()
    one = time.replica(lease, "one")
    lease.fault = Unreachable("no answer")
    for _ in range(3):
        await one.step()
    assert caplog.text.count("no answer") == 1


async def test_without_an_election_the_only_replica_leads() -> None:
    alone = Alone()
    await alone.run()
    await alone.release()
    assert (alone.leads, alone.term) == (True, 0)


moments = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["step", "step", "step", "fault", "crash", "release"]), st.floats(0, 40)
    ),
    max_size=60,
)


@given(moments, st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
async def test_never_two_lead_at_once(history: list[tuple[int, str, float]], errors: list[float]) -> None:
    """Whatever fails, crashes or is late, and however wrong the wall clocks are."""
    time, lease = Time(), InMemoryLease()
    replicas = [time.replica(lease, f"replica-{number}", error) for number, error in enumerate(errors)]
    for index, event, pause in history:
        if event == "crash":
            replicas[index] = time.replica(lease, f"replica-{index}-{time.now}")
        elif event == "release":
            await replicas[index].release()
        else:
            lease.fault = Unreachable("no answer") if event == "fault" else None
            await replicas[index].step()
            lease.fault = None
        assert sum(one.leads for one in replicas) <= 1
        time.now += pause


@given(moments)
async def test_somebody_leads_soon_after_all_is_well(history: list[tuple[int, str, float]]) -> None:
    time, lease = Time(), InMemoryLease()
    replicas = [time.replica(lease, f"replica-{number}") for number in range(3)]
    for index, event, pause in history:
        lease.fault = Unreachable("no answer") if event == "fault" else None
        await replicas[index].step()
        time.now += pause
    lease.fault = None
    for _ in range(int(DURATION / PERIOD) + 2):
        for one in replicas:
            await one.step()
        time.now += PERIOD
    assert sum(one.leads for one in replicas) == 1
