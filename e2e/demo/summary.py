"""The end of the story: what Fallow booked against the simulated GPUs' own counters, and against a fleet left alone."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from e2e.demo.grid import CLEAN, DIRTY
from e2e.demo.meter import Meter
from e2e.demo.story import NAMESPACE, Marks
from e2e.demo.view import joules, number
from e2e.harness.errors import HarnessError
from e2e.harness.stack import OPERATOR_NAMESPACE, Stack
from fallow.adapters.cluster.ledger_codec import decode
from fallow.adapters.cluster.ledger_store import KEY
from fallow.domain.ledger import Account, Ledger, LineKind
from fallow.domain.workloads import ServiceKey
from fallow.twin.calibration.tasks import Precision
from fallow.twin.physics.constants import Gpu
from fallow.twin.physics.engine import EngineLimits
from fallow.twin.pods import EngineFacts, NodeFacts
from fallow.twin.replay import Objectives, Replicas, replay
from fallow.twin.traffic import Arrival

CHAT, DOCS = ServiceKey(NAMESPACE, "chat"), ServiceKey(NAMESPACE, "docs")
# As docs/samples/demo/services.yaml promises, in seconds.
OBJECTIVES = {CHAT: Objectives(ttft=2.0, itl=0.04), DOCS: Objectives(ttft=20.0)}
LOAD_SECONDS = 6.5
MAX_NUM_SEQS = {CHAT: 256, DOCS: 256}
# Two ends of an interval, each read up to a scrape and a cycle late, on a load that has just changed.
TOLERANCE = 0.02
LEDGER_LIMIT = 60.0
JOULES_PER_KWH = 3.6e6

HOW_COMPARED = """\
Without Fallow: {replicas} replicas of chat in BF16, as many as its peak takes at 100 requests in flight each, no margin
on top, and 1 of docs, all from start to end on the same {gpus} GPUs; the recorded requests were replayed over them.
The last two lines count requests within the objectives; ITL is a request's mean time between two tokens.
GPUs and requests are simulated by a model calibrated on published measurements. Kubernetes API server, scheduler,
controllers, Prometheus and Fallow are real. A day in five minutes shows how it works, not what you would save."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way to have served the same requests; grams count energy at the GPU."""

    name: str
    joules: float
    grams: float
    requests: int
    failed: int
    tokens: int
    attainment: Mapping[ServiceKey, float | None]


@dataclass(frozen=True, slots=True)
class Span:
    """What both sides are compared over, by the wall clock: from the first booking to the last."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Fleet:
    nodes: int
    gpus: int


def tell(stack: Stack, meter: Meter, marks: Marks, fleet: Fleet, console: Console) -> None:
    ledger = stack.wait_until(lambda: stored_after(stack, marks.ended), "the ledger being stored", LEDGER_LIMIT)
    span = Span(ledger.since, sum(mark.at for mark in ledger.gpus.values()) / len(ledger.gpus))
    meter.wait_past(span.ended)
    agree(ledger, stack.twin_state(), meter, span, console)
    served = with_fallow(stack, meter, marks, span)
    alone = left_alone(stack, marks, span, fleet)
    compare(served, alone, console)
    gpus = fleet.nodes * fleet.gpus
    console.print(HOW_COMPARED.format(replicas=marks.peak_replicas, gpus=gpus), highlight=False, soft_wrap=True)


def stored_after(stack: Stack, time: float) -> Ledger | None:
    """The ledger as Fallow stored it, once every GPU in it is booked up to that time."""
    found = stack.cluster.get("configmap", "fallow-ledger", "--namespace", OPERATOR_NAMESPACE)
    ledger = decode(base64.b64decode(found["binaryData"][KEY]))
    return ledger if all(mark.at > time for mark in ledger.gpus.values()) else None


def agree(ledger: Ledger, state: Mapping[str, Any], meter: Meter, span: Span, console: Console) -> None:
    """Fallow's books against the counters in the simulated GPUs, over the time that the books cover."""
    truths = {"all GPUs": true_energy(ledger, state) - meter.cluster_at(span.began)}
    accounts = {"all GPUs": total(ledger, *LineKind)}
    for key in (CHAT, DOCS):
        truths[str(key)] = meter.service_at(str(key), span.ended) - meter.service_at(str(key), span.began)
        accounts[str(key)] = service_total(ledger, key)
    table = Table(
        "energy at the GPU", *(Column(name, justify="right") for name in ("booked", "counters", "difference"))
    )
    for name, truth in truths.items():
        booked = accounts[name].energy.best.value
        table.add_row(name, joules(booked), joules(truth), f"{booked / truth - 1:+.2%}")
    console.print("What Fallow booked, and what the counters in the GPUs say:")
    console.print(table)
    whole, free = accounts["all GPUs"], total(ledger, LineKind.UNALLOCATED)
    idle = accounts[str(CHAT)].idle.value + accounts[str(DOCS)].idle.value
    console.print(
        f"Of these {joules(whole.energy.best.value)}, GPUs that nobody held took {joules(free.energy.best.value)}; "
        f"{joules(idle)} went into loaded ones without a request in work.\nWith the servers around the GPUs and PUE: "
        f"{joules(whole.facility.best.value)} and {whole.carbon.best.value:,.1f} gCO2e "
        f"({whole.carbon.low.value:,.1f} to {whole.carbon.high.value:,.1f}).\n",
        highlight=False,
        soft_wrap=True,
    )
    booked, truth = whole.energy.best.value, truths["all GPUs"]
    if abs(booked / truth - 1) > TOLERANCE:
        raise HarnessError(f"the books disagree with the counters: {joules(booked)} booked, {joules(truth)} used")


def true_energy(ledger: Ledger, state: Mapping[str, Any]) -> float:
    """Joules since the twin began, up to exactly the counter values at which the ledger's marks stand."""
    offsets = {gpu["uuid"]: float(gpu["counter_joules"]) - float(gpu["joules"]) for gpu in state["gpus"]}
    return sum(mark.joules.value - offsets[uuid] for uuid, mark in ledger.gpus.items() if mark.joules is not None)


def total(ledger: Ledger, *kinds: LineKind) -> Account:
    return sum((book.total.account for line, book in ledger.books.items() if line.kind in kinds), start=Account())


def service_total(ledger: Ledger, key: ServiceKey) -> Account:
    return sum((book.total.account for book in ledger.service_books(key)), start=Account())


def compare(served: Outcome, alone: Outcome, console: Console) -> None:
    """The same requests on the same GPUs, with Fallow and with replicas sized once for the peak."""
    table = Table("the same requests", *(Column(name, justify="right") for name in (served.name, alone.name, "change")))
    table.add_row("energy, all GPUs", joules(served.joules), joules(alone.joules), change(served.joules, alone.joules))
    table.add_row("gCO2e of that", f"{served.grams:.1f}", f"{alone.grams:.1f}", change(served.grams, alone.grams))
    both = (served.joules / served.tokens, alone.joules / alone.tokens)
    table.add_row("J/token, all GPUs", f"{both[0]:.3f}", f"{both[1]:.3f}", change(*both))
    for words, ours, theirs in (
        ("requests answered", served.requests, alone.requests),
        ("requests failed", served.failed, alone.failed),
        ("tokens generated", served.tokens, alone.tokens),
    ):
        table.add_row(words, number(ours), number(theirs), "")
    for key, words in ((CHAT, "chat: TTFT <= 2 s, ITL <= 40 ms"), (DOCS, "docs: TTFT <= 20 s")):
        table.add_row(words, share(served.attainment[key]), share(alone.attainment[key]), "")
    console.print("With Fallow, and with replicas that nobody changes:")
    console.print(table)


def with_fallow(stack: Stack, meter: Meter, marks: Marks, span: Span) -> Outcome:
    served: dict[ServiceKey, Mapping[str, Any]] = {}
    for key, wanted in OBJECTIVES.items():
        state = stack.twin_state(ttft=wanted.ttft, itl=wanted.itl)
        served[key] = next(s for s in state["services"] if ServiceKey(s["namespace"], s["service"]) == key)
    cuts = [meter.cluster_at(time) for time in (span.began, marks.dirty, marks.clean, span.ended)]
    return Outcome(
        "with Fallow",
        cuts[-1] - cuts[0],
        grams(cuts),
        sum(one["done"] for one in served.values()),
        sum(one["failed"] for one in served.values()),
        sum(one["generated_tokens"] for one in served.values()),
        {key: one["attainment"] for key, one in served.items()},
    )


def left_alone(stack: Stack, marks: Marks, span: Span, fleet: Fleet) -> Outcome:
    """Replayed up to each change of the grid, so that every joule meets its own intensity."""
    twin_began = float(stack.twin_state()["started"])
    late = span.began - twin_began
    traffic = {
        key: [Arrival(row.at - late, row.prompt, row.output) for row in rows(stack.trace(key.namespace, key.name))]
        for key in OBJECTIVES
    }
    nodes = [NodeFacts(f"gpu-{n}", f"gpu-{n}", "", Gpu.H100, fleet.gpus) for n in range(fleet.nodes)]
    start = marks.began - span.began
    replicas = [fixed(CHAT, marks.peak_replicas, start), fixed(DOCS, 1, start)]
    results = [
        replay(nodes, replicas, traffic, seconds=time - span.began, objectives=OBJECTIVES)
        for time in (marks.dirty, marks.clean, span.ended)
    ]
    last = results[-1]
    return Outcome(
        "without",
        last.energy.value,
        grams([0.0, *(result.energy.value for result in results)]),
        sum(service.done for service in last.services),
        sum(service.failed for service in last.services),
        last.generated_tokens,
        {service.service: service.attainment for service in last.services},
    )


def fixed(key: ServiceKey, count: int, start: float) -> Replicas:
    engine = EngineFacts("meta-llama/Llama-3.1-8B-Instruct", key.name, Precision.BF16, EngineLimits(MAX_NUM_SEQS[key]))
    return Replicas(key, engine, count, variant="bf16", start=start, load_seconds=LOAD_SECONDS)


def grams(cuts: list[float]) -> float:
    """Joules at four times, priced by the grid between them: clean, dirty, clean."""
    prices = (CLEAN, DIRTY, CLEAN)
    spans = zip(cuts, cuts[1:], prices, strict=False)
    return sum((after - before) / JOULES_PER_KWH * price for before, after, price in spans)


def rows(trace: str) -> list[Arrival]:
    return [
        Arrival(float(row["arrival"]), int(row["prompt"]), int(row["output"]))
        for row in csv.DictReader(io.StringIO(trace))
    ]


def change(ours: float, theirs: float) -> str:
    return f"{ours / theirs - 1:+.0%}"


def share(value: float | None) -> str:
    return "none ended" if value is None else f"{value:.1%}"
