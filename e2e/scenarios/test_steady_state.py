"""What Fallow costs when nothing happens: no writes to the API server; for 200 services as many queries as for one."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from e2e.harness.audit import AuditEvent
from e2e.harness.cluster import Cluster
from e2e.harness.scenes import OPERATOR, Scene, burst, service, steady
from e2e.harness.stack import Stack

pytestmark = pytest.mark.cluster

JSON = dict[str, Any]

NAMESPACE = "calm"
FIRST, RESTING = "first", "resting"
WORKING = 8
SERVICES = 200
QUERIES_AT_MOST = 25
STEADY = 120.0
# So long without a write means that everything that was to be told has been told.
SETTLED = 10.0
# Figures are renewed in all statuses, and the books stored, at each turn of their intervals; between two turns nothing
# is written. Shorter than the default, and long enough for two quiet minutes.
TURN = 210.0
WAKE = {"metric": "gateway_requests_waiting", "selector": {"service": "nobody"}}


@dataclass(slots=True)
class Cost:
    """What was counted over a stretch of cycles."""

    cycles: float = 0.0
    asked: float = 0.0
    queries: set[float] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)

    @property
    def asked_per_cycle(self) -> float:
        return self.asked / self.cycles


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    """All settings but these intervals are the defaults."""
    intervals = {"cycle_interval": 2, "status_interval": TURN, "ledger_interval": TURN}
    with Stack(cluster, operator_settings=intervals) as stack, Scene(stack) as scene:
        scene.namespace(NAMESPACE)
        scene.put(service(NAMESPACE, FIRST, scaling={"minReplicas": 1, "maxReplicas": 2, "wake": WAKE}))
        stack.traffic(NAMESPACE, FIRST, steady(6))
        yield scene


@pytest.fixture(scope="module")
def with_one(scene: Scene) -> Cost:
    scene.until(lambda: scene.condition(NAMESPACE, FIRST, "MetricsFresh").get("status") == "True", "the first service")
    return counted(scene, seconds=12)


@pytest.fixture(scope="module")
def calm(scene: Scene, with_one: Cost) -> Cost:
    """Two minutes with 200 services, most at zero, some under constant load, one at rest; once all is told."""
    assert with_one.cycles > 0
    working = [f"working-{number}" for number in range(WORKING)]
    stopped = [f"stopped-{number}" for number in range(SERVICES - WORKING - 2)]
    scene.put(
        service(NAMESPACE, RESTING, scaling={"minReplicas": 0}),
        *(service(NAMESPACE, name, scaling={"minReplicas": 1}) for name in working),
        *(service(NAMESPACE, name, scaling={"minReplicas": 0}, replicas=0) for name in stopped),
    )
    scene.stack.traffic(NAMESPACE, RESTING, burst(2, 5))
    for name in working:
        scene.stack.traffic(NAMESPACE, name, steady(4))
    scene.until(lambda: scene.status(NAMESPACE, RESTING).get("idle", {}).get("resting"), "one service to rest")
    scene.until(lambda: len(told(scene)) == SERVICES, "a status of every service")
    # what is learned of a service's first minutes is told at the next turn
    started = time.time() // TURN
    scene.until(
        lambda: time.time() // TURN > started and time.time() - last_write(scene) > SETTLED and is_between_turns(),
        "the last write, and two minutes in which no figures are renewed",
        limit=150 + TURN,
    )
    return counted(scene, seconds=STEADY)


def is_between_turns() -> bool:
    """Each status has its own moment in the first quarter after a turn."""
    return TURN / 4 + SETTLED < time.time() % TURN < TURN - STEADY - SETTLED


def told(scene: Scene) -> list[str]:
    services = scene.services.all(NAMESPACE)
    return [name for name, body in services.items() if body.get("status", {}).get("observedGeneration")]


def writes(scene: Scene, *, since: float = 0.0) -> list[AuditEvent]:
    """By Fallow's ServiceAccount, leases aside."""
    return [
        event
        for event in scene.cluster.audit_events()
        if event.user == OPERATOR and event.is_write and event.resource != "leases" and moment(event) >= since
    ]


def moment(event: AuditEvent) -> float:
    return datetime.fromisoformat(event.time).astimezone(UTC).timestamp()


def last_write(scene: Scene) -> float:
    return max(map(moment, writes(scene)), default=0.0)


def counted(scene: Scene, *, seconds: float) -> Cost:
    """Looks at every cycle for that long."""
    cost, ends = Cost(), time.monotonic() + seconds
    cycles, asked = value(scene, "fallow_cycles"), asked_of_prometheus(scene)

    def over() -> bool:
        cost.queries.add(value(scene, "fallow_cycle_metric_queries"))
        cost.seconds.append(value(scene, "fallow_cycle_duration_seconds"))
        return time.monotonic() >= ends

    scene.stack.wait_until(lambda: over() or None, "the time to pass", seconds + 30, poll=1.0)
    cost.cycles = value(scene, "fallow_cycles") - cycles
    cost.asked = asked_of_prometheus(scene) - asked
    return cost


def value(scene: Scene, name: str) -> float:
    found = scene.metric(name)
    assert found is not None, name
    return found


def asked_of_prometheus(scene: Scene) -> float:
    """Requests to its query interfaces by its own count; only Fallow asks here."""
    with urllib.request.urlopen(f"{scene.cluster.prometheus_url}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
        samples = [sample for family in families for sample in family.samples]
    return sum(
        sample.value
        for sample in samples
        if sample.name == "prometheus_http_requests_total" and sample.labels["handler"].startswith("/api/v1/query")
    )


def test_a_steady_state_writes_nothing_for_two_minutes(scene: Scene, calm: Cost) -> None:
    ended = time.time()
    made = writes(scene, since=ended - STEADY)
    print(f"{len(made)} writes in {STEADY:.0f} s and {calm.cycles:.0f} cycles with {SERVICES} services")
    assert calm.cycles >= STEADY / 4
    assert [(event.verb, event.resource, event.subresource, event.name) for event in made] == []


def test_it_is_steady_because_everything_stands_as_asked(scene: Scene, calm: Cost) -> None:
    assert calm.cycles > 0
    ready = {name: scene.ready(NAMESPACE, name) for name in told(scene)}
    assert ready.pop(FIRST) >= 1
    assert ready.pop(RESTING) == 0
    assert all(count == int(name.startswith("working-")) for name, count in ready.items())


def test_queries_do_not_grow_with_the_number_of_services(with_one: Cost, calm: Cost) -> None:
    for name, cost in (("1 service", with_one), (f"{SERVICES} services", calm)):
        mean, longest = sum(cost.seconds) / len(cost.seconds), max(cost.seconds)
        print(
            f"{name}: {cost.queries} queries a cycle, {cost.asked_per_cycle:.2f} by Prometheus' count over "
            f"{cost.cycles:.0f} cycles, a cycle took {mean * 1e3:.0f} ms on average, {longest * 1e3:.0f} ms at most"
        )
    assert with_one.queries == calm.queries
    assert max(calm.queries) <= QUERIES_AT_MOST
    # one cycle at each end may be counted on one side only
    for cost in (with_one, calm):
        assert abs(cost.asked - max(cost.queries) * cost.cycles) <= 2 * max(cost.queries)
