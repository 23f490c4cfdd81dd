"""The measured rows of ML.ENERGY v3, as settings of the engine model and the logarithms it should give."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fallow.twin.calibration.hardware import GpuType, gpu_named
from fallow.twin.calibration.models import PRESETS, ModelShape, preset_named, usual_shape
from fallow.twin.calibration.physics import Array, Cases, Setting, cases_of
from fallow.twin.calibration.tasks import SOURCE_NAMES, Precision, Task

DATA = Path(__file__).resolve().parents[3] / "shared/data/energy/mlenergy_v3_llm_h100_b200.csv"
PRECISIONS = {"bfloat16": Precision.BF16, "fp8": Precision.FP8, "mxfp4": Precision.MXFP4}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured steady state. `label` and `family` name what is left out together: a model, a base model."""

    label: str
    preset: str
    family: str
    gpu: GpuType
    precision: Precision
    gpus: int
    task: Task
    limit: int
    batch: float
    output: float
    parameters: float
    active: float
    joules_per_token: float
    watts: float
    tokens_per_second: float
    itl: float

    @property
    def curve(self) -> tuple[str, str, Precision, int, Task]:
        return (self.gpu.name, self.preset, self.precision, self.gpus, self.task)

    @property
    def step(self) -> float:
        """Seconds per token of each running sequence, prefill of others included."""
        return self.batch / self.tokens_per_second

    @property
    def mixture(self) -> bool:
        return self.active < self.parameters

    def shape(self, *, known: bool) -> ModelShape:
        """Its published shape, or what is usual for its size."""
        return PRESETS[self.preset] if known else usual_shape(self.parameters, self.active)


def read(path: Path = DATA) -> list[Row]:
    with path.open() as lines:
        return [_row(cells) for cells in csv.DictReader(lines)]


def _row(cells: dict[str, str]) -> Row:
    preset = preset_named(cells["model_id"])
    gpus = int(cells["num_gpus"])
    return Row(
        label=cells["model_id"].split("/")[1],
        preset=preset,
        family=_family(preset),
        gpu=gpu_named(cells["gpu_model"]),
        precision=PRECISIONS[cells["weight_precision"]],
        gpus=gpus,
        task=SOURCE_NAMES[cells["task"]],
        limit=int(cells["max_num_seqs"]),
        batch=float(cells["avg_batch_size"]),
        output=float(cells["avg_output_len"]),
        parameters=float(cells["total_params_billions"]) * 1e9,
        active=float(cells["activated_params_billions"]) * 1e9,
        joules_per_token=float(cells["energy_per_token_joules"]),
        watts=float(cells["avg_power_watts"]) / gpus,
        tokens_per_second=float(cells["output_throughput_tokens_per_sec"]),
        itl=float(cells["median_itl_ms"]) / 1e3,
    )


def _family(preset: str) -> str:
    """Models of one shape are one base model in other words."""
    shape = PRESETS[preset]
    return next(name for name, known in PRESETS.items() if known == shape)


def settings_of(rows: Sequence[Row], *, known: bool) -> list[Setting]:
    return [
        Setting(row.gpu, row.shape(known=known), row.precision, row.gpus, row.task, row.batch, row.output)
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows as columns: what the model is given, and the logarithms of what was measured."""

    rows: tuple[Row, ...]
    cases: Cases
    step: Array
    watts: Array
    itl: Array
    joules: Array

    def __len__(self) -> int:
        return len(self.rows)


def measured(rows: Sequence[Row], *, known: bool) -> Measured:
    def column(values: list[float]) -> Array:
        return np.log(np.array(values, dtype=np.float64))

    return Measured(
        rows=tuple(rows),
        cases=cases_of(settings_of(rows, known=known)),
        step=column([row.step for row in rows]),
        watts=column([row.watts for row in rows]),
        itl=column([row.itl for row in rows]),
        joules=column([row.joules_per_token for row in rows]),
    )
