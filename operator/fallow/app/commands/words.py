"""Arguments that several commands have, in the same words."""

from pathlib import Path
from typing import Annotated

import typer

Named = Annotated[str, typer.Argument(help="The InferenceService.", metavar="NAMESPACE/NAME")]
Kubeconfig = Annotated[Path | None, typer.Option(help="Kubeconfig to use.", envvar="KUBECONFIG")]
Context = Annotated[str | None, typer.Option(help="Context in it; without it the current.")]
