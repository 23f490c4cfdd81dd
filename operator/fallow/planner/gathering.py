"""Gathers what the levers of one service look at: what is declared, what runs, what is remembered and what is known."""

from dataclasses import replace

from fallow.domain.autoscalers import Autoscaler
from fallow.domain.estimates import ServiceEstimate
from fallow.domain.habits import NO_HABITS
from fallow.domain.policies import Mode, Objective, Policy, ScalingRules
from fallow.domain.snapshots import Node, Snapshot, Workload
from fallow.domain.workloads import Service, ServiceMemory, Variant
from fallow.footprint.zones import zone_of
from fallow.planner import autoscaled
from fallow.planner.capacity import Capacity, profile_for, profile_on, replica_capacity
from fallow.planner.clocks import clocks_of
from fallow.planner.context import Around, Context
from fallow.planner.pieces import held
from fallow.planner.remembering import observed, settled, woken
from fallow.planner.selection import agreed, nodes_of, policy_for, serving_of
from fallow.planner.weighing import BY_ENERGY, Place, Sites, Weighing, weighing

NO_POLICY = Policy(name="", mode=Mode.OBSERVE, scaling=ScalingRules(enabled=False))


def gathered(snapshot: Snapshot, service: Service, estimate: ServiceEstimate, around: Around) -> Context:
    """Of one service, as the snapshot has it and its memory goes on."""
    policy = policy_for(service, snapshot.cluster.policies) or NO_POLICY
    workloads = {workload.variant: workload for workload in snapshot.workloads_of(service.key)}
    replicas = sum(workload.replicas for workload in workloads.values()) if workloads else None
    before = snapshot.cluster.memory_of(service.key)
    before = settled(before, service, replicas, snapshot.at)
    if autoscaled.rested_by(workloads.values()) is not None:
        before = replace(before, resting=False)
    pods = snapshot.pods_of(service.key)
    serving = serving_of(snapshot.cluster, service, before)
    ready = len(snapshot.cluster.serving.get(service.key, ()))
    memory = woken(observed(before, service, estimate, policy.idle, snapshot.at), ready, estimate.booked, snapshot.at)
    # a variant removed from the spec may leave the one it was switched to as the one that serves
    to = memory.switching_to if memory.switching_to != serving.name else None
    if (memory.serving, memory.switching_to) != (serving.name, to):
        memory = replace(memory, serving=serving.name, switching_to=to, approval=memory.approval if to else "")
    follows = autoscaled.may_follow(policy) or _may_be_missing(snapshot, policy)
    scaler = workloads[serving.name].scaler if serving.name in workloads else None
    floor, ceiling = _bounds(service, memory, scaler, follows=follows)
    nodes = nodes_of(snapshot.cluster, pods)
    product = agreed(nodes)
    habits = snapshot.habits.get(service.key, NO_HABITS)

    def carries(variant: Variant) -> Capacity:
        """While its engines are being replaced those are counted on that carry less."""
        profile, workload = profile_for(variant, snapshot.cluster.profiles, product), workloads.get(variant.name)
        found = replica_capacity(service, variant, profile, policy.scaling.headroom, habits.arrivals)
        tokens = None if workload is None or workload.rolling else workload.tuning.step_tokens
        return found if tokens is None else held(found, service, variant, profile, habits.arrivals, tokens)

    return Context(
        now=snapshot.at,
        service=service,
        policy=policy,
        estimate=estimate,
        memory=memory,
        serving=serving,
        current={
            variant: autoscaled.floor(workload) - (_moving(workload, memory) if variant == serving.name else 0)
            for variant, workload in workloads.items()
        },
        workloads=workloads,
        pods=pods,
        history=snapshot.history.get(service.key, ()),
        profiles=snapshot.cluster.profiles,
        product=product,
        capacity={variant.name: carries(variant) for variant in service.variants},
        habits=habits,
        floor=floor,
        ceiling=ceiling,
        follows=follows,
        throttled=any(workload.tuning.throttled for workload in workloads.values()),
        step_tokens={
            name: workload.tuning.step_tokens
            for name, workload in workloads.items()
            if workload.tuning.step_tokens is not None
        },
        nodes=nodes,
        clocks=() if policy.clocks is None else clocks_of(snapshot, pods),
        weighing=_weighing(snapshot, service, policy, nodes, around.sites),
        around=around,
    )


def _weighing(snapshot: Snapshot, service: Service, policy: Policy, nodes: tuple[Node, ...], sites: Sites) -> Weighing:
    """Of where it is and, if it has several variants, of all places where a profile tells how one of these would run.
    Where neither is looked at, plain watts.
    """
    if policy.objective is Objective.ENERGY and policy.mode is not Mode.RECOMMEND and not sites:
        return BY_ENERGY
    zones = tuple(zone_of(node, snapshot.zones) for node in nodes)
    here = Place(agreed(nodes) or "", zones) if zones else None
    profiles, variants = snapshot.cluster.profiles, service.variants if len(service.variants) > 1 else ()
    reached = {
        product: there
        for product, there in sites.items()
        if any(profile_on(variant, profiles, product) is not None for variant in variants)
    }
    return weighing(policy.objective, here, reached)


def _bounds(service: Service, memory: ServiceMemory, scaler: Autoscaler | None, *, follows: bool) -> tuple[int, int]:
    """The fewest replicas that are to run, and the most; where an autoscaler adds to them, bounds of its minimum."""
    floor, ceiling = service.scaling.min_replicas, service.scaling.max_replicas
    if scaler is not None and follows:
        ceiling = min(ceiling, scaler.maximum)
    elif scaler is not None:
        floor, ceiling = max(scaler.owners, 1), scaler.maximum
    if service.requested and memory.request_at is not None:
        floor = max(floor, service.requested)
    return min(floor, ceiling), ceiling


def _moving(workload: Workload, memory: ServiceMemory) -> int:
    """Of its replicas those beside what is needed, which levers do not look at; one is always needed."""
    return min(memory.moving, max(workload.replicas - 1, 0))


def _may_be_missing(snapshot: Snapshot, policy: Policy) -> bool:
    """Whether its policy may be one that cannot be read."""
    return not policy.name and any(one.kind == "EnergyPolicy" for one in snapshot.cluster.invalid)
