"""Where a GridZone's carbon intensity comes from: one member for each source, and what stands in for it."""

from typing import Annotated, Literal

from pydantic import Field

from fallow.api.formats import DnsLabel, DnsSubdomain, Format
from fallow.api.model import ApiModel, Rule

ZONE_CODE = Format(
    r"^[A-Z]{2,3}(-[A-Z0-9]{1,6}){0,3}$",
    "must be a zone such as DE, FR or US-CAL-CISO: an ISO country code, where needed with the grid area",
)
WATTTIME_REGION = Format(
    r"^[A-Z][A-Z0-9_]*$", "must be a region of WattTime such as CAISO_NORTH: capital letters, digits and '_'"
)
SECRET_KEY = Format(
    r"^[-._a-zA-Z0-9]*[-_a-zA-Z0-9]$",
    "must be one name of letters, digits, '-', '_' and '.', such as electricity-maps, without directories",
)
Credential = Annotated[str, Field(min_length=1, max_length=253), SECRET_KEY]


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


Signal = Literal["average", "marginal"]
SIGNAL = "A marginal intensity is shown and never counted as emissions."


class PrometheusIntensity(ApiModel):
    """A series in the Prometheus that Fallow reads, such as grid-intensity-go's."""

    query: Annotated[str, Field(min_length=1, max_length=2048)] = Field(
        description="PromQL that gives one sample in gCO2e per kWh; older than two hours it counts as not known."
    )
    signal: Signal = Field(default="average", description=f"What the series measures. {SIGNAL}")


class ConfigMapIntensity(ApiModel):
    """A key of a ConfigMap that somebody else keeps up to date."""

    namespace: DnsLabel = Field(description="Namespace of the ConfigMap.")
    name: DnsSubdomain = Field(description="Name of the ConfigMap.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        default="gramsPerKWh",
        description="Key whose value is the intensity in gCO2e per kWh: a plain number, or a forecast as CSV with the "
        "header time,gramsPerKWh or as a JSON list of objects with these fields, of which the entry for now holds.",
    )
    signal: Signal = Field(default="average", description=f"What the numbers measure. {SIGNAL}")


class FileIntensity(ApiModel):
    """A file in the operator's directory for intensities, which somebody else keeps up to date."""

    name: Annotated[str, Field(min_length=1, max_length=253), SECRET_KEY] = Field(
        description="Name of the file, without directories. Its content is as under configMap.key."
    )
    signal: Signal = Field(default="average", description=f"What the numbers measure. {SIGNAL}")


class ElectricityMapsIntensity(ApiModel):
    """Electricity Maps: the average intensity of a zone, and its forecast where the plan includes it."""

    zone: Annotated[str, Field(min_length=2, max_length=32), ZONE_CODE] = Field(
        description="Zone of Electricity Maps, such as DE or US-CAL-CISO."
    )
    credential: Credential = Field(
        default="electricity-maps", description="Key of the operator's credentials Secret that holds the API key."
    )


class WattTimeIntensity(ApiModel):
    """WattTime: the marginal intensity of a region with its forecast, or its average, which comes late."""

    region: Annotated[str, Field(min_length=1, max_length=64), WATTTIME_REGION] = Field(
        description="Region of WattTime, such as CAISO_NORTH, the one that is free."
    )
    signal: Signal = Field(
        default="marginal",
        description=f"co2_moer for marginal, co2_aoer (needs factorType: direct) for average. {SIGNAL}",
    )
    credential: Credential = Field(
        default="watttime", description="Key of the operator's credentials Secret that holds name:password."
    )


class UKCarbonIntensity(ApiModel):
    """The Carbon Intensity API of Great Britain: half-hours, with a forecast, without a key."""

    region: int | None = Field(
        default=None,
        ge=1,
        le=17,
        description="Region, 1 (North Scotland) to 17 (Wales); regions have forecasts only. Absent: Great Britain.",
    )


SourceName = Literal[
    "Static", "Dataset", "Prometheus", "ConfigMap", "File", "ElectricityMaps", "WattTime", "UKCarbonIntensity"
]
# the member that describes each source, as in YAML and in Python
MEMBERS = {
    "Static": ("static", "static"),
    "Dataset": ("dataset", "dataset"),
    "Prometheus": ("prometheus", "prometheus"),
    "ConfigMap": ("configMap", "config_map"),
    "File": ("file", "file"),
    "ElectricityMaps": ("electricityMaps", "electricity_maps"),
    "WattTime": ("wattTime", "watt_time"),
    "UKCarbonIntensity": ("ukCarbonIntensity", "uk_carbon_intensity"),
}
_WITH_SIGNAL = ("prometheus", "configMap", "file", "wattTime")


def _member_rule(source: str) -> Rule:
    member, attribute = MEMBERS[source]
    return Rule(
        f"(self.source == '{source}') == has(self.{member})",
        lambda i: (i.source == source) == (getattr(i, attribute) is not None),
        f"{member} must be given when source is {source}, and only then",
        f".{member}",
    )


def marginal_rule(source: str) -> str:
    """CEL: whether the source at this path measures a marginal intensity."""
    return " || ".join(f"(has({source}.{part}) && {source}.{part}.signal == 'marginal')" for part in _WITH_SIGNAL)


class Source(ApiModel):
    """Exactly one source, named by source and described in the member of that name."""

    rules = tuple(_member_rule(source) for source in MEMBERS)

    source: SourceName = Field(description="Where the intensity comes from; the member of that name says how.")
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
    file: FileIntensity | None = Field(
        default=None, description="A file that somebody else keeps up to date. Absent: another source."
    )
    electricity_maps: ElectricityMapsIntensity | None = Field(
        default=None, description="Electricity Maps, average, with a key. Absent: another source."
    )
    watt_time: WattTimeIntensity | None = Field(
        default=None, description="WattTime, marginal, with a login. Absent: another source."
    )
    uk_carbon_intensity: UKCarbonIntensity | None = Field(
        default=None,
        description="Great Britain's Carbon Intensity API, average, needs factorType: direct. Absent: another source.",
    )

    @property
    def member(self) -> ApiModel:
        """The member that `source` names."""
        found: ApiModel = getattr(self, MEMBERS[self.source][1])
        return found

    @property
    def signal(self) -> str:
        return str(getattr(self.member, "signal", "average"))


class IntensitySource(Source):
    """The source that is preferred, and those that stand in for it."""

    rules = (
        *Source.rules,
        Rule(
            f"!has(self.fallbacks) || self.fallbacks.all(f, ({marginal_rule('f')}) == ({marginal_rule('self')}))",
            lambda i: all(fallback.signal == i.signal for fallback in i.fallbacks),
            "fallbacks must have the signal of the source that they stand in for; average and marginal are never mixed",
            ".fallbacks",
        ),
    )

    fallbacks: Annotated[list[Source], Field(max_length=4)] = Field(
        default=[],
        description="Sources that stand in, in this order, when the one above has no live value, none from the last "
        "two hours and no forecast for now. The status says which one is in use and why.",
    )


def stacks_only_rule(source: str) -> str:
    """CEL: whether the source at this path counts the power plants' stacks only."""
    return (
        f"{source}.source == 'UKCarbonIntensity' || (has({source}.wattTime) && {source}.wattTime.signal == 'average')"
    )


def counts_stacks_only(source: Source) -> bool:
    return source.source == "UKCarbonIntensity" or (source.source == "WattTime" and source.signal == "average")
