"""Every kind of source by the name that a GridZone gives it, and how often each is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kubernetes.aio.client import ApiClient

from fallow.adapters.carbon import electricity_maps, uk_carbon_intensity, watttime
from fallow.adapters.carbon.configmap import ConfigMapCarbon
from fallow.adapters.carbon.credentials import Credentials
from fallow.adapters.carbon.dataset import DatasetCarbon
from fallow.adapters.carbon.electricity_maps import ElectricityMapsCarbon
from fallow.adapters.carbon.file import FileCarbon
from fallow.adapters.carbon.prometheus import PrometheusCarbon
from fallow.adapters.carbon.router import Cadence
from fallow.adapters.carbon.series import PrometheusSeries
from fallow.adapters.carbon.static import StaticCarbon
from fallow.adapters.carbon.uk_carbon_intensity import UKCarbonIntensity
from fallow.adapters.carbon.watttime import WattTimeCarbon
from fallow.domain.figures import Missing
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.domain.zones import Forecast, Intensity, IntensitySource, Ratio
from fallow.ports import CarbonSource

# Electricity Maps is hourly and the British API half-hourly; WattTime changes every five minutes
CADENCES = {
    "ElectricityMaps": Cadence(Seconds(900), Seconds(3600)),
    "WattTime": Cadence(Seconds(300), Seconds(1800)),
    "UKCarbonIntensity": Cadence(Seconds(900), Seconds(1800)),
    "ConfigMap": Cadence(forecast=Seconds(300)),
    # costs nothing, and its points follow each other
    "File": Cadence(intensity=Seconds(0)),
}


class NotConfigured:
    """Stands for a source that this operator was not given; says what to set."""

    def __init__(self, what: str) -> None:
        self._what = what

    async def intensity(self, now: Instant, source: IntensitySource) -> Intensity | Missing:  # noqa: ARG002 - the port's shape
        return Missing(Reason.NO_INTENSITY, f"a {source.kind} source needs {self._what}")

    async def forecast(self, now: Instant, source: IntensitySource) -> Forecast | Missing:  # noqa: ARG002
        return Missing(Reason.NO_FORECAST, f"a {source.kind} source needs {self._what}")

    async def pue(self, now: Instant, query: str) -> Ratio | Missing:  # noqa: ARG002
        return Missing(Reason.NO_SERIES, f"a PUE from a series needs {self._what}")


NO_PROMETHEUS = NotConfigured("a Prometheus: set the operator's prometheus URL")


def carbon_sources(
    series: PrometheusSeries | None,
    api: ApiClient | None = None,
    *,
    credentials: Path | None = None,
    files: Path | None = None,
    urls: Mapping[str, str] | None = None,
) -> dict[str, CarbonSource]:
    """`credentials` and `files` are directories; `urls` replaces the base URL of a provider by its kind."""
    secrets, base = Credentials(credentials), urls or {}
    return {
        "Static": StaticCarbon(),
        "Dataset": DatasetCarbon(),
        "Prometheus": PrometheusCarbon(series) if series else NO_PROMETHEUS,
        "ConfigMap": ConfigMapCarbon(api) if api else NotConfigured("an API server to read ConfigMaps from"),
        "File": FileCarbon(files) if files else NotConfigured("a directory: set FALLOW_INTENSITY_DIR"),
        "ElectricityMaps": ElectricityMapsCarbon(secrets, url=base.get("ElectricityMaps", electricity_maps.URL)),
        "WattTime": WattTimeCarbon(secrets, url=base.get("WattTime", watttime.URL)),
        "UKCarbonIntensity": UKCarbonIntensity(url=base.get("UKCarbonIntensity", uk_carbon_intensity.URL)),
    }
