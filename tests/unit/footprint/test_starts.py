"""What starting a replica takes is learned of each start once, whatever restarts and failures come between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from fallow.domain.learned import Placement, Starts
from fallow.domain.ledger import Ledger
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.workloads import ServiceKey
from fallow.footprint.appraisal import appraised
from fallow.footprint.bookkeeping import book
from fallow.footprint.profiles import learned_profiles
from tests.support.builders import BF16, CHAT, H100, service
from tests.support.learning import PLACEMENT
from tests.support.metered import engine, gpu, node, opened, pod, snapshot

CYCLE = 15
WATTS = 200.0


def starting(ready_at: float | None, *, started: float = 60, name: str = "chat-1", gpus: int = 1) -> Pod:
    return pod(name, started=started, ready=ready_at is not None, ready_since=ready_at, gpus=gpus)


def seen(seconds: float, one: Pod | None, *, is_read: bool, product: str = H100) -> Snapshot:
    """A GPU at 200 W; the engine is read once it is ready."""
    pods = [] if one is None else [one]
    found = snapshot(
        seconds,
        [gpu(seconds, WATTS * seconds + 1, WATTS, holder=f"llm/{one.ref.name}" if one else None)],
        pods=pods,
        engines={one.ref.name: engine(seconds)} if one is not None and is_read else {},
        nodes=[replace(node(), gpu_product=product)],
    )
    return replace(found, cluster=replace(found.cluster, services={CHAT: service(BF16)}))


def lived(until: float, *, ready_at: float = 135, started: float = 60, restart: float | None = None) -> Ledger:
    """A pod begins at 60 s and is ready 75 s later. At `restart` the books are those of a minute before."""
    ledger, stored = opened(0.0), None
    for at in range(0, int(until) + 1, CYCLE):
        if at == restart and stored is not None:
            ledger = stored
        is_ready = at >= ready_at
        one = starting(ready_at if is_ready else None, started=started) if at >= started else None
        now = seen(at, one, is_read=is_ready)
        ledger = appraised(ledger, book(ledger, now), now, {})
        if restart is not None and at == restart - 60:
            stored = ledger
    return ledger


def starts(known: Ledger, placement: Placement = PLACEMENT) -> Starts:
    found = known.learned[placement].starts
    assert found is not None
    return found


def test_a_start_takes_the_seconds_to_ready_and_what_its_gpu_drew_meanwhile() -> None:
    one = starts(lived(300))
    assert (one.number, one.seconds) == (1, 75)
    assert one.joules == pytest.approx(75 * WATTS, rel=0.15)
    assert (one.metered, one.pending) == (1, 0.0)


def test_a_crash_after_a_start_counts_it_once() -> None:
    assert starts(lived(300, restart=150)).number == 1
    assert starts(lived(300, restart=240)).number == 1


def test_while_it_starts_its_joules_are_kept_for_when_it_is_ready() -> None:
    one = starts(lived(105))
    assert one.number == 0
    assert one.pending == pytest.approx(45 * WATTS, rel=0.35)


def test_a_start_that_took_too_long_tells_nothing() -> None:
    assert starts(lived(2100, ready_at=2000)).number == 0


def test_a_start_after_failed_ones_tells_its_seconds_and_no_joules() -> None:
    """The container that got ready ran for five seconds; the joules are those of all its attempts."""
    ledger = lived(1200, ready_at=10_000)
    for at in range(1215, 1245, CYCLE):
        now = seen(at, starting(1211, started=1206), is_read=True)
        ledger = appraised(ledger, book(ledger, now), now, {})
    one = starts(ledger)
    assert (one.number, one.seconds, one.metered) == (1, 5, 0)


def test_a_profile_s_start_is_the_mean_over_services() -> None:
    code = ServiceKey("llm", "code")
    ledger = lived(300)
    other = replace(ledger.learned[PLACEMENT], starts=Starts(3, 375, 0, 0))
    known: Mapping[Placement, object] = {**ledger.learned, Placement(code, "bf16", H100): other}
    services = {CHAT: service(BF16), code: service(BF16, key=code)}
    (one,) = learned_profiles(known, services).values()  # type: ignore[arg-type]
    assert one.start is not None
    assert one.start.seconds == (75 + 375) / 4
    assert one.start.joules is not None
    assert one.start.joules.value == pytest.approx(75 * WATTS, rel=0.15)
