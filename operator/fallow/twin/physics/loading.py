"""What a start takes, and how long a service must be idle for it to be worth releasing its GPUs.

The paper's rule (arXiv 2605.23918) charges all power while loading; what loading adds to an empty GPU is less, and so
is the time after which releasing pays (docs/methodology.md, break-even).
"""

from __future__ import annotations

from collections.abc import Sequence

from fallow.domain.units import Joules, Seconds, Watts, energy


def paper_break_even(load: Watts, seconds: Seconds, parking: Watts) -> Seconds:
    """T* = P_load t_load / P_park; `parking`: what a loaded idle engine draws above an empty GPU."""
    return Seconds(energy(load, seconds).value / parking.value)


def added_energy(samples: Sequence[Watts], every: Seconds, bare: Watts) -> Joules:
    """Energy of a load above the empty GPU's, from power samples `every` so many seconds."""
    return Joules(sum((sample.value - bare.value) * every for sample in samples))


def break_even(added: Joules, parking: Watts) -> Seconds:
    """T* = E_extra / (P_loaded - P_bare): idle for longer, a release saves energy."""
    return Seconds(added.value / parking.value)
