"""`fallow report`: the footprint of a month, a week or a quarter, from the history in Prometheus."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from fallow.app.reports.forms import Form
from fallow.footprint.statement import By

if TYPE_CHECKING:
    from fallow.app.settings import Settings
    from fallow.domain.calendars import CalendarPeriod


# a look at all lines a day back takes longer than the questions of a cycle
SLOW = 60.0
AT_ONCE = 4


def report(
    *,
    month: Annotated[str, typer.Option(help="A month, such as 2026-11.", metavar="YYYY-MM")] = "",
    week: Annotated[str, typer.Option(help="Instead: an ISO week, such as 2026-W47.", metavar="YYYY-Www")] = "",
    quarter: Annotated[str, typer.Option(help="Instead: a quarter, such as 2026-Q4.", metavar="YYYY-Qn")] = "",
    by: Annotated[By, typer.Option(help="What the rows stand for.")] = By.SERVICE,
    time_zone: Annotated[str, typer.Option(help="Whose midnights end a day, such as Europe/Berlin.")] = "UTC",
    prometheus_url: Annotated[
        str, typer.Option(help="Prometheus HTTP API.", envvar="FALLOW_PROMETHEUS_URL", show_envvar=True)
    ] = "",
    form: Annotated[Form, typer.Option("--output", "-o", help="How it is written.")] = Form.MARKDOWN,
    file: Annotated[Path | None, typer.Option(help="Write it to this file instead of the terminal.")] = None,
) -> None:
    """Energy, carbon, water, cost, waste, targets and budgets of a period, with bounds, sources and gaps.

    Built from the operator's own series in Prometheus, or in a store with its API; the chart's recording rules
    (metrics.prometheusRule) keep them cheap and independent of the operator's pod. Headers, token and certificates for
    Prometheus come from the FALLOW_PROMETHEUS_* variables (fallow settings).

    fallow report --month 2026-11 --by policy -o html --file november.html --prometheus-url http://localhost:9090
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from fallow.app.settings import Settings
    from fallow.domain.calendars import period

    titles = [title for title in (month, week, quarter) if title]
    if len(titles) != 1:
        _refuse("say which period: one of --month 2026-11, --week 2026-W47 or --quarter 2026-Q4")
    if not prometheus_url:
        _refuse("say where the history is: --prometheus-url http://HOST:PORT, or FALLOW_PROMETHEUS_URL")
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        _refuse(f"{time_zone!r} is no time zone: write one such as Europe/Berlin or UTC")
    try:
        asked = period(titles[0], zone)
    except ValueError as error:
        _refuse(str(error))
    text = asyncio.run(_written(asked, by, form, Settings(prometheus_url=prometheus_url)))
    if file is None:
        typer.echo(text, nl=False)
    else:
        file.write_text(text)
        typer.echo(f"written to {file}", err=True)


async def _written(asked: "CalendarPeriod", by: By, form: Form, settings: "Settings") -> str:
    import time
    from datetime import UTC, datetime

    from fallow.adapters.metrics.history import PrometheusHistory
    from fallow.adapters.metrics.prometheus_api import PrometheusApi
    from fallow.app.reports.render import Heading, rendered
    from fallow.app.wiring import prometheus_access
    from fallow.domain.calendars import period
    from fallow.domain.figures import Missing
    from fallow.domain.history import History
    from fallow.domain.units import Instant, Seconds
    from fallow.footprint.statement import statement

    now = Instant(time.time())
    timeout = Seconds(max(settings.prometheus_timeout, SLOW))
    try:
        access = prometheus_access(settings)
        api = PrometheusApi(settings.prometheus_url, timeout=timeout, access=access, at_once=AT_ONCE)
    except ValueError as error:
        _refuse(str(error))
    source = PrometheusHistory(api, settings.prometheus_matchers)

    async def read(part: "CalendarPeriod") -> History:
        typer.echo(f"reading {part.title} ({part.days} days)", err=True)
        found = await source.read(part, now)
        if isinstance(found, Missing):
            _refuse(found.detail or str(found), code=1)
        return found

    try:
        history = await read(asked)
        if not any(day.accounts for day in history.days):
            _refuse(
                f"no figures of Fallow in {asked.title}: does this Prometheus scrape the operator, and did it then?",
                code=1,
            )
        before = await read(asked.before())
        months = {target.since for target in history.targets}
        references = {month: await read(period(month, asked.zone)) for month in sorted(months)}
    finally:
        await api.close()
    told = statement(
        history,
        by,
        before=before if any(day.accounts for day in before.days) else None,
        references={month: one for month, one in references.items() if any(day.accounts for day in one.days)},
        month=asked.last_month,
    )
    heading = Heading(
        title=asked.title,
        first=history.days[0].date,
        last=history.days[-1].date if now >= history.days[-1].end else f"{history.days[-1].date} (it is not over)",
        time_zone=str(asked.zone),
        source=f"Prometheus at {api.shown_url}",
        made=f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M} UTC",
    )
    return rendered(told, history, heading, form)


def _refuse(message: str, code: int = 2) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
