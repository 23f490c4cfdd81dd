"""Slices of MIG instances, by the names of their profiles."""

from __future__ import annotations

import pytest

from fallow.domain.slices import memory_slices

ROWS = [(10, 80, 1), (20, 80, 2), (40, 80, 4), (80, 80, 8), (12, 94, 1), (24, 94, 2), (18, 141, 1), (71, 141, 4)]


@pytest.mark.parametrize(("gigabytes", "of", "slices"), ROWS)
def test_a_profile_s_gigabytes_are_rounded_eighths(gigabytes: int, of: int, slices: int) -> None:
    assert memory_slices(gigabytes / of) == slices


@pytest.mark.parametrize(("share", "slices"), [(0.0, 1), (0.01, 1), (1.2, 8)])
def test_an_instance_has_at_least_one_and_at_most_all(share: float, slices: int) -> None:
    assert memory_slices(share) == slices
