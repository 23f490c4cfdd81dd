"""GridZone: where the electricity of some nodes comes from, and what it carries: carbon, water, overhead, price."""

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from fallow.api.formats import Format, Line
from fallow.api.grid_zone_status import GridZoneStatus
from fallow.api.intensity import IntensitySource, Source, counts_stacks_only, marginal_rule, stacks_only_rule
from fallow.api.model import ApiModel, Rule
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta
from fallow.api.selectors import LabelSelector

CURRENCY = Format(r"^[A-Z]{3}$", "must be an ISO 4217 currency such as EUR or USD")

PUE, PUE_LOW, PUE_HIGH = 1.2, 1.08, 1.58
WUE_SITE, WUE_SITE_LOW, WUE_SITE_HIGH = 0.3, 0.0, 1.8
HOST_WATTS, HOST_WATTS_LOW, HOST_WATTS_HIGH = 150.0, 75.0, 290.0


class Bounds(ApiModel):
    """How far a factor may be off."""

    rules = (
        Rule(
            "self.low <= self.high",
            lambda b: b.low <= b.high,
            "low must be at most high; swap the two",
            ".low",
        ),
    )

    low: float = Field(ge=0, le=100000, description="Lower bound.")
    high: float = Field(ge=0, le=100000, description="Upper bound.")


class FactorBounds(ApiModel):
    """Bounds of the zone's factors."""

    pue: Bounds | None = Field(
        default=None,
        description=f"Bounds of pue. Absent: {PUE_LOW} to {PUE_HIGH} around the default {PUE}, "
        "else pue counts as exact.",
    )
    wue_site: Bounds | None = Field(
        default=None,
        description=f"Bounds of wueSite, L/kWh. Absent: {WUE_SITE_LOW} to {WUE_SITE_HIGH} around the "
        f"default {WUE_SITE}, else wueSite counts as exact.",
    )
    wue_source: Bounds | None = Field(
        default=None, description="Bounds of wueSource, L/kWh. Absent: wueSource counts as exact."
    )
    host_watts_per_gpu: Bounds | None = Field(
        default=None,
        description=f"Bounds of hostWattsPerGpu, W. Absent: {HOST_WATTS_LOW:g} to {HOST_WATTS_HIGH:g} around the "
        f"default {HOST_WATTS:g}, else hostWattsPerGpu counts as exact.",
    )


def _around(member: str, value: str) -> str:
    bounds = f"self.bounds.{member}"
    return (
        f"!has(self.bounds) || !has({bounds}) || !has(self.{value}) || "
        f"({bounds}.low <= self.{value} && self.{value} <= {bounds}.high)"
    )


def _encloses(bounds: Bounds | None, value: float | None) -> bool:
    return bounds is None or value is None or bounds.low <= value <= bounds.high


def _from_dataset(source: str) -> str:
    return f"{source}.source == 'Dataset'"


def _no_source(wrong: Callable[[str], str]) -> str:
    """CEL: neither the preferred source nor one that stands in for it is wrong."""
    first, other = wrong("self.intensity"), wrong("f")
    return f"!({first}) && (!has(self.intensity.fallbacks) || !self.intensity.fallbacks.exists(f, {other}))"


class MarketIntensity(ApiModel):
    """What your contracts say about the electricity, beside the grid's own intensity."""

    grams_per_kwh: float = Field(
        alias="gramsPerKWh", ge=0, le=5000, description="Market-based intensity, gCO2e per kWh."
    )
    instrument: Line = Field(default="", description="Contract or certificate behind it.")


class Price(ApiModel):
    """What electricity and GPUs cost."""

    per_kwh: float = Field(
        alias="perKWh", ge=0, le=1000, description="Price of one kWh; 0 where the price of the GPUs has it."
    )
    currency: Annotated[str, Field(min_length=1, max_length=3), CURRENCY] = Field(
        description="ISO 4217 code of the currency, such as EUR."
    )
    per_gpu_hour: Annotated[
        dict[Annotated[str, Field(max_length=63)], Annotated[float, Field(ge=0, le=100000)]], Field(max_length=32)
    ] = Field(
        default={},
        description="Price of one GPU for an hour in which a pod holds it, by nvidia.com/gpu.product, such as "
        "NVIDIA-L4: 0.55; 0 where it costs the same held or not. Counted by policies with objective Cost and in what "
        "proposals save, not in the footprints. Empty: GPUs cost the same held or not.",
    )


class PueSeries(ApiModel):
    """A facility's PUE as it is measured."""

    query: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="PromQL in the Prometheus that Fallow reads; it gives one sample between 1 and 10. Older than two "
        "hours it counts as not known, pue stands in, and the status says so. Counted with bounds of 5 %."
    )


class GridZoneSpec(ApiModel):
    """Which nodes, and what their electricity carries with it."""

    rules = (
        Rule(
            "has(self.nodeSelector) != self.default",
            lambda s: (s.node_selector is not None) != s.default,
            "nodeSelector must be given, or else default: true for the zone of all nodes that no other zone selects",
        ),
        Rule(
            _around("pue", "pue"),
            lambda s: s.bounds is None or _encloses(s.bounds.pue, s.pue),
            "bounds.pue must enclose pue; widen low and high or correct pue",
            ".bounds",
        ),
        Rule(
            _around("wueSite", "wueSite"),
            lambda s: s.bounds is None or _encloses(s.bounds.wue_site, s.wue_site),
            "bounds.wueSite must enclose wueSite; widen low and high or correct wueSite",
            ".bounds",
        ),
        Rule(
            _around("wueSource", "wueSource"),
            lambda s: s.bounds is None or _encloses(s.bounds.wue_source, s.wue_source),
            "bounds.wueSource must enclose wueSource; widen low and high or correct wueSource",
            ".bounds",
        ),
        Rule(
            _around("hostWattsPerGpu", "hostWattsPerGpu"),
            lambda s: s.bounds is None or _encloses(s.bounds.host_watts_per_gpu, s.host_watts_per_gpu),
            "bounds.hostWattsPerGpu must enclose hostWattsPerGpu; widen low and high or correct hostWattsPerGpu",
            ".bounds",
        ),
        Rule(
            "!has(self.bounds) || !has(self.bounds.pue) || self.bounds.pue.low >= 1.0",
            lambda s: s.bounds is None or s.bounds.pue is None or s.bounds.pue.low >= 1,
            "bounds.pue.low must be at least 1; a facility cannot use less than its computers",
            ".bounds",
        ),
        Rule(
            f"!has(self.marginal) || ({marginal_rule('self.marginal')})",
            lambda s: s.marginal is None or s.marginal.signal == "marginal",
            "marginal must be a source with signal: marginal; what is average belongs into intensity",
            ".marginal",
        ),
        Rule(
            f"self.factorType == 'direct' || ({_no_source(stacks_only_rule)})",
            lambda s: s.factor_type == "direct" or not any(counts_stacks_only(part) for part in s.accounted),
            "factorType must be direct for UKCarbonIntensity and for WattTime's average, which count the stacks only",
            ".factorType",
        ),
        Rule(
            f"self.factorType == 'lifecycle' || ({_no_source(_from_dataset)})",
            lambda s: s.factor_type == "lifecycle" or not any(part.source == "Dataset" for part in s.accounted),
            "factorType must be lifecycle for Dataset, which holds no other factors",
            ".factorType",
        ),
    )

    node_selector: LabelSelector | None = Field(
        default=None,
        description="Labels of the zone's nodes, such as topology.kubernetes.io/region: eu-central-1. "
        "Absent: with default: true.",
    )
    default: bool = Field(
        default=False, description="The zone of all nodes that no other zone selects, instead of nodeSelector."
    )
    intensity: IntensitySource = Field(
        description="Where the carbon intensity comes from, by which emissions are counted and tiers decided."
    )
    marginal: Source | None = Field(
        default=None,
        description="Where the marginal intensity comes from. Shown beside the average, never counted nor acted on. "
        "Absent: not shown.",
    )
    factor_type: Literal["lifecycle", "direct"] = Field(
        default="lifecycle",
        description="lifecycle counts building and fuelling the power plants, direct only their stacks.",
    )
    market_intensity: MarketIntensity | None = Field(
        default=None,
        description="Intensity by your contracts: emissions by it are shown beside the location-based ones, which "
        "are what goals and tiers go by. Absent: not known.",
    )
    pue: float = Field(
        default=PUE, ge=1, le=10, description="Power usage effectiveness: facility energy over computer energy."
    )
    pue_from: PueSeries | None = Field(
        default=None, description="Measured PUE, which goes before pue while it is known. Absent: pue alone."
    )
    wue_site: float = Field(
        default=WUE_SITE, ge=0, le=100, description="Water consumed on site per kWh of computer energy, L/kWh."
    )
    wue_source: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Water consumed at the power plants per kWh of facility energy, L/kWh. Absent: as the "
        "dataset knows it for a Dataset zone, else not known, and the figures for water leave it out and say so.",
    )
    host_watts_per_gpu: float = Field(
        default=HOST_WATTS,
        ge=0,
        le=10000,
        description="Power of CPU, memory and fans per GPU, watts, counted where no node meter is read.",
    )
    bounds: FactorBounds | None = Field(
        default=None, description="How far the factors may be off. Absent: the defaults of its fields."
    )
    price: Price | None = Field(
        default=None,
        description="Price of electricity, for figures of cost and objective Cost, and of GPUs. "
        "Absent: not known, and cost is left out.",
    )

    @property
    def accounted(self) -> list[Source]:
        """The sources by which emissions may come to be counted."""
        return [self.intensity, *self.intensity.fallbacks]


class GridZone(ApiModel):
    """Where the electricity of some nodes comes from: carbon intensity, water, facility overhead, price."""

    api_version: ApiVersion = Field(description="Version of the schema: fallow.dev/v1alpha1.")
    kind: Literal["GridZone"] = Field(description="Name of the kind: GridZone.")
    metadata: ObjectMeta = Field(description="Standard Kubernetes metadata.")
    spec: GridZoneSpec = Field(description="Which nodes, and what their electricity carries with it.")
    status: GridZoneStatus = Field(
        default=GridZoneStatus(), description="The present value, its age and the forecast. Written by Fallow."
    )


GRID_ZONE = Kind(
    model=GridZone,
    plural="gridzones",
    singular="gridzone",
    short="gz",
    namespaced=False,
    columns=(
        Column("Intensity", ".status.summary.intensity", "Present carbon intensity."),
        Column("Value Age", ".status.intensity.at", "Age of the present value.", "date"),
        Column("Source", ".spec.intensity.source", "Where the intensity comes from."),
        Column("PUE", ".status.pue.ratio.best", "Facility energy over computer energy.", "number"),
        Column("Nodes", ".status.nodes", "Nodes in the zone.", "integer"),
        Column("GPUs", ".status.gpus", "GPUs on them.", "integer"),
        AGE,
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is known.", wide=True),
        Column("Tier", ".status.intensity.tier", "How near the value is to a measurement of now.", wide=True),
        Column("Marginal", ".status.summary.marginal", "Present marginal intensity.", wide=True),
        Column("From", ".status.intensity.source", "Dataset or provider behind the value.", wide=True),
        Column("Unallocated", ".status.summary.unallocated", "Draw of GPUs that nobody holds.", wide=True),
    ),
)
