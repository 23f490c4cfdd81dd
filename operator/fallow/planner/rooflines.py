"""How the work of each variant of a service is bound, over the estimation window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fallow.domain.figures import Missing
from fallow.domain.readings import Operations
from fallow.domain.reasons import Reason
from fallow.domain.rooflines import Roofline
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.workloads import Service, Variant
from fallow.footprint.attribution import own_gpus
from fallow.footprint.roofline import done_between, roofline
from fallow.planner.demand import serving_pods


def rooflines(snapshot: Snapshot, service: Service) -> Mapping[str, Roofline | Missing]:
    """By variant that has ready replicas."""
    pods = serving_pods(snapshot, service)
    found = [(variant, [pod for pod in pods if pod.variant == variant.name]) for variant in service.variants]
    return {variant.name: _of(snapshot, variant, own) for variant, own in found if own}


def _of(snapshot: Snapshot, variant: Variant, pods: list[Pod]) -> Roofline | Missing:
    """Of all replicas together, as many operations a GPU as each did; the first reason where none could be told."""
    answers = list(_done(snapshot, pods))
    done = [one for one in answers if not isinstance(one, Missing)]
    if not done:
        faults = (one for one in answers if isinstance(one, Missing))
        return next(faults, Missing(Reason.NO_SERIES, "no vLLM series of its replicas"))
    products = sorted({_product(snapshot, pod) for pod in pods})
    if len(products) > 1:
        return Missing(Reason.NO_HISTORY, f"its replicas are on GPUs of several types: {', '.join(products)}")
    whole = Operations(sum(one.flops for one in done), sum(one.bytes for one in done))
    return roofline(whole, variant.precision, products[0])


def _done(snapshot: Snapshot, pods: list[Pod]) -> Iterator[Operations | Missing]:
    """By each replica since the window began, or since it did. A pod that was there then and was not read is left out:
    days of its work would outweigh minutes of all others. The first readings of the process have no window.
    """
    earlier = snapshot.earlier
    for pod in pods:
        now = snapshot.readings.engines.get(pod.ref)
        before = None if earlier is None else earlier.engines.get(pod.ref)
        began = pod.started if pod.started is not None else pod.created
        if now is not None and (before is not None or earlier is None or began > earlier.at):
            yield done_between(before, now)


def _product(snapshot: Snapshot, pod: Pod) -> str:
    node = snapshot.cluster.nodes.get(pod.node)
    if node is not None and node.gpu_product:
        return node.gpu_product
    return next((gpu.model_name for gpu in own_gpus(snapshot, pod)), "")
