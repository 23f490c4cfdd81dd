"""Who holds a GPU and its parts: by dcgm-exporter's labels, and where these say nothing by the node agent.

dcgm-exporter repeats a GPU's series for each MIG instance, and under --kubernetes-virtual-gpus for each pod that uses
it in turns. Without that option it names one of these pods only; the agent knows them all, and each one's share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fallow.adapters.metrics.gpu_series import (
    AGENT_CLOCK,
    AGENT_HOLDER,
    AGENT_LIMIT,
    AGENT_SM,
    ENGINE_ACTIVE,
    GPU_UTIL,
    SM_ACTIVE,
    newest,
    value,
)
from fallow.adapters.metrics.samples import MetricSpec, Sample
from fallow.domain.figures import Missing
from fallow.domain.readings import (
    Activity,
    ActivitySource,
    ClockRange,
    PodRef,
    PowerLimit,
    Share,
    Sharing,
)
from fallow.domain.reasons import Reason
from fallow.domain.slices import compute_slices
from fallow.domain.units import Hertz, Instant, Watts

INSTANCE, PROFILE = "GPU_I_ID", "GPU_I_PROFILE"

PodOf = Callable[[Mapping[str, str]], PodRef | None]


@dataclass(frozen=True, slots=True)
class Told:
    """What the agent says of one GPU: its holders, with the MIG instance each holds, pods' shares of its time, and its
    power limit and clock where the agent sets them.
    """

    holders: tuple[tuple[str, PodRef], ...] = ()
    activities: Mapping[PodRef, Activity] = field(default_factory=dict)
    limit: PowerLimit | None = None
    clock: ClockRange | None = None

    def at(self, instance: str) -> list[PodRef]:
        """Those of one MIG instance, or of the GPU where the instance is empty."""
        return list(dict.fromkeys(pod for place, pod in self.holders if place == instance))


NOTHING = Told()


def told_by_agents(
    samples: Iterable[Sample], uuid_of: Callable[[Mapping[str, str]], str], pod_of: PodOf
) -> dict[str, Told]:
    """By GPU. Of each agent only the newest scrape counts: holders of before have left."""
    by_agent: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_agent[sample.labels.get("instance", "")].append(sample)
    holders: defaultdict[str, list[tuple[str, PodRef]]] = defaultdict(list)
    activities: defaultdict[str, dict[PodRef, Activity]] = defaultdict(dict)
    bounds: dict[str, defaultdict[str, dict[str, Sample]]] = {
        AGENT_LIMIT.sample: defaultdict(dict),
        AGENT_CLOCK.sample: defaultdict(dict),
    }
    for found in by_agent.values():
        at = max(sample.at for sample in found)
        for sample in found:
            uuid, pod = uuid_of(sample.labels), pod_of(sample.labels)
            if sample.at >= at and uuid and sample.name in bounds:
                bounds[sample.name][uuid][sample.labels.get("kind", "")] = sample
            if sample.at < at or pod is None or not uuid:
                continue
            if sample.name == AGENT_HOLDER.sample and sample.value > 0:
                holders[uuid].append((sample.labels.get(INSTANCE, ""), pod))
            ratio = value(sample, AGENT_SM) if sample.name == AGENT_SM.sample else None
            if ratio is not None and not isinstance(ratio, Missing):
                activities[uuid][pod] = Activity(min(ratio, 1.0), ActivitySource.PROCESS_SM, sample.at)
    limits, clocks = bounds[AGENT_LIMIT.sample], bounds[AGENT_CLOCK.sample]
    return {
        uuid: Told(
            tuple(sorted(holders.get(uuid, ()))),
            activities.get(uuid, {}),
            _limit(limits.get(uuid, {})),
            _clock(clocks.get(uuid, {})),
        )
        for uuid in {*holders, *activities, *limits, *clocks}
    }


def _limit(bounds: Mapping[str, Sample]) -> PowerLimit | None:
    watts = _bounds(bounds, AGENT_LIMIT)
    if watts is None:
        return None
    now, lowest, highest = watts
    return PowerLimit(Watts(now), Watts(lowest), Watts(highest), bounds["now"].at)


def _clock(bounds: Mapping[str, Sample]) -> ClockRange | None:
    hertz = _bounds(bounds, AGENT_CLOCK)
    if hertz is None:
        return None
    now, lowest, highest = hertz
    return ClockRange(Hertz(now), Hertz(lowest), Hertz(highest))


def _bounds(bounds: Mapping[str, Sample], spec: MetricSpec) -> tuple[float, float, float] | None:
    """As it is now, lowest and highest; None where one is missing or no number."""
    found = [value(bounds[kind], spec) for kind in ("now", "lowest", "highest") if kind in bounds]
    known = [one for one in found if not isinstance(one, Missing)]
    return (known[0], known[1], known[2]) if len(known) == 3 else None


def holder_and_shares(samples: Sequence[Sample], told: Told, pod_of: PodOf) -> tuple[PodRef | None, tuple[Share, ...]]:
    """The one pod that holds the GPU, if one does, and its parts, if it is handed out in parts."""
    at = max(sample.at for sample in samples)
    copies = [sample for sample in samples if sample.at == at]
    if any(INSTANCE in sample.labels for sample in copies):
        shares = tuple(_instances([sample for sample in samples if INSTANCE in sample.labels], at, told, pod_of))
        holders = {share.holder for share in shares}
        return (holders.pop() if len(holders) == 1 else None), shares
    pods = _holders(list(_named(copies, pod_of)), told.at(""))
    if len(pods) > 1:
        known = _by_process(copies, pod_of)
        turns = (Share(str(pod), Sharing.TURNS, pod, 0, known.get(pod) or _turn(pod, told)) for pod in pods)
        return None, tuple(turns)
    return next(iter(pods), None), ()


def _instances(samples: Sequence[Sample], at: Instant, told: Told, pod_of: PodOf) -> Iterable[Share]:
    by_instance: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_instance[sample.labels[INSTANCE]].append(sample)
    for name in sorted(by_instance, key=lambda name: (len(name), name)):
        copies = [sample for sample in by_instance[name] if sample.at == at]
        if not copies:
            continue
        profile, activity = copies[0].labels.get(PROFILE, ""), _activity(by_instance[name])
        pods: Sequence[PodRef | None] = _holders(list(_named(copies, pod_of)), told.at(name)) or [None]
        for pod in pods:
            yield Share(name, Sharing.MIG, pod, compute_slices(profile), activity, profile)


def _named(copies: Iterable[Sample], pod_of: PodOf) -> Iterable[PodRef]:
    return sorted({pod for sample in copies if (pod := pod_of(sample.labels)) is not None})


def _holders(named: list[PodRef], told: list[PodRef]) -> list[PodRef]:
    """The labels' word counts; where they name one pod, and the agent that one and others, they do not name all."""
    if not named or (len(named) == 1 and named[0] in told):
        return told
    return named


def _activity(samples: Sequence[Sample]) -> Activity | Missing:
    """Of a MIG instance. Not every GPU and profile has both fields."""
    sample, ratio = newest(samples, ENGINE_ACTIVE)
    if isinstance(ratio, Missing) and ratio.reason is Reason.NO_SERIES:
        sample, ratio = newest(samples, SM_ACTIVE)
    return ratio if isinstance(ratio, Missing) else Activity(min(ratio, 1.0), ActivitySource(sample.name), sample.at)


def _by_process(copies: Sequence[Sample], pod_of: PodOf) -> Mapping[PodRef, Activity]:
    """From dcgm-exporter 4.6 on, under --kubernetes-virtual-gpus, utilisation is each pod's own beside the GPU's, which
    names no pod. Without that one the copies repeat the GPU's.
    """
    own: dict[PodRef, Activity] = {}
    of_gpu = False
    for sample in copies:
        if sample.name != GPU_UTIL.sample:
            continue
        pod, percent = pod_of(sample.labels), value(sample, GPU_UTIL)
        of_gpu = of_gpu or pod is None
        if pod is not None and not isinstance(percent, Missing):
            own[pod] = Activity(min(percent / 100, 1.0), ActivitySource.GPU_UTIL, sample.at)
    return own if of_gpu else {}


def _turn(pod: PodRef, told: Told) -> Activity | Missing:
    """A holder of whom the agent tells no process, while it tells those of others on this GPU, ran nothing."""
    known = told.activities.get(pod)
    if known is not None:
        return known
    if told.activities and pod in told.at(""):
        return Activity(0.0, ActivitySource.PROCESS_SM, max(one.at for one in told.activities.values()))
    return Missing(Reason.NO_SERIES, f"{AGENT_SM.sample} does not name pod {pod} on this GPU; does the node agent run?")
