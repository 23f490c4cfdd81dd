"""The step model against measurements of real GPUs: ML.ENERGY v3, each concurrency predicted from the others."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from fallow.domain.figures import Missing
from fallow.footprint.hardware import hardware_of
from fallow.footprint.measured import Window
from fallow.footprint.steps import Work, step_model, work_energy
from tests.support.learning import PLACEMENT, learned, window

pytestmark = pytest.mark.long

MEASURED = Path(__file__).parents[4] / "shared/data/energy/mlenergy_v3_llm_h100_b200.csv"
MINUTE = 60.0


def curves() -> Iterator[list[Window]]:
    """A minute at each concurrency of each chat configuration on H100; its prompts are not in the data."""
    if not MEASURED.exists():
        pytest.skip(f"{MEASURED} is not there: the measurements are no part of the repository")
    found: dict[tuple[str, ...], list[Window]] = defaultdict(list)
    names = ("model_id", "weight_precision", "num_gpus", "tensor_parallel", "expert_parallel")
    with MEASURED.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["gpu_model"] != "H100" or row["task"] != "lm-arena-chat" or row["data_parallel"] != "1":
                continue
            tokens = float(row["output_throughput_tokens_per_sec"]) * MINUTE
            found[tuple(row[name] for name in names)].append(
                window(
                    float(row["energy_per_token_joules"]) * tokens,
                    generated=tokens,
                    iterations=tokens / float(row["avg_batch_size"]),
                    requests=tokens / 500,
                    gpus=int(row["num_gpus"]),
                )
            )
    for levels in found.values():
        if len(levels) >= 5:
            yield sorted(levels, key=lambda one: one.generated_tokens / (one.iterations or 1.0))


def test_a_concurrency_that_was_not_seen_is_predicted_from_the_others() -> None:
    ours, theirs = [], []
    for levels in curves():
        gpus = levels[0].gpus
        resting = window(hardware_of("H100").context.value * gpus * MINUTE, gpus=gpus)
        for left in range(1, len(levels) - 1):
            others = [one for place, one in enumerate(levels) if place != left]
            model = step_model(learned([resting] * 5 + others * 6), PLACEMENT)
            assert not isinstance(model, Missing)
            one = levels[left]
            foreseen = work_energy(model, Work(0.0, one.generated_tokens, one.iterations or 0.0, MINUTE))
            ours.append(abs(foreseen.best.value / one.energy.value - 1))
            per_token = median(other.energy.value / other.generated_tokens for other in others)
            theirs.append(abs(per_token * one.generated_tokens / one.energy.value - 1))
    print(  # noqa: T201 - the figures are quoted in docs/methodology.md
        f"{len(ours)} concurrencies left out: median error {median(ours):.1%}, "
        f"at one J/token {median(theirs):.1%}; 90th percentile {sorted(ours)[len(ours) * 9 // 10]:.1%}"
    )
    assert median(ours) < 0.06
    assert median(ours) < median(theirs) / 4
