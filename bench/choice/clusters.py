"""Clusters whose GPUs are too few, by chance: who wants how much, what runs where, what is free on each node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle
from random import Random

from fallow.domain.workloads import ServiceKey
from fallow.planner.sharing import Claim

NODE = 8
# GPUs of a replica, and how often; products that it may run on; priorities.
SIZES, OFTEN = (1, 2, 4, 8), (55, 20, 15, 10)
PRODUCTS = (("a",), ("b",), ("a", "b"))
PRIORITIES, RANKS = (0, 50, 100), (60, 30, 10)
# GPUs wanted of those there, once load has changed.
SHORT = 1.3


@dataclass(slots=True)
class Node:
    """`free` GPUs, and replicas on it by service."""

    product: str
    free: int = NODE
    holds: dict[ServiceKey, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    claims: tuple[Claim, ...]
    nodes: tuple[Node, ...]

    @property
    def free(self) -> Mapping[str, list[int]]:
        return {product: [node.free for node in self.nodes if node.product == product] for product in ("a", "b")}


def drawn(services: int, seed: int, *, equal: bool = False) -> Cluster:
    """Replicas were placed as they came, on the fullest node with room; then what each wants changed. `equal`: all are
    of one priority.
    """
    chance = Random(seed)
    claims = [_claim(number, services, chance) for number in range(services)]
    claims = [replace(one, priority=0) for one in claims] if equal else claims
    gpus = sum(one.wanted * one.gpus for one in claims)
    count = max(round(gpus / SHORT / NODE), 2)
    nodes = [Node(product) for product, _ in zip(cycle("aabab"), range(count), strict=False)]
    before = [(one, index) for one in claims for index in range(max(one.wanted + chance.randint(-2, 1), 1))]
    chance.shuffle(before)
    where: dict[ServiceKey, list[Node]] = {one.key: [] for one in claims}
    for one, _ in before:
        fitting = [node for node in nodes if node.product in one.products and node.free >= one.gpus]
        if fitting:
            node = min(fitting, key=lambda node: node.free)
            node.free -= one.gpus
            where[one.key].append(node)
    return Cluster(tuple(_settled(one, where[one.key], chance) for one in claims), tuple(nodes))


def _claim(number: int, services: int, chance: Random) -> Claim:
    gpus = chance.choices(SIZES, OFTEN)[0]
    return Claim(
        key=ServiceKey(f"team-{chance.randrange(max(services // 5, 2))}", f"s{number}"),
        gpus=gpus,
        products=chance.choices(PRODUCTS, (5, 3, 2))[0],
        wanted=chance.randint(1, 8 if gpus == 1 else 4 if gpus < 8 else 2),
        priority=chance.choices(PRIORITIES, RANKS)[0],
    )


def _settled(one: Claim, where: list[Node], chance: Random) -> Claim:
    """What it does not want any more is gone; the rest stays where it is."""
    chance.shuffle(where)
    for node in where[one.wanted :]:
        node.free += one.gpus
    kept = where[: one.wanted]
    for node in kept:
        node.holds[one.key] = node.holds.get(one.key, 0) + 1
    products = {node.product for node in kept}
    gives = products.pop() if len(products) == 1 and chance.random() < 0.9 else None
    return replace(one, runs=len(kept), floor=min(1, len(kept)), gives=gives)
