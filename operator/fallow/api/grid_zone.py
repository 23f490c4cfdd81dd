"""GridZone: where the electricity of some nodes comes from, and what it carries: carbon, water, overhead, price."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.conditions import Conditions, Figure, Time
from fallow.api.footprint import Footprint
from fallow.api.formats import DnsLabel, DnsSubdomain, Format, Line, Word
from fallow.api.model import ApiModel, Rule, StatusModel
from fallow.api.objects import AGE, ApiVersion, Column, Kind, ObjectMeta
from fallow.api.selectors import LabelSelector

ZONE_CODE = Format(
    r"^[A-Z]{2,3}(-[A-Z0-9]{1,6}){0,3}$",
    "must be a zone such as DE, FR or US-CAL-CISO: an ISO country code, where needed with the grid area",
)
CURRENCY = Format(r"^[A-Z]{3}$", "must be an ISO 4217 currency such as EUR or USD")

PUE, PUE_LOW, PUE_HIGH = 1.2, 1.08, 1.58
WUE_SITE, WUE_SITE_LOW, WUE_SITE_HIGH = 0.3, 0.0, 1.8
HOST_WATTS, HOST_WATTS_LOW, HOST_WATTS_HIGH = 150.0, 75.0, 290.0


class StaticIntensity(ApiModel):
    """A value that you know."""

    rules = (
        Rule(
            "(!has(self.low) || self.low <= self.gramsPerKWh) && (!has(self.high) || self.high >= self.gramsPerKWh)",
            lambda s: (s.low is None or s.low <= s.grams_per_kwh) and (s.high is None or s.high >= s.grams_per_kwh),
            "static.low must be at most gramsPerKWh and static.high at least gramsPerKWh",
            ".gramsPerKWh",
        ),
    )

    grams_per_kwh: float = Field(alias="gramsPerKWh", ge=0, le=5000, description="Carbon intensity, gCO2e per kWh.")
    low: float | None = Field(
        default=None, ge=0, le=5000, description="Lower bound. Absent: 10 % below, as sources differ by that much."
    )
    high: float | None = Field(
        default=None, ge=0, le=5000, description="Upper bound. Absent: 10 % above, as sources differ by that much."
    )


class DatasetIntensity(ApiModel):
    """A yearly mean from the dataset that ships with Fallow."""

    zone: Annotated[str, Field(min_length=2, max_length=32), ZONE_CODE] = Field(
        description="Zone in the dataset: an ISO country code such as DE, where needed with the grid area."
    )


class PrometheusIntensity(ApiModel):
    """A series in the Prometheus that Fallow reads, such as grid-intensity-go's."""

    query: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="PromQL that gives one sample in gCO2e per kWh; older than two hours it counts as not known."
    )
    signal: Literal["average", "marginal"] = Field(
        default="average",
        description="What the series measures. A marginal intensity is shown and never counted as emissions.",
    )


class ConfigMapIntensity(ApiModel):
    """A key of a ConfigMap that somebody else keeps up to date."""

    namespace: DnsLabel = Field(description="Namespace of the ConfigMap.")
    name: DnsSubdomain = Field(description="Name of the ConfigMap.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        default="gramsPerKWh", description="Key whose value is the intensity in gCO2e per kWh, a plain number."
    )


# further sources (Electricity Maps, WattTime, UK Carbon Intensity) become further members with a value in `source`
_MEMBERS = {"Static": "static", "Dataset": "dataset", "Prometheus": "prometheus", "ConfigMap": "configMap"}
_ATTRIBUTES = {"Static": "static", "Dataset": "dataset", "Prometheus": "prometheus", "ConfigMap": "config_map"}


def _member_rule(source: str) -> Rule:
    member = _MEMBERS[source]
    return Rule(
        f"(self.source == '{source}') == has(self.{member})",
        lambda i: (i.source == source) == (getattr(i, _ATTRIBUTES[source]) is not None),
        f"intensity.{member} must be given when source is {source}, and only then",
        f".{member}",
    )


class IntensitySource(ApiModel):
    """Exactly one source, named by source and described in the member of that name."""

    rules = tuple(_member_rule(source) for source in _MEMBERS)

    source: Literal["Static", "Dataset", "Prometheus", "ConfigMap"] = Field(
        description="Where the intensity comes from; the member of that name says how."
    )
    static: StaticIntensity | None = Field(default=None, description="A value that you know. Absent: another source.")
    dataset: DatasetIntensity | None = Field(
        default=None, description="A yearly mean from the dataset that ships with Fallow. Absent: another source."
    )
    prometheus: PrometheusIntensity | None = Field(
        default=None, description="A series in the Prometheus that Fallow reads. Absent: another source."
    )
    config_map: ConfigMapIntensity | None = Field(
        default=None, description="A key of a ConfigMap that somebody else keeps up to date. Absent: another source."
    )


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


class MarketIntensity(ApiModel):
    """What your contracts say about the electricity, beside the grid's own intensity."""

    grams_per_kwh: float = Field(
        alias="gramsPerKWh", ge=0, le=5000, description="Market-based intensity, gCO2e per kWh."
    )
    instrument: Line = Field(default="", description="Contract or certificate behind it.")


class Price(ApiModel):
    """What electricity costs."""

    per_kwh: float = Field(alias="perKWh", ge=0, le=1000, description="Price of one kWh.")
    currency: Annotated[str, Field(min_length=1, max_length=3), CURRENCY] = Field(
        description="ISO 4217 code of the currency, such as EUR."
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
    )

    node_selector: LabelSelector | None = Field(
        default=None,
        description="Labels of the zone's nodes, such as topology.kubernetes.io/region: eu-central-1. "
        "Absent: with default: true.",
    )
    default: bool = Field(
        default=False, description="The zone of all nodes that no other zone selects, instead of nodeSelector."
    )
    intensity: IntensitySource = Field(description="Where the carbon intensity comes from.")
    factor_type: Literal["lifecycle", "direct"] = Field(
        default="lifecycle",
        description="lifecycle counts building and fuelling the power plants, direct only their stacks.",
    )
    market_intensity: MarketIntensity | None = Field(
        default=None,
        description="Market-based intensity. Recorded, not acted on in this version; emissions are location-based. "
        "Absent: not known.",
    )
    pue: float = Field(
        default=PUE, ge=1, le=10, description="Power usage effectiveness: facility energy over computer energy."
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
        default=None, description="Recorded, not acted on in this version. Price of electricity. Absent: not known."
    )


class IntensityReading(StatusModel):
    """The present carbon intensity."""

    grams_per_kwh: Figure = Field(alias="gramsPerKWh", description="Carbon intensity, gCO2e per kWh.")
    at: Time = Field(description="Time for which the value stands; its age is what matters.")
    source: Line = Field(description="Where it came from, with the dataset and year or the provider.")
    signal: Literal["average", "marginal"] = Field(
        default="average", description="Average and marginal intensity answer different questions and are never mixed."
    )
    factor_type: Literal["lifecycle", "direct"] = Field(
        default="lifecycle", description="What the factors count: lifecycle or direct."
    )


class ForecastPoint(StatusModel):
    """The expected carbon intensity at a time."""

    at: Time = Field(description="Start of the interval.")
    grams_per_kwh: Figure = Field(alias="gramsPerKWh", description="Expected carbon intensity, gCO2e per kWh.")


class ZoneSummary(StatusModel):
    """Figures as short texts, for the columns of kubectl get."""

    intensity: Word = Field(default="", description="Present intensity, such as 381 g/kWh.")
    unallocated: Word = Field(default="", description="Draw of GPUs that nobody holds, such as 574 W.")


class GridZoneStatus(StatusModel):
    """The present value, its age, the forecast, and the GPUs that nobody uses."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="metadata.generation of the spec that Fallow last acted on."
    )
    conditions: Conditions = Field(
        default=[], description="Ready and IntensityFresh: the intensity can be read and is recent enough."
    )
    intensity: IntensityReading | None = Field(
        default=None, description="The present carbon intensity. Absent: not known, and the condition says why."
    )
    forecast: Annotated[list[ForecastPoint], Field(max_length=96)] = Field(
        default=[], description="Expected intensity, soonest first. Empty where the source gives none."
    )
    nodes: int = Field(default=0, ge=0, description="Nodes in the zone.")
    gpus: int = Field(default=0, ge=0, description="GPUs on them.")
    unallocated: Footprint | None = Field(
        default=None, description="Footprint since the start of the GPUs that no pod holds."
    )
    summary: ZoneSummary | None = Field(default=None, description="Figures as short texts, for kubectl get.")


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
        Column("PUE", ".spec.pue", "Facility energy over computer energy.", "number"),
        Column("Nodes", ".status.nodes", "Nodes in the zone.", "integer"),
        Column("GPUs", ".status.gpus", "GPUs on them.", "integer"),
        AGE,
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is known.", wide=True),
        Column("From", ".status.intensity.source", "Dataset or provider behind the value.", wide=True),
        Column("Unallocated", ".status.summary.unallocated", "Draw of GPUs that nobody holds.", wide=True),
    ),
)
