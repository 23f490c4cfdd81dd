"""`fallow approve` and `fallow reject`: a person's word on what a policy in mode Recommend proposes."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from fallow.app.commands.words import Context, Kubeconfig, Named

Name = Annotated[
    str | None, typer.Argument(help="Name of the proposal; without it the present one.", metavar="PROPOSAL")
]


def approve(service: Named, proposal: Name = None, *, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Let what is proposed for a service happen, once.

    It sets the annotation fallow.dev/approve on the InferenceService to the proposal's name, which fallow explain and
    status.proposal tell; GitOps may set it as well. Where something else is proposed by then, nothing happens.

    Example: fallow approve llm/chat
    """
    _answer(service, proposal, kubeconfig, context, approve=True)


def reject(service: Named, proposal: Name = None, *, kubeconfig: Kubeconfig = None, context: Context = None) -> None:
    """Decline what is proposed for a service: it is not proposed again until something else was.

    It sets the annotation fallow.dev/reject on the InferenceService to the proposal's name.

    Example: fallow reject llm/chat
    """
    _answer(service, proposal, kubeconfig, context, approve=False)


def _answer(service: str, name: str | None, kubeconfig: Path | None, context: str | None, *, approve: bool) -> None:
    from fallow.app.declared import Access, Refusal, answer
    from fallow.app.explaining import saved

    try:
        one = asyncio.run(answer(service, name, Access(kubeconfig, context), approve=approve))
    except Refusal as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(refusal.code) from refusal
    if not approve:
        typer.echo(f"rejected {one.id} for {service}: {one.what}")
        return
    typer.echo(f"approved {one.id} for {service}: {one.what}{saved(one)}")
    if not one.stands:
        typer.echo("it is not proposed just now; it happens when it is again")
