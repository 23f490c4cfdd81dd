"""`fallow audit`: which GPUs of a cluster are wasted, by whom, and what that costs; it only reads."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fallow.app.audit.options import Form, Sort, View, Way

if TYPE_CHECKING:
    from fallow.footprint.audit.report import Audit

LOOK, ACCESS, COST, OUTPUT = "Where and how long to look", "Access to Prometheus", "What a kWh costs", "Output"


def audit(  # noqa: PLR0913 - one parameter for each option
    *,
    prometheus_url: Annotated[
        str,
        typer.Option(
            help="Prometheus HTTP API with dcgm-exporter's series, and vLLM's where it serves."
            " Without it the cluster is watched for a while.",
            envvar="FALLOW_PROMETHEUS_URL",
            rich_help_panel=LOOK,
        ),
    ] = "",
    window: Annotated[
        str, typer.Option(help="How far to look back: 1h, 24h, 7d. With Prometheus.", rich_help_panel=LOOK)
    ] = "24h",
    until: Annotated[
        str, typer.Option(help="Where the window ends: 2026-03-01T12:00, in UTC; without it now.", rich_help_panel=LOOK)
    ] = "",
    watch: Annotated[
        str,
        typer.Option(help="How long to watch without Prometheus; best a multiple of 30s.", rich_help_panel=LOOK),
    ] = "60s",
    scrape: Annotated[
        Way,
        typer.Option(
            help="Without Prometheus: pods and nodes at their own addresses (direct), or by the API server (proxy);"
            " auto is direct in a pod, else proxy.",
            rich_help_panel=LOOK,
        ),
    ] = Way.AUTO,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace", "-n", help="Holders in this namespace only; may be repeated.", rich_help_panel=LOOK
        ),
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig to use.", envvar="KUBECONFIG", rich_help_panel=LOOK)
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Context in it; without it the current.", rich_help_panel=LOOK)
    ] = None,
    dcgm_port: Annotated[
        int, typer.Option(help="Port of dcgm-exporter, without Prometheus.", min=1, max=65535, rich_help_panel=LOOK)
    ] = 9400,
    matcher: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=VALUE, a label that every series must carry, such as cluster=west; may be repeated.",
            rich_help_panel=ACCESS,
        ),
    ] = None,
    prometheus_header: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, such as X-Scope-OrgID=gpu; may be repeated.", rich_help_panel=ACCESS),
    ] = None,
    prometheus_token_file: Annotated[
        Path | None, typer.Option(help="File with a bearer token.", rich_help_panel=ACCESS)
    ] = None,
    prometheus_ca_file: Annotated[
        Path | None, typer.Option(help="CA certificates to trust.", rich_help_panel=ACCESS)
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that one query may take.", min=1, max=600, rich_help_panel=ACCESS)
    ] = 60.0,
    price_per_kwh: Annotated[
        float | None, typer.Option(help="Price of electricity: 0.30.", min=0, rich_help_panel=COST)
    ] = None,
    currency: Annotated[str, typer.Option(help="Of the price: EUR.", rich_help_panel=COST)] = "",
    intensity: Annotated[
        str, typer.Option(help="Carbon intensity: 340, 0.34kg/kWh, 300:380 (g CO2e/kWh).", rich_help_panel=COST)
    ] = "",
    zone: Annotated[
        str,
        typer.Option(help="Instead: a zone of the shipped yearly dataset: DE, FR, US-CAL-CISO.", rich_help_panel=COST),
    ] = "",
    pue: Annotated[
        str,
        typer.Option(help="Power usage effectiveness: 1.2, 1.1:1.3; without it 1.08:1.2:1.58.", rich_help_panel=COST),
    ] = "",
    form: Annotated[
        Form, typer.Option("--output", "-o", help="text, json or csv.", rich_help_panel=OUTPUT)
    ] = Form.TEXT,
    top: Annotated[
        int, typer.Option(help="GPUs and findings to list as text; 0 for all.", min=0, rich_help_panel=OUTPUT)
    ] = 20,
    sort: Annotated[Sort, typer.Option(help="Order of the GPUs as text.", rich_help_panel=OUTPUT)] = Sort.WASTE,
    min_waste: Annotated[
        float, typer.Option(help="Leave out what wastes less than so many kWh a day.", min=0, rich_help_panel=OUTPUT)
    ] = 0.0,
) -> None:
    """Show every GPU of a cluster, who holds it, and how much of its energy is wasted.

    It lists and reads, and writes nothing; no custom resource is needed. Any pod with a GPU is seen: vLLM, KServe,
    notebooks, training. Each GPU's energy is divided into useful, under-filled, loaded-idle, spinning, unallocated and
    standby; whoever wastes is told with evidence and with how sure that is. What could not be seen is told too.

    Example: fallow audit --prometheus-url http://localhost:9090 --window 7d --zone DE --price-per-kwh 0.30
    """
    from fallow.adapters.metrics.prometheus_api import Access
    from fallow.app.audit import inputs
    from fallow.app.audit.look import Where, run_audit
    from fallow.domain.errors import WriteError
    from fallow.domain.units import Seconds

    try:
        where = Where(
            kubeconfig=kubeconfig,
            context=context,
            prometheus_url=prometheus_url,
            access=Access(
                headers=inputs.pairs("prometheus-header", prometheus_header),
                token_file=prometheus_token_file,
                ca_file=prometheus_ca_file,
            ),
            matchers=inputs.pairs("matcher", matcher),
            timeout=Seconds(timeout),
            way=scrape,
            watch=inputs.seconds("watch", watch, inputs.WATCH),
            dcgm_port=dcgm_port,
        )
        rates = inputs.rates(price=price_per_kwh, currency=currency, intensity=intensity, zone=zone, pue=pue)
        length, end = inputs.seconds("window", window, inputs.WINDOW), inputs.instant("until", until)
        look = run_audit(where, rates, window=length, until=end, namespaces=tuple(namespace or ()), told=_tell)
        found = asyncio.run(look)
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    except WriteError as error:
        typer.echo(f"Kubernetes cannot be asked: {error}", err=True)
        raise typer.Exit(1) from error
    _print(found, form, View(top, sort, min_waste))
    if not found.lines:
        typer.echo("no GPU was seen", err=True)
        raise typer.Exit(1)


def _tell(progress: str) -> None:
    typer.echo(f"fallow audit: {progress}", err=True)


def _print(found: "Audit", form: Form, view: View) -> None:
    from fallow.app.audit import plain, screen

    if form is Form.JSON:
        typer.echo(json.dumps(plain.as_json(found), indent=2, allow_nan=False))
    elif form is Form.CSV:
        typer.echo(plain.as_csv(found), nl=False)
    else:
        screen.show(found, view)
