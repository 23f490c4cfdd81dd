"""Laws over random clusters with whole, divided, shared and unlabelled GPUs: parts add up, once, whatever happens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.adapters.cluster.ledger_codec import decode, encode
from fallow.domain.ledger import Ledger
from fallow.domain.readings import GpuReading, Share
from fallow.domain.snapshots import Node, Pod, Snapshot
from fallow.footprint.bookkeeping import book
from tests.support.metered import booked, gpu, instance, node, opened, pod, snapshot, turn, zone

pytestmark = pytest.mark.long

HOLDERS = ("llm/chat-1", "llm/chat-2", "llm/code-1", "batch/train-1", "batch/unseen")
LAYOUTS = (("3g.40gb", "3g.40gb"), ("4g.40gb", "2g.20gb", "1g.10gb"), ("1g.10gb",) * 7, ("7g.80gb",))
# a zone to each node: a zone's lines then add up to its node
ZONES = [zone("north", region="north"), zone("south", region="south"), zone("west", region="west")]
NODES = {"whole": "north", "mig": "south", "turns": "west"}
GPUS = {"GPU-1": "whole", "GPU-2": "whole", "GPU-3": "mig", "GPU-4": "mig", "GPU-5": "turns", "GPU-6": "turns"}

ratio = st.none() | st.floats(0, 1)
maybe_holder = st.none() | st.sampled_from(HOLDERS)


def instances(layout: tuple[str, ...]) -> st.SearchStrategy[list[Share]]:
    return st.tuples(*(st.tuples(maybe_holder, ratio) for _ in layout)).map(
        lambda parts: [instance(n, layout[n], holder, active) for n, (holder, active) in enumerate(parts)]
    )


def turns() -> st.SearchStrategy[list[Share]]:
    named = st.lists(st.tuples(st.sampled_from(HOLDERS), ratio), min_size=2, max_size=4, unique_by=lambda one: one[0])
    return named.map(lambda pods: [turn(holder, active) for holder, active in pods])


def held_on(where: str) -> st.SearchStrategy[tuple[str | None, list[Share]]]:
    """What the meters say of one GPU: its holder, and its shares."""
    alone = maybe_holder.map(lambda holder: (holder, list[Share]()))
    if where == "mig":
        return st.sampled_from(LAYOUTS).flatmap(instances).map(lambda shares: (None, shares))
    if where == "turns":
        return alone | turns().map(lambda shares: (None, shares))
    return alone


def pods(draw: Any) -> list[Pod]:
    """Pods of two services and a stranger, each on some node with some request, started at some time."""
    found = []
    for name, service in (("chat-1", "chat"), ("chat-2", "chat"), ("code-1", "code"), ("train-1", None)):
        if draw(st.booleans()):
            asked = draw(st.sampled_from([{}, {"copies": 1}, {"instances": {"1g.10gb": 2}}, {"gpus": 2}]))
            where, started = draw(st.sampled_from(tuple(NODES))), draw(st.floats(-100, 4000))
            space = "llm" if service else "batch"
            found.append(pod(name, service, namespace=space, node=where, started=started, **asked))
    return found


@dataclass
class Meter:
    """What a counter showed: the sum of its differences between the samples that were seen."""

    joules: float = 1e6
    shown: float | None = None
    used: float = 0.0

    def look(self) -> float:
        if self.shown is not None:
            self.used += self.joules - self.shown if self.joules >= self.shown else self.joules
        self.shown = self.joules
        return self.joules


@dataclass
class Cluster:
    """Meters that run, and what is to be seen of them."""

    meters: dict[str, Meter]
    now: float = 0.0

    def step(self, draw: Any) -> Snapshot:
        seconds = draw(st.sampled_from([0.5, 15, 15, 15, 30, 200, 299, 301, 4000]))
        self.now += seconds
        readings: list[GpuReading] = []
        for uuid, where in GPUS.items():
            meter, watts = self.meters[uuid], draw(st.floats(20, 700))
            reset = draw(st.integers(0, 19)) == 0
            meter.joules = (0.0 if reset else meter.joules) + watts * seconds
            # a counter that began anew is read at its own power, so that all that it counted is believed and no more
            if draw(st.integers(0, 3)) == 0:
                continue
            holder, shares = draw(held_on(where))
            readings.append(
                gpu(self.now, meter.look(), 300.0, uuid=uuid, node=where, holder=holder, shares=shares, active=0.5)
            )
        return snapshot(self.now, readings, pods=pods(draw), nodes=nodes(), zones=ZONES)


def nodes() -> list[Node]:
    return [node(name, 2, {"region": region}, in_turns=name == "turns") for name, region in NODES.items()]


def by_zone(ledger: Ledger) -> Mapping[str, float]:
    found: dict[str, float] = defaultdict(float)
    for line, joules in booked(ledger).items():
        found[line.zone] += joules
    return found


def counted(ledger: Ledger, meters: Mapping[str, Meter], zone_name: str) -> float:
    """The counters' differences on the zone's node, and what was modelled of the times before a counter began anew."""
    measured = sum(meters[uuid].used for uuid, where in GPUS.items() if NODES[where] == zone_name)
    modelled = sum(book.total.account.modelled.value for line, book in ledger.books.items() if line.zone == zone_name)
    return measured + modelled


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_lines_of_each_node_add_up_to_its_counters_whoever_held_the_gpus(data: st.DataObject) -> None:
    cluster, ledger = Cluster({uuid: Meter() for uuid in GPUS}), opened()
    for _ in range(data.draw(st.integers(2, 6))):
        seen = cluster.step(data.draw)
        ledger = book(ledger, seen)
        assert booked(book(ledger, seen)) == booked(ledger)
    for region in NODES.values():
        expected = counted(ledger, cluster.meters, region)
        assert by_zone(ledger).get(region, 0.0) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    total = sum(counted(ledger, cluster.meters, region) for region in NODES.values())
    assert sum(booked(ledger).values()) == pytest.approx(total, rel=1e-9, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_line_s_bounds_hold_its_best_value_and_only_grow(data: st.DataObject) -> None:
    cluster, ledger = Cluster({uuid: Meter() for uuid in GPUS}), opened()
    for _ in range(data.draw(st.integers(2, 6))):
        following = book(ledger, cluster.step(data.draw))
        for line, one in following.books.items():
            account = one.total.account
            assert 0 <= account.energy.low.value <= account.energy.best.value <= account.energy.high.value
            assert account.weighed.value + account.apportioned.value <= account.energy.best.value * (1 + 1e-9)
            assert account.idle.value <= account.energy.best.value * (1 + 1e-9)
            if line in ledger.books:
                before = ledger.books[line].total.account
                assert before.energy.low <= account.energy.low
                assert before.energy.best <= account.energy.best
                assert before.energy.high <= account.energy.high
        ledger = following


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_from_any_ledger_that_was_stored_the_books_come_to_the_same_sum(data: st.DataObject) -> None:
    cluster = Cluster({uuid: Meter() for uuid in GPUS})
    seen = [cluster.step(data.draw) for _ in range(data.draw(st.integers(3, 6)))]
    killed = data.draw(st.integers(1, len(seen) - 1))
    stored = opened()
    for one in seen[:killed]:
        stored = book(stored, one)
    whole, resumed = stored, decode(encode(stored))
    for one in seen[killed:]:
        whole, resumed = book(whole, one), book(resumed, one)
    assert sum(booked(resumed).values()) == pytest.approx(sum(booked(whole).values()), rel=1e-9, abs=1e-6)
    assert resumed.gpus.keys() == whole.gpus.keys()
    assert all(resumed.gpus[uuid].held == mark.held for uuid, mark in whole.gpus.items())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_after_an_outage_only_the_time_between_is_shared_out_anew(data: st.DataObject) -> None:
    """Killed after books that were never stored: the stored ledger goes on with the next reading."""
    cluster = Cluster({uuid: Meter() for uuid in GPUS})
    ledger = book(opened(), cluster.step(data.draw))
    at_stored = {uuid: (meter.shown, meter.used) for uuid, meter in cluster.meters.items()}
    for _ in range(data.draw(st.integers(0, 3))):
        cluster.step(data.draw)
    for uuid, (shown, used) in at_stored.items():
        cluster.meters[uuid].shown, cluster.meters[uuid].used = shown, used
    ledger = book(ledger, cluster.step(data.draw))
    for region in NODES.values():
        expected = counted(ledger, cluster.meters, region)
        assert by_zone(ledger).get(region, 0.0) == pytest.approx(expected, rel=1e-9, abs=1e-6)
