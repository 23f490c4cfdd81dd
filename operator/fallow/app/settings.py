"""Settings of the operator, from FALLOW_* environment variables or the options of `fallow run`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """All times in seconds."""

    model_config = SettingsConfigDict(env_prefix="FALLOW_", extra="ignore", frozen=True)

    namespace: str = Field("fallow-system", description="Namespace of the operator's own objects (the ledger)")
    prometheus_url: str = Field(
        "", description="Prometheus HTTP API (Thanos, Mimir and VictoriaMetrics serve it too); empty: direct scrape"
    )
    prometheus_headers: dict[str, str] = Field(
        default_factory=dict, description='Extra headers as JSON, for example {"X-Scope-OrgID": "gpu"}'
    )
    prometheus_token_file: Path | None = Field(None, description="File with a bearer token, read anew when it changes")
    prometheus_ca_file: Path | None = Field(None, description="CA certificates to trust for Prometheus")
    prometheus_matchers: dict[str, str] = Field(
        default_factory=dict, description='Labels that narrow every query, as JSON, for example {"cluster": "west"}'
    )
    prometheus_window: float = Field(
        120.0, gt=0, description="How far back a sample may lie; at least four times the slowest scrape interval"
    )
    prometheus_timeout: float = Field(10.0, gt=0, description="Time limit of one query")
    dcgm_port: int = Field(9400, description="Port of dcgm-exporter on each node, for direct scrape")
    agent_port: int = Field(0, description="Port of the node agent on each node, for direct scrape; 0 for none")
    gateways: tuple[str, ...] = Field(
        (),
        description="URLs of gateway metrics with waiting requests, for direct scrape and for looks between cycles, "
        "as a JSON list",
    )
    credentials_dir: Path | None = Field(
        None, description="Directory with one file per credential of a carbon provider, as a Secret is mounted"
    )
    intensity_dir: Path | None = Field(None, description="Directory with the files of GridZones with source File")
    carbon_urls: dict[str, str] = Field(
        default_factory=dict,
        description='Base URLs of carbon providers as JSON, for a proxy, for example {"WattTime": "https://proxy/wt"}',
    )
    cycle_interval: float = Field(15.0, gt=0, description="Time between two cycles")
    pulse_interval: float = Field(
        2.0,
        ge=0,
        description="Time between two looks at the queues of engines, and eight looks at those of gateways, which can "
        "bring the next cycle forward; 0 for none",
    )
    estimation_window: float = Field(120.0, gt=0, description="Window for J/token and latency quantiles")
    status_interval: float = Field(300.0, gt=0, description="How often figures in a status are renewed")
    ledger_interval: float = Field(
        300.0, gt=0, description="The longest time between two writes of the ledger; a small one is stored every cycle"
    )
    ledger_part_bytes: int = Field(
        1_000_000,
        gt=0,
        le=1_000_000,
        description="What one ConfigMap of the ledger holds; a larger ledger takes several",
    )
    resync_interval: float = Field(300.0, gt=0, description="How often watched objects are compared with a list")
    metrics_port: int = Field(9090, description="Port of the operator's own Prometheus metrics; 0 for none")
    health_port: int = Field(8080, description="Port of /healthz; 0 for none")
    leader_election: bool = Field(
        False, description="Hold a Lease while leading, so that further replicas can stand by"
    )
    max_concurrent_writes: int = Field(8, gt=0, description="API writes in flight at once")
    dry_run: bool = Field(False, description="Decide and report, but never write to workloads")
    kubeconfig: Path | None = Field(None, description="Kubeconfig to use; in a pod the ServiceAccount is used")
