"""A policy that recommends asks a person: a word counts once, and never for anything but what it was said to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fallow.domain.plans import ServicePlan
from fallow.domain.policies import Mode
from fallow.domain.reasons import Reason
from fallow.domain.snapshots import Snapshot
from fallow.domain.units import Instant
from fallow.domain.workloads import Service, ServiceMemory
from tests.support.builders import NOW, Running, Scene, policy, service
from tests.unit.planner.asking import planned

RECOMMEND = policy(Mode.RECOMMEND)
BUSY = {"bf16": Running(2, running=34)}
CALM = {"bf16": Running(2, running=16)}
OTHER = {"bf16": Running(2, running=25)}


def scene(
    running: dict[str, Running] | None = None,
    *,
    memory: ServiceMemory | None = None,
    said: Service | None = None,
    mode: Mode = Mode.RECOMMEND,
) -> Scene:
    return Scene(
        service=said or service(),
        policy=policy(mode),
        variants=running or BUSY,
        memory=memory or ServiceMemory(serving="bf16"),
    )


def later(*, memory: ServiceMemory, said: Service | None = None) -> Snapshot:
    return replace(scene(memory=memory, said=said).snapshot(), at=Instant(NOW + 60))


def asked(memory: ServiceMemory | None = None) -> ServicePlan:
    plan = planned(scene(memory=memory))
    assert plan.pending is not None
    return plan


def name(plan: ServicePlan) -> str:
    assert plan.pending is not None
    return plan.pending.proposed.id


def approving(plan: ServicePlan) -> Service:
    return replace(service(), approved=name(plan))


def rejecting(plan: ServicePlan) -> Service:
    return replace(service(), rejected=name(plan))


def test_a_proposal_has_a_name_and_says_what_now_and_since_when() -> None:
    plan = asked()
    assert plan.pending is not None
    one = plan.pending.proposed
    assert (one.what, one.since, plan.pending.now, plan.pending.rejected) == ("ScaleUp to bf16 4", NOW, "bf16 2", False)
    assert len(one.id) == 8
    assert plan.memory.proposal == one
    assert plan.replicas == {"bf16": 2}


def test_it_keeps_its_name_while_it_stands_and_while_it_does_not() -> None:
    first = asked()
    calm = planned(scene(CALM, memory=first.memory))
    assert calm.pending is None
    assert calm.memory.proposal == first.memory.proposal
    assert name(planned(later(memory=calm.memory))) == name(first)


def test_another_proposal_has_another_name() -> None:
    first = asked()
    other = planned(scene(OTHER, memory=first.memory))
    assert name(other) != name(first)


def test_what_is_approved_is_done_and_said_to_be_approved() -> None:
    first = asked()
    plan = planned(scene(memory=first.memory, said=approving(first)))
    assert plan.replicas == {"bf16": 4}
    assert plan.pending is None
    assert plan.decision is not None
    assert plan.decision.proposal is False
    assert plan.decision.message.startswith(f"approved ({name(first)}): ")
    assert (plan.memory.changed_at, plan.memory.proposal) == (NOW, None)


def test_a_word_counts_once() -> None:
    first = asked()
    done = planned(scene(memory=first.memory, said=approving(first)))
    again = replace(done.memory, changed_at=Instant(NOW - 3600))
    plan = planned(later(memory=again, said=approving(first)))
    assert plan.pending is not None
    assert plan.replicas == {"bf16": 2}
    assert name(plan) != name(first)


@pytest.mark.parametrize("word", ["", "00000000", "ScaleUp to bf16 4"])
def test_another_word_approves_nothing(word: str) -> None:
    first = asked()
    plan = planned(scene(memory=first.memory, said=replace(service(), approved=word)))
    assert plan.replicas == {"bf16": 2}
    assert plan.standing.proposal


def test_what_is_rejected_is_not_proposed_until_something_else_was() -> None:
    first = asked()
    plan = planned(scene(memory=first.memory, said=rejecting(first)))
    assert plan.replicas == {"bf16": 2}
    assert plan.decision is None
    assert (plan.standing.reason, plan.standing.proposal) == (Reason.REJECTED, False)
    assert plan.standing.message.startswith(f"rejected ({name(first)}), ScaleUp to bf16 4: ")
    assert plan.pending is not None
    assert plan.pending.rejected
    other = planned(scene(OTHER, memory=plan.memory, said=rejecting(first)))
    assert other.standing.proposal
    back = planned(later(memory=other.memory, said=rejecting(first)))
    assert back.standing.proposal


def test_an_approval_takes_a_rejection_back() -> None:
    first = asked()
    plan = planned(scene(memory=first.memory, said=replace(approving(first), rejected=name(first))))
    assert plan.replicas == {"bf16": 4}


@pytest.mark.parametrize(("mode", "replicas"), [(Mode.OBSERVE, 2), (Mode.ENFORCE, 4)])
def test_only_a_policy_that_recommends_asks(mode: Mode, replicas: int) -> None:
    first = asked()
    plan = planned(scene(memory=first.memory, said=approving(first), mode=mode))
    assert plan.total == replicas
    assert plan.pending is None
    assert plan.memory.proposal is None


def test_the_risk_of_more_is_none() -> None:
    first = asked()
    assert first.pending is not None
    assert first.pending.risk == ""
