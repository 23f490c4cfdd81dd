"""Who holds a GPU and its parts: MIG instances, copies in turns, and what the node agent adds to dcgm-exporter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fallow.adapters.metrics.dcgm import READ_NAMES, Exporters, read_gpus
from fallow.adapters.metrics.direct import DirectSource, ScrapeLimits
from fallow.adapters.metrics.exposition import parse_page
from fallow.domain.figures import Missing
from fallow.domain.readings import Activity, ActivitySource, GpuReading, PodRef, Share, Sharing
from fallow.domain.slices import compute_slices
from fallow.domain.units import Instant, Seconds
from tests.adapters.metrics.pages import Gpu, agent_page, gpu_page
from tests.adapters.metrics.rigs import NOW, TIMEOUT, DirectRig, PrometheusRig, World

A, B, C = (PodRef("llm", name) for name in ("a-0", "b-0", "c-0"))


@pytest.fixture(params=["prometheus", "direct"])
async def rig(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PrometheusRig | DirectRig]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        yield await (PrometheusRig if request.param == "prometheus" else DirectRig).start(stack)


def parsed(page: str, at: float = 100, **labels: str) -> GpuReading:
    return read_gpus(parse_page(page, READ_NAMES, labels, Instant(at)))["GPU-1"]


def held(reading: GpuReading) -> list[tuple[str, PodRef | None]]:
    return [(share.name, share.holder) for share in reading.shares]


def ratios(reading: GpuReading) -> dict[PodRef | None, float | None]:
    return {
        share.holder: None if isinstance(share.activity, Missing) else share.activity.ratio for share in reading.shares
    }


async def test_both_sources_tell_instances_their_holders_and_what_the_agent_adds(
    rig: PrometheusRig | DirectRig,
) -> None:
    instances = gpu_page(
        Gpu(instance="1", profile="3g.40gb", active=0.7, holder=("llm", "a-0")),
        Gpu(instance="9", profile="1g.10gb", active=0.0),
    )

    readings = await rig.read(World(nodes={"node-a": instances + agent_page(("9", "llm", "b-0"))}))

    reading = readings.gpus["GPU-1"]
    assert reading.holder is None
    assert held(reading) == [("1", A), ("9", B)]
    assert [(share.sharing, share.slices, share.profile) for share in reading.shares] == [
        (Sharing.MIG, 3, "3g.40gb"),
        (Sharing.MIG, 1, "1g.10gb"),
    ]
    assert ratios(reading) == {A: 0.7, B: 0.0}
    assert set(readings.shares_by_holder) == {A, B}


async def test_both_sources_tell_copies_in_turns_with_each_pod_s_share_of_the_time(
    rig: PrometheusRig | DirectRig,
) -> None:
    page = gpu_page(Gpu(copy="0", holder=("llm", "a-0")), Gpu(copy="1", holder=("llm", "b-0")))
    told = agent_page(("", "llm", "a-0"), ("", "llm", "b-0"), sm={"a-0": 0.6, "b-0": 0.2})

    reading = (await rig.read(World(nodes={"node-a": page + told}))).gpus["GPU-1"]

    assert reading.holder is None
    assert [(share.holder, share.sharing, share.slices) for share in reading.shares] == [
        (A, Sharing.TURNS, 0),
        (B, Sharing.TURNS, 0),
    ]
    assert ratios(reading) == {A: 0.6, B: 0.2}


def test_without_engine_activity_an_instance_s_sm_activity_is_taken_and_named() -> None:
    share = parsed(gpu_page(Gpu(instance="7", active=None, sm=0.3, holder=("llm", "a-0")))).shares[0]
    assert isinstance(share.activity, Activity)
    assert (share.activity.ratio, share.activity.source) == (0.3, ActivitySource.SM_ACTIVE)


def test_an_instance_without_profiling_metrics_has_no_activity_and_never_the_whole_gpu_s() -> None:
    share = parsed(gpu_page(Gpu(instance="7", active=None, sm=None, util=90, holder=("llm", "a-0")))).shares[0]
    assert isinstance(share.activity, Missing)


def test_an_instance_used_in_turns_is_a_share_for_each_of_its_pods() -> None:
    copies = [Gpu(instance="7", copy=copy, holder=("llm", pod)) for copy, pod in (("0", "a-0"), ("1", "b-0"))]
    assert held(parsed(gpu_page(*copies, Gpu(instance="8")))) == [("7", A), ("7", B), ("8", None)]


@pytest.mark.parametrize(
    ("profile", "slices"),
    [("1g.10gb", 1), ("3g.40gb", 3), ("7g.80gb", 7), ("1g.10gb+me", 1), ("1c.3g.40gb", 1), ("", 1), ("half", 1)],
)
def test_compute_slices_are_read_from_the_profile(profile: str, slices: int) -> None:
    assert compute_slices(profile) == slices


NAMED = ("", "llm", "a-0")


@pytest.mark.parametrize(
    ("labelled", "agent", "holder", "shared"),
    [
        (["a-0"], [], A, []),
        ([], [NAMED], A, []),
        (["a-0"], [NAMED, ("", "llm", "b-0")], None, [A, B]),
        ([], [NAMED, ("", "llm", "b-0")], None, [A, B]),
        (["c-0"], [NAMED, ("", "llm", "b-0")], C, []),
        (["a-0", "b-0"], [("", "llm", "c-0")], None, [A, B]),
        (["a-0"], [NAMED, NAMED], A, []),
    ],
    ids=[
        "labels alone",
        "the agent alone",
        "one label, and the agent knows more",
        "no label, and the agent knows several",
        "a label that the agent does not know",
        "several labels",
        "two containers of one pod",
    ],
)
def test_labels_come_before_the_agent_unless_they_name_one_of_several(
    labelled: list[str], agent: list[tuple[str, str, str]], holder: PodRef | None, shared: list[PodRef]
) -> None:
    copies = [Gpu(holder=("llm", pod)) for pod in labelled] or [Gpu()]
    reading = parsed(gpu_page(*copies) + agent_page(*agent))
    assert reading.holder == holder
    assert [share.holder for share in reading.shares] == shared


def test_utilisation_by_process_is_taken_where_the_exporter_tells_the_gpu_s_own_beside_it() -> None:
    """As dcgm-exporter 4.6 does; before, the copies repeat the GPU's value and say nothing of a pod."""
    copies = [Gpu(copy="0", util=60, holder=("llm", "a-0")), Gpu(copy="1", util=0, holder=("llm", "b-0"))]
    assert ratios(parsed(gpu_page(Gpu(util=60), *copies))) == {A: 0.6, B: 0.0}
    assert ratios(parsed(gpu_page(*copies))) == {A: None, B: None}


def test_a_holder_that_the_agent_knows_and_whose_processes_it_does_not_tell_ran_nothing() -> None:
    told = agent_page(NAMED, ("", "llm", "b-0"), sm={"a-0": 0.6})
    assert ratios(parsed(gpu_page(Gpu(holder=("llm", "a-0"))) + told)) == {A: 0.6, B: 0.0}


def test_where_the_agent_tells_no_process_at_all_nothing_is_known_of_any() -> None:
    told = agent_page(NAMED, ("", "llm", "b-0"))
    assert ratios(parsed(gpu_page(Gpu(holder=("llm", "a-0"))) + told)) == {A: None, B: None}


def test_a_share_of_time_that_is_no_ratio_is_not_known() -> None:
    told = agent_page(NAMED, ("", "llm", "b-0"), sm={"a-0": 0.6, "b-0": float("nan")})
    assert ratios(parsed(gpu_page(Gpu()) + told))[A] == 0.6


def test_holders_of_an_agent_s_earlier_scrape_have_left() -> None:
    samples = [
        *parse_page(agent_page(NAMED), READ_NAMES, {"instance": "agent"}, Instant(70)),
        *parse_page(agent_page(("", "llm", "b-0")), READ_NAMES, {"instance": "agent"}, Instant(100)),
        *parse_page(gpu_page(Gpu()), READ_NAMES, {"instance": "dcgm"}, Instant(95)),
    ]
    assert read_gpus(samples)["GPU-1"].holder == B


def test_an_agent_that_has_been_silent_for_long_says_nothing() -> None:
    samples = [
        *parse_page(agent_page(NAMED), READ_NAMES, {"instance": "agent"}, Instant(10)),
        *parse_page(gpu_page(Gpu()), READ_NAMES, {"instance": "dcgm"}, Instant(100)),
    ]
    assert read_gpus(samples)["GPU-1"].holder is None


def test_the_agent_s_own_pod_is_no_holder_whatever_prometheus_does_to_labels() -> None:
    """Without honorLabels the target's own labels stand where the workload's were."""
    agent = {"instance": "10.1.0.0:9401", "job": "fallow", "namespace": "fallow-system", "pod": "fallow-agent-x7k2p"}
    renamed = agent_page(NAMED).replace('namespace="llm"', 'exported_namespace="llm"').replace(" pod=", " ")
    renamed = renamed.replace(',pod="a-0"', ',exported_pod="a-0"')
    samples = [
        *parse_page(renamed, READ_NAMES, agent, Instant(100)),
        *parse_page(gpu_page(Gpu()), READ_NAMES, {"instance": "dcgm"}, Instant(100)),
    ]
    targets = {("fallow", "10.1.0.0:9401"): PodRef("fallow-system", "fallow-agent-x7k2p")}
    assert read_gpus(samples, exporters=Exporters(targets=targets))["GPU-1"].holder == A


def test_series_of_the_agent_alone_are_no_gpu() -> None:
    assert read_gpus(parse_page(agent_page(NAMED), READ_NAMES, {}, Instant(100))) == {}


def test_shares_of_a_gpu_with_one_holder_are_told_with_the_gpu() -> None:
    reading = parsed(gpu_page(*(Gpu(instance=i, holder=("llm", "a-0")) for i in ("1", "2"))))
    assert reading.holder == A
    assert [type(share) for share in reading.shares] == [Share, Share]


@pytest.mark.parametrize("meters", [False, True], ids=["beside dcgm-exporter", "alone on its node"])
async def test_direct_scrape_reads_the_agent_at_a_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch, *, meters: bool
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        exporter, agent = await DirectRig.start(stack), await DirectRig.start(stack)
        limits = ScrapeLimits(timeout=TIMEOUT, deadline=Seconds(5))
        source = DirectSource(limits, exporter_port=exporter.port, agent_port=agent.port)
        stack.push_async_callback(source.close)
        exporter.show(World(nodes={} if meters else {"node-a": (Gpu(),)}))
        own = (gpu_page(Gpu()) if meters else "") + agent_page(NAMED)

        readings = await source.read(NOW, agent.show(World(nodes={"node-a": own})))

    assert readings.gpus["GPU-1"].holder == A
    assert readings.gpu_fault is None


async def test_a_node_without_an_agent_is_not_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with AsyncExitStack() as stack:
        exporter = await DirectRig.start(stack)
        source = DirectSource(exporter_port=exporter.port, agent_port=1)
        stack.push_async_callback(source.close)

        readings = await source.read(NOW, exporter.show(World(nodes={"node-a": (Gpu(),)})))

    assert set(readings.gpus) == {"GPU-1"}
    assert readings.gpu_fault is None
