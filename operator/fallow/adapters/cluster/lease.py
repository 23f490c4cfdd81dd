"""The claim to lead as a Lease of coordination.k8s.io, which kubectl and other tools can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fallow.adapters.cluster.client import KubernetesApi
from fallow.domain.tenure import Tenure
from fallow.domain.units import Instant, Seconds

JSON = Mapping[str, Any]
NAME = "fallow"


class KubernetesLease:
    """Implements ports.Lease. Its `api` must write for a replica that does not lead, too."""

    def __init__(self, api: KubernetesApi, namespace: str, name: str = NAME) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def read(self) -> Tenure | None:
        found = await self._api.get(f"{self._collection}/{self._name}")
        return None if found is None else _tenure(found)

    async def write(self, tenure: Tenure) -> Tenure:
        body = self._body(tenure)
        if tenure.version:
            stored = await self._api.replace(f"{self._collection}/{self._name}", body)
        else:
            stored = await self._api.create(self._collection, body)
        return replace(tenure, version=str(stored["metadata"]["resourceVersion"]))

    def _body(self, tenure: Tenure) -> JSON:
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "fallow"},
        }
        if tenure.version:
            metadata["resourceVersion"] = tenure.version
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": tenure.holder,
                # the API server wants at least a second
                "leaseDurationSeconds": max(1, round(tenure.duration)),
                "acquireTime": _shown(tenure.acquired),
                "renewTime": _shown(tenure.renewed),
                "leaseTransitions": tenure.terms,
            },
        }


def _tenure(body: JSON) -> Tenure:
    """Whatever somebody wrote there counts as a claim that nobody renews."""
    spec: JSON = body.get("spec") or {}
    return Tenure(
        holder=str(spec.get("holderIdentity") or ""),
        acquired=_read(spec.get("acquireTime")),
        renewed=_read(spec.get("renewTime")),
        duration=Seconds(float(spec.get("leaseDurationSeconds") or 0)),
        terms=int(spec.get("leaseTransitions") or 0),
        version=str(body["metadata"]["resourceVersion"]),
    )


def _shown(at: Instant) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read(text: str | None) -> Instant:
    return Instant(datetime.fromisoformat(text).timestamp() if text else 0.0)
