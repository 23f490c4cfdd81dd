"""GPUs shared out among services where they are too few: whole replicas on whole nodes, by priority. Pure.

Every service keeps what runs, unless one of higher priority is short; never below its least. What is free goes first to
those without their least, then by priority. Among equals the next replica goes where most of the GPUs wanted are
missing, in its namespace and of its own. How near the optimum that comes: docs/benchmarks.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from itertools import groupby

from fallow.domain.workloads import ServiceKey


@dataclass(frozen=True, slots=True)
class Claim:
    """Of one service: replicas that it `wanted`, the least that it is to have (`floor`), and those that have their GPUs
    (`runs`). Each takes `gpus` on one node, of any of these `products`.

    `gives`: the product that all of its replicas are on, where some may go for a service of higher priority; None: they
    all stay. `takes`: whether others may give for it; else it has what is free.
    """

    key: ServiceKey
    gpus: int
    products: tuple[str, ...]
    wanted: int
    runs: int = 0
    floor: int = 0
    priority: int = 0
    gives: str | None = None
    takes: bool = True


def dealt(free: Mapping[str, Iterable[int]], claims: Sequence[Claim]) -> Mapping[ServiceKey, int]:
    """The replicas of each; `free` are the GPUs of each node that nobody has, by product.

    One order is good where replicas are alike, the other where large ones need whole nodes: the better of both counts.
    """
    some = [one for one in claims if one.wanted > 0]
    orders = (False, True) if len({one.gpus for one in some}) > 1 else (False,)
    found = [_dealt(free, some, large_first=large_first) for large_first in orders]
    counts = max(found, key=lambda counts: scores(some, counts))
    return {one.key: counts.get(one.key, 0) for one in claims}


def scores(claims: Iterable[Claim], counts: Mapping[ServiceKey, int]) -> tuple[float, ...]:
    """What is to be highest, from the highest priority down: GPUs kept of those that a class had, and what it is served
    of what it wants.
    """
    found: list[float] = []
    for equals in by_priority(claims):
        found.append(float(sum(min(counts[one.key], one.runs) * one.gpus for one in equals)))
        found.append(_served(equals, counts))
    return tuple(found)


def _served(equals: Iterable[Claim], counts: Mapping[ServiceKey, int]) -> float:
    """GPUs wanted, less what is missing: squares of the missing shares of each service and of each namespace, weighed
    by the GPUs that it wants. That is highest where all have the same share.
    """
    wants, has = Counter[str](), Counter[str]()
    total = 0.0
    for one in equals:
        total += _above(one.wanted * one.gpus, counts[one.key] * one.gpus)
        wants[one.key.namespace] += one.wanted * one.gpus
        has[one.key.namespace] += counts[one.key] * one.gpus
    return total + sum(_above(gpus, has[namespace]) for namespace, gpus in wants.items())


def _above(wanted: float, has: float) -> float:
    return wanted - wanted * (1.0 - has / wanted) ** 2


def _dealt(
    free: Mapping[str, Iterable[int]], claims: Sequence[Claim], *, large_first: bool
) -> Mapping[ServiceKey, int]:
    table = _Table(free, claims)
    for upto in (_least, _wanted):
        for equals in by_priority(claims):
            sizes = sorted({one.gpus for one in equals}, reverse=True) if large_first else (0,)
            for size in sizes:
                table.fill([one for one in equals if one.gpus == size or not size], upto)
    return table.counts


def by_priority(claims: Iterable[Claim]) -> Iterator[list[Claim]]:
    """The highest first."""
    ordered = sorted(claims, key=lambda one: (-one.priority, one.key))
    return (list(group) for _, group in groupby(ordered, key=lambda one: one.priority))


def _least(one: Claim) -> int:
    return min(one.floor, one.wanted)


def _wanted(one: Claim) -> int:
    return one.wanted


class _Table:
    """What each has so far, and the holes left: how many of each size, by product."""

    def __init__(self, free: Mapping[str, Iterable[int]], claims: Sequence[Claim]) -> None:
        self.counts = {one.key: min(one.runs, one.wanted) for one in claims}
        self._claims = {one.key: one for one in claims}
        self._holes = {product: Counter(size for size in sizes if size > 0) for product, sizes in free.items()}
        self._wants = Counter[tuple[int, str]]()
        self._has = Counter[tuple[int, str]]()
        for one in claims:
            self._wants[one.priority, one.key.namespace] += one.wanted * one.gpus
            self._has[one.priority, one.key.namespace] += self.counts[one.key] * one.gpus
        self._sought = self._pressure()
        self._gave: set[ServiceKey] = set()
        # by product and GPUs of a replica: priority, what is missing without one more of them, and whose it is
        self._givers: dict[tuple[str, int], list[tuple[int, float, ServiceKey]]] = defaultdict(list)
        for one in claims:
            if one.gives is not None and self.counts[one.key] > one.floor:
                self._givers[one.gives, one.gpus].append((one.priority, self._missing(one, -0.5), one.key))
        for heap in self._givers.values():
            heapify(heap)

    def fill(self, equals: Sequence[Claim], upto: Callable[[Claim], int]) -> None:
        """A replica at a time, to those who miss most, until nobody finds room."""
        heap = [
            (-self._missing(one, 0.5), one.key)
            for one in equals
            if one.key not in self._gave and self.counts.get(one.key, 0) < upto(one)
        ]
        heapify(heap)
        while heap:
            before, key = heap[0]
            one = self._claims[key]
            now = -self._missing(one, 0.5)
            if now > before:  # another of its namespace got one meanwhile
                heapreplace(heap, (now, key))
            elif not self._placed(one):
                heappop(heap)
            else:
                self._count(one, 1)
                if self.counts[key] < upto(one):
                    heapreplace(heap, (-self._missing(one, 0.5), key))
                else:
                    heappop(heap)

    def _missing(self, one: Claim, step: float) -> float:
        """Shares of what is wanted that are missing once half of the step is taken: of its namespace, and its own."""
        place = one.priority, one.key.namespace
        of_namespace = (self._has[place] + step * one.gpus) / self._wants[place]
        return 2.0 - of_namespace - (self.counts[one.key] + step) / one.wanted

    def _placed(self, one: Claim) -> bool:
        """In the smallest hole, where GPUs are least sought; else where one of lower priority gives its replica."""
        holes = [
            (self._sought[product], size, product)
            for product in one.products
            for size, number in self._holes.get(product, {}).items()
            if number > 0 and size >= one.gpus
        ]
        if holes:
            _, size, product = min(holes)
            self._holes[product][size] -= 1
            self._holes[product][size - one.gpus] += 1
            return True
        return one.takes and self._given(one)

    def _given(self, one: Claim) -> bool:
        """Whether one of lower priority gives. A smaller replica makes no room: which of them goes nobody can tell."""
        tops = [
            (priority, size, missing, product)
            for (product, size), heap in self._givers.items()
            if product in one.products and size >= one.gpus and self._settled(heap)
            for priority, missing, _ in heap[:1]
            if priority < one.priority
        ]
        if not tops:
            return False
        _, size, _, product = min(tops)
        heap = self._givers[product, size]
        giver = self._claims[heappop(heap)[2]]
        self._count(giver, -1)
        self._gave.add(giver.key)
        self._holes.setdefault(product, Counter())[size - one.gpus] += 1
        if self.counts[giver.key] > giver.floor:
            heappush(heap, (giver.priority, self._missing(giver, -0.5), giver.key))
        return True

    def _settled(self, heap: list[tuple[int, float, ServiceKey]]) -> bool:
        """Whether anybody is left in it, the first one as of now."""
        while heap:
            priority, missing, key = heap[0]
            now = self._missing(self._claims[key], -0.5)
            if now <= missing:
                return True
            heapreplace(heap, (priority, now, key))
        return False

    def _count(self, one: Claim, step: int) -> None:
        self.counts[one.key] += step
        self._has[one.priority, one.key.namespace] += step * one.gpus

    def _pressure(self) -> Mapping[str, float]:
        """GPUs that are sought of each product, for one that is free."""
        sought: dict[str, float] = defaultdict(float)
        for one in self._claims.values():
            for product in one.products:
                sought[product] += (one.wanted - self.counts[one.key]) * one.gpus / len(one.products)
        return {
            product: sought[product] / (1 + sum(size * number for size, number in self._holes.get(product, {}).items()))
            for one in self._claims.values()
            for product in one.products
        }
