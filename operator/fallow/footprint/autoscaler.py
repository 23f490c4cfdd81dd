"""The reference autoscaler: what Kubernetes' HorizontalPodAutoscaler would run for the same demand.

The rule of autoscaling/v2 with its defaults, on requests in flight per replica; never below one replica.
Source: kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale and pkg/controller/podautoscaler.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from fallow.domain.counterfactual import BaselineKind, Counterfactual
from fallow.domain.figures import Missing
from fallow.domain.units import Instant, Seconds

# --horizontal-pod-autoscaler-tolerance
TOLERANCE = 0.1
# behavior.scaleDown.stabilizationWindowSeconds
STABILISATION = Seconds(300)
# behavior.scaleUp.policies: within 15 s at most 4 pods more, or twice as many, whichever is more
PODS_UP, FACTOR_UP = 4, 2


def asked_for(running: int, in_flight: float, target: float) -> int:
    """V1: replicas that the metric asks for: in flight / target rounded up, unless that is within the tolerance."""
    if running > 0 and abs(in_flight / (target * running) - 1.0) <= TOLERANCE:
        return running
    return ceil(in_flight / target - 1e-9)


def followed(one: Counterfactual, in_flight: float | Missing, now: Instant) -> Counterfactual:
    """One sync of the baseline's own scaling. A metric that cannot be read changes nothing, as in Kubernetes.

    Its answers are not kept over a restart; the controller, too, begins with what runs and waits a whole window.
    """
    terms = one.terms
    if terms.rule.kind is BaselineKind.STATIC and terms.rule.replicas is not None:
        return replace(one, running=terms.rule.replicas)
    low = max(terms.minimum, 1)
    high = max(terms.maximum, low)
    running = min(max(one.running, low), high)
    if isinstance(in_flight, Missing) or terms.target <= 0:
        return replace(one, running=running)
    answer = min(max(asked_for(running, in_flight, terms.target), low), high)
    recent = one.asked or ((now, running),)
    asked = (*(entry for entry in recent if now - STABILISATION < entry[0] <= now), (now, answer))
    wanted = max(count for _, count in asked) if answer < running else answer
    fastest = max(running + PODS_UP, running * FACTOR_UP)
    return replace(one, running=min(wanted, fastest) if wanted > running else min(wanted, running), asked=asked)
