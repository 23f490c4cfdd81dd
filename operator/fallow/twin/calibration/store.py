"""Reads what was fitted from `coefficients.json`; `python -m bench.calibration --refit` writes that file."""

from __future__ import annotations

import json
from dataclasses import fields
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from fallow.twin.calibration.bounds import Bounds, Known, Spread, Spreads
from fallow.twin.calibration.curves import Configuration, Curve
from fallow.twin.calibration.hardware import gpu_named
from fallow.twin.calibration.models import PRESETS
from fallow.twin.calibration.physics import Coefficients
from fallow.twin.calibration.predict import Calibration, against_usual
from fallow.twin.calibration.tasks import Precision, Task

FILE = "coefficients.json"


@lru_cache(maxsize=1)
def shipped() -> Calibration:
    return read(json.loads(files("fallow.twin.calibration").joinpath(FILE).read_text(encoding="utf-8")))


def read(plain: dict[str, Any]) -> Calibration:
    coefficients = {
        Known(known): {gpu: Coefficients(**values) for gpu, values in by_gpu.items()}
        for known, by_gpu in plain["physics"].items()
    }
    curves = tuple(_curve(one) for one in plain["curves"])
    bounds = plain["bounds"]
    return Calibration(
        coefficients,
        {Known.SHAPE: curves, Known.SIZE: against_usual(curves, coefficients)},
        Bounds(
            {key: Spreads(*(Spread(*ends) for ends in spreads)) for key, spreads in bounds["classes"].items()},
            bounds["other_gpu"],
            bounds["per_octave"],
        ),
    )


def _curve(plain: dict[str, Any]) -> Curve:
    return Curve(
        preset=plain["model"],
        like=Configuration(
            gpu_named(plain["gpu"]),
            PRESETS[plain["model"]],
            Precision(plain["precision"]),
            plain["gpus"],
            Task(plain["task"]),
        ),
        output=plain["output"],
        lowest=plain["batch"][0],
        highest=plain["batch"][1],
        first=plain["first"],
        departures=np.column_stack([plain["joules"], plain["step"], plain["itl"]]),
    )


def plain(calibration: Calibration, provenance: dict[str, Any]) -> dict[str, Any]:
    """The contents of the file, rounded to what the fit can tell."""
    return {
        "provenance": provenance,
        "physics": {
            str(known): {
                gpu: {field.name: float(f"{getattr(one, field.name):.4g}") for field in fields(one)}
                for gpu, one in by_gpu.items()
            }
            for known, by_gpu in calibration.coefficients.items()
        },
        "bounds": {
            "classes": {
                key: [
                    [round(spread.low, 3), round(spread.high, 3)]
                    for spread in (spreads.joules, spreads.watts, spreads.itl, spreads.rate)
                ]
                for key, spreads in sorted(calibration.bounds.classes.items())
            },
            "other_gpu": round(calibration.bounds.other_gpu, 2),
            "per_octave": round(calibration.bounds.per_octave, 3),
        },
        "curves": [
            {
                "model": curve.preset,
                "gpu": curve.like.gpu.name,
                "precision": str(curve.like.precision),
                "gpus": curve.like.gpus,
                "task": str(curve.like.task),
                "output": round(curve.output),
                "batch": [round(curve.lowest, 1), round(curve.highest, 1)],
                "first": curve.first,
                "joules": [round(float(value), 3) for value in curve.departures[:, 0]],
                "step": [round(float(value), 3) for value in curve.departures[:, 1]],
                "itl": [round(float(value), 3) for value in curve.departures[:, 2]],
            }
            for curve in sorted(calibration.curves[Known.SHAPE], key=_order)
        ],
    }


def _order(curve: Curve) -> tuple[str, str, str, int, str]:
    return (curve.preset, curve.like.gpu.name, curve.like.precision, curve.like.gpus, curve.like.task)
