"""`fallow explain`: why a service runs what it runs."""

import asyncio
import json
from enum import StrEnum
from typing import Annotated

import typer

from fallow.app.commands.words import Context, Kubeconfig, Named


class Form(StrEnum):
    TEXT = "text"
    JSON = "json"


def explain(
    service: Named,
    *,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    form: Annotated[Form, typer.Option("--output", "-o", help="text, or the status as json.")] = Form.TEXT,
) -> None:
    """Why a service runs what it runs: the reason with numbers, what holds less back, load, costs, last changes.

    It reads the object's status and asks for nothing else, so it tells what the operator knew when it last wrote.

    Example: fallow explain llm/chat
    """
    from fallow.app.declared import Access, Refusal, read
    from fallow.app.explaining import explained

    try:
        found = asyncio.run(read(service, Access(kubeconfig, context)))
        text = explained(found) if form is Form.TEXT else json.dumps(found.get("status") or {}, indent=2) + "\n"
    except Refusal as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(refusal.code) from refusal
    typer.echo(text, nl=False)
