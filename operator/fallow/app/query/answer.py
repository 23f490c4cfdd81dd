"""One query's figures from its inputs: by the bounds, or by Monte Carlo where quantiles are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fallow.app.query import quantities
from fallow.app.query.inputs import QUANTILES, Input, Inputs, Unusable
from fallow.app.query.quantities import Amount, UnreadableError
from fallow.domain.figures import Figure
from fallow.domain.units import JOULES_PER_WH, Grams, GramsPerKWh, Joules, LitresPerKWh, Quantity, Seconds, Watts
from fallow.domain.zones import Ratio
from fallow.footprint.impacts import LIFE, LIFE_LONG, LIFE_SHORT
from fallow.footprint.montecarlo import CORRELATION, DRAWS, Draws, Quantiles, drawn_latencies
from fallow.footprint.query import MEAN, Node, Site, Span, between, computers_energy, footprint, waiting
from fallow.footprint.sci import embodied_share, intensity_per_unit

Q = TypeVar("Q", bound=Quantity)

SECOND = Span(Seconds(1), Seconds(1), Seconds(1))
WEIGHTS = {"mean": MEAN, "low": 0.0, "high": 1.0}
# below every zone of the dataset, g/kWh: it is more likely a value in kg
DIM = 5.0
# what is not asked for once the energy is given
OF_THE_LOAD = ("latency", "ttft", "tps", *QUANTILES, "gpu-power", "gpu-utilization", "host-power", "host-utilization")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How Monte Carlo draws; `always` wants it for every query."""

    draws: int = DRAWS
    seed: int = 0
    correlation: float = CORRELATION
    always: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Figures by key and statistic: `energy_wh` -> low, best, high, and of Monte Carlo mean, p5, p50, p95.

    `errors` are the largest relative errors against published figures, where such are given.
    """

    figures: dict[str, dict[str, float]]
    inputs: dict[str, Input]
    notes: tuple[str, ...] = ()
    name: str = ""
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Load:
    """Energy of the computers, or with draws their energy per second; `latency` where it is known."""

    computers: Figure[Joules]
    latency: Span | None
    draws: Draws | None = None


def answered(texts: Mapping[str, str], sampling: Sampling) -> Answer:
    """The figures of one query; raises Unusable or Incomplete, whose text says what to write instead."""
    inputs = Inputs(texts)
    load = _load(inputs, sampling)
    site = Site(
        _ratio(inputs.amount("pue")),
        _figure(inputs.amount("wue-site"), LitresPerKWh),
        _figure(inputs.amount("wue-source"), LitresPerKWh),
        _figure(inputs.amount("intensity"), GramsPerKWh),
    )
    if 0 < site.intensity.high.value < DIM:
        inputs.notes.append(
            f"{site.intensity.high.value:g} g/kWh is less than any grid's; kg per kWh are written as 0.34kg/kWh."
        )
    best = _Best.of(inputs)
    made = _manufacture(inputs, load.latency)
    units = inputs.one("per", quantities.UNITS) if "per" in texts else 1.0
    inputs.check()
    result = footprint(load.computers, site)
    figures = {
        "energy_wh": _spread(best.of_bounds(result.energy) * (1 / JOULES_PER_WH / units), load.draws),
        "water_ml": _spread(best.of_bounds(result.water) * (1e3 / units), load.draws),
        "carbon_g": _spread(best.of_bounds(result.carbon) * (1 / units), load.draws),
    }
    if made is not None:
        operational = best.of_bounds(result.carbon) * (load.draws.mean if load.draws else 1.0)
        embodied = best.of_bounds(made)
        figures["embodied_g"] = _plain(embodied * (1 / units))
        figures["total_g"] = _plain(intensity_per_unit(operational, embodied, units))
    if not all(math.isfinite(value) for figure in figures.values() for value in figure.values()):
        raise UnreadableError("the figures are too large to print; check the units of what goes in")
    return Answer(figures, inputs.used, (*inputs.notes, *best.notes), texts.get("name", ""))


@dataclass(frozen=True, slots=True)
class _Best:
    """Where between its bounds a figure's best value lies; None keeps what the formula gives at the best inputs."""

    weight: float | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, inputs: Inputs) -> _Best:
        if "best" in inputs.texts:
            word = inputs.texts["best"].strip().lower()
            weight = WEIGHTS[word] if word in WEIGHTS else inputs.one("best", quantities.WEIGHT)
            return cls(weight, (f"Best lies {weight:g} of the way from low to high.",))
        if any(isinstance(used.value, Amount) and used.value.stated for used in inputs.used.values()):
            return cls(None, ("Best is what the best inputs give.",))
        return cls(MEAN, ("Best is the mean of low and high.",))

    def of_bounds(self, figure: Figure[Q]) -> Figure[Q]:
        return figure if self.weight is None else between(figure, self.weight)


def _load(inputs: Inputs, sampling: Sampling) -> _Load:
    if "energy" in inputs.texts:
        inputs.apart(("energy",), OF_THE_LOAD)
        return _Load(_figure(inputs.amount("energy"), Joules) * JOULES_PER_WH, None)
    node = Node(
        _figure(inputs.amount("gpu-power"), Watts),
        _ratio(inputs.amount("gpu-utilization")),
        _figure(inputs.amount("host-power"), Watts),
        _ratio(inputs.amount("host-utilization")),
    )
    if sampling.always or inputs.given(*QUANTILES):
        draws = _draws(inputs, sampling)
        return _Load(computers_energy(node, SECOND), Span(draws.mean, draws.mean, draws.mean), draws)
    latency = _latency(inputs)
    return _Load(computers_energy(node, latency), latency)


def _latency(inputs: Inputs) -> Span:
    parts = ("ttft", "tps")
    inputs.apart(("latency",), parts)
    if inputs.given(*parts, "output-tokens") and "latency" not in inputs.texts:
        ttft, tokens, rate = (inputs.amount(name) for name in ("ttft", "output-tokens", "tps"))
        return waiting(_span(ttft), _ratio(tokens), _ratio(rate))
    if "output-tokens" in inputs.texts:
        inputs.notes.append("--output-tokens is not used: --latency is the time of the whole answer.")
    return _span(inputs.amount("latency"))


def _draws(inputs: Inputs, sampling: Sampling) -> Draws:
    inputs.apart(tuple(QUANTILES), ("latency", "ttft", "tps"))
    ttft, rate = (Quantiles(inputs.five(name)) for name in QUANTILES)
    tokens = inputs.one("output-tokens", quantities.TOKENS) if "output-tokens" in inputs.texts else None
    if tokens is None:
        inputs.missing.append("output-tokens")
    inputs.notes.append(
        f"Monte Carlo: {sampling.draws:,} draws, seed {sampling.seed}, correlation {sampling.correlation:g}; quantile"
        " functions are piecewise linear and cut at p5 and p95. Low and high are means at the other inputs' bounds."
    )
    return drawn_latencies(
        ttft,
        rate,
        tokens or 0.0,
        draws=sampling.draws,
        seed=sampling.seed,
        correlation=sampling.correlation,
    )


def _manufacture(inputs: Inputs, latency: Span | None) -> Figure[Grams] | None:
    if "embodied" not in inputs.texts:
        if extra := inputs.given("held", "life", "share"):
            raise Unusable(extra[0], "says nothing without --embodied, what the manufacture of the hardware emitted")
        return None
    held = (Amount(latency.low, latency.best, latency.high), "assumed: as long as the query takes") if latency else None
    life = (Amount(LIFE_SHORT, LIFE, LIFE_LONG, stated=True), "assumed: 4 years, 3 to 6")
    whole = (Amount(1, 1, 1), "assumed: the whole hardware")
    return embodied_share(
        _figure(inputs.amount("embodied"), Grams),
        held=_span(inputs.amount("held", held)),
        life=_span(inputs.amount("life", life)),
        share=_ratio(inputs.amount("share", whole)),
    )


def _plain(figure: Figure[Any]) -> dict[str, float]:
    return {"low": figure.low.value, "best": figure.best.value, "high": figure.high.value}


def _spread(figure: Figure[Any], draws: Draws | None) -> dict[str, float]:
    """A figure, or with draws the distribution of a figure per second."""
    if draws is None:
        return _plain(figure)
    best = figure.best.value
    return _plain(figure * draws.mean) | {
        "mean": best * draws.mean,
        "p5": best * draws.p5,
        "p50": best * draws.p50,
        "p95": best * draws.p95,
    }


def _figure(value: Amount, unit: Callable[[float], Q]) -> Figure[Q]:
    return Figure(unit(value.low), unit(value.best), unit(value.high))


def _ratio(value: Amount) -> Ratio:
    return Ratio(value.low, value.best, value.high)


def _span(value: Amount) -> Span:
    return Span(Seconds(value.low), Seconds(value.best), Seconds(value.high))
