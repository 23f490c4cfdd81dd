"""The tables of `python -m bench.calibration`: errors per model beside those of the baselines, and what bounds held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from bench.calibration.baselines import interpolation_error, regression_errors, relative
from bench.calibration.folds import GPUS, Miss, is_inner
from bench.calibration.quantiles import held
from bench.calibration.rows import Row
from fallow.twin.calibration.bounds import Bounds, Known
from fallow.twin.calibration.tasks import Precision

Keep = Callable[[Row], bool]

GROUPS: dict[str, Keep] = {
    "all rows": lambda _: True,
    "text": lambda row: row.task.is_text,
    "text, BF16": lambda row: row.task.is_text and row.precision is Precision.BF16,
    "text, dense": lambda row: row.task.is_text and not row.mixture,
    "text, MoE": lambda row: row.task.is_text and row.mixture,
    "chat": lambda row: row.task == "chat",
    "reasoning": lambda row: row.task == "reasoning",
    "image, video, completion": lambda row: not row.task.is_text,
}


def show(
    rows: Sequence[Row],
    batches: Sequence[Miss],
    models: Sequence[Miss],
    families: Sequence[Miss],
    others: Sequence[Miss],
    bounds: Bounds,
) -> None:
    _held_out_batches(rows, batches)
    _held_out_models(rows, models, families)
    _per_model(rows, batches, models, families)
    _bounds(batches, models, others, bounds)


def _held_out_batches(rows: Sequence[Row], batches: Sequence[Miss]) -> None:
    inner = [miss for miss in batches if is_inner(miss.row, rows)]
    _head(
        "A batch size of a known curve left out (all fitted anew without it): median error, and p90, %",
        ["rows", "J/token", "log-log", "ITL", "log-log", "W", "tokens/s", "ends: J/token"],
    )
    for gpu in (*GPUS, ""):
        for name in ("all rows", "text", "image, video, completion"):
            mine = [miss for miss in inner if miss.row.gpu.name.startswith(gpu) and GROUPS[name](miss.row)]
            ends = [
                miss
                for miss in batches
                if miss.row.gpu.name.startswith(gpu) and GROUPS[name](miss.row) and miss not in inner
            ]
            joules = [interpolation_error(miss.row, rows, lambda row: row.joules_per_token) for miss in mine]
            itl = [interpolation_error(miss.row, rows, lambda row: row.itl) for miss in mine]
            _line(
                f"{gpu or 'both'} {name}",
                [
                    str(len(mine)),
                    _both([relative(miss) for miss in mine]),
                    _both(joules),
                    _both([relative(miss, "itl") for miss in mine]),
                    _both(itl),
                    _both([relative(miss, "watts") for miss in mine]),
                    _both([relative(miss, "rate") for miss in mine]),
                    _both([relative(miss) for miss in ends]),
                ],
            )


def _held_out_models(rows: Sequence[Row], models: Sequence[Miss], families: Sequence[Miss]) -> None:
    _head(
        "A whole model left out: median error of J/token, and p90, %. Shape: layers, heads and experts are given;"
        " size: parameters only.\nBase: every model of the same base is left out with it. Neither knows how long the"
        " answers are.",
        ["rows", "shape", "size", "base, shape", "base, size", "log-linear", "base, log-linear", "ITL", "W"],
    )
    linear = regression_errors(rows, lambda row: row.label)
    linear_base = regression_errors(rows, lambda row: row.family)
    for gpu in GPUS:
        for name, keep in GROUPS.items():
            here = [row for row in rows if row.gpu.name == gpu and keep(row)]

            def errors(
                misses: Sequence[Miss], known: Known, output: str = "joules", keep: Keep = keep, gpu: str = gpu
            ) -> str:
                return _both(
                    [
                        relative(miss, output)
                        for miss in misses
                        if miss.row.gpu.name == gpu and keep(miss.row) and miss.kind.startswith(known)
                    ]
                )

            _line(
                f"{gpu} {name}",
                [
                    str(len(here)),
                    errors(models, Known.SHAPE),
                    errors(models, Known.SIZE),
                    errors(families, Known.SHAPE),
                    errors(families, Known.SIZE),
                    _both([linear.get(id(row)) for row in here]),
                    _both([linear_base.get(id(row)) for row in here]),
                    errors(models, Known.SHAPE, "itl"),
                    errors(models, Known.SHAPE, "watts"),
                ],
            )


def _per_model(rows: Sequence[Row], batches: Sequence[Miss], models: Sequence[Miss], families: Sequence[Miss]) -> None:
    _head(
        "Per model: median error of J/token, % (ITL beside it for a batch left out), and rows that p10-p90 of the other"
        " models hold",
        ["rows", "batch out", "log-log", "ITL", "log-log", "model out", "by size", "base out", "log-linear", "held"],
    )
    linear = regression_errors(rows, lambda row: row.label)
    inner = [miss for miss in batches if is_inner(miss.row, rows)]
    within = held([miss for miss in models if miss.kind.startswith(Known.SHAPE)])
    for gpu in GPUS:
        for label in sorted({row.label for row in rows if row.gpu.name == gpu}):
            here = [row for row in rows if row.gpu.name == gpu and row.label == label]

            def mine(misses: Sequence[Miss], start: str = "", gpu: str = gpu, label: str = label) -> list[Miss]:
                return [
                    miss
                    for miss in misses
                    if miss.row.gpu.name == gpu and miss.row.label == label and miss.kind.startswith(start)
                ]

            known = mine(inner)
            bounded = [within[id(miss)] for miss in mine(models, Known.SHAPE) if id(miss) in within]
            _line(
                f"{gpu} {label.removesuffix('-Instruct')[:34]}",
                [
                    str(len(here)),
                    _median([relative(miss) for miss in known]),
                    _median([interpolation_error(miss.row, rows, lambda row: row.joules_per_token) for miss in known]),
                    _median([relative(miss, "itl") for miss in known]),
                    _median([interpolation_error(miss.row, rows, lambda row: row.itl) for miss in known]),
                    _median([relative(miss) for miss in mine(models, Known.SHAPE)]),
                    _median([relative(miss) for miss in mine(models, Known.SIZE)]),
                    _median([relative(miss) for miss in mine(families, Known.SHAPE)]),
                    _median([linear.get(id(row)) for row in here]),
                    f"{100 * np.mean(bounded):.0f}" if bounded else "-",
                ],
            )


def _bounds(batches: Sequence[Miss], models: Sequence[Miss], others: Sequence[Miss], bounds: Bounds) -> None:
    _head(
        "Bounds by class, low and high over best; share of rows that bounds taken from other models held, %",
        ["rows", "J/token", "held", "W held", "ITL held", "tokens/s held"],
    )
    every = [*[miss for miss in batches if miss.beyond < 0.1], *models]
    by_output = {output: held(every, output) for output in ("joules", "watts", "itl", "rate")}
    for kind, spreads in sorted(bounds.classes.items()):
        group = [miss for miss in every if miss.kind == kind]
        _line(
            kind,
            [
                str(len(group)),
                f"{np.exp(spreads.joules.low):.2f}-{np.exp(spreads.joules.high):.2f}",
                *(_share([found.get(id(miss)) for miss in group]) for found in by_output.values()),
            ],
        )
    for known in Known:
        for gpu in GPUS:
            group = [miss for miss in models if miss.row.gpu.name == gpu and miss.kind.startswith(known)]
            _line(
                f"a model by {known}, {gpu}",
                [
                    str(len(group)),
                    "",
                    *(_share([found.get(id(miss)) for miss in group]) for found in by_output.values()),
                ],
            )
    _head(
        "A GPU type without rows, predicted from the other one: text rows, median error of J/token, and p90, %",
        ["rows"],
    )
    for gpu in GPUS:
        for known in Known:
            group = [miss for miss in others if miss.row.gpu.name == gpu and miss.kind.startswith(known)]
            _line(f"{gpu} by {known}", [str(len(group)), _both([relative(miss) for miss in group])])
    print(
        f"\nBounds of a GPU type without rows are {bounds.other_gpu:.2f} times as wide (in ln); each doubling of the"
        f" batch beyond a curve adds {bounds.per_octave:.3f}."
    )


def _head(title: str, columns: Sequence[str]) -> None:
    print(f"\n{title}\n")
    _line("", columns)


def _line(name: str, cells: Sequence[str]) -> None:
    print(f"{name:<42}" + "".join(f"{cell:>16}" for cell in cells))


def _both(errors: Sequence[float | None]) -> str:
    found = [error for error in errors if error is not None]
    return f"{100 * median(found):.1f} ({100 * np.quantile(found, 0.9):.0f})" if found else "-"


def _median(errors: Sequence[float | None]) -> str:
    found = [error for error in errors if error is not None]
    return f"{100 * median(found):.1f}" if found else "-"


def _share(flags: Sequence[bool | None]) -> str:
    found = [flag for flag in flags if flag is not None]
    return f"{100 * np.mean(found):.0f}" if found else "-"
