"""What is known of a MIG instance by its name, and who goes by the instance and who by the board that it is on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.figures import Figure
from fallow.footprint.audit.rows import rows
from fallow.footprint.bookkeeping import book
from fallow.footprint.hardware import TABLE, UNKNOWN, board_of, hardware_of, idle_ceiling, share_of, whole_name
from fallow.footprint.roofline import ridge
from fallow.twin.physics.parts import NAMED_BY, profiles_of
from tests.support.metered import CHAT_LINE, FREE, booked, gpu, instance, opened, pod, snapshot
from tests.support.metered import node as metered_node
from tests.support.windows import H100 as DCGM
from tests.support.windows import gpu as window_gpu
from tests.support.windows import gpu_slot, holding, survey, tenure, window

H100 = "NVIDIA-H100-80GB-HBM3"


@pytest.mark.parametrize(
    ("name", "share"),
    [(f"{H100}-MIG-3g.40gb", 3 / 7), (f"{H100}-MIG-1g.10gb.me", 1 / 7), (f"{H100}-MIG-1c.3g.40gb", 1 / 7), (H100, 1)],
)
def test_an_instance_has_its_share_of_what_the_board_draws_and_took_to_make(name: str, share: float) -> None:
    part, board = hardware_of(name), hardware_of(H100)
    for field in ("design", "bare", "context"):
        assert getattr(part, field).value == pytest.approx(share * getattr(board, field).value)
    assert part.embodied.best.value == pytest.approx(share * board.embodied.best.value)
    assert share_of(name) == pytest.approx(share)
    assert board_of(name) is board
    assert whole_name(name) == H100


@given(row=st.sampled_from([hardware for _, hardware in TABLE if hardware.memory is not None]))
def test_seven_of_the_smallest_instances_are_the_board(row: object) -> None:
    name = row.name  # type: ignore[attr-defined]  # a row of the table
    gigabytes = int(row.memory / 8 + 0.5)  # type: ignore[attr-defined]  # as above
    part = hardware_of(f"{name} MIG 1g.{gigabytes}gb")
    assert (part.bare * 7).value == pytest.approx(hardware_of(name).bare.value)
    assert part.bandwidth == pytest.approx(hardware_of(name).bandwidth / 8)  # type: ignore[operator]  # all rows have one


@pytest.mark.parametrize("gpu", ["H100", "H200", "B200", "A100"])
def test_memory_is_divided_as_the_twin_divides_it(gpu: str) -> None:
    assert hardware_of(gpu).memory == NAMED_BY[gpu]
    for name, profile in profiles_of(gpu).items():
        eighths = profile.eighths(NAMED_BY[gpu] * 1e9)
        assert hardware_of(f"{gpu}-MIG-{name}").bandwidth == pytest.approx(board_of(gpu).bandwidth * eighths / 8)  # type: ignore[operator]  # all rows have one


def test_an_instance_of_an_unknown_gpu_and_of_one_that_is_not_divided_is_no_more_known_than_that() -> None:
    assert hardware_of("Experimental-9-MIG-1g.10gb") is UNKNOWN
    assert hardware_of("NVIDIA-L4-MIG-1g.3gb") is hardware_of("NVIDIA-L4")


def test_the_ridge_of_an_instance_is_by_its_own_compute_and_bandwidth() -> None:
    whole, part = ridge("BF16", H100), ridge("BF16", f"{H100}-MIG-1g.10gb")
    assert isinstance(whole, Figure)
    assert isinstance(part, Figure)
    assert part.best.value == pytest.approx(whole.best.value * 8 / 7)


def test_of_an_instance_whose_memory_is_not_named_no_ridge_is_known() -> None:
    assert not isinstance(ridge("BF16", "NVIDIA H100 MIG 1g"), Figure)


def test_the_books_of_a_divided_board_share_it_once_whatever_the_label_of_its_node() -> None:
    """DCGM repeats the board's power and names the board; the label names instances."""
    shares = [instance(1, "3g.40gb", "llm/chat-1", 0.5), instance(2, "3g.40gb", None, 0.0)]
    found = []
    for product in (H100, f"{H100}-MIG-3g.40gb"):
        place = replace(metered_node(), gpu_product=product, instances=2)
        ledger = opened()
        for seconds in (0, 10):
            reading = gpu(seconds, 300.0 * seconds, 300, shares=shares, model=DCGM)
            ledger = book(ledger, snapshot(seconds, [reading], pods=[pod("chat-1")], nodes=[place]))
        made = ledger.books[CHAT_LINE].total.account.embodied.best.value
        found.append((booked(ledger)[CHAT_LINE], booked(ledger)[FREE], made))

    assert found[0] == found[1]
    assert found[0][0] + found[0][1] == pytest.approx(3000)
    assert found[0][1] == pytest.approx(71.8 * 10 * 4 / 7)


def test_the_audit_takes_the_board_where_only_the_node_s_label_names_it() -> None:
    label = f"{H100}-MIG-3g.40gb"
    slot = gpu_slot(100, tenure(part="3g.40gb #1", weight=3 / 7), tenure(None, part="-", weight=4 / 7))
    seen = replace(survey(holding()), nodes={"gpu-1": replace(metered_node("gpu-1"), gpu_product=label)})
    found = rows(window(replace(window_gpu(slot), model="")), seen)

    assert {row.product for row in found} == {H100}
    assert idle_ceiling(H100) == idle_ceiling(DCGM)
    assert sum(row.energy.value for row in found) == pytest.approx(8 * slot.energy.value)
