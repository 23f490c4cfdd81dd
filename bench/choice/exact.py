"""The best shares by mixed integer programs (HiGHS), class by class of priority, which the fast method is held against.

They may do what it may. Where the replicas that go are `chosen`, several small ones make room for a large one too,
which no Deployment is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from bench.choice.clusters import NODE, SIZES, Cluster
from fallow.domain.workloads import ServiceKey
from fallow.planner.sharing import Claim

Terms = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Best:
    """By class, highest priority first: GPUs that it keeps of those that it had, and what it is served. `proven`: no
    time limit was reached; else these are bounds that may be higher than the best.
    """

    scores: tuple[float, ...]
    proven: bool


@dataclass(slots=True)
class Model:
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)

    def variable(self, most: float, *, least: float = 0.0, whole: bool = True) -> int:
        self.lower.append(least)
        self.upper.append(most)
        self.whole.append(int(whole))
        return len(self.upper) - 1

    def row(self, terms: Terms, low: float, high: float) -> None:
        self.rows.append((terms, low, high))

    def most(self, goal: Terms, seconds: float) -> tuple[float, bool]:
        """The most of the goal, or a bound of it where time runs out."""
        cost = np.zeros(len(self.upper))
        for index, value in goal.items():
            cost[index] = -value
        at = [
            (number, index, value) for number, (terms, _, _) in enumerate(self.rows) for index, value in terms.items()
        ]
        numbers, indices, values = zip(*at, strict=True)
        matrix = csr_array((values, (numbers, indices)), shape=(len(self.rows), len(self.upper)))
        lows, highs = [low for _, low, _ in self.rows], [high for _, _, high in self.rows]
        found = milp(
            cost,
            integrality=np.array(self.whole),
            bounds=Bounds(np.array(self.lower), np.array(self.upper)),
            constraints=LinearConstraint(matrix, lows, highs),
            options={"time_limit": seconds, "mip_rel_gap": 1e-7},
        )
        if found.status == 0:
            return -float(found.fun), True
        if found.mip_dual_bound is None:
            raise RuntimeError(found.message)
        return -float(found.mip_dual_bound), False


def best(cluster: Cluster, seconds: float, *, chosen: bool = False) -> Best:
    """Within so many seconds for each class and goal."""
    model = Model()
    kept, counts = _placed(model, cluster, chosen=chosen)
    scores: list[float] = []
    proven = True
    for priority in sorted({one.priority for one in cluster.claims}, reverse=True):
        equals = [one for one in cluster.claims if one.priority == priority]
        for goal in (_kept(equals, kept), _served(model, equals, counts)):
            score, sure = model.most(goal, seconds) if goal else (0.0, True)
            scores.append(score)
            proven = proven and sure
            # from a bound nothing may be asked for that cannot be had
            if not sure:
                return Best(tuple(scores), proven=False)
            if goal:
                model.row(goal, score - 1e-6 * max(score, 1.0), inf)
    return Best(tuple(scores), proven)


def _placed(model: Model, cluster: Cluster, *, chosen: bool) -> tuple[dict[ServiceKey, Terms], dict[ServiceKey, Terms]]:
    """Replicas kept, and all, of each service: variables for those that stay and those that come to a product."""
    kept: dict[ServiceKey, dict[int, float]] = {one.key: {} for one in cluster.claims}
    come: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    counts: dict[ServiceKey, dict[int, float]] = {}
    for one in cluster.claims:
        found = {product: model.variable(one.wanted) for product in one.products}
        counts[one.key] = dict.fromkeys(found.values(), 1.0)
        for product, index in found.items():
            come[product, one.gpus][index] = 1.0
    (_by_node if chosen else _by_size)(model, cluster, kept, come)
    for one in cluster.claims:
        if one.gives is not None:
            # nobody gives replicas and starts others
            grows = model.variable(1.0)
            model.row({**counts[one.key], grows: -float(one.wanted)}, -inf, 0)
            model.row({**kept[one.key], grows: -float(one.runs)}, 0, inf)
        counts[one.key] |= kept[one.key]
        model.row(counts[one.key], min(one.floor, one.wanted), one.wanted)
    return {key: dict(terms) for key, terms in kept.items()}, {key: dict(terms) for key, terms in counts.items()}


def _by_size(
    model: Model,
    cluster: Cluster,
    kept: Mapping[ServiceKey, dict[int, float]],
    come: Mapping[tuple[str, int], Terms],
) -> None:
    """A replica that goes makes room for one as large, or for smaller ones, wherever it was.

    Since sizes divide each other, replicas fit where for each size those of at least that size take no more than the
    holes hold in pieces of it.
    """
    for one in cluster.claims:
        kept[one.key][model.variable(one.runs, least=one.runs if one.gives is None else 0)] = 1.0
    for product, sizes in cluster.free.items():
        for size in SIZES:
            taken: dict[int, float] = {}
            for (where, gpus), terms in come.items():
                if where == product and gpus >= size:
                    taken |= dict.fromkeys(terms, float(gpus))
            room = float(sum(free // size * size for free in sizes))
            for one in cluster.claims:
                if one.gives == product and one.gpus >= size:
                    taken |= dict.fromkeys(kept[one.key], float(one.gpus))
                    room += one.runs * one.gpus
            model.row(taken, 0, room)


def _by_node(
    model: Model,
    cluster: Cluster,
    kept: Mapping[ServiceKey, dict[int, float]],
    come: Mapping[tuple[str, int], Terms],
) -> None:
    """Any replicas may go, those of one node together make room there."""
    claims = {one.key: one for one in cluster.claims}
    there: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    for node in cluster.nodes:
        room: dict[int, float] = {}
        for key, number in node.holds.items():
            index = model.variable(number, least=number if claims[key].gives is None else 0)
            kept[key][index] = 1.0
            room[index] = claims[key].gpus
        for size in SIZES:
            index = model.variable(NODE // size)
            room[index] = size
            there[node.product, size][index] = -1.0
        model.row(room, 0, node.free + sum(claims[key].gpus * number for key, number in node.holds.items()))
    for place, terms in come.items():
        model.row({**terms, **there[place]}, 0, 0)


def _kept(equals: Iterable[Claim], kept: Mapping[ServiceKey, Terms]) -> Terms:
    return {index: value * one.gpus for one in equals for index, value in kept[one.key].items()}


def _served(model: Model, equals: Iterable[Claim], counts: Mapping[ServiceKey, Terms]) -> Terms:
    """In pieces of a replica and of a GPU, which are worth less and less: they are filled in their order."""
    goal: dict[int, float] = {}
    wants: dict[str, int] = defaultdict(int)
    has: dict[str, dict[int, float]] = defaultdict(dict)
    for one in equals:
        pieces = _pieces(model, goal, one.wanted, one.gpus)
        model.row({**counts[one.key], **pieces}, 0, 0)
        wants[one.key.namespace] += one.wanted * one.gpus
        has[one.key.namespace] |= {index: value * one.gpus for index, value in counts[one.key].items()}
    for name, gpus in wants.items():
        model.row({**has[name], **_pieces(model, goal, gpus, 1)}, 0, 0)
    return goal


def _pieces(model: Model, goal: dict[int, float], number: int, gpus: int) -> Terms:
    found = {}
    for piece in range(number):
        index = model.variable(1.0, whole=False)
        goal[index] = 2 * gpus * (1 - (piece + 0.5) / number)
        found[index] = -1.0
    return found
