"""What a lower SM clock does to an engine, as shares of the highest clock.

A step reads weights and the cache, which the memory's clock bounds, and computes, which the SM clock does. Of the watts
above a loaded idle engine one part stays and the rest falls with the square of the clock. How large these parts are is
known from few measurements: energy per token was lowest near .74 on A100 (VoltanaLLM, arXiv 2509.04827; throttLL'eM,
arXiv 2408.05235); on H200 decoding drew 47 to 90 W less at .39 (arXiv 2605.11999).
"""

# Below it nothing is known.
LOWEST_CLOCK = 0.4
# Of the watts above the context, what the clock does not change: .4 fits the figures of H200, .2 fits as well.
STEADY_SHARE = 0.4
# Reading weights takes so much of 1 / share - 1 longer.
SLOWED_READING = 0.1


def step_at(share: float, step: float, alone: float) -> float:
    """Seconds of a step that takes `step` at the highest clock, of which `alone` is that of a single request."""
    return alone * reading_at(share) + (step - alone) / share


def reading_at(share: float) -> float:
    """How many times as long as at the highest clock what mostly reads takes."""
    return 1.0 + SLOWED_READING * (1.0 / share - 1.0)


def drawn_at(share: float) -> float:
    """W above a loaded idle engine, of those at the highest clock."""
    return STEADY_SHARE + (1.0 - STEADY_SHARE) * share**2
