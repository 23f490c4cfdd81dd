"""The baselines by name, with a line on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fallow.twin.baselines.carbon_cap import CarbonCap
from fallow.twin.baselines.hpa import Hpa
from fallow.twin.baselines.keda import Keda
from fallow.twin.baselines.knative import Knative
from fallow.twin.baselines.saturation import Saturation
from fallow.twin.baselines.slo_law import SloLaw
from fallow.twin.baselines.static import Static
from fallow.twin.baselines.strong import Strong
from fallow.twin.simulation.sight import Controller, Known

BASELINES: Mapping[str, tuple[Callable[[Known], Controller], str]] = {
    "static-70": (lambda known: Static(known, 0.7), "fixed, sized for the peak minute at 70 % of capacity"),
    "static-100": (lambda known: Static(known, 1.0), "fixed, sized for the peak minute at full capacity"),
    "hpa": (Hpa, "Kubernetes HPA on running requests per pod, 70 % of what meets the ITL objective"),
    "keda": (Keda, "KEDA on waiting requests, to zero"),
    "kpa": (Knative, "Knative's autoscaler on concurrency, to zero"),
    "wva": (Saturation, "llm-d's saturation rule"),
    "llm-d": (SloLaw, "llm-d's law on the P90 over the objective"),
    "strong": (Strong, "sized by arrivals and objectives, five minutes down, five minutes to zero"),
    "keda-carbon": (CarbonCap, "KEDA under Azure's cap by carbon intensity"),
}
