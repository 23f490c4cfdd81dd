"""One simulation as several side by side: services are dealt out over processes, and nodes with them.

Services share nothing but nodes, and each part gets as many as its services may ask for at most; so only packing and
the powering off of nodes differ from a run in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from math import ceil

import numpy as np

from fallow.app.simulation.assembling import Assembled
from fallow.app.simulation.scenario import ScenarioError
from fallow.domain.policies import Policy
from fallow.domain.units import Joules
from fallow.domain.workloads import ServiceKey
from fallow.twin.simulation.demand import Array, Demand, Load, Spread
from fallow.twin.simulation.ports import Declared
from fallow.twin.simulation.result import Outcome, Series
from fallow.twin.simulation.setup import NodeKind, ServiceSetup
from fallow.twin.simulation.sizing import Survey


class Rows:
    """Some services of a demand."""

    def __init__(self, whole: Demand, rows: Sequence[int]) -> None:
        self._whole, self._rows = whole, list(rows)

    @property
    def services(self) -> tuple[ServiceKey, ...]:
        return tuple(self._whole.services[row] for row in self._rows)

    @property
    def seconds(self) -> int:
        return self._whole.seconds

    @property
    def spread(self) -> Spread:
        whole = self._whole.spread
        return Spread(whole.prompt_cv[self._rows], whole.output_cv[self._rows], whole.cached[self._rows])

    def block(self, start: int, stop: int) -> Load:
        load = self._whole.block(start, stop)
        return Load(start, load.arrivals[self._rows], load.prompt[self._rows], load.output[self._rows])


# What of a policy its services share, so that each part would have all of it.
TIES: Mapping[str, Callable[[Policy], bool]] = {
    "budgets are": lambda policy: any(budget.on_burn for budget in policy.budgets),
    "a power cap is": lambda policy: policy.power is not None,
    "guards.maxConcurrentChanges is": lambda policy: policy.guards.most_at_once is not None,
}


def parted(one: Assembled, parts: int) -> list[Assembled]:
    """Every `parts`-th service each. Raises ScenarioError where the nodes are too few for all at their most."""
    if one.setup.faults and parts > 1:
        raise ScenarioError(f"--parts {parts}: faults befall the nodes of all services; run them in one part")
    for what, ties in TIES.items() if parts > 1 else ():
        if any(ties(policy) for policy in one.declared.policies):
            raise ScenarioError(f"--parts {parts}: {what} of all services of a policy together; run them in one part")
    count = len(one.setup.services)
    dealt = [list(range(first, count, parts)) for first in range(min(parts, count))]
    nodes = [_nodes(one, rows) for rows in dealt]
    for index, kind in enumerate(one.setup.nodes):
        needed = sum(kinds[index].count for kinds in nodes)
        if needed > kind.count:
            raise ScenarioError(
                f"--parts {parts}: all services at their maxReplicas need {needed} nodes of {kind.product}, and there"
                f" are {kind.count}: who gets a GPU is then decided between all of them, in one part"
            )
    return [_part(one, rows, kinds) for rows, kinds in zip(dealt, nodes, strict=True)]


def _nodes(one: Assembled, rows: Sequence[int]) -> tuple[NodeKind, ...]:
    services = [one.setup.services[row] for row in rows]
    return tuple(replace(kind, count=_count(kind, services)) for kind in one.setup.nodes)


def _count(kind: NodeKind, services: Sequence[ServiceSetup]) -> int:
    """While a variant makes way for another both are there."""
    gpus = sum(
        service.maximum * variant.gpus
        for service in services
        for variant in service.variants
        if kind.product in variant.tables
    )
    return max(1, ceil(gpus / kind.gpus))


def _part(one: Assembled, rows: Sequence[int], kinds: tuple[NodeKind, ...]) -> Assembled:
    declared, seen = one.declared, one.seen
    keys = [declared.order[row] for row in rows]

    def some(values: Array) -> Array:
        return values[list(rows)]

    return replace(
        one,
        setup=replace(one.setup, nodes=kinds, services=tuple(one.setup.services[row] for row in rows)),
        demand=Rows(one.demand, rows),
        seen=Survey(*(some(getattr(seen, one.name)) for one in fields(Survey))),
        declared=Declared(
            [declared.services[key] for key in keys], declared.policies, declared.zones, declared.profiles
        ),
    )


def together(outcomes: Sequence[Outcome], order: Sequence[ServiceKey]) -> Outcome:
    """The outcome of all parts, services in the order of the demand."""
    services = [service for outcome in outcomes for service in outcome.services]
    at = {service.service: index for index, service in enumerate(services)}
    rows = [at[key] for key in order]

    def merged(of: Sequence[Array]) -> Array:
        return np.concatenate(of, axis=1)[:, rows]

    series = [outcome.series for outcome in outcomes]
    names = dict.fromkeys(name for one in series for name in one.ready)
    first = outcomes[0]
    return replace(
        first,
        services=tuple(services[row] for row in rows),
        series=Series(
            times=series[0].times,
            arrivals=merged([one.arrivals for one in series]),
            good=merged([one.good for one in series]),
            in_flight=merged([one.in_flight for one in series]),
            watts=merged([one.watts for one in series]),
            grams=merged([one.grams for one in series]),
            ready={name: merged([_named(one.ready, name, one.watts) for one in series]) for name in names},
            asked={name: merged([_named(one.asked, name, one.watts) for one in series]) for name in names},
        ),
        decisions=tuple(sorted((one for of in outcomes for one in of.decisions), key=lambda one: one.at)),
        fleet=Joules(sum(outcome.fleet.value for outcome in outcomes)),
        node_hours=sum(outcome.node_hours for outcome in outcomes),
        took=max(outcome.took for outcome in outcomes),
    )


def _named(of: object, name: str, like: Array) -> Array:
    found = of.get(name) if isinstance(of, dict) else None
    return np.zeros_like(like) if found is None else found
