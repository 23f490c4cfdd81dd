"""The cluster that end-to-end tests share, and a clear failure where they are started outside its namespace."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from e2e.harness import namespace
from e2e.harness.cluster import Cluster
from e2e.harness.errors import HarnessError

SCRAPE_SECONDS = 1.0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cluster") is None:
        return
    try:
        namespace.require_inside()
    except HarnessError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[Cluster]:
    with Cluster(scrape_seconds=SCRAPE_SECONDS) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """A running cluster without nodes; a test adds the nodes it needs, and may count on no others' pods.

    Objects of our kinds are gone when a module's tests are: a policy left behind would govern the next one's services.
    """
    yield shared_cluster
    kinds = shared_cluster.kubectl("get", "customresourcedefinitions", "-o", "name").split()
    ours = [kind.partition("/")[2] for kind in kinds if kind.endswith(".fallow.dev")]
    if ours:
        # Nothing of ours has finalizers: what is deleted is gone, and waiting for each object would take a minute.
        shared_cluster.kubectl("delete", ",".join(ours), "--all", "--all-namespaces", "--wait=false", limit=180)


@pytest.fixture
def gpu_nodes(cluster: Cluster) -> Iterator[list[str]]:
    """Two servers of eight GPUs for one test."""
    names = cluster.add_gpu_nodes(2, 8)
    yield names
    cluster.remove_nodes(names)


@pytest.fixture
def kube_namespace(cluster: Cluster) -> Iterator[str]:
    """A Kubernetes namespace of one test's own, deleted without waiting."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
