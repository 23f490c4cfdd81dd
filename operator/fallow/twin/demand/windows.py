"""Demand that somebody measured in windows: totals of requests and tokens, spread over the seconds of each.

Totals are kept exactly: the requests of a window are dealt out over its seconds by a seeded multinomial draw.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fallow.domain.workloads import ServiceKey
from fallow.twin.demand.lengths import means
from fallow.twin.simulation.demand import Array, Load, Spread
from fallow.twin.traces import TraceError

# Of single requests' lengths, where only means are known: those of Azure's conversations of 2023.
USUAL_CV = 0.9


@dataclass(frozen=True, slots=True)
class Window:
    """Requests from `start` on (seconds since the beginning) and their mean tokens.

    `cv`: of the gaps between them; 1 is Poisson.
    """

    start: int
    requests: float
    prompt: float
    output: float
    cv: float = 1.0


class Windowed:
    """Each service has its windows in order, `width` seconds each; a window that is missing brings nothing."""

    def __init__(
        self, windows: Mapping[ServiceKey, Sequence[Window]], *, width: int, seed: int, cached: float = 0.0
    ) -> None:
        """Raises ValueError without windows."""
        if not any(windows.values()):
            raise ValueError("no window has any demand")
        self._width, self._seed = width, seed
        self._windows = [{window.start // width: window for window in found} for found in windows.values()]
        self.services = tuple(windows)
        self.seconds = max(window.start for found in windows.values() for window in found) + width
        count = len(self.services)
        self.spread = Spread(np.full(count, USUAL_CV), np.full(count, USUAL_CV), np.full(count, cached))

    def block(self, start: int, stop: int) -> Load:
        numbers = range(start // self._width, (stop - 1) // self._width + 1)
        parts = [[self._dealt(service, number) for number in numbers] for service in range(len(self.services))]
        some = slice(start - numbers[0] * self._width, stop - numbers[0] * self._width)
        arrivals, prompt, output = (
            np.array([np.concatenate([part[column] for part in row])[some] for row in parts]) for column in range(3)
        )
        return Load(start, arrivals, prompt, output)

    def _dealt(self, service: int, number: int) -> tuple[Array, Array, Array]:
        window = self._windows[service].get(number)
        if window is None or window.requests <= 0:
            known = window or next(iter(self._windows[service].values()), Window(0, 0, 1.0, 1.0))
            return (
                np.zeros(self._width),
                np.full(self._width, max(known.prompt, 1.0)),
                np.full(self._width, max(known.output, 1.0)),
            )
        generator = np.random.default_rng(np.random.SeedSequence([self._seed, service, number]))
        # gaps of variation cv make counts whose variance is cv^2 of their mean, in the long run
        excess = max(window.cv**2 - 1.0, 0.0) * self._width / window.requests
        weights = np.full(self._width, 1.0)
        if excess > 0:
            weights = generator.standard_gamma(1.0 / min(excess, 50.0), self._width) + 1e-12
        arrivals = generator.multinomial(round(window.requests), weights / weights.sum()).astype(np.float64)
        return (
            arrivals,
            means(generator, arrivals, window.prompt, USUAL_CV),
            means(generator, arrivals, window.output, USUAL_CV),
        )


def read_servegen(path: Path, *, scale: float = 1.0, seed: int = 0) -> Windowed:
    """ServeGen's aggregate of a week (columns workload, t_s, rate_rps, rate_weighted_cv, mean_input_tokens,
    mean_output_tokens): a service for each workload. Raises TraceError.

    Windows without lengths have those of the window before.
    """
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror})") from error
    found: dict[ServiceKey, list[Window]] = {}
    starts = sorted({_number(path, number, line, "t_s") for number, line in enumerate(lines, start=2)})
    if len(starts) < 2:
        raise TraceError(f"{path}: has no windows; each row is one window of one workload")
    width = int(starts[1] - starts[0])
    for number, line in enumerate(lines, start=2):
        key = ServiceKey("servegen", str(line.get("workload", "")).split("/")[-1] or "all")
        known = found.setdefault(key, [])
        before = known[-1] if known else Window(0, 0, 500.0, 100.0)
        rate = _number(path, number, line, "rate_rps")
        known.append(
            Window(
                start=int(_number(path, number, line, "t_s")),
                requests=rate * width * scale,
                prompt=_number(path, number, line, "mean_input_tokens", before.prompt),
                output=_number(path, number, line, "mean_output_tokens", before.output),
                cv=_number(path, number, line, "rate_weighted_cv", 1.0),
            )
        )
    return Windowed(found, width=width, seed=seed)


def _number(path: Path, number: int, line: Mapping[str, str], name: str, default: float | None = None) -> float:
    text = (line.get(name) or "").strip()
    if not text and default is not None:
        return default
    try:
        return float(text)
    except ValueError as error:
        raise TraceError(f"{path}, line {number}: column {name} needs a number, not {text!r}") from error
