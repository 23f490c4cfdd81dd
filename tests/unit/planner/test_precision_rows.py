"""BF16 or FP8 on the rows that were measured of both: what is chosen at each batch, against the best one there."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean

import pytest

from bench.calibration.rows import DATA
from fallow.domain.policies import PrecisionRules, Tier
from fallow.domain.units import GramsPerKWh
from tests.support.builders import BF16, FP8, Running, Scene, policy, profile, service, watched, zone
from tests.unit.planner.asking import planned

pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason="the rows of ML.ENERGY v3 (shared/data/energy) are not beside this checkout"
)

# a grid that is always dirty enough for FP8 alone, where it is measured to be greener
ALWAYS = policy(precision=PrecisionRules((Tier(GramsPerKWh(0), frozenset({"FP8"})),)))
Points = dict[int, float]


@dataclass(frozen=True)
class Pair:
    """J per token by batch of one model, task and GPU type, in both precisions on so many GPUs."""

    name: str
    bf16: Points
    fp8: Points

    @property
    def batches(self) -> list[int]:
        return sorted(self.bf16.keys() & self.fp8.keys())


def pairs() -> list[Pair]:
    found: defaultdict[tuple[str, str, str], dict[tuple[str, str], Points]] = defaultdict(dict)
    with DATA.open(encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            where = (row["nickname"].replace(" FP8", ""), row["task"], row["gpu_model"])
            points = found[where].setdefault((row["weight_precision"], row["num_gpus"]), {})
            points[int(row["max_num_seqs"])] = float(row["energy_per_token_joules"])
    return [
        Pair(f"{' '.join(where)}, {gpus} and {fewer} GPUs", bf16, fp8)
        for where, parts in sorted(found.items())
        for (precision, gpus), bf16 in sorted(parts.items())
        for (other, fewer), fp8 in sorted(parts.items())
        if (precision, other) == ("bfloat16", "fp8")
    ]


def chosen(pair: Pair, batch: int, without: int | None = None) -> str:
    """The variant that a service with one replica is moved to at a batch, by profiles `without` a measured one."""
    known = [
        {level: joules for level, joules in points.items() if level != without} for points in (pair.bf16, pair.fp8)
    ]
    profiles = [
        profile(variant, *((level, 1000.0, 1000.0 * joules) for level, joules in sorted(points.items())))
        for variant, points in zip((BF16, FP8), known, strict=True)
    ]
    asked = service(BF16, FP8, maximum=1)
    asked = replace(asked, scaling=replace(asked.scaling, target_concurrency=8192.0))
    scene = Scene(
        service=replace(asked, variants=tuple(replace(one, max_concurrency=8192) for one in asked.variants)),
        variants={"bf16": Running(1, running=batch)},
        policy=ALWAYS,
        zone=zone(300),
        profiles=tuple(profiles),
        history=watched(batch, 1),
    )
    return planned(scene).memory.switching_to or "bf16"


def regrets(*, left_out: bool) -> Iterator[tuple[Pair, int, str, float]]:
    for pair in pairs():
        for batch in pair.batches:
            took = chosen(pair, batch, batch if left_out else None)
            cost = pair.fp8[batch] if took == "fp8" else pair.bf16[batch]
            yield pair, batch, took, cost / min(pair.fp8[batch], pair.bf16[batch]) - 1.0


def test_of_what_was_measured_the_better_one_is_chosen() -> None:
    seen = list(regrets(left_out=False))
    assert len(seen) > 60
    assert {took for _, _, took, _ in seen} == {"bf16", "fp8"}
    for pair, batch, took, regret in seen:
        # never FP8 where it was measured to cost more, and BF16 only where FP8 saves next to nothing
        assert took == "bf16" or pair.fp8[batch] < pair.bf16[batch]
        assert regret <= 0.03, (pair.name, batch)
    tell(seen)


def test_of_a_batch_that_was_left_out_the_better_one_is_chosen_mostly() -> None:
    seen = list(regrets(left_out=True))
    assert mean(regret for *_, regret in seen) <= 0.03
    tell(seen)


def tell(seen: list[tuple[Pair, int, str, float]]) -> None:
    mistaken = sum(1 for *_, took, regret in seen if took == "fp8" and regret > 0)
    average, worst = mean(regret for *_, regret in seen), max(regret for *_, regret in seen)
    text = f"{len(seen)} choices; regret {average:.2%} in the mean, {worst:.1%} at most"
    print(f"\n{text}; FP8 where it cost more: {mistaken}")  # noqa: T201 - the figures that this is about, with -s
