"""Cycle reports to be told, and the objects that their statuses belong to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fallow.adapters.cluster.mirror import POLICIES, PROFILES, SERVICES, ZONES, Mirror
from fallow.domain.autoscalers import Autoscaler
from fallow.domain.budgets import BudgetUse
from fallow.domain.errors import WriteError
from fallow.domain.estimates import Estimates, IdleEvidence, ServiceEstimate
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Account, Book, Ledger, LineKey, LineKind, Period
from fallow.domain.plans import Condition, Decision, Kept, Outcome, Pending, Plan, ServicePlan
from fallow.domain.policies import Mode, Policy
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.rooflines import Roofline
from fallow.domain.snapshots import ClusterView, Snapshot
from fallow.domain.units import FlopsPerByte, Grams, Instant, Joules, Litres, Seconds, Watts
from fallow.domain.workloads import IdleState, ServiceMemory
from fallow.domain.zones import Intensity
from tests.adapters.cluster import raw
from tests.support.builders import CHAT, NOW, intensity, node, pod, point, readings, zone

ACTIVE = ServiceMemory(serving="bf16", idle_state=IdleState.ACTIVE, idle_state_since=Instant(NOW - 600))
GROW = Decision(
    at=NOW,
    action="ScaleUp",
    lever="Replicas",
    reason=Reason.QUEUE_GROWING,
    message="12 waiting",
    policy="green",
    saves=None,
)
REST = Decision(
    at=NOW,
    action="Rest",
    lever="Rest",
    reason=Reason.IDLE_LONG_ENOUGH,
    message="quiet for 600 s",
    policy="green",
    saves=Watts(122),
    proposal=True,
)
MEMORY_BOUND = Roofline(
    Figure(FlopsPerByte(27.25), FlopsPerByte(34.06), FlopsPerByte(68.12)),
    Figure(FlopsPerByte(147.5), FlopsPerByte(295.05), FlopsPerByte(354.06)),
)
READY = Condition("Ready", status=True, reason=Reason.AS_ASKED, message="1 replicas are ready")
FRESH = Condition("MetricsFresh", status=True, reason=Reason.FRESH, message="all signals are fresh")


def stale(message: str = "vLLM series are not from the last 90 s") -> Condition:
    return Condition("MetricsFresh", status=False, reason=Reason.STALE_SERIES, message=message)


def mirror(**status: Any) -> Mirror:
    """What is watched: one service, policy, zone and profile."""
    made = Mirror()
    made.put(SERVICES, raw.inference_service(status=status or None))
    made.put(POLICIES, raw.energy_policy(mode="Enforce"))
    made.put(ZONES, raw.grid_zone())
    made.put(PROFILES, raw.model_profile())
    return made


def ledger(
    *,
    energy: float = 7200.0,
    generated: float = 3600.0,
    requests: float = 10.0,
    unpriced: float = 0.0,
    since: Instant | None = None,
) -> Ledger:
    """One service line, all of its amounts in every period; NOW lies at 08:00 UTC."""
    account = Account(
        energy=Figure.exact(Joules(energy)),
        parked=Joules(energy / 4),
        facility=Figure(Joules(energy * 1.2), Joules(energy * 1.5), Joules(energy * 2)),
        unpriced=Joules(unpriced),
        carbon=Figure(Grams(0.8), Grams(1.0), Grams(1.2)),
        water=Figure.exact(Litres(0.002)),
        embodied=Figure.exact(Grams(0.3)),
        prompt_tokens=1000,
        generated_tokens=generated,
        requests=requests,
    )
    began = Instant(NOW - 86_400) if since is None else since
    hour = Instant(NOW // 3600 * 3600)
    book = Book(
        total=Period(began, account),
        month=Period(Instant(hour - 14 * 86_400), account),
        day=Period(Instant(hour - 8 * 3600), account),
        hour=Period(hour, account),
        last_hour=Period(Instant(hour - 3600), account),
    )
    return Ledger(since=began, at=NOW, books={LineKey(LineKind.SERVICE, "llm", "chat", "bf16"): book})


def report(
    source: Mirror | None = None,
    *,
    now: float = NOW,
    decision: Decision | None = None,
    conditions: tuple[Condition, ...] = (READY, FRESH),
    memory: ServiceMemory = ACTIVE,
    replicas: Mapping[str, int] | None = None,
    mode: Mode = Mode.ENFORCE,
    watts: float | Missing = 400.0,
    grams: float | Missing = 300.0,
    per_token: float | Missing = 0.1234,
    books: Ledger | None = None,
    outcomes: tuple[Outcome, ...] = (),
    pending: Pending | None = None,
    budgets: tuple[BudgetUse, ...] = (),
    scalers: Mapping[str, Autoscaler] | None = None,
    above: Mapping[str, int] | None = None,
    rooflines: Mapping[str, Roofline | Missing] | None = None,
    kept: Kept | None = None,
) -> CycleReport:
    """One cycle over the mirror: one ready replica that works."""
    at = Instant(now)
    view = (source or mirror()).view()
    priced: Intensity | Missing = grams if isinstance(grams, Missing) else intensity(grams, at)
    known = {"bf16": 1} if replicas is None else replicas
    standing = decision or replace(GROW, action="Hold", reason=Reason.STEADY, message="steady")
    plan = ServicePlan(
        key=CHAT,
        replicas=known,
        proposed=known,
        serving="bf16",
        memory=memory,
        decision=decision,
        standing=standing,
        policy=Policy("green", mode),
        conditions=conditions,
        pending=pending,
        scalers=scalers or {},
        above=above or {},
    )
    estimate = ServiceEstimate(
        key=CHAT,
        demand=point(at, 4.0),
        evidence=IdleEvidence(memory.idle_state, "4 running, 0 waiting", "GPU active 90 %", f"{watts} W"),
        watts=watts if isinstance(watts, Missing) else Watts(watts),
        joules_per_token=per_token,
        ttft_p95=Seconds(0.4),
        itl_p95=Seconds(0.03),
        intensity=priced,
        zone="north",
        rooflines=rooflines or {},
    )
    services = view.services
    return CycleReport(
        snapshot=Snapshot(
            at=at,
            cluster=_peopled(view),
            readings=readings({}, at=at),
            zones={part.name: replace(zone(grams, at), zone=part) for part in view.zones},
        ),
        estimates=Estimates(
            {CHAT: estimate} if services else {}, books, Watts(1234), budgets={"green": budgets} if budgets else {}
        ),
        plan=Plan(at, {CHAT: plan} if services else {}, kept=kept or Kept()),
        outcomes=outcomes,
        ledger=books,
        took=Seconds(0.2),
        queries=7,
    )


def _peopled(view: ClusterView) -> ClusterView:
    one = pod()
    return replace(view, nodes={"node-a": node()}, pods={one.ref: one})


class Sink:
    """Takes what reporters send; `fault`, where set, is what every call fails with."""

    def __init__(self, held: Mirror | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.fault: WriteError | None = None
        self._held = held
        self._version = 5000

    async def apply(self, path: str, body: Mapping[str, Any], field_manager: str) -> dict[str, Any]:
        self._take(path, body)
        assert field_manager == "fallow"
        plural, name, part = path.split("/")[-3:]
        assert part == "status"
        live = self._held.get(plural, body["metadata"].get("namespace", ""), name) if self._held else None
        assert live is not None
        self._version = max(self._version, int(live["metadata"]["resourceVersion"])) + 1
        version = {"resourceVersion": str(self._version)}
        return {**live, "metadata": {**live["metadata"], **version}, "status": copy.deepcopy(body["status"])}

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self._take(path, body)
        return dict(body)

    def _take(self, path: str, body: Mapping[str, Any]) -> None:
        if self.fault is not None:
            raise self.fault
        self.paths.append(path)
        self.sent.append(copy.deepcopy(dict(body)))
