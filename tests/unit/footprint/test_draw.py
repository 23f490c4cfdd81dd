"""What is drawn now: by one service, by GPUs that nobody holds, by the cluster."""

from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Watts
from fallow.domain.workloads import ServiceKey
from fallow.footprint.draw import draws
from tests.support.metered import CHAT, gpu, node, pod, snapshot

PODS = [pod("chat-1"), pod("chat-2", variant="fp8")]


def seen(seconds: float):  # type: ignore[no-untyped-def] # noqa: ANN201 - a snapshot
    gpus = [
        gpu(seconds, 100 * seconds, 100.0, uuid="GPU-a", holder="llm/chat-1"),
        gpu(seconds, 300 * seconds, 300.0, uuid="GPU-b", holder="llm/chat-2"),
        gpu(seconds, 50 * seconds, 50.0, uuid="GPU-c"),
    ]
    return snapshot(seconds, gpus, pods=PODS, nodes=[node(gpus=3)])


def test_a_service_draws_what_its_gpus_draw() -> None:
    seen_now = draws(seen(0))
    assert seen_now.services[CHAT] == Watts(400)
    assert seen_now.unallocated == {"": Watts(50)}
    assert seen_now.cluster == Watts(450)


def test_a_service_without_gpus_is_not_among_those_that_draw() -> None:
    assert ServiceKey("llm", "resting") not in draws(seen(0)).services


def test_a_gpu_that_is_not_read_makes_the_draw_unknown() -> None:
    gpus = [gpu(0, 1.0, 100.0, uuid="GPU-a", holder="llm/chat-1"), gpu(0, 1.0, None, uuid="GPU-b", holder="llm/chat-2")]
    partly = snapshot(0, gpus, pods=PODS, nodes=[node(gpus=2)])
    for answer in (draws(partly).services[CHAT], draws(partly).cluster):
        assert isinstance(answer, Missing)
        assert answer.reason is Reason.NO_SERIES
        assert "1 of 2" in answer.detail


def test_the_meter_s_fault_is_the_reason() -> None:
    dark = snapshot(0, pods=PODS, fault=Missing(Reason.SOURCE_UNREACHABLE, "no answer"))
    for answer in (draws(dark).services[CHAT], draws(dark).cluster):
        assert isinstance(answer, Missing)
        assert answer.reason is Reason.SOURCE_UNREACHABLE
