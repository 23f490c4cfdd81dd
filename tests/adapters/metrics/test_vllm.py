"""Finished requests of vLLM by their reason: how many got no whole answer."""

from __future__ import annotations

import pytest

from fallow.adapters.metrics.samples import Sample
from fallow.adapters.metrics.vllm import read_engine
from fallow.domain.units import Instant

NOW = Instant(1_800_000_000)
PLAIN = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
)


@pytest.mark.parametrize(
    ("finished", "failed"),
    [
        ({"stop": 80, "length": 10, "abort": 3, "error": 2, "repetition": 5}, 5),
        ({"stop": 80, "length": 10, "abort": 3}, 3),
        ({"stop": 80}, 0),
        ({"": 80}, None),
    ],
    ids=["every reason", "a version without errors", "none yet", "a version without reasons"],
)
def test_aborted_requests_and_those_with_an_error_failed(finished: dict[str, float], failed: float | None) -> None:
    samples = [Sample(name, {}, 0.0, NOW) for name in PLAIN]
    for reason, count in finished.items():
        labels = {"finished_reason": reason} if reason else {}
        samples.append(Sample("vllm:request_success_total", labels, count, NOW))
    reading, _ = read_engine(samples)
    assert reading is not None
    assert (reading.requests, reading.failed) == (sum(finished.values()), failed)
