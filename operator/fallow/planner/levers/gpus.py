"""Fewer replicas where GPUs are short: what waits in vain is not asked for, and what runs goes to higher priority."""

from fallow.domain.plans import Veto
from fallow.domain.reasons import Reason
from fallow.planner import autoscaled, guards
from fallow.planner.context import Context, Proposal

NAME = "Gpus"
# Share of what runs that may go at one time: Knative's max-scale-down-rate of 2.
AT_ONCE = 0.5


def propose(context: Context) -> Proposal | None:
    """As many as its share, but half of what runs at one time; None where that is no fewer than it has.

    Latency is no reason against it: whoever set priorities has weighed that. Without fresh signals, within the dwell
    and where guards of the day or of others say no, all that runs stays.
    """
    share = context.around.share
    if share is None or share.replicas is None or share.replicas >= context.replicas or context.memory.switching_to:
        return None
    if autoscaled.fixed(context.scaler) is not None:
        return None
    runs, least, vetoes = _runs(context), share.replicas, tuple[Veto, ...]()
    if share.replicas < runs:
        vetoes = guards.raised(guards.freshness(context), *guards.pace(context))
        least = runs if vetoes else max(share.replicas, runs - max(int(runs * AT_ONCE), 1))
    if least >= context.replicas:
        return Proposal(NAME, vetoes[0].reason, f"{share.words}; {vetoes[0].message}", vetoes=vetoes)
    return Proposal(NAME, Reason.GPUS_SHORT, share.words, {**context.current, context.serving.name: least})


def only_withdraws(context: Context, proposal: Proposal) -> bool:
    """Whether all that goes are replicas that have no GPUs."""
    left = (proposal.replicas or {}).get(context.serving.name, 0)
    return proposal.lever == NAME and left >= _runs(context)


def _runs(context: Context) -> int:
    return sum(1 for pod in context.pods if pod.variant == context.serving.name and pod.scheduled and not pod.deleting)
