"""What the cycle keeps between two rounds: recent readings, load history and memories, all bounded."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from fallow.domain.estimates import Estimates
from fallow.domain.figures import Missing
from fallow.domain.habits import NO_HABITS, Habits
from fallow.domain.plans import Plan
from fallow.domain.policies import Policy, ScalingRules
from fallow.domain.readings import Readings
from fallow.domain.snapshots import ClusterView, DemandPoint, Snapshot
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey, ServiceMemory
from fallow.planner.aim import aimed
from fallow.planner.arrivals import anew, noted
from fallow.planner.budgets import capping
from fallow.planner.lateness import learned
from fallow.planner.levers.replicas import STEP_WINDOW
from fallow.planner.selection import policy_for

KEPT_READINGS = 5


class Watch:
    """Readings thinned to a few per window, demand points over the longest down window of any policy."""

    def __init__(self, window: Seconds) -> None:
        self._window = window
        self._previous: Readings | None = None
        self._readings: deque[Readings] = deque()
        self._history: dict[ServiceKey, deque[DemandPoint]] = {}
        self._habits: dict[ServiceKey, Habits] = {}
        self._memories: dict[ServiceKey, tuple[str, ServiceMemory]] = {}
        # services whose clocks are lowered
        self._slowed: frozenset[ServiceKey] = frozenset()

    @property
    def previous(self) -> Readings | None:
        return self._previous

    def earlier(self, now: Instant) -> Readings | None:
        """The oldest readings inside the estimation window."""
        return next((readings for readings in self._readings if now - readings.at <= self._window), None)

    @property
    def history(self) -> Mapping[ServiceKey, tuple[DemandPoint, ...]]:
        return {key: tuple(points) for key, points in self._history.items()}

    def recall(self, view: ClusterView) -> ClusterView:
        """The view with this process's own memories, which are newer than what the statuses show.

        A status that could not be written, or has not come back through the watch yet, must not undo a decision.
        """
        own = {
            key: memory
            for key, (uid, memory) in self._memories.items()
            if key in view.services and view.services[key].uid == uid
        }
        return replace(view, memories={**view.memories, **own})

    def keep(self, snapshot: Snapshot, plan: Plan) -> None:
        """Memorise what was carried out."""
        services = snapshot.cluster.services
        for key, told in plan.services.items():
            before = snapshot.cluster.memories.get(key)
            if key in self._habits and before is not None and before.serving not in {None, told.serving}:
                habits = self._habits[key]
                self._habits[key] = replace(habits, arrivals=anew(habits.arrivals))
        self._memories = {key: (services[key].uid, told.memory) for key, told in plan.services.items()}
        self._slowed = frozenset(key for key, told in plan.services.items() if told.is_slowed)

    @property
    def habits(self) -> Mapping[ServiceKey, Habits]:
        """Of the services that were read at least twice, or whose habits were recalled."""
        return dict(self._habits)

    def remember(self, snapshot: Snapshot, estimates: Estimates) -> Snapshot:
        """Take this round in, and give back the snapshot with it at the end of its history.

        What a process before this one learned is on the ledger; of what this one learns only its own counts.
        """
        stored = {} if estimates.ledger is None else estimates.ledger.habits
        self._keep(snapshot.readings)
        horizon = self._horizon(snapshot.cluster.policies)
        capped = frozenset(name for name, used in estimates.budgets.items() if capping(used))
        for key in [key for key in self._history if key not in snapshot.cluster.services]:
            del self._history[key]
            self._habits.pop(key, None)
        for key, estimate in estimates.services.items():
            if key not in self._habits and key in stored:
                self._habits[key] = stored[key]
            points = self._history.setdefault(key, deque())
            while points and points[-1].at > snapshot.at:  # noted before the clock was put back
                points.pop()
            if not isinstance(estimate.demand, Missing):
                seen = estimate.demand
                if points:
                    self._habits[key] = self._learned(snapshot, key, seen, snapshot.at - points[-1].at, capped)
                points.append(seen if seen.at == snapshot.at else replace(seen, at=snapshot.at))
            while points and snapshot.at - points[0].at > horizon:
                points.popleft()
        return replace(snapshot, history=self.history, habits=self.habits)

    def _learned(
        self, snapshot: Snapshot, key: ServiceKey, seen: DemandPoint, seconds: float, capped: frozenset[str]
    ) -> Habits:
        """Crests decide where a policy that is enforced scales, above the fewest replicas that are declared.

        Who is late because a budget caps replicas says nothing about crests.
        """
        service = snapshot.cluster.services[key]
        policy = policy_for(service, snapshot.cluster.policies)
        decides = (
            policy is not None
            and policy.scales
            and not service.paused
            and seen.desired > service.scaling.min_replicas
            # an autoscaler adds to what crests ask for, and its share is not theirs
            and not any(workload.scalers for workload in snapshot.workloads_of(key))
        )
        before = self._habits.get(key, NO_HABITS)
        arrivals = noted(before.arrivals, seen, seconds, timed=key not in self._slowed)
        if policy is not None and policy.name in capped:
            return replace(before, arrivals=arrivals)
        aim = (1.0 - service.objectives.attainment) * aimed(service.objectives, before)
        return Habits(arrivals, learned(before.lateness, seen, aim, seconds, decides=decides))

    def _keep(self, readings: Readings) -> None:
        self._previous = readings
        while self._readings and self._readings[-1].at > readings.at:
            self._readings.pop()
        while len(self._readings) > 1 and readings.at - self._readings[0].at > self._window:
            self._readings.popleft()
        if not self._readings or readings.at - self._readings[-1].at >= self._window / KEPT_READINGS:
            self._readings.append(readings)

    def _horizon(self, policies: tuple[Policy, ...]) -> float:
        windows = [policy.scaling.down_window for policy in policies] or [ScalingRules().down_window]
        return 1.5 * max([*windows, STEP_WINDOW])
