"""What a replica of a service draws at the facility, as it is measured: the pace at which a budget is used up."""

from collections.abc import Callable

from fallow.domain.figures import Missing
from fallow.domain.ledger import Account, Book, Ledger
from fallow.domain.readings import GpuReading
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Pod, Snapshot
from fallow.domain.units import Seconds, Watts
from fallow.domain.workloads import Service
from fallow.footprint.attribution import own_gpus
from fallow.planner.demand import is_stale, serving_pods


def replica_watts(snapshot: Snapshot, service: Service, ledger: Ledger, max_age: Seconds) -> Watts | Missing:
    """Mean over the ready replicas of what their GPUs drew over the estimation window, with host and PUE as booked.

    Missing where one of the GPUs is shared, not read or not read lately.
    """
    pods = serving_pods(snapshot, service)
    if not pods:
        return Missing(Reason.NOT_READY, "no replica is ready")
    total = 0.0
    for pod in pods:
        drawn = _drawn(snapshot, pod, max_age)
        if isinstance(drawn, Missing):
            return drawn
        total += drawn
    factor = _facility_factor(ledger.service_books(service.key))
    if factor is None:
        return Missing(Reason.NO_HISTORY, f"nothing is booked for {service.key} yet")
    return Watts(total / len(pods) * factor)


def _drawn(snapshot: Snapshot, pod: Pod, max_age: Seconds) -> float | Missing:
    held = own_gpus(snapshot, pod)
    if len(held) < pod.gpus or not held:
        return Missing(Reason.NO_SERIES, f"{len(held)} of the {pod.gpus} GPUs of {pod.ref} name it alone")
    total = 0.0
    for gpu in held:
        watts = _mean(snapshot, gpu, max_age)
        if isinstance(watts, Missing):
            return watts
        total += watts
    return total


def _mean(snapshot: Snapshot, gpu: GpuReading, max_age: Seconds) -> float | Missing:
    """By the counter since the window's start, else the power of the moment."""
    counter = gpu.counter
    before = snapshot.earlier.gpus.get(gpu.uuid) if snapshot.earlier else None
    earlier = before.counter if before is not None and before.holder == gpu.holder else None
    if not isinstance(counter, Missing) and earlier is not None and not isinstance(earlier, Missing):
        seconds, joules = counter.at - earlier.at, (counter.joules - earlier.joules).value
        if seconds > 0 and joules > 0 and not is_stale(counter.at, snapshot.at, max_age):
            return joules / seconds
    if isinstance(gpu.power, Missing):
        return gpu.power
    if is_stale(gpu.power.at, snapshot.at, max_age):
        return Missing(Reason.STALE_SERIES, f"the power of GPU {gpu.uuid} is not from the last {max_age:.0f} s")
    return gpu.power.watts.value


def _facility_factor(books: tuple[Book, ...]) -> float | None:
    """Energy at the facility for a joule at the GPU: of today, else over the books' life."""
    periods: tuple[Callable[[Book], Account], ...] = (lambda one: one.day.account, lambda one: one.total.account)
    for account_of in periods:
        gpus = sum(account_of(book).energy.best.value for book in books)
        if gpus > 0:
            return sum(account_of(book).facility.best.value for book in books) / gpus
    return None
