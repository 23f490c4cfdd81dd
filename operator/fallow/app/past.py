"""The snapshot of a past time: what the source still tells of then, with the cluster as far as it can be known.

Pods that came and went meanwhile are known only by the names in the labels; their names say whose they were.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from fallow.domain.ledger import Ledger
from fallow.domain.readings import PodRef, Readings
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Instant
from fallow.domain.workloads import ServiceKey

# what a Deployment's ReplicaSet puts behind its name: a hash and five characters
_POD_SUFFIX = re.compile(r"-[a-z0-9]{1,10}-[a-z0-9]{5}")


class Past:
    """Builds the snapshots of one outage, oldest first. A pod keeps the time at which it was first seen in it."""

    def __init__(self, since: Instant) -> None:
        self._before = Readings(at=since)
        self._first_seen: dict[PodRef, Instant] = {}

    def snapshot(self, readings: Readings, ledger: Ledger, present: Snapshot) -> Snapshot:
        """As of the readings; `at` stays the present, since the calendar goes by it."""
        pods = {ref: _as_of(pod, readings) for ref, pod in present.cluster.pods.items() if pod.created <= readings.at}
        owners = _owners(ledger)
        for ref, node in _named(readings):
            if ref in pods:
                continue
            owner = owners.get(ref) or _owner_by_name(ref, present)
            # the energy of a pod of nobody that is known goes to the line of its namespace
            if owner is not None:
                pods[ref] = self._reconstructed(ref, node, owner, readings)
        before = self._before
        self._before = readings
        return replace(
            present, cluster=replace(present.cluster, pods=pods), readings=readings, previous=before, earlier=None
        )

    def _reconstructed(self, ref: PodRef, node: str, owner: "_Owner", readings: Readings) -> Pod:
        """It came between the look before and the one at which it was first seen."""
        middle = Instant((self._before.at + readings.at) / 2)
        return Pod(
            ref=ref,
            uid=owner.uid,
            node=node,
            address="",
            port=0,
            gpus=0,
            created=self._first_seen.setdefault(ref, middle),
            ready=ref in readings.engines,
            deleting=False,
            scheduled=True,
            service=owner.service,
            variant=owner.variant,
        )


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose a pod was, and its uid; a pod that nobody saw alive gets its name for one."""

    uid: str
    service: ServiceKey
    variant: str


def _as_of(pod: Pod, readings: Readings) -> Pod:
    """An engine answers once it is ready, so a pod whose engine was read was ready."""
    since = pod.ready_since if pod.ready_since is not None and pod.ready_since <= readings.at else None
    return replace(pod, ready=pod.ref in readings.engines, ready_since=since, deleting=False, deleting_since=None)


def _named(readings: Readings) -> Iterator[tuple[PodRef, str]]:
    """Every pod that the meters name, with its node where that is known."""
    for gpu in readings.gpus.values():
        for ref in (gpu.holder, *(share.holder for share in gpu.shares)):
            if ref is not None:
                yield ref, gpu.node
    for ref in readings.engines:
        yield ref, ""


def _owners(ledger: Ledger) -> Mapping[PodRef, _Owner]:
    """Of pods whose engines were booked before; of two by one name the later."""
    return {
        mark.pod: _Owner(uid, mark.line.service, mark.line.variant)
        for uid, mark in sorted(ledger.engines.items(), key=lambda item: item[1].at)
        if mark.pod is not None and mark.line is not None and mark.line.service is not None
    }


def _owner_by_name(ref: PodRef, present: Snapshot) -> _Owner | None:
    """The service of the Deployment by whose name the pod's begins; the longest one, where several fit."""
    found = [
        workload
        for workload in present.cluster.workloads
        if workload.namespace == ref.namespace
        and ref.name.startswith(f"{workload.name}-")
        and _POD_SUFFIX.fullmatch(ref.name, len(workload.name))
    ]
    owner = max(found, key=lambda workload: len(workload.name), default=None)
    return None if owner is None else _Owner(str(ref), owner.service, owner.variant)
