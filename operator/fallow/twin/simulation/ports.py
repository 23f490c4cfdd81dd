"""The fleet behind the operator's own ports: the same cycle that runs on a cluster reads it and acts on it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.figures import Figure, Missing
from fallow.domain.ledger import Ledger
from fallow.domain.plans import Change, Cordon, CordonNode, GpuLimits, Outcome, RunVariant
from fallow.domain.policies import Policy
from fallow.domain.profiles import Profile
from fallow.domain.readings import (
    Activity,
    ActivitySource,
    EnergyCounter,
    EngineReading,
    GpuReading,
    Histogram,
    PodRef,
    Power,
    Readings,
    WaitingSeries,
)
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import ClusterView, Pod, Workload
from fallow.domain.snapshots import Node as ClusterNode
from fallow.domain.tuning import Tuning
from fallow.domain.units import GramsPerKWh, Instant, Joules, Watts
from fallow.domain.workloads import Service, ServiceKey
from fallow.domain.zones import Forecast, Intensity, IntensitySource, Zone
from fallow.ports import ReadScope
from fallow.twin.simulation.aftermath import BUSY, DONE, GAPS, GENERATED, PROMPT, STEPS, TTFT
from fallow.twin.simulation.fleet import ASLEEP, Life
from fallow.twin.simulation.fleet import Pod as Replica
from fallow.twin.simulation.machines import Node
from fallow.twin.simulation.machines import Power as NodePower
from fallow.twin.simulation.meters import Meter, bounds_of, held, in_turns, spare
from fallow.twin.simulation.run import Simulation
from fallow.twin.simulation.sight import LATENCY_BOUNDS

# Of each node, by which the simulated GridZones select theirs.
ZONE_LABEL = "fallow.dev/zone"
# Bounds of vLLM's histograms that the fast clock keeps.
TTFT_BOUNDS = (.005, .01, .02, .04, .1, .25, .5, .75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, np.inf)  # fmt: skip
ITL_BOUNDS = (.01, .025, .05, .075, .1, .15, .2, .5, .75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, np.inf)  # fmt: skip
_TTFT_AT = [int(np.searchsorted(LATENCY_BOUNDS, bound)) for bound in TTFT_BOUNDS]
_ITL_AT = [int(np.searchsorted(LATENCY_BOUNDS, bound)) for bound in ITL_BOUNDS]


class Declared:
    """What people have applied to the cluster: services in the order of the setup, policies, zones, profiles."""

    def __init__(
        self,
        services: Sequence[Service],
        policies: Sequence[Policy],
        zones: Sequence[Zone],
        profiles: Sequence[Profile] = (),
    ) -> None:
        self.services = {service.key: service for service in services}
        self.order = tuple(service.key for service in services)
        self.policies, self.zones, self.profiles = tuple(policies), tuple(zones), tuple(profiles)


class FleetCluster:
    """The Cluster port. What is asked for takes effect at once; `asked` keeps it until it is taken."""

    def __init__(self, simulation: Simulation, declared: Declared) -> None:
        self._simulation, self._declared = simulation, declared
        self._began = simulation.run.began
        self._pods: dict[int, tuple[Life, Pod]] = {}
        self._nodes: dict[str, ClusterNode] = {}
        self._view: ClusterView | None = None
        self._seen = -1
        self.asked: list[tuple[ServiceKey, str, int, int]] = []
        self._number = {key: number for number, key in enumerate(declared.order)}

    def view(self) -> ClusterView:
        """As last watched: what a cycle asks for is seen by the next one, as through a watch."""
        if self._view is None or self._simulation.now != self._seen:
            self._view, self._seen = self._look(), self._simulation.now
        return self._view

    async def apply(self, change: Change) -> Outcome:
        if isinstance(change, CordonNode):
            return Outcome(change, wrote=self._cordon(change))
        if not isinstance(change, RunVariant):
            return Outcome(change, wrote=False)
        number = self._number[change.service.key]
        names = [variant.name for variant in self._simulation.setup.services[number].variants]
        variant = names.index(change.variant)
        fleet = self._simulation.fleet
        tuned = fleet.throttle(number, variant, on=change.tuning.throttled)
        tuned |= fleet.limit_steps(number, variant, change.tuning.step_tokens)
        before = fleet.asked[number][variant]
        if before == change.replicas:
            return Outcome(change, wrote=tuned)
        self.asked.append((change.service.key, change.variant, before, change.replicas))
        fleet.ask(number, variant, change.replicas, float(self._simulation.now), change.leaving)
        return Outcome(change, wrote=True)

    def _cordon(self, change: CordonNode) -> bool:
        node = next((one for one in self._simulation.fleet.nodes if one.name == change.node), None)
        if node is None:
            return False
        at = change.at - self._began
        self._simulation.fleet.cordon(node, at if change.to is Cordon.EMPTY else None, float(self._simulation.now))
        node.kept_since = at if change.to is Cordon.KEEP else None
        return True

    async def limit(self, limits: Mapping[str, Mapping[str, GpuLimits]], now: Instant) -> tuple[str, ...]:  # noqa: ARG002
        """At once, and for all replicas of a pool alike."""
        fleet = self._simulation.fleet
        watts: dict[int, float] = {}
        clocks: dict[int, float] = {}
        if not fleet.pools.limits and not fleet.pools.clocks and not any(limits.values()):
            return ()
        for replica in fleet.all_pods():
            if replica.node is None or replica.life is Life.PULLING:
                continue
            of_node = limits.get(replica.node.name, {})
            for gpu in replica.gpus:
                one = of_node.get(replica.node.uuids[replica.node.meter(gpu)], GpuLimits())
                if one.power is not None:
                    watts[replica.pool] = min(watts.get(replica.pool, one.power.value), one.power.value)
                if one.clock is not None and replica.node.kind.clock is not None:
                    share = one.clock.value / replica.node.kind.clock
                    clocks[replica.pool] = min(clocks.get(replica.pool, share), share)
        for pool in {*watts, *fleet.pools.limits}:
            fleet.limit(pool, watts.get(pool))
        for pool in {*clocks, *fleet.pools.clocks}:
            fleet.clock(pool, clocks.get(pool))
        return ()

    async def hand_back(self, scaler: Autoscaler) -> str:
        return f"{scaler} is not simulated"

    def _look(self) -> ClusterView:
        fleet, declared = self._simulation.fleet, self._declared
        pods: dict[PodRef, Pod] = {}
        workloads: list[Workload] = []
        kept: dict[int, tuple[Life, Pod]] = {}
        for (number, variant), replicas in fleet.pods.items():
            key = declared.order[number]
            name = self._simulation.setup.services[number].variants[variant].name
            ready = 0
            for replica in replicas:
                known = self._pods.get(replica.number)
                pod = known[1] if known is not None and known[0] is replica.life else self._pod(replica, key, name)
                kept[replica.number] = (replica.life, pod)
                pods[pod.ref] = pod
                ready += pod.ready
            asked = fleet.asked[number][variant]
            if asked or replicas:
                full = f"{key.name}-{name}"
                place = (number, variant)
                tuning = Tuning(place in fleet.pools.throttled, fleet.pools.step_tokens.get(place))
                workloads.append(Workload(key.namespace, full, key, name, asked, ready, 1, tuning=tuning))
        self._pods = kept
        self._nodes = {node.name: self._node(node) for node in fleet.nodes if node.power is NodePower.ON}
        return ClusterView(
            nodes=self._nodes,
            pods=pods,
            workloads=tuple(workloads),
            services=declared.services,
            policies=declared.policies,
            zones=declared.zones,
            profiles=declared.profiles,
        )

    def _node(self, node: Node) -> ClusterNode:
        """As it was seen last, where it is neither emptied nor kept since."""
        began, known = self._began, self._nodes.get(node.name)
        emptying = None if node.emptying is None else Instant(began + node.emptying)
        kept_since = None if node.kept_since is None else Instant(began + node.kept_since)
        if known is not None and (known.emptying, known.kept_since) == (emptying, kept_since):
            return known
        return ClusterNode(
            node.name,
            f"198.19.{node.number // 250}.{node.number % 250 + 1}",
            {"nvidia.com/gpu.product": node.kind.product, ZONE_LABEL: node.kind.zone},
            node.kind.boards,
            node.kind.product,
            in_turns=node.kind.in_turns,
            cordoned=emptying is not None,
            emptying=emptying,
            kept_since=kept_since,
            instances=node.kind.gpus if node.kind.divided else 0,
        )

    def _pod(self, replica: Replica, key: ServiceKey, variant: str) -> Pod:
        of = self._simulation.setup.services[replica.service].variants[replica.variant]
        node = replica.node

        def at(time: float | None) -> Instant | None:
            return None if time is None else Instant(self._began + time)

        return Pod(
            ref=replica.ref,
            uid=f"pod-{replica.number}",
            node=node.name if node is not None else "",
            address=f"198.18.{replica.number // 250 % 250}.{replica.number % 250 + 1}",
            port=8000,
            gpus=of.gpus,
            created=Instant(self._began + replica.created),
            # a sleeping vLLM answers /health as before
            ready=replica.life is Life.READY or replica.life in ASLEEP,
            deleting=replica.deleting_at is not None,
            scheduled=node is not None,
            service=key,
            variant=variant,
            started=at(replica.started),
            ready_since=at(replica.ready_at),
            deleting_since=at(replica.deleting_at),
        )


class FleetMetrics:
    """The MetricSource port: what vLLM, dcgm-exporter and a gateway would have shown at the fleet's own time."""

    def __init__(self, simulation: Simulation, declared: Declared) -> None:
        self._simulation, self._declared = simulation, declared
        self._began = simulation.run.began
        # joules by GPU
        self._before: dict[str, float] = {}
        self._busy: dict[int, float] = {}
        self._at = 0.0

    @property
    def queries(self) -> int:
        return 0

    async def read(self, now: Instant, scope: ReadScope) -> Readings:  # noqa: ARG002 - the fleet is read as a whole
        simulation = self._simulation
        at = Instant(self._began + simulation.now)
        engines, busy = self._engines(at)
        readings = Readings(at=at, engines=engines, gpus=self._gpus(at, busy), waiting=self._waiting(at))
        self._at = float(simulation.now)
        return readings

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Missing:  # noqa: ARG002
        return Missing(Reason.NO_HISTORY, "the simulated fleet keeps no past")

    async def close(self) -> None:
        """Nothing is open."""

    def _engines(self, at: Instant) -> tuple[dict[PodRef, EngineReading], dict[int, float]]:
        """Readings of ready pods, and the share of time that each worked since the last look, by pod number. Those that
        are asleep have nothing in work, and show what they had counted.
        """
        engines = self._simulation.engines
        ready: list[Replica] = []
        running: list[int] = []
        waiting: list[int] = []
        there = engines.by_service(engines.ready[: engines.pools])
        for (number, _), replicas in self._simulation.fleet.pods.items():
            serving = [replica for replica in replicas if replica.life is Life.READY]
            if not serving:
                continue
            ready += serving
            work = sum(engines.batch[pool] + engines.prefilling[pool] for pool in {one.pool for one in serving})
            queue = engines.waiting[number] * len(serving) / there[number]
            running += _shared(round(float(work)), len(serving))
            waiting += _shared(ceil(float(queue) - 1e-6), len(serving))
        asleep = [replica for replica in self._simulation.fleet.all_pods() if replica.life in ASLEEP]
        if not ready and not asleep:
            return {}, {}
        columns = np.array([replica.column for replica in ready], dtype=np.int64)
        usage = engines.kv_usage[columns].tolist() + [0.0] * len(asleep)
        shown = np.array([replica.counted for replica in (*ready, *asleep)])
        counted = shown.copy()
        counted[: len(ready)] = engines.after.counters[columns] - shown[: len(ready)]
        ready, running, waiting = ready + asleep, running + [0] * len(asleep), waiting + [0] * len(asleep)
        cached = self._simulation.demand.spread.cached
        ttft = np.floor(np.cumsum(counted[:, TTFT], axis=1) + 1e-6)[:, _TTFT_AT]
        itl = np.floor(np.cumsum(counted[:, GAPS], axis=1) + 1e-6)[:, _ITL_AT]
        plain = np.floor(counted[:, :6] + 1e-6)
        rows, worked = plain.tolist(), counted[:, BUSY].tolist()
        share = cached[[replica.service for replica in ready]]
        reused = np.floor(plain[:, PROMPT] * share).tolist()
        firsts, between = ttft.tobytes(), itl.tobytes()
        wide, broad = 8 * len(TTFT_BOUNDS), 8 * len(ITL_BOUNDS)
        names = [self._declared.services[key].served_name for key in self._declared.order]
        answers: dict[PodRef, EngineReading] = {}
        busy: dict[int, float] = {}
        seconds = max(self._simulation.now - self._at, 1.0)
        for index, replica in enumerate(ready):
            row = rows[index]
            busy[replica.number] = worked[index]
            answers[replica.ref] = EngineReading(
                at=at,
                running=float(running[index]),
                waiting=float(waiting[index]),
                kv_usage=usage[index],
                prompt_tokens=row[PROMPT],
                generated_tokens=row[GENERATED],
                requests=row[DONE],
                cached_prompt_tokens=reused[index],
                iterations=row[STEPS],
                asleep=replica.life in ASLEEP,
                model_name=names[replica.service],
                ttft=Histogram(TTFT_BOUNDS, array("d", firsts[index * wide : (index + 1) * wide])),
                itl=Histogram(ITL_BOUNDS, array("d", between[index * broad : (index + 1) * broad])),
            )
        shares = {
            number: min(max(now - self._busy.get(number, 0.0), 0.0) / seconds, 1.0) for number, now in busy.items()
        }
        self._busy = busy
        return answers, shares

    def _gpus(self, at: Instant, busy: Mapping[int, float]) -> dict[str, GpuReading]:
        fleet, now = self._simulation.fleet, float(self._simulation.now)
        seconds = now - self._at
        answers: dict[str, GpuReading] = {}
        before: dict[str, float] = {}

        def read(one: Meter) -> None:
            node, uuid = one.node, one.node.uuids[one.number]
            known = self._before.get(uuid)
            watts = (one.joules - known) / seconds if known is not None and seconds > 0 else node.kind.bare
            before[uuid] = one.joules
            power, counter = Power(Watts(max(watts, 0.0)), at), EnergyCounter(Joules(one.joules), at)
            limit, clock = one.bounds
            activity = Activity(one.busy, ActivitySource.ENGINE_ACTIVE, at)
            answers[uuid] = GpuReading(
                uuid,
                node.name,
                node.kind.model_name,
                power,
                counter,
                activity,
                one.holder,
                one.shares,
                limit=limit,
                clock=clock,
            )

        for meter in held(fleet, busy, now, at):
            read(meter)
        for meter in in_turns(fleet, busy, now, at):
            read(meter)
        for node in fleet.nodes:
            if node.power is not NodePower.ON:
                continue
            if node.free:
                bounds = bounds_of(fleet, node, None, at)
                for number in node.usable_meters:
                    joules = node.closed[number] + node.kind.bare * (now - node.since[number])
                    read(Meter(node, number, joules, bounds, 0.0))
            answers |= {one.uuid: one for one in spare(node, now, at)}
        self._before = before
        return answers

    def _waiting(self, at: Instant) -> tuple[WaitingSeries, ...]:
        """What a gateway holds while no replica is ready, under the metric that the service's wake names."""
        engines = self._simulation.engines
        there = engines.by_service(engines.ready[: engines.pools])
        return tuple(
            WaitingSeries(wake.metric, dict(wake.selector), float(ceil(engines.waiting[number] - 1e-6)), at)
            for number, key in enumerate(self._declared.order)
            if there[number] == 0
            and engines.waiting[number] > 0
            and (wake := self._declared.services[key].scaling.wake) is not None
        )


class GridCarbon:
    """The CarbonSource port: each zone's own series, named by the source's parameter `zone`."""

    KIND = "Simulated"

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity:
        grams = self._simulation.grid[str(source.parameters["zone"])].at(now - self._simulation.run.began)
        return Intensity(Figure.exact(GramsPerKWh(grams)), now, self.KIND)

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002
        return Missing(Reason.NO_FORECAST, "the simulated grid tells no future")


class Books:
    """The LedgerStore port, in memory."""

    def __init__(self) -> None:
        self._kept: Ledger | None = None

    async def load(self) -> Ledger | None:
        return self._kept

    async def save(self, ledger: Ledger) -> Ledger:
        """There is no other writer."""
        self._kept = ledger
        return ledger


def _shared(whole: int, among: int) -> list[int]:
    """Whole requests as even as they go."""
    each, more = divmod(whole, among)
    return [each + 1] * more + [each] * (among - more)
