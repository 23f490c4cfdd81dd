"""From samples of metrics of waiting requests to what a sleeping service is woken by."""

from __future__ import annotations

from collections.abc import Iterable

from fallow.adapters.metrics.samples import Sample, checked
from fallow.domain.figures import Missing
from fallow.domain.readings import WaitingSeries


def read_waiting(samples: Iterable[Sample]) -> tuple[tuple[WaitingSeries, ...], Missing | None]:
    """Every sample that is a number, and the first that is none."""
    series: list[WaitingSeries] = []
    fault: Missing | None = None
    for sample in samples:
        value = checked(sample)
        if isinstance(value, Missing):
            fault = fault or value
        else:
            series.append(WaitingSeries(sample.name, sample.labels, value, sample.at))
    return tuple(series), fault
