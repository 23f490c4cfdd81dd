"""`fallow estimate`: energy, water and carbon of a class of queries, without a cluster."""

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fallow.app.query.answer import Answer, Sampling

QUERY, NODE, SITE, SAMPLES, MADE, TABLES = (
    "How long a query takes",
    "What answers it",
    "Where it stands",
    "Where only quantiles of time are known",
    "Manufacture and units (SCI, ISO/IEC 21031)",
    "Many queries, and output",
)


class Form(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


def estimate(  # noqa: PLR0913 - one parameter for each option
    *,
    latency: Annotated[
        str | None, typer.Option(help="Time of the whole answer: 12.5s, 250ms, 1.5min.", rich_help_panel=QUERY)
    ] = None,
    ttft: Annotated[
        str | None,
        typer.Option(help="Instead: time to the first token, with --tps and --output-tokens.", rich_help_panel=QUERY),
    ] = None,
    tps: Annotated[str | None, typer.Option(help="Tokens per second after the first.", rich_help_panel=QUERY)] = None,
    output_tokens: Annotated[
        str | None, typer.Option(help="Tokens of the answer: 300, 1.5k.", rich_help_panel=QUERY)
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            help="Instead of time and power: energy of the computers, before PUE: 0.4Wh, 1.2kWh, 1500J.",
            rich_help_panel=QUERY,
        ),
    ] = None,
    gpu_power: Annotated[
        str | None, typer.Option(help="Rated power of the node's GPUs: 5.6kW.", rich_help_panel=NODE)
    ] = None,
    gpu_utilization: Annotated[
        str | None, typer.Option(help="Share of it that one query takes: 0.055:0.075.", rich_help_panel=NODE)
    ] = None,
    host_power: Annotated[
        str | None, typer.Option(help="Rated power of the rest of the node: 4.6kW.", rich_help_panel=NODE)
    ] = None,
    host_utilization: Annotated[
        str | None, typer.Option(help="Share of it that one query takes: 0.0625.", rich_help_panel=NODE)
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(
            help="Preset of both powers, for a node of eight: h100, h200, h800, a100, tpu-v6e.", rich_help_panel=NODE
        ),
    ] = None,
    hardware_class: Annotated[
        str | None,
        typer.Option(
            help="Preset of both shares, by size of the model: large, medium, small, micro, nano.", rich_help_panel=NODE
        ),
    ] = None,
    pue: Annotated[str | None, typer.Option(help="Power usage effectiveness: 1.12.", rich_help_panel=SITE)] = None,
    wue_site: Annotated[
        str | None, typer.Option(help="Water consumed on site, L per kWh of the computers: 0.30.", rich_help_panel=SITE)
    ] = None,
    wue_source: Annotated[
        str | None,
        typer.Option(help="Water consumed by the power plants, L per kWh of the facility: 4.35.", rich_help_panel=SITE),
    ] = None,
    intensity: Annotated[
        str | None,
        typer.Option(help="Carbon intensity of the electricity, gCO2e/kWh: 340, 0.34kg/kWh.", rich_help_panel=SITE),
    ] = None,
    provider: Annotated[
        str | None,
        typer.Option(
            help="Preset of these four, and of --hardware: azure, openai, aws, anthropic, meta, deepseek, google, xai.",
            rich_help_panel=SITE,
        ),
    ] = None,
    zone: Annotated[
        str | None,
        typer.Option(
            help="Intensity and water at the source of a zone of the shipped yearly dataset: DE, US, FR.",
            rich_help_panel=SITE,
        ),
    ] = None,
    monte_carlo: Annotated[
        bool,
        typer.Option(
            "--monte-carlo",
            help="Draw every query from these quantiles; giving them is enough.",
            rich_help_panel=SAMPLES,
        ),
    ] = False,
    ttft_quantiles: Annotated[
        str | None, typer.Option(help="Time to the first token as p5:p25:p50:p75:p95.", rich_help_panel=SAMPLES)
    ] = None,
    tps_quantiles: Annotated[
        str | None, typer.Option(help="Tokens per second as p5:p25:p50:p75:p95.", rich_help_panel=SAMPLES)
    ] = None,
    draws: Annotated[
        int, typer.Option(help="How many draws.", min=100, max=10_000_000, rich_help_panel=SAMPLES)
    ] = 10_000,
    seed: Annotated[
        int, typer.Option(help="The same seed gives the same figures.", min=0, rich_help_panel=SAMPLES)
    ] = 0,
    correlation: Annotated[
        float, typer.Option(help="Of time to first token and rate.", min=-1.0, max=1.0, rich_help_panel=SAMPLES)
    ] = -0.3,
    embodied: Annotated[
        str | None,
        typer.Option(
            help="What making the hardware emitted: 1205kg. Adds embodied_g, and total_g with the operational carbon.",
            rich_help_panel=MADE,
        ),
    ] = None,
    held: Annotated[
        str | None,
        typer.Option(
            help="How long the hardware is reserved for the query; without it as long as the query takes.",
            rich_help_panel=MADE,
        ),
    ] = None,
    life: Annotated[
        str | None,
        typer.Option(help="How long the hardware lasts: 4y, 3y:6y, 35040h; without it 3y:4y:6y.", rich_help_panel=MADE),
    ] = None,
    share: Annotated[
        str | None,
        typer.Option(help="Share of the hardware that is reserved: 2/16, 12.5%; without it all.", rich_help_panel=MADE),
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(
            help="Divide every figure by so many functional units (R): 300 tokens, 50e9.", rich_help_panel=MADE
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="A query a row; the header names these options, - is stdin. Options given here fill empty cells."
            " Columns expect-energy-wh, expect-water-ml and expect-carbon-g are compared with.",
            rich_help_panel=TABLES,
        ),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option(
            help="Where best lies between low and high: mean, low, high or a number from 0 to 1. Without it the mean,"
            " or what the best inputs give where an input is low:best:high.",
            rich_help_panel=TABLES,
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="JSON and CSV: add every input and its source.", rich_help_panel=TABLES)
    ] = False,
    form: Annotated[
        Form, typer.Option("--output", "-o", help="text, json or csv.", rich_help_panel=TABLES)
    ] = Form.TEXT,
) -> None:
    """Estimate energy, water and carbon of one query, with bounds.

    energy E = time x (GPU power x share + host power x share) x PUE

    water = E / PUE x WUE on site + E x WUE at the source

    carbon = E x intensity

    The formulas and presets are those of Jegham et al. 2025, arXiv 2505.09598. Nothing is measured here: the figures
    are as good as what goes in. Every quantity may be a range low:high or low:best:high. An option wins over a preset,
    and every preset and assumption that was used is listed below the table.

    Example: fallow estimate --provider azure --hardware-class large --ttft 0.45s --tps 80 --output-tokens 300
    """
    given = {
        name.replace("_", "-"): value
        for name, value in locals().items()
        if isinstance(value, str) and name not in ("table", "form")
    }
    from fallow.app.query.answer import Sampling
    from fallow.app.query.inputs import Unusable
    from fallow.app.query.quantities import UnreadableError

    try:
        sampling = Sampling(draws, seed, correlation, always=monte_carlo)
        answers = _answers(table, given, sampling)
    except UnreadableError as error:
        option = f"--{error.option} " if isinstance(error, Unusable) else ""
        typer.echo(f"{option}{error}", err=True)
        raise typer.Exit(2) from error
    _print(answers, form, many=table is not None, explain=explain)


def _answers(table: str | None, given: Mapping[str, str], sampling: "Sampling") -> "list[Answer]":
    from fallow.app.query.answer import answered
    from fallow.app.query.inputs import Unusable
    from fallow.app.query.rows import answers_of, rows_of

    if table is None:
        return [answered(given, sampling)]
    try:
        text = sys.stdin.read() if table == "-" else Path(table).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable("csv", f"cannot read {table}: {error}; give a CSV file, or - for stdin") from error
    return answers_of(rows_of(text.splitlines()), given, sampling)


def _print(answers: "list[Answer]", form: Form, *, many: bool, explain: bool) -> None:
    from fallow.app.query import tables

    if form is Form.JSON:
        plain = [tables.as_json(answer, explain=explain) for answer in answers]
        typer.echo(json.dumps(plain if many else plain[0], indent=2))
    elif form is Form.CSV:
        typer.echo(tables.as_csv(answers, explain=explain), nl=False)
    else:
        tables.show(tables.many_table(answers) if many else tables.one_table(answers[0]))
    if form is not Form.TEXT and (worst := tables.worst_error(answers)):
        typer.echo(worst, err=True)
