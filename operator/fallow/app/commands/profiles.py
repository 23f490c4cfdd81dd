"""`fallow profiles`: what a cluster learned of models on its GPUs, to take along."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fallow.app.commands.words import Context, Kubeconfig

if TYPE_CHECKING:
    from fallow.app.declared import Access

profiles = typer.Typer(
    name="profiles",
    help="What was learned of models on GPUs: ModelProfiles to take along.",
    no_args_is_help=True,
)


class Form(StrEnum):
    YAML = "yaml"
    JSON = "json"


@profiles.callback()
def _group() -> None:
    """Keep `export` a command of its own while it is the only one."""


@profiles.command()
def export(
    names: Annotated[
        list[str] | None, typer.Argument(help="ModelProfiles; without one, all that have learned points.")
    ] = None,
    *,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    cluster: Annotated[
        str, typer.Option(help="What the references call this cluster; without it its context in the kubeconfig.")
    ] = "",
    form: Annotated[Form, typer.Option("--output", "-o", help="yaml, or a List as json.")] = Form.YAML,
    file: Annotated[Path | None, typer.Option(help="Write it to this file instead of the terminal.")] = None,
) -> None:
    """What this cluster learned, as ModelProfile manifests with source: Learned, so that another one starts warm.

    Declared points stay and go on sizing replicas; each learned point says where and when it was measured and prices
    energy until the other cluster has measured for itself. It only reads.

    Example: fallow profiles export -o yaml | kubectl --context other apply -f -
    """
    from datetime import UTC, datetime

    from fallow.app.declared import Access, Refusal
    from fallow.app.exporting import as_json, as_yaml, exported

    access = Access(kubeconfig, context)
    try:
        bodies = asyncio.run(_bodies(access))
        found = exported(bodies, names or [], cluster or _called(access), f"{datetime.now(UTC):%Y-%m-%d}")
    except Refusal as refusal:
        typer.echo(str(refusal), err=True)
        raise typer.Exit(refusal.code) from refusal
    for one in found:
        for words in one.left_out:
            typer.echo(f"left out of {words}", err=True)
    text = as_yaml(found) if form is Form.YAML else as_json(found)
    if file is None:
        typer.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")
        typer.echo(f"written to {file}", err=True)


async def _bodies(access: "Access") -> list[dict[str, Any]]:
    from fallow.adapters.cluster.client import KubernetesApi
    from fallow.api.model_profile import MODEL_PROFILE
    from fallow.api.objects import API_VERSION
    from fallow.app.declared import ask

    async def question(api: KubernetesApi) -> list[dict[str, Any]]:
        path = f"/apis/{API_VERSION}/{MODEL_PROFILE.plural}"
        return [body async for page in api.pages(path) for body in page]

    return await ask(access, question)


def _called(access: "Access") -> str:
    from fallow.adapters.cluster.connecting import context_name

    return context_name(access.kubeconfig, access.context) or "a cluster"
