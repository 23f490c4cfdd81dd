"""Clocks that fall while an engine has nothing to do, without its being unloaded.

A CUDA context holds a GPU's clocks at their highest even while nothing runs: that is what makes a loaded idle engine
draw 26 to 67 W a GPU more than an empty one. One that was started with CUDA_DISABLE_PERF_BOOST=1 lets them fall 2 s
after its last request and draws what an empty GPU does within 4 s. The first request after that takes .15 s (H100) to
.22 s (A100) longer, all others as long as before. Measured on H100, A100, L40S and B200 with driver 580.126, latency
with vLLM on the first two (arXiv 2605.23918, gpu-parking-tax).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fallow.domain.goals import Remedy
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Node
from fallow.domain.units import Watts
from fallow.domain.workloads import UNBOOSTED, Service
from fallow.footprint.hardware import hardware_of
from fallow.planner import replacing
from fallow.planner.context import Context, Proposal
from fallow.planner.pauses import idle_share

NAME = "Throttle"
# NVIDIA's first driver that knows the variable; older ones do as if it were not there.
DRIVER = (580, 105, 8)
# Labels of GPU feature discovery, of today and of older ones.
DRIVER_LABEL = "nvidia.com/cuda.driver-version.full"
DRIVER_PARTS = ("nvidia.com/cuda.driver.major", "nvidia.com/cuda.driver.minor", "nvidia.com/cuda.driver.rev")
# Seconds that the first request after a pause takes longer; the longest measured.
RAMP = 0.22
# Share of objectives.ttft that the ramp may take. A choice.
MOST_OF_TTFT = 0.5


def propose(context: Context) -> Proposal | None:
    """Replace the engines by such whose clocks fall, or by such whose do not; None where they are as the policy says.

    Ending it is not weighed: who takes the rung off the ladder wants the first request back.
    """
    rules = context.policy.idle
    if rules is None or not context.policy.name or context.memory.switching_to is not None:
        return None
    wanted = is_wanted(context)
    if wanted is context.throttled:
        return None
    saves = _saved(context)
    if wanted and not replacing.pays(context, saves):
        return None
    vetoes = replacing.vetoes(context)
    what = "engines whose clocks fall while they have nothing to do" if wanted else "engines whose clocks stay up"
    message = f"engines are replaced one after the other by {what}"
    burns = None if rules.throttle else context.budget.active.get(Remedy.THROTTLE)
    if burns is not None:
        message = f"{message}: {burns}"
    if vetoes:
        return Proposal(NAME, vetoes[0].reason, f"{message}; {vetoes[0].message}", vetoes=vetoes)
    reason = Reason.IDLE_CLOCKS if burns is None else Reason.BUDGET_BURN
    return Proposal(NAME, reason, message, context.current, saves=saves if wanted else None, throttled=wanted)


def is_wanted(context: Context) -> bool:
    """Whether new engines should let their clocks fall: by the policy's ladder, or by its budgets.

    While it is not known whether a budget asks for it, it stays as it is.
    """
    rules, budget = context.policy.idle, context.budget
    if rules is None:
        return False
    asked = rules.throttle or Remedy.THROTTLE in budget.active
    kept = context.throttled and Remedy.THROTTLE in budget.unknown
    return (asked or kept) and why_never(context) is None


def why_never(context: Context) -> str | None:
    """Why the engines of a service cannot be throttled as things are declared, and what to write instead."""
    service, ttft = context.service, context.service.objectives.ttft_p95
    if service.target is not None:
        return f"Deployment {service.target} is adopted; set {UNBOOSTED}=1 in its own pod template"
    if _sets_itself(service):
        return f"its own environment sets {UNBOOSTED}; take it out to let the policy decide"
    if ttft is not None and ttft * MOST_OF_TTFT < RAMP:
        return (
            f"a first request after a pause takes {RAMP:g} s longer, more than half of objectives.ttft ({ttft:g} s);"
            " allow more"
        )
    shared = next((pod for pod in context.pods if pod.instances or pod.copies), None)
    if shared is not None or any(node.in_turns for node in context.nodes):
        return "its GPUs are shared, and whoever else is on them may hold the clocks up"
    old = next((node for node in context.nodes if (driver := driver_of(node)) is not None and driver < DRIVER), None)
    if old is not None:
        version = ".".join(str(part) for part in driver_of(old) or ())
        return f"the NVIDIA driver of node {old.name} is {version}; 580.105.08 or newer knows {UNBOOSTED}"
    return None


def driver_of(node: Node) -> tuple[int, ...] | None:
    """The driver's version by the labels of GPU feature discovery; None where they do not tell."""
    text = node.labels.get(DRIVER_LABEL) or ".".join(node.labels.get(part, "") for part in DRIVER_PARTS)
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else None


def _saved(context: Context) -> Watts | None:
    """None where the GPUs are not known."""
    if context.product is None:
        return None
    points = context.lately(context.policy.scaling.down_window)
    hardware = hardware_of(context.product)
    gpus = context.asked(context.serving.name) * context.serving.gpus
    return (hardware.context - hardware.bare) * (gpus * idle_share(points))


def _sets_itself(service: Service) -> bool:
    containers = service.template.get("spec", {}).get("containers") or ()
    declared: Iterable[Mapping[str, Any]] = (
        *service.engine.env,
        *(entry for variant in service.variants for entry in variant.env),
        *(entry for container in containers for entry in container.get("env") or ()),
    )
    return any(entry.get("name") == UNBOOSTED for entry in declared)
