"""What the ledger holds beside its books, as JSON rows: what was learned of variants and requests, and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat, zip_longest
from typing import Any

from fallow.domain.arrivals import Arrivals, Uneven
from fallow.domain.counterfactual import BaselineKind, BaselineRule, Counterfactual, Demand, Terms
from fallow.domain.figures import Figure
from fallow.domain.habits import Habits
from fallow.domain.lateness import Lateness
from fallow.domain.learned import Learned, LoadBin, Placement, Starts, StepMoments
from fallow.domain.ledger import Ledger
from fallow.domain.units import Instant, Joules
from fallow.domain.workloads import ServiceKey

# of X'X: nine digits keep a fit whose columns are alike to one part in ten thousand
DIGITS = 9


def learned_rows(ledger: Ledger) -> list[list[Any]]:
    return [
        [
            placement.service.namespace,
            placement.service.name,
            placement.variant,
            placement.product,
            one.gpus,
            int(one.at),
            _short(one.idle_watts),
            one.idle_windows,
            None if one.steps is None else _moments_row(one.steps),
            [[index, *_bin_row(part)] for index, part in sorted(one.bins.items())],
        ]
        for placement, one in sorted(ledger.learned.items())
    ]


def further_rows(ledger: Ledger) -> list[list[Any]]:
    """Beside each of `learned_rows`: scatter and time of its bins, and its starts. Versions before do not read them."""
    return [
        [
            [[_short(part.scatter, 6), int(part.at)] for _, part in sorted(one.bins.items())],
            None
            if (starts := one.starts) is None
            else [
                _short(value, 6)
                for value in (starts.number, starts.seconds, starts.metered, starts.joules, starts.pending)
            ],
        ]
        for _, one in sorted(ledger.learned.items())
    ]


def learned(rows: Sequence[list[Any]], further: Sequence[list[Any]] = ()) -> dict[Placement, Learned]:
    """Rows that a version wrote which did not keep what is `further` have a tenth of J/token as scatter."""
    found = {}
    for row, (scatters, starts) in zip(
        rows, further if len(further) == len(rows) else repeat(([], None)), strict=False
    ):
        namespace, name, variant, product, gpus, at, idle_watts, idle_windows, steps, bins = row
        found[Placement(ServiceKey(namespace, name), variant, product)] = Learned(
            gpus=int(gpus),
            at=Instant(float(at)),
            idle_watts=float(idle_watts),
            idle_windows=float(idle_windows),
            steps=None if steps is None else _moments(steps),
            bins={
                int(index): _bin(sums, part, Instant(float(at)))
                for (index, *sums), part in zip_longest(bins, scatters[: len(bins)])
            },
            starts=None if starts is None else Starts(*map(float, starts)),
        )
    return found


def counterfactual_rows(ledger: Ledger) -> list[list[Any]]:
    return [
        [
            key.namespace,
            key.name,
            *_terms_row(one.terms),
            one.version,
            one.since,
            one.running,
            one.product,
            one.demand.first_tokens,
            one.demand.first_seconds,
            one.demand.rate,
        ]
        for key, one in sorted(ledger.counterfactuals.items())
    ]


def counterfactuals(rows: Sequence[list[Any]]) -> dict[ServiceKey, Counterfactual]:
    found = {}
    for namespace, name, *row in rows:
        *terms, version, since, running, product, tokens, seconds, rate = row
        found[ServiceKey(namespace, name)] = Counterfactual(
            terms=_terms(terms),
            version=int(version),
            since=Instant(float(since)),
            running=int(running),
            product=str(product),
            demand=Demand(float(tokens), float(seconds), float(rate)),
        )
    return found


def habit_rows(ledger: Ledger) -> list[list[Any]]:
    """What the last cycle's change was is left out: the next one is no neighbour of it."""
    return [
        [key.namespace, key.name, *(_short(value, 6) for value in _habit_row(one))]
        for key, one in sorted(ledger.habits.items())
    ]


def habits(rows: Sequence[list[Any]]) -> dict[ServiceKey, Habits]:
    found = {}
    for namespace, name, *row in rows:
        seconds, requests, began, answered, prompt, output, *rest = map(float, row)
        cycles, spans, (lenience, most, *worked) = _uneven(rest[:4]), _uneven(rest[4:8]), rest[8:]
        working, replicas, highest = worked[:3] or (0.0, 0.0, 0.0)  # rows of older versions have none of them
        computed, made = worked[3:] or (None, None)  # only where another variant came to serve
        found[ServiceKey(namespace, name)] = Habits(
            Arrivals(
                seconds,
                requests,
                began,
                answered,
                prompt,
                output,
                cycles,
                spans,
                working,
                replicas,
                computed,
                made,
                highest,
            ),
            Lateness(lenience, most),
        )
    return found


def _habit_row(one: Habits) -> list[float]:
    seen = one.arrivals
    return [
        *(seen.seconds, seen.requests, seen.began, seen.answered, seen.prompt, seen.output),
        *(
            value
            for part in (seen.cycles, seen.spans)
            for value in (part.seconds, part.squares, part.returned, part.every)
        ),
        *(one.lateness.lenience, one.lateness.most),
        *(seen.working, seen.replicas, seen.highest),
        *(() if seen.computed is None or seen.made is None else (seen.computed, seen.made)),
    ]


def _uneven(values: Sequence[float]) -> Uneven:
    seconds, squares, returned, every = values
    return Uneven(seconds, squares, returned, every=every)


def _terms_row(terms: Terms) -> list[Any]:
    joules = terms.rule.joules_per_token
    return [
        terms.rule.kind,
        terms.rule.replicas,
        None if joules is None else [joules.low.value, joules.best.value, joules.high.value],
        terms.rule.note,
        terms.variant,
        terms.minimum,
        terms.maximum,
        terms.target,
        terms.declared_target,
    ]


def _terms(row: Sequence[Any]) -> Terms:
    kind, replicas, joules, note, variant, minimum, maximum, target, declared = row
    rule = BaselineRule(
        kind=BaselineKind(kind),
        replicas=None if replicas is None else int(replicas),
        joules_per_token=None if joules is None else Figure(*(Joules(float(value)) for value in joules)),
        note=str(note),
    )
    return Terms(
        rule, str(variant), int(minimum), int(maximum), float(target), None if declared is None else float(declared)
    )


def _moments_row(steps: StepMoments) -> list[Any]:
    numbers = [*steps.information, *steps.solution, steps.windows, steps.spread, steps.judged]
    return [*map(_short, numbers), steps.since, _short(steps.above), _short(steps.below), steps.refits]


def _moments(row: Sequence[Any]) -> StepMoments:
    *numbers, since, above, below, refits = row
    *matrix, a, b, c, d, windows, spread, judged = map(float, numbers)
    return StepMoments(
        information=tuple(matrix),
        solution=(a, b, c, d),
        windows=windows,
        spread=spread,
        judged=judged,
        since=Instant(float(since)),
        above=float(above),
        below=float(below),
        refits=int(refits),
    )


def _bin_row(part: LoadBin) -> list[float]:
    work = (part.prompt_tokens, part.generated_tokens, part.iterations, part.requests)
    return [_short(value, 6) for value in (part.windows, part.energy, part.seconds, *work)]


def _bin(row: Sequence[float], further: Sequence[float] | None, at: Instant) -> LoadBin:
    windows, energy, seconds, prompts, tokens, iterations, requests = map(float, row)
    scatter, newest = further or ((0.1 * energy) ** 2 / max(tokens, 1.0), at)
    return LoadBin(
        windows, energy, seconds, prompts, tokens, iterations, requests, float(scatter), Instant(float(newest))
    )


def _short(value: float, digits: int = DIGITS) -> float:
    return float(f"{value:.{digits}g}")
