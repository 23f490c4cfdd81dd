"""Nodes over time: which of their GPUs nobody holds, which are powered, and what these draw meanwhile.

Who holds GPUs is the fleet's to say; a node goes off once it is empty for long enough, and is booted for who waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from fallow.twin.simulation.setup import NodeKind, Setup


class Power(StrEnum):
    OFF = "off"
    BOOTING = "booting"
    ON = "on"


@dataclass(slots=True, eq=False)
class Node:
    """`closed`: joules of each GPU up to `since`, when its holder came or went; of one in turns, up to when it was last
    held by nobody, and of all who have gone since. `empty_since`: when its last pod left, None while it has one.
    `broken` GPUs can be given to nobody until their time. `emptying`: since when it takes no pods, so that those on it
    move; `kept_since`: when that was last given up.
    """

    name: str
    number: int
    kind: NodeKind
    free: set[int]
    closed: list[float]
    since: list[float]
    power: Power = Power.ON
    empty_since: float | None = 0.0
    lost: bool = False
    emptying: float | None = None
    kept_since: float | None = None
    images: set[int] = field(default_factory=set)
    compiled: set[int] = field(default_factory=set)
    broken: dict[int, float] = field(default_factory=dict)
    on_since: float = 0.0
    on_seconds: float = 0.0
    uuids: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.uuids = tuple(f"GPU-{self.name}-{gpu}" for gpu in range(self.kind.meters))

    def meter(self, gpu: int) -> int:
        """The GPU itself, of a copy the GPU that it is one of."""
        return gpu // self.kind.copies

    @property
    def unheld(self) -> list[int]:
        """Meters of which nobody holds anything: they draw bare watts."""
        idle = [*self.free, *self.broken]
        if not self.kind.in_turns:
            return idle
        count = Counter(map(self.meter, idle))
        return [meter for meter, copies in count.items() if copies == self.kind.copies]

    @property
    def usable_meters(self) -> Collection[int]:
        """Those of which nobody holds anything, and that can be used."""
        if not self.kind.in_turns:
            return self.free
        return {self.meter(gpu) for gpu in self.free}.intersection(self.unheld)

    @property
    def unheld_meters(self) -> int:
        return len(self.unheld) if self.kind.in_turns else self.idle_gpus

    @property
    def idle_gpus(self) -> int:
        """That nobody holds, whether they can be used or not."""
        return len(self.free) + len(self.broken)

    def on_for(self, now: float) -> float:
        """Seconds since the start, without those in which it was off."""
        return self.on_seconds + (0.0 if self.power is Power.OFF else now - self.on_since)

    def empty_for(self, now: float) -> float:
        return -1.0 if self.empty_since is None else now - self.empty_since


class Machines:
    """`later` has something come `due` at a time."""

    def __init__(self, setup: Setup, later: Callable[[float, str, Node], None]) -> None:
        self.setup = setup
        self.nodes: list[Node] = []
        for kind in setup.nodes:
            for _ in range(kind.count):
                number = len(self.nodes)
                self.nodes.append(
                    Node(
                        f"{kind.product.lower()}-{number}",
                        number,
                        kind,
                        set(range(kind.gpus)),
                        [0.0] * kind.meters,
                        [0.0] * kind.meters,
                    )
                )
        self._kinds = {kind: index for index, kind in enumerate(setup.nodes)}
        self._later = later
        self._joules = 0.0
        self._since = 0.0
        self._watts = 0.0
        self.see_free(0.0)
        for node in self.nodes:
            self.off_later(node, 0.0)

    def kind_of(self, node: Node) -> int:
        return self._kinds[node.kind]

    def nobody(self, now: float) -> float:
        """Joules of powered GPUs while nobody held them."""
        return self._joules + self._watts * (now - self._since)

    def see_free(self, now: float) -> None:
        """Watts of GPUs that nobody holds, and of slices in no instance, on nodes that are on or boot."""
        self._joules += self._watts * (now - self._since)
        self._since = now
        self._watts = sum(
            node.unheld_meters * node.kind.bare + node.kind.boards * node.kind.spare_watts
            for node in self.nodes
            if node.power is not Power.OFF and not node.lost
        )

    def taken(self, products: Collection[str], gpus: int, now: float) -> tuple[Node, tuple[int, ...]] | None:
        """So many GPUs of one node, which somebody holds from now on; None where none has room."""
        fitting = [
            node
            for node in self.nodes
            if len(node.free) >= gpus
            and node.power is Power.ON
            and node.emptying is None
            and node.kind.product in products
        ]
        if not fitting:
            return None
        sign = -1 if self.setup.spreads else 1
        node = min(fitting, key=lambda node: (self.kind_of(node), sign * len(node.free), node.number))
        held, unheld = _first(node, gpus), node.unheld
        node.free.difference_update(held)
        for meter in {node.meter(gpu) for gpu in held}.intersection(unheld):
            node.closed[meter] += node.kind.bare * (now - node.since[meter])
        node.empty_since = None
        self.see_free(now)
        return node, held

    def give_back(self, node: Node, gpus: Collection[int], joules: float, now: float) -> None:
        """Nobody holds these any more; `joules` are of all of them since they were taken."""
        node.free.update(gpu for gpu in gpus if gpu not in node.broken)
        for gpu in gpus:
            node.closed[node.meter(gpu)] += joules / len(gpus)
            node.since[node.meter(gpu)] = now
        if node.idle_gpus == node.kind.gpus:
            node.empty_since = now
            self.off_later(node, now)
        self.see_free(now)

    def off_later(self, node: Node, now: float) -> None:
        """It goes off after a while, unless somebody holds a GPU of it by then."""
        if node.empty_since is not None and self.setup.power_off is not None:
            self._later(now + self.setup.power_off.after, "off", node)

    def boot(self, products: Collection[str], asked: int, now: float) -> None:
        """One more of the nodes that are off, where those that boot have fewer GPUs than are `asked` for."""
        coming = sum(node.kind.gpus for node in self.nodes if node.power is Power.BOOTING)
        if coming >= asked or self.setup.power_off is None:
            return
        off = [
            node for node in self.nodes if node.power is Power.OFF and not node.lost and node.kind.product in products
        ]
        if off:
            off[0].power, off[0].on_since = Power.BOOTING, now
            off[0].since = [now] * off[0].kind.meters
            self._later(now + self.setup.power_off.boot, "booted", off[0])
            self.see_free(now)

    def lose(self, node: Node, now: float, back: float | None) -> None:
        """It is gone, and comes `back` anew after so many seconds, None for never."""
        if node.power is not Power.OFF:
            node.on_seconds += now - node.on_since
        node.lost, node.power = True, Power.OFF
        if back is not None:
            self._later(now + back, "returned", node)

    def breaks(self, node: Node, gpu: int, now: float, back: float | None) -> set[int]:
        """The board of a GPU fails until it is mended; gives all GPUs, or instances, that are on it."""
        failed = set(node.kind.beside(gpu))
        node.broken |= dict.fromkeys(failed, inf if back is None else now + back)
        node.free -= failed
        if back is not None:
            self._later(now + back, "mended", node)
        return failed

    def due(self, what: str, node: Node, at: float) -> bool:
        """What was to come later happens; whether there may be room now where there was none."""
        rules = self.setup.power_off
        if what == "returned":
            node.lost, node.on_since = False, at
            node.free, node.broken, node.since = set(range(node.kind.gpus)), {}, [at] * node.kind.meters
            # its driver counts anew
            node.images, node.compiled, node.closed = set(), set(), [0.0] * node.kind.meters
            self._up(node, at)
            return True
        if what == "mended":
            for gpu in [gpu for gpu, until in node.broken.items() if until <= at + 1e-9]:
                del node.broken[gpu]
                node.free.add(gpu)
            return True
        if what == "booted" and node.power is Power.BOOTING and not node.lost:
            self._up(node, at)
            return True
        if what == "off" and node.power is Power.ON and rules is not None and node.empty_for(at) >= rules.after - 1e-6:
            node.power = Power.OFF
            for meter in node.unheld:
                node.closed[meter] += node.kind.bare * (at - node.since[meter])
            node.on_seconds += at - node.on_since
            node.images, node.compiled = set(), set()
            self.see_free(at)
        return False

    def _up(self, node: Node, at: float) -> None:
        """It is there, with all its GPUs free."""
        node.power, node.empty_since, node.emptying, node.kept_since = Power.ON, at, None, None
        self.see_free(at)


def _first(node: Node, gpus: int) -> tuple[int, ...]:
    """The first free ones; of copies those of the GPU that fewest hold, as the device plugin spreads them."""
    if not node.kind.in_turns:
        return tuple(sorted(node.free)[:gpus])
    free = Counter(map(node.meter, node.free))
    return tuple(sorted(node.free, key=lambda gpu: (-free[node.meter(gpu)], gpu))[:gpus])
