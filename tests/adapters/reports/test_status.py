"""What is written into statuses, and when: at once, after settling, at the refresh, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fallow.adapters.cluster.mirror import POLICIES, SERVICES, Mirror
from fallow.adapters.reports.status import FLICKERS, StatusReporter
from fallow.api.memory import recalled
from fallow.api.reading import inference_service
from fallow.domain.errors import Unreachable
from fallow.domain.figures import Missing
from fallow.domain.plans import Condition, Kept, Pending
from fallow.domain.policies import Mode
from fallow.domain.readings import NOT_COUNTED
from fallow.domain.reasons import Reason
from fallow.domain.units import Grams, Instant, Money, Seconds
from fallow.domain.workloads import IdleState, Proposed, ServiceMemory
from tests.adapters.cluster import raw
from tests.adapters.reports.scenes import (
    ACTIVE,
    FRESH,
    GROW,
    MEMORY_BOUND,
    READY,
    REST,
    Sink,
    ledger,
    mirror,
    report,
    stale,
)
from tests.support.builders import CHAT, NOW, scaler

REFRESH = 300.0
QUIET = replace(ACTIVE, idle_state=IdleState.STANDBY, idle_state_since=NOW, quiet_since=NOW)
FIRST = "2027-01-15T08:00:00Z"


class Desk:
    """A reporter with its mirror and what it sent; each `tell` is one cycle."""

    def __init__(self, held: Mirror | None = None) -> None:
        self.mirror = held or mirror()
        self.sink = Sink(self.mirror)
        self.reporter = StatusReporter(self.sink, self.mirror, refresh=Seconds(REFRESH))

    async def tell(self, now: float = NOW, **changes: Any) -> list[dict[str, Any]]:
        """One cycle; gives what it wrote."""
        before = len(self.sink.sent)
        await self.reporter.report(report(self.mirror, now=now, **changes))
        return self.sink.sent[before:]

    def status(self, plural: str = SERVICES, namespace: str = "llm", name: str = "chat") -> dict[str, Any]:
        body = self.mirror.get(plural, namespace, name)
        assert body is not None
        found: dict[str, Any] = body["status"]
        return found

    def condition(self, name: str) -> dict[str, Any]:
        return next(part for part in self.status()["conditions"] if part["type"] == name)


async def test_the_first_cycle_writes_the_status_of_every_kind() -> None:
    desk = Desk()
    written = await desk.tell()

    assert sorted(body["kind"] for body in written) == [
        "EnergyPolicy",
        "GridZone",
        "InferenceService",
        "ModelProfile",
    ]
    assert all(body["metadata"]["uid"] for body in written)


async def test_no_difference_writes_nothing() -> None:
    desk = Desk()
    await desk.tell()

    assert await desk.tell(NOW + 15) == []


async def test_figures_wait_for_the_refresh() -> None:
    desk = Desk()
    await desk.tell(watts=400)

    assert await desk.tell(NOW + REFRESH - 1, watts=500) == []


async def test_figures_are_renewed_at_the_refresh() -> None:
    desk = Desk()
    await desk.tell(watts=400)
    written = await desk.tell(NOW + REFRESH * 1.25, watts=500)

    assert "InferenceService" in {body["kind"] for body in written}
    assert desk.status()["summary"]["watts"] == "500 W"


async def test_figures_are_renewed_though_cycles_are_as_long_as_the_interval() -> None:
    desk = Desk()
    await desk.tell(watts=400)
    written = [
        body for cycle in range(1, 4) for body in await desk.tell(NOW + cycle * REFRESH, watts=400 + 100 * cycle)
    ]

    assert "InferenceService" in {body["kind"] for body in written}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"decision": GROW}, id="decision"),
        pytest.param({"conditions": (READY, stale())}, id="condition"),
        pytest.param({"replicas": {"bf16": 2}}, id="replicas"),
        pytest.param({"memory": replace(ACTIVE, resting=True)}, id="memory"),
        pytest.param({"mode": Mode.OBSERVE}, id="mode"),
    ],
)
async def test_what_cannot_wait_is_written_at_once(change: dict[str, Any]) -> None:
    desk = Desk()
    await desk.tell()

    assert [body["kind"] for body in await desk.tell(NOW + 1, **change)][:1] == ["InferenceService"]


async def test_a_new_state_is_written_once_it_has_stood_for_two_cycles() -> None:
    desk = Desk()
    await desk.tell()
    first = await desk.tell(NOW + 15, memory=QUIET)
    second = await desk.tell(NOW + 30, memory=QUIET)

    assert first == []
    assert [body["kind"] for body in second] == ["InferenceService", "EnergyPolicy"]


async def test_a_state_that_lasts_one_cycle_is_not_written() -> None:
    desk = Desk()
    await desk.tell()
    unknown = replace(ACTIVE, idle_state=IdleState.UNKNOWN, idle_state_since=Instant(NOW + 15))
    after = Desk(desk.mirror)

    assert await after.tell(NOW + 15, memory=unknown) == []
    assert await after.tell(NOW + 30, memory=ACTIVE) == []


async def test_a_state_that_flickers_is_written_a_few_times_and_then_at_the_refresh() -> None:
    desk = Desk()
    await desk.tell()
    written = [
        body
        for step in range(2, int(REFRESH / 5))
        for body in await desk.tell(NOW + 5 * step, memory=QUIET if step % 4 < 2 else ACTIVE)
        if body["kind"] == "InferenceService"
    ]

    assert len(written) == FLICKERS


async def test_a_state_that_had_to_wait_is_told_at_the_turn_and_not_in_the_midst_of_the_interval() -> None:
    """FLICKERS of them were written shortly before the turn; the last change is left over."""
    desk = Desk()
    await desk.tell()
    states = [QUIET, ACTIVE] * FLICKERS
    for step in range(2 * FLICKERS + 2):
        await desk.tell(NOW + REFRESH - 60 + 5 * step, memory=states[step // 2])
    assert desk.status()["idle"]["state"] == "Standby"

    at_the_turn = await desk.tell(NOW + 1.25 * REFRESH, memory=ACTIVE)
    assert {"InferenceService", "EnergyPolicy"} <= {body["kind"] for body in at_the_turn}
    assert [await desk.tell(NOW + 1.25 * REFRESH + 5 * step, memory=ACTIVE) for step in range(1, 40)] == [[]] * 39


async def test_a_message_alone_is_no_reason_to_write() -> None:
    desk = Desk()
    await desk.tell(conditions=(READY, stale("91 s old")))

    assert await desk.tell(NOW + 15, conditions=(READY, stale("106 s old"))) == []


async def test_a_transition_time_stays_until_the_status_changes() -> None:
    desk = Desk()
    await desk.tell(conditions=(READY, stale()))
    unreachable = Condition("MetricsFresh", status=False, reason=Reason.SOURCE_UNREACHABLE, message="refused")
    await desk.tell(NOW + 15, conditions=(READY, unreachable))
    kept = desk.condition("MetricsFresh")
    await desk.tell(NOW + 30, conditions=(READY, FRESH))

    assert (kept["reason"], kept["lastTransitionTime"]) == ("SourceUnreachable", FIRST)
    assert desk.condition("MetricsFresh")["lastTransitionTime"] == "2027-01-15T08:00:30Z"


async def test_conditions_say_which_spec_they_speak_about() -> None:
    desk = Desk()
    await desk.tell()
    desk.mirror.put(SERVICES, {**raw.inference_service(generation=2, resourceVersion="9000"), "status": desk.status()})
    await desk.tell(NOW + 15)

    assert desk.condition("Ready")["observedGeneration"] == 2
    assert desk.condition("Ready")["lastTransitionTime"] == FIRST
    assert desk.status()["observedGeneration"] == 2


async def test_the_last_five_decisions_are_kept_newest_first() -> None:
    desk = Desk()
    for step in range(7):
        await desk.tell(NOW + step, decision=replace(GROW, at=Instant(NOW + step)), replicas={"bf16": step})

    shown = [decision["at"][-3:-1] for decision in desk.status()["decision"]]
    assert shown == ["06", "05", "04", "03", "02"]


async def test_a_standing_proposal_is_told_once() -> None:
    desk = Desk()
    for step in range(5):
        await desk.tell(NOW + 15 * step, decision=replace(REST, at=Instant(NOW + 15 * step)), mode=Mode.RECOMMEND)

    assert [decision["at"] for decision in desk.status()["decision"]] == [FIRST]
    assert desk.status()["decision"][0]["proposal"] is True


ASKED = Proposed("3f9a01c2", "Rest to bf16 0", NOW)
PENDING = Pending(
    ASKED,
    "bf16 1",
    "the next request waits for a start",
    rejected=False,
    grams=Grams(43.92),
    money=Money(2.41464),
    currency="EUR",
)


async def test_a_proposal_says_what_it_saves() -> None:
    desk = Desk()
    asking: dict[str, Any] = {
        "decision": REST,
        "mode": Mode.RECOMMEND,
        "memory": replace(ACTIVE, proposal=ASKED),
        "pending": PENDING,
    }
    await desk.tell(**asking)
    told = desk.status()["proposal"]
    assert (told["savesWatts"], told["savesGramsPerHour"]) == (122, 43.9)
    assert (told["savesMoneyPerHour"], told["currency"]) == (2.4146, "EUR")
    assert (told["id"], told["what"], told["now"], told["since"]) == ("3f9a01c2", "Rest to bf16 0", "bf16 1", FIRST)
    assert (told["risk"], told["stands"]) == ("the next request waits for a start", True)
    assert "rejected" not in told or told["rejected"] is False


async def test_a_proposal_that_is_not_made_any_more_keeps_its_name_alone() -> None:
    desk = Desk()
    await desk.tell(memory=replace(ACTIVE, proposal=ASKED), mode=Mode.RECOMMEND)
    told = desk.status()["proposal"]
    assert (told["id"], told["what"]) == ("3f9a01c2", "Rest to bf16 0")
    assert not told.get("stands")
    assert "savesWatts" not in told


async def test_a_standing_proposal_is_not_told_again_after_a_restart() -> None:
    desk = Desk()
    await desk.tell(decision=REST, mode=Mode.RECOMMEND)
    after = Desk(desk.mirror)
    later = replace(REST, at=Instant(NOW + 60))

    assert await after.tell(NOW + 60, decision=later, mode=Mode.RECOMMEND) == []


async def test_a_decision_that_could_not_be_written_is_written_later() -> None:
    desk = Desk()
    await desk.tell()
    desk.sink.fault = Unreachable("no answer within 10 s")
    await desk.tell(NOW + 15, decision=GROW)
    desk.sink.fault = None
    await desk.tell(NOW + 30)

    assert [decision["action"] for decision in desk.status()["decision"]] == ["ScaleUp"]


async def test_a_failing_api_server_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.sink.fault = Unreachable("no answer within 10 s")
    await desk.tell()
    await desk.tell(NOW + 15)

    assert sum("InferenceService was not written" in record.message for record in caplog.records) == 1


async def test_memory_survives_a_restart_in_the_status() -> None:
    memory = ServiceMemory(
        serving="fp8",
        switching_to="bf16",
        resting=True,
        idle_state=IdleState.IDLE,
        idle_state_since=Instant(NOW - 60),
        quiet_since=Instant(NOW - 660),
        changed_at=Instant(NOW - 60),
        request_seen=2,
        request_at=Instant(NOW - 900),
        wake_handled="please",
        wake_took=Seconds(12.5),
    )
    desk = Desk()
    await desk.tell(memory=memory)
    written = inference_service({**raw.inference_service(), "status": desk.status()})

    assert recalled(written.status) == memory


async def test_totals_stay_in_the_status_while_the_ledger_is_not_read() -> None:
    desk = Desk()
    await desk.tell(books=ledger())
    await desk.tell(NOW + 15, books=None, conditions=(READY, stale()))

    assert desk.status()["footprint"]["total"]["energyWh"]["best"] == 2


async def test_all_statuses_show_the_books_of_the_same_moment() -> None:
    """So that an auditor can add them up: a status that is written later shows no later books."""
    desk = Desk()
    await desk.tell(books=ledger(energy=7200))
    await desk.tell(NOW + 60, books=ledger(energy=14_400), decision=GROW)
    early = desk.status()["footprint"]
    await desk.tell(NOW + 1.25 * REFRESH, books=ledger(energy=21_600))

    assert early["total"]["energyWh"]["best"] == 2
    assert desk.status()["footprint"]["total"]["energyWh"]["best"] == 6


async def test_a_zone_s_lines_are_in_its_status_and_stay_while_the_ledger_is_not_read() -> None:
    desk = Desk()
    placed = {line._replace(zone="north"): book for line, book in ledger().books.items()}
    await desk.tell(books=replace(ledger(), books=placed))
    await desk.tell(NOW + 15, books=None, grams=Missing(Reason.SOURCE_UNREACHABLE, "refused"))
    footprint = desk.status("gridzones", "", "north")["footprint"]

    assert footprint["total"]["energyWh"]["best"] == 2
    assert footprint["lines"]["services"]["energyWh"] == footprint["total"]["energyWh"]
    assert "foreign" not in footprint["lines"]


async def test_the_selector_of_an_adopted_deployment_is_its_own() -> None:
    held = mirror()
    held.put(SERVICES, raw.adopting(resourceVersion="200"))
    held.put("deployments", raw.deployment("legacy", owner="", labels={"app": "legacy", "team": "x"}))
    desk = Desk(held)
    await desk.tell()

    assert desk.status()["selector"] == "app=legacy,team=x"


async def test_the_status_says_what_runs() -> None:
    desk = Desk()
    await desk.tell(replicas={"bf16": 2}, books=ledger())
    status = desk.status()

    assert status["selector"] == "fallow.dev/service=chat"
    assert (status["replicas"], status["readyReplicas"], status["desiredReplicas"]) == (1, 1, 2)
    assert status["activeVariants"] == [{"name": "bf16", "replicas": 2, "readyReplicas": 1, "pending": 0}]
    assert (status["variant"], status["policy"], status["mode"]) == ("bf16", "green", "Enforce")
    assert status["idle"]["evidence"]["requests"] == "4 running, 0 waiting"
    assert status["summary"] == {
        "replicas": "1/2",
        "watts": "400 W",
        "joulesPerToken": "0.123",
        "carbonToday": "1 g",
    }


async def test_the_status_says_by_what_the_work_is_bound_and_nothing_where_that_is_not_known() -> None:
    desk = Desk()
    await desk.tell(rooflines={"bf16": MEMORY_BOUND, "int4": Missing(Reason.NO_WORK)})
    assert desk.status()["work"] == {
        "variant": "bf16",
        "regime": "MemoryBound",
        "flopsPerByte": {"low": 27.2, "best": 34.1, "high": 68.1},
        "ridgeFlopsPerByte": {"low": 148.0, "best": 295.0, "high": 354.0},
    }

    silent = Desk()
    await silent.tell(rooflines={"bf16": NOT_COUNTED})
    assert "work" not in silent.status()


async def test_what_an_autoscaler_runs_above_its_minimum_is_asked_for_too() -> None:
    desk = Desk()
    await desk.tell(replicas={"bf16": 1}, scalers={"bf16": scaler(1)}, above={"bf16": 3})
    status = desk.status()

    assert status["desiredReplicas"] == 4
    assert [(row["name"], row["replicas"]) for row in status["activeVariants"]] == [("bf16", 4)]


async def test_what_is_not_known_is_left_out_rather_than_zero() -> None:
    desk = Desk()
    unknown = Missing(Reason.NO_SERIES, "no GPU series")
    await desk.tell(watts=unknown, grams=unknown)

    assert desk.status()["summary"]["watts"] == ""
    assert "footprint" not in desk.status()
    assert "intensity" not in desk.status("gridzones", "", "north")


async def test_an_unreadable_service_is_told_so_and_keeps_its_memory() -> None:
    desk = Desk()
    await desk.tell(memory=replace(ACTIVE, resting=True))
    broken = raw.inference_service(spec={"scaling": {"minReplicas": 9}}, generation=2, resourceVersion="9000")
    desk.mirror.put(SERVICES, {**broken, "status": desk.status()})
    await desk.tell(NOW + 15)

    assert (desk.condition("Ready")["status"], desk.condition("Ready")["reason"]) == ("False", "Invalid")
    assert "maxReplicas" in desk.condition("Ready")["message"]
    assert desk.status()["idle"]["resting"] is True


async def test_a_policy_counts_its_services_and_proposals() -> None:
    desk = Desk()
    desk.mirror.put("energypolicies", raw.energy_policy(mode="Recommend") | {"metadata": _newer("green")})
    await desk.tell(decision=REST, mode=Mode.RECOMMEND, memory=replace(ACTIVE, idle_state=IdleState.IDLE))
    status = desk.status("energypolicies", "", "green")

    assert (status["matchedServices"], status["services"]["idle"], status["pendingProposals"]) == (1, 1, 1)
    assert status["summary"] == {"watts": "400 W", "saves": "122 W", "budget": ""}


KEPT = "gpu-3 is not emptied: llm/chat was changed within guards.dwell"
TOLD = Kept({"green": (KEPT,)}, {CHAT: KEPT})


async def test_why_no_node_is_emptied_is_written_once_it_stands_and_not_again() -> None:
    desk = Desk()
    await desk.tell()
    kinds = [[body["kind"] for body in await desk.tell(NOW + 15 * cycle, kept=TOLD)] for cycle in range(1, 5)]

    assert kinds == [[], ["EnergyPolicy"], [], []]
    assert desk.status(POLICIES, "", "green")["keptNodes"] == [KEPT]


async def test_why_the_node_of_a_service_is_not_emptied_comes_with_its_figures() -> None:
    desk = Desk()
    await desk.tell()
    assert [body["kind"] for body in await desk.tell(NOW + REFRESH * 1.25, kept=TOLD)].count("InferenceService") == 1
    assert desk.status()["standing"]["keptNode"] == KEPT


def _newer(name: str) -> dict[str, Any]:
    return {"name": name, "uid": "EnergyPolicy-green", "generation": 2, "resourceVersion": "900"}


async def test_a_zone_shows_its_intensity_and_its_nodes() -> None:
    desk = Desk()
    await desk.tell(grams=412)
    status = desk.status("gridzones", "", "north")

    assert (status["nodes"], status["gpus"], status["summary"]["intensity"]) == (1, 8, "412 g/kWh")
    assert {part["type"]: part["status"] for part in status["conditions"]} == {
        "Ready": "True",
        "IntensityFresh": "True",
    }


async def test_a_zone_without_intensity_says_why() -> None:
    desk = Desk()
    await desk.tell(grams=Missing(Reason.SOURCE_UNREACHABLE, "connection refused"))
    conditions = desk.status("gridzones", "", "north")["conditions"]

    assert {(part["reason"], part["message"]) for part in conditions} == {("SourceUnreachable", "connection refused")}


async def test_a_profile_shows_its_best_point() -> None:
    desk = Desk()
    await desk.tell()
    status = desk.status("modelprofiles", "", "bf16-h100")

    assert (status["pointCount"], status["bestJoulesPerToken"], status["summary"]["best"]) == (1, 0.2, "0.2 at 32")


async def test_without_recent_tokens_the_cost_of_a_token_is_the_days() -> None:
    desk = Desk()
    await desk.tell(books=ledger(), per_token=Missing(Reason.NO_WORK, "no token in the window"))

    assert desk.status()["summary"]["joulesPerToken"] == "2"
