"""`fallow run`: the operator, as the chart starts it."""

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError


def run(
    *,
    kubeconfig: Annotated[
        Path | None, typer.Option(help="Kubeconfig to use; in a pod the ServiceAccount is used.", envvar="KUBECONFIG")
    ] = None,
    prometheus_url: Annotated[
        str, typer.Option(help="Prometheus HTTP API; without it vLLM and dcgm-exporter are scraped directly.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide and report, never write to workloads.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also log what the libraries do.")] = False,
) -> None:
    """Run the operator until stopped. Every other setting is a FALLOW_* variable: see `fallow settings`."""
    from fallow.app.settings import Settings

    chosen: dict[str, object] = {}
    if kubeconfig is not None:
        chosen["kubeconfig"] = kubeconfig
    if prometheus_url:
        chosen["prometheus_url"] = prometheus_url
    if dry_run:
        chosen["dry_run"] = True
    try:
        settings = Settings(**chosen)  # type: ignore[arg-type]  # pydantic checks each value
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            typer.echo(f"FALLOW_{name}: {fault['msg']} (got {fault['input']!r})", err=True)
        raise typer.Exit(2) from error
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    from fallow.app.main import serve

    try:
        asyncio.run(serve(settings))
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
