"""What was missed in an outage: read back where the source still has it, else covered by the counters, and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from fallow.app.bookkeeping import Bookkeeper
from fallow.app.catching_up import TIMES_AT_MOST, TIMES_AT_ONCE, TRIES, CatchUp
from fallow.domain.ledger import Account, Filling, Gap, LineKey, LineKind
from fallow.domain.readings import EngineReading, GpuReading, PodRef, Readings
from fallow.domain.snapshots import ClusterView, Pod, Snapshot, Workload
from fallow.domain.units import Instant, Seconds
from fallow.domain.workloads import ServiceKey
from tests.support.ledger import InMemoryLedgerStore
from tests.support.metered import CHAT, CHAT_LINE, FREE, NOON, booked, engine, gpu, later, node, pod
from tests.support.recorded import RecordedSource

GAP = Seconds(120)
CHAT_POD, BATCH_POD = "llm/chat-bf16-7d9f8b6c5d-x2x4z", "llm/batch-0"
BATCH = LineKey(LineKind.FOREIGN, "llm")
DEPLOYMENT = Workload("llm", "chat-bf16", CHAT, "bf16", replicas=1, ready=1, generation=1)
LONGER = replace(DEPLOYMENT, name="chat-bf16-b", service=ServiceKey("llm", "other"))


class Site:
    """One GPU that draws 100 W bare and 400 W while it is held; scraped every 15 s, looked at when the test says."""

    def __init__(self, source: RecordedSource | None = None) -> None:
        self.source = source or RecordedSource()
        self.store = InMemoryLedgerStore()
        self.seconds = 0.0
        self.joules = 1e6
        self.tokens = 0.0
        self.scraped = True
        self.pods: list[Pod] = []
        self.workloads: tuple[Workload, ...] = (DEPLOYMENT,)
        self.start()
        self._scrape(None)

    def start(self) -> None:
        """A new process."""
        self.keeper = Bookkeeper(self.store, Seconds(300), CatchUp(self.source, GAP))

    def pass_time(self, seconds: float, holder: str | None = None, *, work: bool = True) -> None:
        end = self.seconds + seconds
        while self.seconds < end:
            dt = min(15.0, end - self.seconds)
            self.seconds += dt
            self.joules += dt * (100.0 if holder is None else 400.0)
            self.tokens += dt * 10 if holder is not None and work else 0.0
            self._scrape(holder)

    def _scrape(self, holder: str | None) -> None:
        if not self.scraped:
            return
        engines = {} if holder != CHAT_POD else {CHAT_POD: engine(self.seconds, self.tokens)}
        self.source.scrape(readings(self.seconds, [gpu(self.seconds, self.joules, 300.0, holder=holder)], engines))

    async def look(self, cycles: int = 1) -> None:
        for _ in range(cycles):
            await self.keeper.book(await self.snapshot())

    async def snapshot(self) -> Snapshot:
        view = ClusterView(nodes={"node-a": node()}, pods={one.ref: one for one in self.pods}, workloads=self.workloads)
        now = later(self.seconds)
        return Snapshot(at=now, cluster=view, readings=await self.source.read(now, None))  # type: ignore[arg-type]

    @property
    def lines(self) -> dict[LineKey, float]:
        assert self.keeper.ledger is not None
        return booked(self.keeper.ledger)

    @property
    def gaps(self) -> list[tuple[float, float, Filling]]:
        assert self.keeper.ledger is not None
        return [(round(gap.start - NOON), round(gap.end - NOON), gap.filled) for gap in self.keeper.ledger.gaps]

    def account(self, line: LineKey) -> Account:
        assert self.keeper.ledger is not None
        return self.keeper.ledger.books[line].total.account


def readings(seconds: float, gpus: Sequence[GpuReading], engines: Mapping[str, EngineReading]) -> Readings:
    refs = {PodRef(*name.split("/")): one for name, one in engines.items()}
    return Readings(at=later(seconds), gpus={one.uuid: one for one in gpus}, engines=refs)


async def down(site: Site) -> None:
    """Half an hour without Fallow, in which a pod of the service comes, works for ten minutes and goes."""
    await site.look()
    site.pass_time(600)
    site.pass_time(600, CHAT_POD)
    site.pass_time(600)
    site.start()


async def test_a_pod_that_came_and_went_meanwhile_is_booked_on_its_service() -> None:
    site = Site()
    await down(site)
    await site.look(4)
    # who held a GPU is known to half a step of 30 s at either end
    assert site.lines[CHAT_LINE] == pytest.approx(600 * 400, abs=2 * 30 * 400)
    assert sum(site.lines.values()) == pytest.approx(site.joules - 1e6)


async def test_its_tokens_are_counted_from_its_start() -> None:
    site = Site()
    await down(site)
    await site.look(4)
    assert site.account(CHAT_LINE).generated_tokens == pytest.approx(6000, abs=300)


async def test_without_a_memory_the_counters_cover_the_gap() -> None:
    site = Site()
    site.source.remembers = False
    await down(site)
    await site.look()
    assert site.lines == {FREE: pytest.approx(site.joules - 1e6)}
    assert site.gaps == [(0, 1800, Filling.COUNTERS)]


async def test_a_gap_that_was_read_back_is_told_as_such() -> None:
    site = Site()
    await down(site)
    await site.look(4)
    assert site.gaps == [(0, 1800, Filling.READ_BACK)]


async def test_what_the_source_itself_missed_is_told_apart() -> None:
    site = Site()
    await site.look()
    site.pass_time(600)
    site.scraped = False
    site.pass_time(900)
    site.scraped = True
    site.pass_time(300)
    await site.look(4)
    (before, hole, after) = site.gaps
    assert [filled for *_, filled in site.gaps] == [Filling.READ_BACK, Filling.COUNTERS, Filling.READ_BACK]
    assert hole[:2] == pytest.approx((720, 1500), abs=60)
    assert (before[0], after[1]) == (0, 1800)
    assert sum(site.lines.values()) == pytest.approx(site.joules - 1e6)


async def test_a_pod_of_nobody_that_is_known_goes_to_its_namespace() -> None:
    site = Site()
    await site.look()
    site.pass_time(600, BATCH_POD)
    site.pass_time(300)
    await site.look(3)
    assert site.lines[BATCH] == pytest.approx(600 * 400, abs=2 * 30 * 400)
    assert CHAT_LINE not in site.lines


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("chat-bf16-7d9f8b6c5d-x2x4z", CHAT_LINE),
        ("chat-bf16-b-7d9f8b6c5d-x2x4z", LineKey(LineKind.SERVICE, "llm", "other", "bf16")),
        ("chat-bf16-extra-long-name", BATCH),
        ("chat-bf16", BATCH),
        ("chat-bf16b-7d9f8b6c5d-x2x4z", BATCH),
    ],
)
async def test_a_pod_s_name_tells_its_deployment(name: str, line: LineKey) -> None:
    site = Site()
    site.workloads = (DEPLOYMENT, LONGER)
    await site.look()
    site.pass_time(600, f"llm/{name}")
    site.pass_time(300)
    await site.look(3)
    assert line in site.lines


async def test_a_pod_that_was_known_before_keeps_its_line_and_its_count() -> None:
    """Its Deployment has been deleted meanwhile; its engine was booked before."""
    site = Site()
    site.pods = [pod("chat-bf16-7d9f8b6c5d-x2x4z", started=-60)]
    site.pass_time(60, CHAT_POD)
    await site.look()
    site.pass_time(600, CHAT_POD)
    site.pass_time(300)
    site.pods, site.workloads = [], ()
    await site.keeper.store()
    site.start()
    await site.look(3)
    assert site.account(CHAT_LINE).generated_tokens == pytest.approx(6000, abs=300)
    assert site.lines[CHAT_LINE] == pytest.approx(600 * 400, abs=2 * 30 * 400)


async def test_idle_time_inside_a_gap_is_told_from_work() -> None:
    site = Site()
    site.pods = [pod("chat-bf16-7d9f8b6c5d-x2x4z", started=-60, ready_since=-30)]
    site.pass_time(30, CHAT_POD)
    await site.look()
    site.pass_time(900, CHAT_POD)
    site.pass_time(900, CHAT_POD, work=False)
    await site.look(4)
    assert site.account(CHAT_LINE).idle.value == pytest.approx(900 * 400, rel=0.1)


async def test_a_reset_inside_a_gap_is_seen_where_it_happened() -> None:
    site = Site()
    await site.look()
    site.pass_time(900)
    first = site.joules - 1e6
    site.joules = 0.0
    site.pass_time(900)
    await site.look(4)
    account = site.account(FREE)
    assert account.energy.best.value - account.modelled.value == pytest.approx(first + site.joules, rel=0.02)
    assert account.modelled.value < 60 * 400


async def test_a_cycle_asks_for_a_few_times_and_the_present_waits_until_all_is_booked() -> None:
    site = Site()
    await site.look()
    site.pass_time(3 * 3600)
    steps = 0
    while not site.gaps or site.gaps[-1][1] < site.seconds:
        before = len(site.source.asked)
        await site.look()
        steps += 1
        assert len(site.source.asked) - before <= TIMES_AT_ONCE
        assert steps < 50
    assert len(site.source.asked) < TIMES_AT_MOST
    await site.look()
    assert sum(site.lines.values()) == pytest.approx(site.joules - 1e6)


async def test_a_source_that_gives_less_at_once_is_asked_again() -> None:
    site = Site()
    site.source.at_once = 7
    await down(site)
    await site.look(12)
    assert site.lines[CHAT_LINE] == pytest.approx(600 * 400, abs=2 * 30 * 400)
    assert sum(site.lines.values()) == pytest.approx(site.joules - 1e6)


async def test_catching_up_goes_on_after_a_kill() -> None:
    site = Site()
    await down(site)
    await site.look()
    await site.keeper.store()
    site.start()
    await site.look(4)
    assert site.lines[CHAT_LINE] == pytest.approx(600 * 400, abs=3 * 30 * 400)
    assert site.account(CHAT_LINE).generated_tokens == pytest.approx(6000, abs=600)
    assert sum(site.lines.values()) == pytest.approx(site.joules - 1e6)


async def test_an_outage_in_which_fallow_lived_is_read_back_too() -> None:
    """Only the way to the source was broken: it went on scraping."""
    site = Site()
    await site.look()
    site.source.reachable = False
    for holder in (None, CHAT_POD, None):
        for _ in range(20):
            site.pass_time(30, holder)
            await site.look()
    site.source.reachable = True
    site.pass_time(15)
    await site.look(4)
    assert site.lines[CHAT_LINE] == pytest.approx(600 * 400, abs=2 * 30 * 400)
    assert site.account(CHAT_LINE).generated_tokens == pytest.approx(6000, abs=300)
    assert [filled for *_, filled in site.gaps] == [Filling.READ_BACK]


class Forgetful(RecordedSource):
    """Answers for the present and not for the past."""

    async def history(self, times: Sequence[Instant], scope: object) -> object:  # type: ignore[override]
        self.reachable = False
        answer = await super().history(times, scope)  # type: ignore[arg-type]
        self.reachable = True
        return answer


async def test_a_source_that_cannot_tell_of_the_past_is_not_waited_for_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(Forgetful())
    await down(site)
    for _ in range(TRIES):
        await site.look()
        site.pass_time(15)
    await site.look()
    assert sum(site.lines.values()) == pytest.approx(site.joules - 1e6)
    assert site.gaps[0][2] is Filling.COUNTERS
    assert caplog.text.count("cannot be read back") == 1


async def test_a_short_silence_is_no_gap() -> None:
    site = Site()
    await site.look()
    site.pass_time(GAP - 1)
    await site.look()
    assert (site.gaps, site.source.asked) == ([], [])


async def test_gpus_that_are_new_after_a_long_time_without_any_are_no_gap() -> None:
    site = Site()
    await site.look()
    other = gpu(9000, 5.0, 100.0, uuid="GPU-new")
    snapshot = Snapshot(
        at=later(9000), cluster=ClusterView(nodes={"node-a": node()}), readings=readings(9000, [other], {})
    )
    await site.keeper.book(snapshot)
    assert (site.gaps, site.source.asked) == ([], [])


async def test_gaps_are_kept_with_the_ledger() -> None:
    site = Site()
    await down(site)
    await site.look(4)
    await site.keeper.store()
    assert site.store.stored is not None
    assert site.store.stored.gaps == (Gap(later(0), later(1800), Filling.READ_BACK),)
