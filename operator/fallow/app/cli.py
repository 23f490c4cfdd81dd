"""The command line. Each command has a file in `commands/`; those that take long to import do so when they run."""

import typer

from fallow import __version__
from fallow.app.commands.agent import agent
from fallow.app.commands.answer import approve, reject
from fallow.app.commands.audit import audit
from fallow.app.commands.estimate import estimate
from fallow.app.commands.explain import explain
from fallow.app.commands.profiles import profiles
from fallow.app.commands.report import report
from fallow.app.commands.run import run
from fallow.app.commands.settings import show_settings
from fallow.app.commands.simulate import simulate
from fallow.app.commands.twin import twin

app = typer.Typer(
    name="fallow",
    help="Lets idle GPUs rest: serves language models on Kubernetes with the least energy that keeps every promise.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run)
app.command()(audit)
app.command()(explain)
app.command()(approve)
app.command()(reject)
app.command()(estimate)
app.command()(report)
app.command()(agent)
app.command()(simulate)
app.command("settings")(show_settings)
app.add_typer(profiles)
app.add_typer(twin)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    app()
