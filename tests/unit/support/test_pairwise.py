"""Pairwise cases cover every pair, are few, and do not change from run to run."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pairwise import pairwise

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=5)


def values(lengths: list[int]) -> list[list[str]]:
    """Values that say which factor they are of."""
    return [[f"{factor}:{value}" for value in range(n)] for factor, n in enumerate(lengths)]


@given(sizes)
def test_every_two_values_of_different_factors_meet(lengths: list[int]) -> None:
    factors = values(lengths)
    rows = pairwise(*factors)
    met = {pair for row in rows for pair in combinations(row, 2)}
    for left, right in combinations(factors, 2):
        assert met >= set(product(left, right))
    for row in rows:
        assert [cell in factor for cell, factor in zip(row, factors, strict=True)] == [True] * len(
            factors
        )


@given(sizes)
def test_a_row_is_there_once_and_the_same_factors_give_the_same_rows(lengths: list[int]) -> None:
    factors = values(lengths)
    rows = pairwise(*factors)
    assert len(set(rows)) == len(rows)
    assert pairwise(*factors) == rows


@pytest.mark.parametrize(
    ("lengths", "most"),
    [
        ([2, 96, 4, 3], 96 * 4),  # what the panels have: a cross product has 2,304
        ([3, 3, 3], 12),  # nine is the least
        ([5], 5),
    ],
)
def test_it_takes_few_rows(lengths: list[int], most: int) -> None:
    assert len(pairwise(*values(lengths))) <= most
