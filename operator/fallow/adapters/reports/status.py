"""Writes the statuses of our kinds: at once what cannot wait, figures at intervals, nothing where nothing differs.

The books are shown as of the last turn of the interval, in all statuses alike, so that services and zones add up.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fallow.adapters.reports import significance
from fallow.adapters.reports.changes import DecisionWatch
from fallow.adapters.reports.cluster_status import policy_status
from fallow.adapters.reports.footprints import zone_footprints
from fallow.adapters.reports.objects import Held, Sender
from fallow.adapters.reports.profile_status import Known, profile_status
from fallow.adapters.reports.service_status import invalid_status, service_status
from fallow.adapters.reports.significance import Grade, Grading
from fallow.adapters.reports.zone_status import zone_status
from fallow.api.footprint import ZoneFootprint
from fallow.domain.errors import WriteError
from fallow.domain.ledger import Ledger
from fallow.domain.plans import Decision
from fallow.domain.reports import CycleReport
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import Service, ServiceKey

log = logging.getLogger(__name__)

JSON = Mapping[str, Any]

API_VERSION = "fallow.dev/v1alpha1"
PLURALS = {
    "InferenceService": "inferenceservices",
    "EnergyPolicy": "energypolicies",
    "GridZone": "gridzones",
    "ModelProfile": "modelprofiles",
}
GRADINGS = {
    "InferenceService": significance.SERVICE,
    "EnergyPolicy": significance.POLICY,
    "GridZone": significance.ZONE,
    "ModelProfile": significance.PROFILE,
}
REFRESH = Seconds(300)
# A state that flickers with the load must stand for this many cycles and may be written this often in a row between two
# turns of the interval; each turn gives one of these writes back. What has to wait is told with the figures.
STANDS = 2
FLICKERS = 3
# figures are written within this share of the interval after its turn, so that a thousand do not come at once
SPREAD = 0.25
MANAGER = "fallow"


@dataclass(frozen=True, slots=True)
class Draft:
    """A status as it should read, with the object that it belongs to."""

    kind: str
    body: JSON
    status: dict[str, Any]
    key: ServiceKey | None = None

    @property
    def grade(self) -> Grade:
        return significance.difference(self.body.get("status") or {}, self.status, self.grading)

    @property
    def grading(self) -> Grading:
        return GRADINGS[self.kind]

    @property
    def uid(self) -> str:
        return str(self.body["metadata"].get("uid", ""))


@dataclass(slots=True)
class Pace:
    """When an object was written last, or had its turn with nothing to tell; how long a flicker has stood."""

    written: Instant
    earned: Instant
    settling: int = 0
    left: int = FLICKERS

    def earn(self, turned: Instant) -> None:
        if self.earned < turned:
            self.earned, self.left = turned, min(FLICKERS, self.left + 1)

    def spend(self) -> bool:
        if self.settling < STANDS or self.left < 1:
            return False
        self.left -= 1
        return True


class StatusReporter:
    """Remembers in the process what it could not write yet, and the time of each object's last write."""

    def __init__(
        self,
        sender: Sender,
        held: Held,
        *,
        refresh: Seconds = REFRESH,
        writes: int = 8,
    ) -> None:
        self._sender = sender
        self._held = held
        self._refresh = refresh
        self._writes = asyncio.Semaphore(writes)
        self._decisions = DecisionWatch()
        self._news: dict[ServiceKey, Decision] = {}
        self._paces: dict[str, Pace] = {}
        self._complaints: dict[str, str] = {}
        self._turned = Instant(0)
        self._books: Ledger | None = None
        self._zones: Mapping[str, ZoneFootprint] = {}

    async def report(self, report: CycleReport) -> None:
        """Write what is due. A status that cannot be written is tried again next cycle."""
        self._news |= {plan.key: decision for plan, decision in self._decisions.new(report.plan)}
        self._turn(report)
        drafts = list(self._drafts(replace(report, ledger=self._books if report.ledger else None)))
        await asyncio.gather(*(self._deliver(draft, report.snapshot.at) for draft in drafts))
        self._forget_all_but({draft.uid for draft in drafts}, report)

    def _turn(self, report: CycleReport) -> None:
        """Take over the books at each turn of the interval, and the first ones at once."""
        turned = Instant(report.snapshot.at // self._refresh * self._refresh)
        if report.ledger is None or (self._books is not None and turned == self._turned):
            return
        self._books, self._turned = report.ledger, turned
        self._zones = zone_footprints(report.ledger)

    def _drafts(self, report: CycleReport) -> Iterator[Draft]:
        yield from self._services(report)
        yield from self._cluster_wide(report)
        for invalid in report.snapshot.cluster.invalid:
            body = self._body(invalid.kind, invalid.namespace, invalid.name)
            if body is not None:
                status = invalid_status(invalid, _status(body), _generation(body), report.snapshot.at)
                yield Draft(invalid.kind, body, status)

    def _services(self, report: CycleReport) -> Iterator[Draft]:
        for key, plan in report.plan.services.items():
            body = self._body("InferenceService", key.namespace, key.name)
            if body is not None:
                selector = self._selector(report.snapshot.cluster.services[key])
                status = service_status(report, plan, _status(body), selector, self._news.get(key))
                yield Draft("InferenceService", body, status, key)

    def _cluster_wide(self, report: CycleReport) -> Iterator[Draft]:
        view, now = report.snapshot.cluster, report.snapshot.at
        for policy in view.policies:
            if (body := self._body("EnergyPolicy", "", policy.name)) is not None:
                yield Draft("EnergyPolicy", body, policy_status(report, policy, _status(body)))
        for name, reading in report.snapshot.zones.items():
            if (body := self._body("GridZone", "", name)) is not None:
                footprint = self._zones.get(name) if report.ledger else None
                yield Draft("GridZone", body, zone_status(report, reading, _status(body), footprint))
        for profile in view.profiles:
            if (body := self._body("ModelProfile", "", profile.name)) is not None:
                known = Known(
                    learned=report.estimates.profiles.get(profile.key),
                    differing=report.estimates.differences.get(profile.name, ()),
                    is_read=report.estimates.ledger is not None,
                )
                yield Draft("ModelProfile", body, profile_status(profile, known, _status(body), _generation(body), now))

    async def _deliver(self, draft: Draft, now: Instant) -> None:
        """Write the status if it is due. A decision stays news until it stands in the status."""
        if self._is_due(draft, now) and not await self._write(draft, now):
            return
        if draft.key is not None:
            self._news.pop(draft.key, None)

    async def _write(self, draft: Draft, now: Instant) -> bool:
        metadata = draft.body["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata["name"]
        within = f"/namespaces/{namespace}" if namespace else ""
        path = f"/apis/{API_VERSION}{within}/{PLURALS[draft.kind]}/{name}/status"
        # the uid refuses the write where the object was deleted and made anew meanwhile
        identity = {"name": name, "uid": draft.uid} | ({"namespace": namespace} if namespace else {})
        body = {"apiVersion": API_VERSION, "kind": draft.kind, "metadata": identity, "status": draft.status}
        async with self._writes:
            try:
                answer = await self._sender.apply(path, body, MANAGER)
            except WriteError as error:
                self._complain(draft, str(error))
                return False
        self._complaints.pop(draft.uid, None)
        self._paces[draft.uid].written = now
        self._held.put(PLURALS[draft.kind], answer)
        return True

    def _is_due(self, draft: Draft, now: Instant) -> bool:
        """After a restart each object's clock starts anew, so that a restart alone writes nothing."""
        turned = Instant(now // self._refresh * self._refresh)
        pace, grade = self._paces.setdefault(draft.uid, Pace(written=now, earned=turned)), draft.grade
        pace.settling = pace.settling + 1 if grade is Grade.SETTLING else 0
        pace.earn(turned)
        # cycles as long as the interval may always come before an object's place in it: then the next one will do
        is_late = pace.written < turned - self._refresh
        is_its_turn = pace.written < turned and (is_late or now >= turned + self._refresh * _spread(draft.uid))
        if grade is Grade.NOTHING and is_its_turn:
            # it had its turn and nothing to tell; a figure that differs later waits for the next one
            pace.written = now
        if grade in {Grade.NOTHING, Grade.URGENT}:
            return grade is Grade.URGENT
        return is_its_turn or (grade is Grade.SETTLING and pace.spend())

    def _complain(self, draft: Draft, error: str) -> None:
        """Say once why a status cannot be written, and again when the reason changes."""
        if self._complaints.get(draft.uid) != error:
            self._complaints[draft.uid] = error
            log.warning("the status of %s was not written: %s", draft.kind, error)

    def _forget_all_but(self, present: set[str], report: CycleReport) -> None:
        self._paces = {uid: pace for uid, pace in self._paces.items() if uid in present}
        self._complaints = {uid: error for uid, error in self._complaints.items() if uid in present}
        self._news = {key: decision for key, decision in self._news.items() if key in report.plan.services}

    def _body(self, kind: str, namespace: str, name: str) -> JSON | None:
        return self._held.get(PLURALS[kind], namespace, name)

    def _selector(self, service: Service) -> str:
        """Our label, or the selector of the adopted Deployment, as the /scale subresource wants it."""
        if service.target is None:
            return f"fallow.dev/service={service.key.name}"
        adopted = self._held.get("deployments", service.key.namespace, service.target) or {}
        labels = ((adopted.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _status(body: JSON) -> JSON:
    return body.get("status") or {}


def _generation(body: JSON) -> int:
    return int(body["metadata"].get("generation") or 0)


def _spread(uid: str) -> float:
    """A share of the interval, up to SPREAD, that is each object's own."""
    return SPREAD * (zlib.crc32(uid.encode()) % 1000) / 1000
