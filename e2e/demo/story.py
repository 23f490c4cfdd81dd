"""The story in six phases: what happens, why, what starts it, and how one sees that it came true."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from e2e.demo.grid import CLEAN, DIRTY, Grid
from e2e.demo.observe import Observer
from e2e.demo.screen import Screen
from e2e.demo.view import View, joules
from e2e.harness.errors import HarnessError
from e2e.harness.locations import REPOSITORY
from e2e.harness.stack import Stack

NAMESPACE = "demo"
SAMPLES = REPOSITORY / "docs" / "samples"
PROFILES = ("modelprofile-llama-3.1-8b-bf16-h100.yaml", "modelprofile-llama-3.1-8b-fp8-h100.yaml")
PERIOD = 1.0

# Requests per second of chat. At 100 requests in flight a replica answers about 19 of them per second; within its
# objectives it carries some 21 by what Fallow learns of its steps, and two with a tenth to spare 38, crests included:
# the evening leaves room for what a busy machine adds to steps.
NIGHT, PEAK, EVENING = 13, 48, 26
PEAK_REPLICAS = 3
CHAT_LENGTHS = {"prompt": {"mean": 300, "cv": 0.6, "most": 2000}, "output": {"mean": 300, "cv": 0.4, "most": 700}}
DOCS_LENGTHS = {"prompt": {"mean": 800, "cv": 0.5, "most": 4000}, "output": {"mean": 120, "cv": 0.4, "most": 400}}


@dataclass(frozen=True, slots=True)
class Phase:
    """It ends when `done` and at least `least` seconds have passed; after `limit` the story has failed."""

    title: str
    why: str
    begin: Callable[[], None]
    done: Callable[[View], bool]
    waits_for: str
    least: float
    limit: float = 120.0


@dataclass(slots=True)
class Marks:
    """When things happened, by the wall clock, and how many replicas of chat the peak took."""

    began: float = 0.0
    dirty: float = 0.0
    clean: float = 0.0
    ended: float = 0.0
    peak_replicas: int = 0


@dataclass(slots=True)
class Wake:
    """One request to a resting service, on its own thread; joules as Fallow books them on the service."""

    asked: float = 0.0
    booked_before: float = 0.0
    booked_ready: float | None = None
    answer: dict[str, Any] | None = None
    error: str = ""
    seconds: float = 0.0
    told: bool = False


@dataclass(slots=True)
class Story:
    stack: Stack
    screen: Screen
    observer: Observer
    grid: Grid
    marks: Marks = field(default_factory=Marks)
    wake: Wake = field(default_factory=Wake)
    asking: bool = False

    def phases(self) -> list[Phase]:
        return [
            Phase(
                "Two services start",
                "chat answers people and keeps at least one replica; docs is asked now and then and may rest at zero.",
                self._start,
                self._both_answer,
                "both services ready",
                least=25,
            ),
            Phase(
                "Load rises, replicas follow",
                f"Requests to chat grow from {NIGHT} to {PEAK} a second. Fallow reads queues and batches from vLLM\n"
                "and adds replicas while latency still holds, and no more of them than the load needs.",
                self._rise,
                lambda view: ready(view, "chat") == PEAK_REPLICAS and settled(view, "chat"),
                f"{PEAK_REPLICAS} replicas of chat",
                least=65,
            ),
            Phase(
                "Load falls, and docs goes quiet",
                "A replica goes once the others would have carried the last 30 s; its requests finish first. Nobody\n"
                "asks docs any more: requests, GPU activity and watts agree for 30 s, so it rests at zero replicas.",
                self._fall,
                lambda view: ready(view, "chat") == 2 and settled(view, "chat") and rests(view, "docs"),
                "chat on two replicas and docs at rest",
                least=60,
            ),
            Phase(
                "A request wakes docs",
                "One request arrives for docs while it has no replica. The gateway holds it, its metric\n"
                "gateway_requests_waiting rises, and Fallow wakes the service.",
                self._ask,
                self._answered,
                "an answer from docs",
                least=35,
            ),
            Phase(
                "The grid turns dirty",
                f"The forecast file goes from {CLEAN} to {DIRTY} gCO2e/kWh. The policy then asks for FP8, and the\n"
                "profiles show fewer joules per token at this batch size: FP8 is made ready first, then BF16 drains.",
                self._turn_dirty,
                lambda view: serves(view, "chat", "fp8"),
                "chat on fp8",
                least=55,
            ),
            Phase(
                "The grid is clean again",
                f"At {CLEAN} gCO2e/kWh there is no reason to give up any quality: chat returns to BF16 the same way.",
                self._turn_clean,
                lambda view: serves(view, "chat", "bf16"),
                "chat on bf16",
                least=35,
            ),
            Phase(
                "The last answers",
                "Nobody asks any more; requests in flight are finished, so that all of them can be compared.",
                self._stop,
                lambda view: not any(row.in_flight for row in view.services),
                "the last answer",
                least=5,
            ),
        ]

    def tell(self) -> Marks:
        """Runs every phase; raises when what a phase promises does not come true in its time."""
        phases = self.phases()
        started = time.monotonic()
        self.marks.began = time.time()
        for number, phase in enumerate(phases, start=1):
            self.screen.phase(number, len(phases), phase.title, phase.why)
            phase.begin()
            self._live_through(phase, started, rest=sum(later.least for later in phases[number:]))
        self.marks.ended = time.time()
        self.marks.peak_replicas = PEAK_REPLICAS
        return self.marks

    def _live_through(self, phase: Phase, started: float, *, rest: float) -> None:
        began = time.monotonic()
        while True:
            self.stack.check()
            view = self.observer.view()
            now = time.monotonic()
            self.screen.show(view, elapsed=now - started, left=max(phase.least - (now - began), 0) + rest)
            done = phase.done(view)
            if done and now - began >= phase.least:
                return
            if now - began > phase.limit:
                raise HarnessError(f"{phase.title}: {phase.waits_for} did not come about within {phase.limit:.0f} s")
            time.sleep(max(0.1, PERIOD - (time.monotonic() - now)))

    def go_on(self) -> None:
        """The evening's load once more, so that there is something to look at afterwards."""
        self._chat([[0, EVENING]])

    def _start(self) -> None:
        for name in PROFILES:
            self.stack.cluster.apply(SAMPLES / name)
        self.stack.cluster.apply(SAMPLES / "demo")

    def _both_answer(self, view: View) -> bool:
        """People come once the services are open."""
        ready_now = len(view.services) == 2 and all(row.ready > 0 for row in view.services)
        if ready_now and not self.asking:
            self.asking = True
            self.stack.traffic(NAMESPACE, "chat", {"rate": {"constant": NIGHT}, **CHAT_LENGTHS})
            self.stack.traffic(NAMESPACE, "docs", {"rate": {"constant": 1}, **DOCS_LENGTHS})
        return ready_now and all(row.watts is not None for row in view.services)

    def _rise(self) -> None:
        self._chat([[0, NIGHT], [45, PEAK]])

    def _fall(self) -> None:
        self._chat([[0, PEAK], [10, EVENING]])
        self.stack.traffic(NAMESPACE, "docs", None)

    def _chat(self, points: list[list[float]]) -> None:
        self.stack.traffic(NAMESPACE, "chat", {"rate": {"points": points}, **CHAT_LENGTHS})

    def _stop(self) -> None:
        self.stack.traffic(NAMESPACE, "chat", None)

    def _ask(self) -> None:
        self.wake.booked_before = self.observer.booked_joules("docs")
        self.wake.asked = time.monotonic()
        threading.Thread(target=self._complete, name="request", daemon=True).start()

    def _complete(self) -> None:
        try:
            self.wake.answer = self.stack.complete(NAMESPACE, "docs", "What does letting land lie fallow do for it?")
        except (HarnessError, OSError) as error:
            self.wake.error = str(error)
        self.wake.seconds = time.monotonic() - self.wake.asked

    def _answered(self, view: View) -> bool:
        wake = self.wake
        if wake.error:
            raise HarnessError(f"the request to docs failed: {wake.error}")
        if wake.booked_ready is None and ready(view, "docs"):
            wake.booked_ready = self.observer.booked_joules("docs")
            told = self.stack.service(NAMESPACE, "docs")["status"]["wake"]
            energy = told.get("energyJoules", wake.booked_ready - wake.booked_before)
            self.screen.say(f"docs woke in {told['tookSeconds']:.1f} s for {joules(energy)} at the GPU, says Fallow")
        if wake.answer is None or wake.booked_ready is None:
            return False
        if not wake.told:
            wake.told = True
            tokens = wake.answer["usage"]["completion_tokens"]
            self.screen.say(f"the request got its {tokens} tokens {wake.seconds:.1f} s after it was asked")
        return True

    def _turn_dirty(self) -> None:
        self.marks.dirty = self.grid.forecast(DIRTY)

    def _turn_clean(self) -> None:
        self.marks.clean = self.grid.forecast(CLEAN)


def ready(view: View, name: str) -> int:
    row = view.service(name)
    return row.ready if row is not None else 0


def settled(view: View, name: str) -> bool:
    row = view.service(name)
    return row is not None and row.ready == row.desired


def rests(view: View, name: str) -> bool:
    row = view.service(name)
    return row is not None and row.ready == row.desired == 0 and not row.watts


def serves(view: View, name: str, variant: str) -> bool:
    row = view.service(name)
    return row is not None and row.variant == variant and row.ready == row.desired > 0
