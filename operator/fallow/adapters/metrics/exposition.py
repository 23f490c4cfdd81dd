"""From a page in Prometheus text format to samples of the metrics that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prometheus_client.parser import text_string_to_metric_families

from fallow.adapters.metrics.samples import Sample
from fallow.domain.units import Instant


class NotExposition(ValueError):
    """The page is not in Prometheus text format."""


def parse_page(text: str, names: Collection[str], labels: Mapping[str, str], at: Instant) -> list[Sample]:
    """Samples by these names with the target's labels added; their own time wins over `at` where they carry one.

    Only lines of these names are parsed: a vLLM page has hundreds of lines of which a tenth is read, and without the
    TYPE lines the parser does not rename counters that lack `_total`, as DCGM's do.
    """
    if not text.endswith("\n"):
        # The format wants it; without it the last number may be half a number.
        raise NotExposition("it does not end with a line feed")
    wanted = tuple(names)
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    samples = _parse("\n".join([*lines, ""]), names, labels, at)
    if not samples:
        # Tells a page without these metrics from one that is no metrics page at all.
        _parse(text, names, labels, at)
    return samples


def _parse(text: str, names: Collection[str], labels: Mapping[str, str], at: Instant) -> list[Sample]:
    try:
        return [
            Sample(
                sample.name,
                {**labels, **sample.labels},
                float(sample.value),
                at if sample.timestamp is None else Instant(float(sample.timestamp)),
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name in names
        ]
    except (ValueError, IndexError, KeyError) as error:
        raise NotExposition(str(error)) from error
