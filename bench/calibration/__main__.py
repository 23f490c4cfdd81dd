"""Prints how far the engine model falls from rows that it has not seen, per model; `--refit` renews the coefficients.

python -m bench.calibration            four tables, in about two minutes on two cores
python -m bench.calibration --refit    the same, and writes operator/fallow/twin/calibration/coefficients.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

# one thread a process: the folds run side by side, and the matrices are small
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> int:
    from bench.calibration import folds, tables
    from bench.calibration.quantiles import bounds_of
    from bench.calibration.rows import DATA, read
    from fallow.twin.calibration.hardware import gpu_named
    from fallow.twin.calibration.store import FILE, plain

    options = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__.splitlines()[0])
    options.add_argument("--refit", action="store_true", help="write the coefficients that the twin ships")
    options.add_argument("--data", type=Path, default=DATA, help="the rows of ML.ENERGY v3 as CSV")
    given = options.parse_args()
    if not given.data.exists():
        print(f"{given.data} is missing: give the rows of ML.ENERGY v3 with --data", file=sys.stderr)
        return 2

    rows = read(given.data)
    start = folds.fits(rows)
    batches = folds.held_out_batches(rows, start)
    models = folds.held_out_models(rows, start, lambda row: row.label)
    families = folds.held_out_models(rows, start, lambda row: row.family)
    others = [miss for gpu in folds.GPUS for miss in folds.as_other_gpu(rows, gpu_named(gpu))]
    bounds = bounds_of(batches, models, others)
    tables.show(rows, batches, models, families, others, bounds)
    if given.refit:
        provenance = {
            "source": "ML.ENERGY leaderboard v3 (github.com/ml-energy/leaderboard, public/data/tasks), Apache-2.0",
            "engine": "vLLM 0.11.1, steady state; energy of the GPUs only",
            "rows": len(rows),
            "fitted": datetime.now(UTC).date().isoformat(),
            "refit": "python -m bench.calibration --refit",
            "curves": "ln J/token, step and ITL over the physics at batches of 2^first, 2^(first+1) and so on",
            "bounds": "ln(measured / predicted) of joules, watts, itl and rate, p10 and p90 of rows not seen",
        }
        target = Path(__file__).resolve().parents[2] / "operator/fallow/twin/calibration" / FILE
        target.write_text(_lines(plain(folds.calibration(rows, start, bounds), provenance)))
        print(f"\nwritten to {target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target}")
    return 0


def _lines(contents: dict[str, object]) -> str:
    """JSON with a curve a line, so that a change can be read."""
    curves = contents.pop("curves")
    assert isinstance(curves, list)
    head = json.dumps(contents, indent=1)[:-2]
    return head + ',\n "curves": [\n  ' + ",\n  ".join(json.dumps(curve) for curve in curves) + "\n ]\n}\n"


if __name__ == "__main__":
    sys.exit(main())
