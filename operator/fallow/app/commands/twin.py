"""`fallow twin`: what the calibrated engine model says, without a cluster."""

import csv
import io
import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fallow.domain.figures import Figure
    from fallow.twin.calibration.predict import Prediction, Query

MODEL, ENGINE, WORK = "Which model", "What it runs on", "What it does"

twin = typer.Typer(
    name="twin",
    help="The calibrated model of GPUs and engines behind the simulated fleet.",
    no_args_is_help=True,
)


class Form(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


@twin.command()
def predict(  # noqa: PLR0913 - one parameter for each option
    *,
    gpu: Annotated[str, typer.Option(help="GPU type: H100, B200, H200, A100, L40S, L4 …", rich_help_panel=ENGINE)],
    batch: Annotated[
        str, typer.Option(help="Mean numbers of running sequences: 8,64,256.", rich_help_panel=WORK)
    ] = "1,8,16,32,64,128,256",
    model: Annotated[
        str | None,
        typer.Option(help="A known model: meta-llama/Llama-3.1-8B-Instruct. Or describe it:", rich_help_panel=MODEL),
    ] = None,
    params: Annotated[str | None, typer.Option(help="Parameters: 14e9, 14B.", rich_help_panel=MODEL)] = None,
    active_params: Annotated[
        str | None,
        typer.Option(help="Parameters that one token uses; without it all of them.", rich_help_panel=MODEL),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Layers; with it the shape counts as known.", min=1, rich_help_panel=MODEL)
    ] = None,
    kv_heads: Annotated[
        int | None, typer.Option(help="Heads of the KV cache; usually 8.", min=1, rich_help_panel=MODEL)
    ] = None,
    head_dim: Annotated[
        int | None, typer.Option(help="Width of a head; usually 128.", min=1, rich_help_panel=MODEL)
    ] = None,
    experts: Annotated[
        int | None, typer.Option(help="Routed experts per layer; usually 128.", min=2, rich_help_panel=MODEL)
    ] = None,
    experts_per_token: Annotated[
        int | None, typer.Option(help="How many of them a token takes; usually 8.", min=1, rich_help_panel=MODEL)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of the weights: BF16, FP8, MXFP4, INT8, INT4. Without it BF16, or as the model is published.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    tp: Annotated[
        int,
        typer.Option("--tp", "--gpus", help="GPUs of the replica, by tensor or expert parallelism.", min=1, max=64,
                     rich_help_panel=ENGINE),
    ] = 1,
    task: Annotated[
        str | None,
        typer.Option(
            help="chat, reasoning, image, video or completion. Without it chat, or reasoning where --context is long.",
            rich_help_panel=WORK,
        ),
    ] = None,
    context: Annotated[
        float | None,
        typer.Option(help="Tokens that a running sequence holds on average; as measured without it.", min=1,
                     rich_help_panel=WORK),
    ] = None,
    output_tokens: Annotated[
        float | None,
        typer.Option(help="Mean tokens of an answer; as measured without it.", min=1, rich_help_panel=WORK),
    ] = None,
    form: Annotated[Form, typer.Option("--output", "-o", help="text, json or csv.")] = Form.TEXT,
) -> None:  # fmt: skip
    """Predict energy, power, latency and throughput of decoding in steady state, with p10 to p90 bounds.

    joules_per_token is the energy of all GPUs of the replica for an output token, with the prefill of its share of
    prompts; watts_per_gpu the mean power of each; itl_ms the median time between two tokens of an answer;
    tokens_per_second the output tokens of the whole replica. GPUs only: no host, no PUE.

    Calibrated on vLLM 0.11.1 on H100 and B200 (ML.ENERGY v3). Other GPU types are predicted from their data sheets,
    with wider bounds.

    fallow twin predict --gpu H100 --model meta-llama/Llama-3.1-8B-Instruct --batch 8,64,256

    fallow twin predict --gpu H100 --precision BF16 --tp 1 --params 14e9 --active-params 14e9 -o json
    """
    from fallow.twin.calibration.asking import Described, Unusable, Work, batches_of, query_of
    from fallow.twin.calibration.hardware import UnknownGpu
    from fallow.twin.calibration.models import UnknownModel
    from fallow.twin.calibration.predict import DoesNotFit, predicted, sequences_that_fit
    from fallow.twin.calibration.store import shipped

    described = Described(model, params, active_params, layers, kv_heads, head_dim, experts, experts_per_token)
    try:
        batches = batches_of(batch)
        query = query_of(described, Work(gpu, tp, precision, task, context, output_tokens), shipped())
        answers = predicted(shipped(), query, batches)
    except (Unusable, UnknownGpu, UnknownModel, DoesNotFit) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if form is Form.JSON:
        typer.echo(json.dumps([_plain(answer) for answer in answers], indent=2))
    elif form is Form.CSV:
        typer.echo(_csv(answers), nl=False)
    else:
        _show(answers, query)
    if max(batches) > (room := sequences_that_fit(query)):
        typer.echo(f"the KV cache holds about {room:.0f} sequences of this length: more would be preempted", err=True)


def _plain(answer: "Prediction") -> dict[str, object]:
    return {
        "batch": answer.batch,
        "joules_per_token": _ends(answer.joules_per_token),
        "watts_per_gpu": _ends(answer.watts_per_gpu),
        "itl_ms": _ends(answer.itl),
        "tokens_per_second": _ends(answer.tokens_per_second),
        "basis": str(answer.basis),
    }


def _ends(figure: "Figure[Any]") -> dict[str, float]:
    return {"low": figure.low.value, "best": figure.best.value, "high": figure.high.value}


def _csv(answers: "list[Prediction]") -> str:
    rows = []
    for answer in answers:
        row: dict[str, object] = {}
        for key, value in _plain(answer).items():
            row |= {f"{key}_{end}": each for end, each in value.items()} if isinstance(value, dict) else {key: value}
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _show(answers: "list[Prediction]", query: "Query") -> None:
    """Lines of fixed width: a table that wraps in a narrow terminal cannot be read."""
    rows = [["batch", "J/token", "W per GPU", "ITL, ms", "tokens/s"]]
    for answer in answers:
        figures = (answer.joules_per_token, answer.watts_per_gpu, answer.itl, answer.tokens_per_second)
        rows.append([f"{answer.batch:g}", *(_bounded(figure) for figure in figures)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    typer.echo(f"{query.gpus} x {query.gpu.name}, {query.precision}, {query.task}: {BASES[answers[0].basis]}")


BASES = {
    "measured": "measured on this configuration (ML.ENERGY v3, vLLM 0.11.1); bounds hold four of five rows left out.",
    "similar": "not measured: physics and similar configurations. Bounds hold four of five rows of models left out.",
    "specification": "not measured, on a GPU type without measurements; from its data sheet.",
}


def _bounded(figure: "Figure[Any]") -> str:
    low, best, high = (
        f"{end.value:.3g}" if end.value < 1000 else f"{end.value:.0f}" for end in (figure.low, figure.best, figure.high)
    )
    return f"{best} ({low}-{high})"


@twin.command("break-even")
def break_even(
    *,
    gpu: Annotated[str, typer.Option(help="GPU type: H100, A100-PCIe, L40S …")],
    load_seconds: Annotated[float, typer.Option(help="From the start of loading to ready.", min=0.1)] = 45.0,
    load_watts: Annotated[float, typer.Option(help="Mean power of the GPU meanwhile.", min=1.0)] = 300.0,
) -> None:
    """After how long without requests it is worth giving a GPU back, by what loading costs and parking draws.

    fallow twin break-even --gpu H100 --load-seconds 60 --load-watts 150
    """
    from fallow.domain.units import Seconds, Watts
    from fallow.twin.calibration.hardware import UnknownGpu, gpu_named
    from fallow.twin.physics.loading import added_energy, paper_break_even
    from fallow.twin.physics.loading import break_even as after_all
    from fallow.twin.simulation.predicting import bare_watts

    try:
        kind = gpu_named(gpu)
    except UnknownGpu as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    bare, loaded = Watts(bare_watts(kind)), Watts(kind.idle)
    parking, seconds, watts = loaded - bare, Seconds(load_seconds), Watts(load_watts)
    paper = paper_break_even(watts, seconds, parking)
    added = after_all(added_energy([watts], seconds, bare), parking)
    typer.echo(
        f"{kind.name}: {loaded.value:.1f} W loaded and idle, {bare.value:.1f} W empty:"
        f" parking costs {parking.value:.1f} W\n"
        f"a load of {load_seconds:g} s at {load_watts:g} W pays after {added:.0f} s without requests"
        f" ({paper:.0f} s by the rule of arXiv 2605.23918, which charges the empty GPU's power to the load too)"
    )
