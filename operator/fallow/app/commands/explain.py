"""`fallow explain`: why a service runs what it runs."""

import asyncio
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


class Form(StrEnum):
    TEXT = "text"
    JSON = "json"


def explain(
    service: Annotated[str, typer.Argument(help="The InferenceService.", metavar="NAMESPACE/NAME")],
    *,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig to use.", envvar="KUBECONFIG")] = None,
    context: Annotated[str | None, typer.Option(help="Context in it; without it the current.")] = None,
    form: Annotated[Form, typer.Option("--output", "-o", help="text, or the status as json.")] = Form.TEXT,
) -> None:
    """Why a service runs what it runs: the reason with numbers, what holds less back, load, costs, last changes.

    It reads the object's status and asks for nothing else, so it tells what the operator knew when it last wrote.

    Example: fallow explain llm/chat
    """
    from fallow.app.explaining import explained
    from fallow.domain.errors import WriteError

    namespace, _, name = service.partition("/")
    if not namespace or not name or "/" in name:
        _refuse(f"{service!r} names no service: write NAMESPACE/NAME, such as llm/chat", code=2)
    try:
        found = asyncio.run(_read(namespace, name, kubeconfig, context))
    except ValueError as error:
        _refuse(str(error), code=2)
    except WriteError as error:
        _refuse(f"Kubernetes cannot be asked: {error}", code=1)
    if found is None:
        _refuse(f"there is no InferenceService {name} in {namespace}: kubectl get inferenceservices.fallow.dev -A", 1)
    if form is Form.JSON:
        typer.echo(json.dumps(found.get("status") or {}, indent=2))
        return
    try:
        typer.echo(explained(found), nl=False)
    except ValueError as error:
        _refuse(f"the status of {service} is not of this version of Fallow: {error}", code=1)


async def _read(namespace: str, name: str, kubeconfig: Path | None, context: str | None) -> dict[str, Any] | None:
    from fallow.adapters.cluster.client import KubernetesApi
    from fallow.adapters.cluster.connecting import connected

    client = await connected(kubeconfig, context)
    try:
        path = f"/apis/fallow.dev/v1alpha1/namespaces/{namespace}/inferenceservices/{name}"
        return await KubernetesApi(client).get(path)
    finally:
        await client.close()  # type: ignore[no-untyped-call]  # the client leaves it untyped


def _refuse(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
