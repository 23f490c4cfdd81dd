"""Names of the series that tell the books: the operator exposes them, and reports read them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fallow.domain.units import Grams, Joules, Litres, Quantity

# the labels of every series of a line
LINE = ("line", "namespace", "service", "variant", "zone")


class Bounded(NamedTuple):
    """A figure of an account, one series a bound: low, best and high."""

    field: str
    unit: type[Quantity]
    text: str


class Parted(NamedTuple):
    """Plain amounts of an account that one label tells apart: its values, and the fields that they stand for."""

    label: str
    fields: Mapping[str, str]
    text: str


BOUNDED: Mapping[str, Bounded] = {
    "fallow_gpu_energy_joules": Bounded("energy", Joules, "Energy at the GPU."),
    "fallow_host_energy_joules": Bounded("host", Joules, "The GPUs' share of CPU, memory and fans."),
    "fallow_facility_energy_joules": Bounded("facility", Joules, "Energy of GPUs and host, times PUE."),
    "fallow_carbon_grams": Bounded("carbon", Grams, "Operational emissions, location-based, gCO2e."),
    "fallow_market_carbon_grams": Bounded("market_carbon", Grams, "Operational emissions, market-based, gCO2e."),
    "fallow_embodied_carbon_grams": Bounded("embodied", Grams, "Share of the hardware's manufacture, gCO2e."),
    "fallow_water_litres": Bounded("water", Litres, "Water consumed on site and at the power plants."),
}
PARTED: Mapping[str, Parted] = {
    "fallow_gpu_energy_part_joules": Parted(
        "part",
        {name: name for name in ("useful", "underfilled", "parked", "bare", "starting")},
        "Energy at the GPU by what it was used for; the parts add up to the best energy.",
    ),
    "fallow_incomplete_energy_joules": Parted(
        "lacks",
        {
            "counter": "modelled",
            "intensity": "unpriced",
            "water": "unwatered",
            "contract": "unmarketed",
            "price": "uncosted",
        },
        "Energy that an amount leaves out: without a counter (at the GPU), intensity, water factor, contract or price.",
    ),
    "fallow_shared_energy_joules": Parted(
        "split",
        {"measured": "weighed", "rule": "apportioned"},
        "Energy at the GPU, of GPUs that several lines shared: split by measured activity of the parts, or by a rule.",
    ),
    "fallow_tokens": Parted(
        "kind",
        {"prompt": "prompt_tokens", "cached": "cached_prompt_tokens", "generated": "generated_tokens"},
        "Tokens through the engines; cached ones are prompt tokens too.",
    ),
}
# name -> field and text
COUNTED: Mapping[str, tuple[str, str]] = {
    "fallow_requests": ("requests", "Finished requests."),
    "fallow_engine_iterations": ("iterations", "Steps of the engines."),
}
COST = "fallow_cost"
# told of lines that have engines
OF_ENGINES = frozenset({"fallow_tokens", *COUNTED})

BOOKS = frozenset({*BOUNDED, *PARTED, *COUNTED, COST})
# what the chart's recording rules make of a series of the books, whichever process exposed it
RECORDED = "line:{}:max"

POLICY = "fallow_service_policy_info"
TARGET = "fallow_policy_target_ratio"
BUDGET = "fallow_policy_budget"
BUILD = "fallow_build_info"
AT_WORK = "fallow_cycle_duration_seconds"
