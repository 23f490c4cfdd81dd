"""How work is bound, from the pages of the twin's engines to what a person is told and what is held back for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from fallow.adapters.metrics import vllm
from fallow.adapters.metrics.exposition import parse_page
from fallow.adapters.reports.metrics import MetricsReporter
from fallow.adapters.reports.service_status import service_status
from fallow.app.explaining import explained
from fallow.domain.policies import PrecisionRules, Tier
from fallow.domain.reasons import Reason
from fallow.domain.reports import CycleReport
from fallow.domain.units import GramsPerKWh, Instant
from fallow.twin.vllm_metrics import vllm_metrics
from tests.support.builders import BF16, CHAT, CYCLE, INT4, policy, profile, ref, service
from tests.support.plant import Plant
from tests.support.twin import an_engine, engine_facts, submitted

TIERS = (Tier(GramsPerKWh(350), frozenset({"INT4"})),)
# what both take at a few requests, without a word on prompts
DECLARED = (
    profile(BF16, (1, 100, 200), (10, 800, 400), (100, 4000, 650)),
    profile(INT4, (1, 180, 190), (10, 1200, 400), (100, 4000, 650)),
)


@dataclass(frozen=True)
class Load:
    """So many requests at a time, each followed by another as long."""

    requests: int
    prompt: int
    output: int


ANSWERS = Load(4, prompt=20, output=3000)
PROMPTS = Load(4, prompt=8000, output=4)


class Watched:
    """One replica on a plant of a dirty grid, whose engine is the twin's: Fallow reads its page."""

    def __init__(self, load: Load, *, flag: bool = True) -> None:
        self.load, self.flag = load, flag
        self.plant = Plant(service(BF16, INT4), policy(precision=PrecisionRules(TIERS)), grams=400)
        self.plant.running = float(load.requests)
        self.plant.starts = frozenset({"bf16", "int4"})
        self.plant.cluster.show(replace(self.plant.cluster.view(), profiles=DECLARED))
        self.engine = an_engine()

    async def minutes(self, count: int) -> CycleReport:
        for _ in range(round(count * 60 / CYCLE)):
            self._live()
            self.plant.metrics.meanwhile = self._serve
            report = await self.plant.pass_time()
        return report

    def _live(self) -> None:
        for _ in range(round(CYCLE * 10)):
            while self.engine.in_flight < self.load.requests:
                submitted(self.engine, at=self.engine.now, prompt=self.load.prompt, output=self.load.output)
            self.engine.advance(self.engine.now + 0.1)

    def _serve(self) -> None:
        text = vllm_metrics(engine_facts(), self.engine, started=0.0)
        if not self.flag:
            text = "".join(line for line in text.splitlines(keepends=True) if "estimated" not in line)
        pod = ref("bf16-0")
        if pod in self.plant.metrics.engines:
            at = Instant(self.plant.clock.now)
            reading, fault = vllm.read_engine(parse_page(text, vllm.READ_NAMES, {}, at))
            assert reading is not None
            assert fault is None
            self.plant.metrics.engines[pod] = reading


def told(report: CycleReport) -> dict[str, Any]:
    return service_status(report, report.plan.services[CHAT], {}, "", None)


def lines(status: Mapping[str, Any]) -> list[str]:
    return explained({"metadata": {"namespace": "llm", "name": "chat"}, "status": status}).splitlines()


@pytest.mark.parametrize(
    ("load", "regime", "words"),
    [(ANSWERS, "MemoryBound", "bf16 is memory-bound"), (PROMPTS, "ComputeBound", "bf16 is compute-bound")],
    ids=["a few long answers", "long prompts"],
)
async def test_what_engines_estimate_tells_answers_from_prompts(load: Load, regime: str, words: str) -> None:
    report = await Watched(load).minutes(4)

    status = told(report)
    assert status["work"]["regime"] == regime
    assert any(line.startswith("work") and words in line for line in lines(status))
    reporter = MetricsReporter(clock=lambda: report.snapshot.at)
    await reporter.report(report)
    shown = reporter.registry.get_sample_value(
        "fallow_service_flops_per_byte",
        {"namespace": CHAT.namespace, "service": CHAT.name, "variant": "bf16", "bound": "best"},
    )
    assert shown == pytest.approx(status["work"]["flopsPerByte"]["best"], rel=0.01)


async def test_without_the_flag_nothing_is_told_of_it() -> None:
    status = told(await Watched(ANSWERS, flag=False).minutes(4))

    assert "work" not in status
    assert not any(line.startswith("work") for line in lines(status))


@pytest.mark.parametrize(
    ("load", "flag", "serving", "reason"),
    [
        (ANSWERS, True, "int4", Reason.STEADY),
        (PROMPTS, True, "bf16", Reason.COMPUTE_BOUND),
        (PROMPTS, False, "int4", Reason.STEADY),
    ],
    ids=["a few long answers", "long prompts", "long prompts, and nobody tells"],
)
async def test_smaller_weights_that_are_only_declared_to_save_come_where_memory_is_the_limit(
    load: Load, serving: str, reason: Reason, *, flag: bool
) -> None:
    plan = (await Watched(load, flag=flag).minutes(8)).plan.services[CHAT]
    assert (plan.serving, plan.standing.reason) == (serving, reason)
