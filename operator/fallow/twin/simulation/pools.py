"""Pools of replicas, one variant of one service on one kind of node, and how the engines of each are set."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fallow.twin.simulation.engines import Engines
from fallow.twin.simulation.setup import Setup
from fallow.twin.simulation.table import EngineTable


@dataclass(frozen=True, slots=True)
class Place:
    """A pool: one variant of one service on one kind of node."""

    service: int
    variant: int
    kind: int


def places_of(setup: Setup) -> tuple[Place, ...]:
    """Pools in the order of services, as Engines wants them."""
    return tuple(
        Place(service, variant, kind)
        for service, one in enumerate(setup.services)
        for variant, of in enumerate(one.variants)
        for kind, node in enumerate(setup.nodes)
        if node.product in of.tables and node.gpus >= of.gpus
    )


class Pools:
    """What holds for the replicas of each, also for those to come. By service and variant: those `throttled`, whose
    clocks fall while they have nothing to do, and tokens of a step where they are limited (`step_tokens`). By pool:
    `limits` of each GPU in W, and `clocks` as a share of the highest, where these are lowered.
    """

    def __init__(self, setup: Setup, engines: Engines) -> None:
        self.places = places_of(setup)
        self.throttled: set[tuple[int, int]] = set()
        self.step_tokens: dict[tuple[int, int], int] = {}
        self.limits: dict[int, float] = {}
        self.clocks: dict[int, float] = {}
        self._setup = setup
        self._engines = engines
        self._numbers = {(place.service, place.variant, place.kind): index for index, place in enumerate(self.places)}

    def number(self, service: int, variant: int, kind: int) -> int:
        return self._numbers[service, variant, kind]

    def table(self, pool: int) -> EngineTable:
        """As nothing is set."""
        place = self.places[pool]
        product = self._setup.nodes[place.kind].product
        return self._setup.services[place.service].variants[place.variant].tables[product]

    def throttle(self, service: int, variant: int, *, on: bool) -> bool:
        """Whether that is another setting than before."""
        if on is ((service, variant) in self.throttled):
            return False
        self.throttled ^= {(service, variant)}
        for pool in self._of(service, variant):
            # whoever else is on a GPU holds its clocks up
            if not self._setup.nodes[self.places[pool].kind].in_turns:
                self._engines.after.throttle(pool, on=on)
        return True

    def limit_steps(self, service: int, variant: int, tokens: int | None) -> bool:
        """None for those of the table. Whether that is another setting than before."""
        if self.step_tokens.get((service, variant)) == tokens:
            return False
        if tokens is None:
            del self.step_tokens[service, variant]
        else:
            self.step_tokens[service, variant] = tokens
        for pool in self._of(service, variant):
            self._become(pool)
        return True

    def limit(self, pool: int, watts: float | None) -> None:
        """None for no limit."""
        self._hold(self.limits, pool, watts)

    def clock(self, pool: int, share: float | None) -> None:
        """None for the highest."""
        self._hold(self.clocks, pool, share)

    def _of(self, service: int, variant: int) -> set[int]:
        return {pool for (one, other, _), pool in self._numbers.items() if (one, other) == (service, variant)}

    def _hold(self, held: dict[int, float], pool: int, value: float | None) -> None:
        if held.get(pool) == value:
            return
        if value is None:
            del held[pool]
        else:
            held[pool] = value
        self._become(pool)

    def _become(self, pool: int) -> None:
        place, table, watts = self.places[pool], self.table(pool), self.limits.get(pool)
        tokens = self.step_tokens.get((place.service, place.variant))
        if tokens is not None:
            table = replace(table, chunk=float(tokens))
        table = table.at_clock(self.clocks.get(pool, 1.0))
        self._engines.become(pool, table if watts is None else table.under_cap(watts))
