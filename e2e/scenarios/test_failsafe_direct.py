"""Fail-safe without a Prometheus: pods and exporters that do not answer, or answer nonsense, when asked directly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.harness.cluster import Cluster
from e2e.harness.outages import HEALTHY, REPLICAS, Fault, Outage, is_fresh, lived_through, staged

pytestmark = pytest.mark.cluster

DIRECT_FAULTS = (
    Fault("dcgm", "down", ("SourceUnreachable", ":9400/metrics")),
    Fault("dcgm", "nan", ("NotANumber", "DCGM_FI_")),
    Fault("vllm", "down", ("SourceUnreachable", ":8000/metrics")),
    Fault("vllm", "hang", ("SourceUnreachable", "no whole answer within")),
)

# A page that hangs holds up the whole cycle for five seconds, so a look before may be twice as old.
MAX_AGE = 20


@pytest.fixture(scope="module")
def outage(cluster: Cluster) -> Iterator[Outage]:
    with staged(cluster, "failsafe-direct", DIRECT_FAULTS, direct=True, max_age=MAX_AGE) as scene:
        yield lived_through(scene, "failsafe-direct", DIRECT_FAULTS)


@pytest.mark.parametrize("fault", DIRECT_FAULTS, ids=lambda fault: fault.name)
def test_a_page_that_cannot_be_read_takes_no_replica_away(outage: Outage, fault: Fault) -> None:
    scene, namespace = outage.scene, outage.namespace
    assert outage.levels[HEALTHY][-1] == 0
    assert outage.levels[fault.name] == [REPLICAS]
    assert outage.conditions[fault.name]["status"] == "False"
    scene.until_running(namespace, fault.name, 0)
    scene.until(lambda: is_fresh(scene, namespace, fault.name), "fresh metrics")
