"""What others report of savings comes out in the same order here: the less load, the more there is to save."""

from __future__ import annotations

from bench.published.dynamollm import LOADS, Levers, saved, tables


def test_the_lower_the_load_the_more_is_saved() -> None:
    known = tables()
    found = [saved(share, Levers(), known) for share in LOADS.values()]

    assert 0.65 > found[0] > found[1] > found[2] > 0.05


def test_all_levers_save_at_least_what_each_does_alone_and_no_lever_saves_nothing() -> None:
    known = tables()
    alone = (Levers(shards=False, clocks=False), Levers(instances=False, clocks=False), Levers(False, False))
    for share in LOADS.values():
        assert saved(share, Levers(False, False, False), known) == 0.0
        assert saved(share, Levers(), known) >= max(saved(share, one, known) for one in alone) >= 0.0
