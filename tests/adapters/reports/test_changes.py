"""What is new since the cycle before."""

from __future__ import annotations

from dataclasses import replace

from fallow.adapters.reports.changes import PROPOSAL_MEMORY, ConditionWatch, DecisionWatch, FailureWatch
from fallow.domain.plans import ClearRequest, Cordon, CordonNode, Decision, Outcome, Plan
from fallow.domain.units import Instant
from tests.adapters.reports.scenes import FRESH, GROW, READY, REST, report, stale
from tests.support.builders import NOW, service


def plan(decision: Decision | None, replicas: int = 1) -> Plan:
    return report(decision=decision, replicas={"bf16": replicas}).plan


def told(watch: DecisionWatch, decision: Decision | None, replicas: int = 1) -> bool:
    return bool(list(watch.new(plan(decision, replicas))))


def test_a_repeated_decision_is_one_decision() -> None:
    watch = DecisionWatch()

    assert [told(watch, GROW), told(watch, replace(GROW, message="13 waiting"))] == [True, False]


def test_another_number_of_replicas_is_another_decision() -> None:
    watch = DecisionWatch()

    assert [told(watch, GROW, 2), told(watch, GROW, 4)] == [True, True]


def test_a_decision_that_comes_again_later_is_told_again() -> None:
    watch = DecisionWatch()

    assert [told(watch, GROW), told(watch, None), told(watch, GROW)] == [True, False, True]


def test_a_proposal_that_flickers_is_told_once() -> None:
    watch = DecisionWatch()

    assert [told(watch, REST), told(watch, None), told(watch, REST)] == [True, False, False]


def test_a_proposal_that_comes_back_much_later_is_told_again() -> None:
    watch = DecisionWatch()
    later = replace(REST, at=Instant(NOW + PROPOSAL_MEMORY))

    assert [told(watch, REST), told(watch, None), told(watch, later)] == [True, False, True]


def test_a_proposal_that_stands_for_long_is_told_once() -> None:
    watch = DecisionWatch()
    told(watch, REST)

    assert not any(
        told(watch, replace(REST, at=Instant(NOW + 60 * minute))) for minute in range(1, int(PROPOSAL_MEMORY / 60) + 5)
    )


def test_a_condition_seen_first_is_no_change() -> None:
    assert not list(ConditionWatch().changed(report().plan))


def test_a_condition_is_told_when_status_or_reason_change() -> None:
    watch = ConditionWatch()
    list(watch.changed(report().plan))
    changed = list(watch.changed(report(conditions=(READY, stale())).plan))
    again = list(watch.changed(report(conditions=(READY, stale("older still"))).plan))
    back = list(watch.changed(report(conditions=(READY, FRESH)).plan))

    assert [condition.status for _, condition in changed + again + back] == [False, True]


def test_a_failure_is_told_once_for_each_reason() -> None:
    watch = FailureWatch()
    refused, busy = (Outcome(ClearRequest(service()), wrote=False, error=error) for error in ("403 no", "503 busy"))
    cycles = [(refused,), (refused,), (busy,), (), (busy,)]

    assert [len(list(watch.new(outcomes))) for outcomes in cycles] == [1, 0, 1, 0, 1]


def test_a_cordon_that_is_refused_again_later_is_told_once_of_whichever_node() -> None:
    watch = FailureWatch()

    def cordon(node: str, error: str) -> bool:
        change = CordonNode(node, Cordon.EMPTY, Instant(NOW), "green", "why")
        return bool(list(watch.new((Outcome(change, wrote=not error, error=error and f"{error} {node}"),))))

    assert [cordon("gpu-1", "403"), bool(list(watch.new(()))), cordon("gpu-1", "403")] == [True, False, False]
    assert [cordon("gpu-2", "403"), cordon("gpu-2", "422")] == [False, True]
    assert [cordon("gpu-2", ""), cordon("gpu-2", "422")] == [False, True]
