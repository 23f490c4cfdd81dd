"""`fallow simulate`: what policies and other autoscalers would do with a week of traffic."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from fallow.app.simulation.assembling import Assembled
    from fallow.app.simulation.running import How
    from fallow.app.simulation.scenario import Scenario
    from fallow.app.simulation.traffic import Past


class Form(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"


def simulate(  # noqa: PLR0913 - one parameter for each option
    scenario: Annotated[Path, typer.Argument(help="The scenario: docs/samples/simulation/week.yaml is one.")],
    *,
    compare: Annotated[
        str, typer.Option(help="Others on the same work: hpa,strong … or all; none for Fallow alone.")
    ] = "static-70,hpa,strong",
    days: Annotated[float | None, typer.Option(help="Only so many days, instead of the scenario's.", min=0.01)] = None,
    seed: Annotated[int | None, typer.Option(help="Another draw of traffic and starts.", min=0)] = None,
    from_prometheus: Annotated[
        str, typer.Option(help="Replay what vLLM served, from this Prometheus HTTP API, instead of traffic.")
    ] = "",
    last: Annotated[str, typer.Option(help="How much of it, up to now: 7d, 12h.")] = "7d",
    cycle: Annotated[int, typer.Option(help="Seconds between two of Fallow's cycles.", min=5, max=300)] = 15,
    parts: Annotated[
        int, typer.Option(help="Deal many services out to so many processes, with nodes of their own.", min=1, max=64)
    ] = 1,
    as_declared: Annotated[
        bool, typer.Option(help="Leave policies in the mode they are in; else each is taken as enforced.")
    ] = False,
    levers: Annotated[bool, typer.Option(help="Also run Fallow without each lever: what it saves.")] = False,
    form: Annotated[Form, typer.Option("--output", "-o", help="How it is printed.")] = Form.TEXT,
    html: Annotated[Path | None, typer.Option(help="Also write a page with charts to this file.")] = None,
) -> None:
    """Replays traffic on a simulated fleet, with the decisions that Fallow would take and those of other autoscalers.

    The fleet is calibrated on published measurements (docs/twin.md); the decisions are the operator's own code.

    fallow simulate docs/samples/simulation/week.yaml --days 1 --compare hpa,keda --html week.html
    """
    from fallow.app.simulation.assembling import assembled
    from fallow.app.simulation.running import How, levers_of
    from fallow.app.simulation.scenario import ScenarioError, read_scenario
    from fallow.twin.simulation.setup import SetupError

    try:
        written = read_scenario(scenario)
        changed = {name: value for name, value in (("days", days), ("seed", seed)) if value is not None}
        written = written.model_copy(update=changed)
        past = _past(from_prometheus, last) if from_prometheus else None
        one = assembled(written, scenario.parent, past)
        how = How(written.seed, every=cycle, parts=parts, without=levers_of(one.declared) if levers else ())
        _simulate(written, one, _names(compare), how, as_declared, form, html)
    except (ScenarioError, SetupError) as error:
        _refuse(str(error))


def _simulate(  # noqa: PLR0917 - as above
    written: "Scenario",
    one: "Assembled",
    names: list[str],
    how: "How",
    as_declared: bool,
    form: Form,
    html: Path | None,
) -> None:
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from fallow import __version__
    from fallow.app.simulation.page import page
    from fallow.app.simulation.running import FALLOW, all_run, bounds, enforced, levers_of
    from fallow.app.simulation.table import print_tables
    from fallow.app.simulation.telling import About, Saved, as_json

    if not as_declared:
        one = replace(one, declared=enforced(one.declared))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, object] = {}

        def shown(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=1.0)
            bar.update(tasks[name], completed=share)  # type: ignore[arg-type]

        outcomes = all_run(one, [FALLOW, *names], shown, replace(how, seed=written.seed))
    count = 1 + len(names)
    saved = {
        lever: Saved(
            run.energy.value - outcomes[0].energy.value, run.attainment, run.fleet.value - outcomes[0].fleet.value
        )
        for lever, run in zip(levers_of(one.declared), outcomes[count:], strict=False)
    }
    about = About(
        title=written.title or "A simulated fleet",
        inputs=_inputs(written, one, how, names),
        version=__version__,
        asked={key: service.objectives.attainment for key, service in one.declared.services.items()},
        bounds=bounds(one),
        all_levers=bounds(one, all_levers=True),
        savings=saved,
    )
    outcomes = outcomes[:count]
    if form is Form.JSON:
        typer.echo(json.dumps(as_json(outcomes, about)))
    else:
        console = Console()
        print_tables(console, outcomes, about)
    if html is not None:
        html.write_text(page(outcomes, about), encoding="utf-8")
        typer.echo(f"written to {html}", err=True)


def _inputs(written: "Scenario", one: "Assembled", how: "How", names: list[str]) -> list[tuple[str, str]]:
    from datetime import UTC, datetime

    from fallow import __version__
    from fallow.app.simulation.faults import fault_text
    from fallow.twin.baselines.named import BASELINES

    nodes = ", ".join(
        f"{kind.count} x {kind.gpus}{kind.in_turns * ' copies of'} {kind.product}" for kind in one.setup.nodes
    )
    traffic = ", ".join(
        f"{key} ({round(float(one.seen.requests[index])):,} requests, {one.seen.prompt[index]:.0f} and"
        f" {one.seen.output[index]:.0f} tokens)"
        for index, key in enumerate(one.demand.services)
    )
    policies = ", ".join(f"{policy.name} ({policy.mode})" for policy in one.declared.policies) or "none"
    power = "nodes stay on"
    if one.setup.power_off is not None:
        power = f"empty nodes off after {one.setup.power_off.after:.0f} s, on again in {one.setup.power_off.boot:.0f} s"
    sleepers = [
        f"{of.key} at level {of.sleep.level} after {of.sleep.after:.0f} s without a request"
        for of in one.setup.services
        if of.sleep is not None
    ]
    faults = "; ".join(fault_text(fault, one.setup) for fault in one.setup.faults)
    return [
        ("nodes", f"{nodes}; {power}"),
        *([("sleep", ", ".join(sleepers))] if sleepers else []),
        *([("faults", faults)] if faults else []),
        ("traffic", traffic),
        ("grid", _grid(one)),
        ("policies", policies),
        ("compared with", "; ".join(f"{name}: {BASELINES[name][1]}" for name in names) or "nothing"),
        ("length", f"{one.demand.seconds / 86_400:g} days, seed {written.seed}, a cycle every {how.every} s"),
        ("made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by fallow {__version__}"),
    ]


def _grid(one: "Assembled") -> str:
    """Of each zone what its electricity emits, and what its facility adds."""
    found = []
    for name, series in one.grid.items():
        low, high = float(series.grams.min()), float(series.grams.max())
        grams = f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
        found.append(f"{name}: {grams} gCO2e/kWh, PUE {series.pue:g}")
    return "; ".join(found)


def _past(url: str, last: str) -> "Past":
    """Raises ScenarioError where Prometheus has no answer."""
    import asyncio
    import re
    import time

    from fallow.adapters.metrics.past_demand import PastDemand
    from fallow.app.settings import Settings
    from fallow.app.simulation.scenario import ScenarioError
    from fallow.app.wiring import prometheus_access
    from fallow.domain.figures import Missing
    from fallow.domain.units import Instant, Seconds

    found = re.fullmatch(r"(\d+)([dhm])", last.strip())
    if found is None or int(found[1]) == 0:
        raise ScenarioError(f"--last {last!r} is no length of time: write 7d, 12h or 90m")
    length = Seconds(int(found[1]) * {"d": 86_400, "h": 3600, "m": 60}[found[2]])
    settings = Settings(prometheus_url=url)

    async def read() -> "Past | Missing":
        source = PastDemand(url, access=prometheus_access(settings), matchers=settings.prometheus_matchers)
        try:
            return await source.read(Instant(time.time() // 60 * 60), length)
        finally:
            await source.close()

    typer.echo(f"reading what was served in the last {last} from Prometheus", err=True)
    try:
        answer = asyncio.run(read())
    except ValueError as error:
        raise ScenarioError(f"--from-prometheus: {error}") from error
    if isinstance(answer, Missing):
        raise ScenarioError(f"--from-prometheus: {answer.detail or answer}")
    return answer


def _names(compare: str) -> list[str]:
    from fallow.twin.baselines.named import BASELINES

    if compare.strip().lower() in {"none", ""}:
        return []
    if compare.strip().lower() == "all":
        return list(BASELINES)
    names = [name.strip() for name in compare.split(",") if name.strip()]
    for name in names:
        if name not in BASELINES:
            known = "; ".join(f"{key}: {what}" for key, (_, what) in BASELINES.items())
            _refuse(f"--compare {name!r} is not known: write all, none, or some of {known}")
    return names


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
