"""Whole cycles: what enforcing a policy avoided is in the books, what only recommends avoids nothing."""

import pytest

from fallow.domain.counterfactual import BaselineKind, BaselineRule
from fallow.domain.ledger import Account, Ledger, Span, together
from fallow.domain.policies import Mode
from fallow.domain.units import Joules
from fallow.footprint.savings import counterfactual, total
from tests.support.builders import CHAT, WAKE, policy, service
from tests.support.plant import Plant

TO_ZERO = service(minimum=0, wake=WAKE)


def account(ledger: Ledger | None) -> Account:
    assert ledger is not None
    return together(ledger.service_books(CHAT), Span.TOTAL).account


async def lived(plant: Plant, load: float, cycles: int) -> Ledger:
    """The books as they stand, stored or not."""
    plant.running = load
    await plant.pass_time(cycles)
    ledger = plant.cycle._bookkeeper.ledger
    assert ledger is not None
    return ledger


async def test_rest_is_told_as_what_the_autoscaler_s_last_replica_would_have_drawn() -> None:
    plant = Plant(TO_ZERO, policy())
    await lived(plant, 5.0, 30)
    ledger = await lived(plant, 0.0, 120)
    assert plant.replicas == {"bf16": 0}
    saved = account(ledger)
    assert ledger.counterfactuals[CHAT].running == 1
    # the rest began after ten minutes of quiet: 78 of 120 cycles of 15 s, at 121.6 W loaded less 71.8 W empty
    assert saved.avoided_rest.best.value == pytest.approx(78 * 15 * (121.6 - 71.8), rel=0.05)
    assert saved.avoided_rest.low < saved.avoided_rest.best < saved.avoided_rest.high
    assert counterfactual(saved).best == saved.compared + total(saved.avoided).best


async def test_what_a_policy_only_recommends_avoids_nothing() -> None:
    plant = Plant(TO_ZERO, policy(Mode.RECOMMEND))
    await lived(plant, 5.0, 30)
    ledger = await lived(plant, 0.0, 100)
    assert CHAT not in ledger.counterfactuals
    assert account(ledger).compared == Joules(0)


async def test_a_declared_baseline_is_compared_in_every_mode() -> None:
    rule = BaselineRule(BaselineKind.STATIC, replicas=4)
    plant = Plant(service(minimum=1), policy(Mode.OBSERVE, baseline=rule))
    ledger = await lived(plant, 5.0, 40)
    assert ledger.counterfactuals[CHAT].running == 4
    assert account(ledger).avoided_replicas.best.value == pytest.approx(38 * 15 * 3 * (121.6 - 71.8), rel=0.1)


async def test_a_restart_neither_loses_nor_doubles_what_was_avoided() -> None:
    plant = Plant(TO_ZERO, policy())
    await lived(plant, 5.0, 30)
    await lived(plant, 0.0, 80)
    before = account(plant.store.stored)
    plant.cycle = plant.started()
    first, later = [account(await lived(plant, 0.0, 1)).avoided_rest.best.value for _ in range(2)]
    # what passed since the ledger was stored is compared, unless nobody knows what was asked of it meanwhile
    assert first - before.avoided_rest.best.value in (0.0, pytest.approx(15 * (121.6 - 71.8)))
    assert later - first == pytest.approx(15 * (121.6 - 71.8))
