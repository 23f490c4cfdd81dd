"""Reads vLLM pods and dcgm-exporters at their own addresses, for clusters without Prometheus.

A pod that does not answer has a fault of its own; nodes whose exporter does not answer are named in one fault.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import aiohttp

from fallow.adapters.metrics import dcgm, vllm
from fallow.adapters.metrics.exposition import NotExposition, parse_page
from fallow.adapters.metrics.faults import cause, listed, without_credentials
from fallow.adapters.metrics.samples import Sample
from fallow.adapters.metrics.waiting import read_waiting
from fallow.domain.figures import Missing
from fallow.domain.readings import GpuReading, PodRef, Readings, WaitingSeries
from fallow.domain.reasons import Reason
from fallow.domain.units import Instant, Seconds
from fallow.ports import EngineTarget, ReadScope

_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """`timeout` is for one page, `deadline` for all pages of a read; `at_once` bounds the open connections."""

    timeout: Seconds = Seconds(5)
    deadline: Seconds = Seconds(12)
    at_once: int = 64
    max_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        if min(self.timeout, self.deadline, self.at_once, self.max_bytes) <= 0:
            raise ValueError("the limits of a direct scrape must be above zero")


@dataclass(frozen=True, slots=True)
class Page:
    """A metrics page, the names of the samples that are wanted of it, and the labels that its target adds."""

    url: str
    names: Collection[str]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Clock:
    """Wall time by the read's `now`, elapsed time by the event loop's clock."""

    now: Instant
    started: float
    ends: float

    @classmethod
    def starting(cls, now: Instant, deadline: Seconds) -> _Clock:
        started = asyncio.get_running_loop().time()
        return cls(now, started, started + deadline)

    def instant(self) -> Instant:
        return Instant(self.now + asyncio.get_running_loop().time() - self.started)


class _Refused(Exception):
    """An answer without a metrics page."""

    def __init__(self, reason: Reason, came: str) -> None:
        super().__init__(came)
        self.reason = reason


class DirectSource:
    """A `MetricSource`. `gateways` are pages with metrics of waiting requests, such as http://gateway:8080/metrics.

    `agent_port` is the node agent's, None where none runs. A node without an agent is not at fault: it only adds.
    """

    def __init__(
        self,
        limits: ScrapeLimits | None = None,
        *,
        exporter_port: int = 9400,
        agent_port: int | None = None,
        gateways: Sequence[str] = (),
        gpu_labels: dcgm.DcgmLabels | None = None,
    ) -> None:
        for url in gateways:
            parts = urllib.parse.urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError(f"{url!r} is no address of a gateway's metrics: write http://HOST:PORT/metrics")
        self._limits = limits or ScrapeLimits()
        self._exporter_port = exporter_port
        self._agent_port = agent_port
        self._gateways = tuple(gateways)
        self._gpu_labels = gpu_labels
        self._places = asyncio.Semaphore(self._limits.at_once)
        self._session: aiohttp.ClientSession | None = None
        self._queries = 0

    @property
    def queries(self) -> int:
        return self._queries

    async def read(self, now: Instant, scope: ReadScope) -> Readings:
        clock = _Clock.starting(now, self._limits.deadline)
        self._queries = 0
        (engines, pod_faults), (gpus, gpu_fault), (waiting, waiting_fault) = await asyncio.gather(
            self._read_engines(scope.engines, clock),
            self._read_gpus(scope.nodes, clock),
            self._read_waiting(scope.waiting_metrics, clock),
        )
        return Readings(
            at=now,
            engines=engines.readings,
            gpus=gpus,
            waiting=waiting,
            gpu_fault=gpu_fault,
            waiting_fault=waiting_fault,
            pod_faults={**pod_faults, **engines.faults},
        )

    async def history(self, times: Sequence[Instant], scope: ReadScope) -> Sequence[Readings] | Missing:  # noqa: ARG002
        return Missing(Reason.NO_HISTORY, "a direct scrape sees the present only; a Prometheus keeps the past")

    async def pages(self, now: Instant, wanted: Sequence[Page]) -> list[list[Sample] | Missing]:
        """What each of these pages shows now."""
        clock = _Clock.starting(now, self._limits.deadline)
        return list(await asyncio.gather(*(self._scrape(page, clock) for page in wanted)))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _read_engines(
        self, targets: Sequence[EngineTarget], clock: _Clock
    ) -> tuple[vllm.Engines, dict[PodRef, Missing]]:
        pages = [Page(page_url(target.address, target.port), vllm.READ_NAMES, {}) for target in targets]
        answers = await asyncio.gather(*(self._scrape(page, clock) for page in pages))
        faults: dict[PodRef, Missing] = {}
        samples: list[tuple[PodRef, Sample]] = []
        for target, page, answer in zip(targets, pages, answers, strict=True):
            if isinstance(answer, Missing):
                faults[target.pod] = answer
            else:
                text = f"{page.url}: no vLLM series; does the engine run with --disable-log-stats?"
                faults[target.pod] = Missing(Reason.NO_SERIES, text)
                samples.extend((target.pod, sample) for sample in answer)
        engines = vllm.read_engines(samples)
        return engines, {pod: fault for pod, fault in faults.items() if pod not in engines.readings}

    async def _read_gpus(self, nodes: Mapping[str, str], clock: _Clock) -> tuple[dict[str, GpuReading], Missing | None]:
        names = sorted(nodes)
        pages = [self._node_page(name, nodes[name], self._exporter_port) for name in names]
        agents = [self._node_page(name, nodes[name], self._agent_port) for name in names] if self._agent_port else []
        told, answers = await asyncio.gather(
            asyncio.gather(*(self._scrape(page, clock) for page in agents)),
            asyncio.gather(*(self._scrape(page, clock) for page in pages)),
        )
        faults: dict[str, Missing] = {}
        samples = [sample for answer in told if not isinstance(answer, Missing) for sample in answer]
        metered = {sample.labels["node"] for sample in samples if sample.name not in dcgm.AGENT_NAMES}
        for name, page, answer in zip(names, pages, answers, strict=True):
            if isinstance(answer, Missing):
                if name not in metered:
                    faults[name] = answer
            elif not answer:
                faults[name] = Missing(Reason.NO_SERIES, f"{page.url}: no DCGM series")
            else:
                samples.extend(answer)
        exporters = dcgm.Exporters(node_names={address: name for name, address in nodes.items()})
        return dcgm.read_gpus(samples, labels=self._gpu_labels, exporters=exporters), _fault_of_nodes(faults)

    async def _read_waiting(
        self, names: Collection[str], clock: _Clock
    ) -> tuple[tuple[WaitingSeries, ...], Missing | None]:
        wanted = frozenset(name for name in names if name)
        if not wanted:
            return (), None
        if not self._gateways:
            text = (
                f"nowhere to read {listed(wanted)} from: name the gateways' metrics pages, or read through Prometheus"
            )
            return (), Missing(Reason.NO_SERIES, text)
        answers = await asyncio.gather(*(self._scrape(Page(url, wanted, {}), clock) for url in self._gateways))
        fault = next((answer for answer in answers if isinstance(answer, Missing)), None)
        found = [sample for answer in answers if not isinstance(answer, Missing) for sample in answer]
        series, doubtful = read_waiting(found)
        return series, fault or doubtful

    def _node_page(self, node: str, address: str, port: int) -> Page:
        labels = {"instance": f"{_host(address)}:{port}", "node": node}
        return Page(page_url(address, port), dcgm.READ_NAMES, labels)

    async def _scrape(self, page: Page, clock: _Clock) -> list[Sample] | Missing:
        if not page.url:
            return Missing(Reason.SOURCE_UNREACHABLE, "no address yet")
        shown, limits = without_credentials(page.url), self._limits
        asked = False
        try:
            async with asyncio.timeout_at(clock.ends), self._places:
                at = clock.instant()
                asked = True
                text = await self._fetch(page.url)
            return parse_page(text, page.names, page.labels, at)
        except TimeoutError:
            came = f"no whole answer within {limits.timeout:g} s"
            if not asked:
                came = f"not asked, since the pages before it took {limits.deadline:g} s"
            return Missing(Reason.SOURCE_UNREACHABLE, f"{shown}: {came}")
        except _Refused as error:
            return Missing(error.reason, f"{shown}: {error}")
        except (NotExposition, UnicodeDecodeError) as error:
            return Missing(Reason.BAD_ANSWER, f"{shown}: not a metrics page: {cause(error)}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Missing(Reason.SOURCE_UNREACHABLE, f"{shown}: {cause(error)}")

    async def _fetch(self, url: str) -> str:
        self._queries += 1
        body = bytearray()
        async with self._open_session().get(url, allow_redirects=False) as response:
            if response.status != 200:
                reason = Reason.SOURCE_UNREACHABLE if response.status >= 500 else Reason.BAD_ANSWER
                raise _Refused(reason, f"HTTP {response.status}")
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > self._limits.max_bytes:
                    raise _Refused(Reason.BAD_ANSWER, f"a page longer than {self._limits.max_bytes} bytes")
        return body.decode()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Pods come and go: a connection kept open for the next cycle is often dead by then.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._limits.at_once, force_close=True),
                timeout=aiohttp.ClientTimeout(total=self._limits.timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _fault_of_nodes(faults: Mapping[str, Missing]) -> Missing | None:
    if not faults:
        return None
    first = faults[min(faults)]
    return Missing(first.reason, f"no GPU readings from {listed(faults)}: {first.detail}")


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def page_url(address: str, port: int) -> str:
    return f"http://{_host(address)}:{port}/metrics" if address else ""
