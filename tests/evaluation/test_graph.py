"""Chains as graphs. The main example: a problem with two branches, a jump to the first step and a jump to the start."""

import pytest

from astro.evaluation.graph import PROBLEM, path_to, steps_to


@pytest.fixture
def walk(chain):
    """p -> a -> b (wrong), back to a -> c (wrong), back to p -> d (right)."""
    return chain(("a", -1), ("b", 0, "W"), ("c", 0, "W"), ("d", -1, "R"), back=[(1, 0), (2, -1)])


def test_paths(walk):
    assert [path_to(walk, i) for i in (PROBLEM, 0, 1, 2, 3)] == [[], [0], [0, 1], [0, 2], [3]]
    assert steps_to(walk, 2) == ("a", "c")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 0)], "step 0 continues step 0"),  # its own parent: walking up would not end
        ([("a", 1), ("b", 0)], "step 0 continues step 1"),  # two steps that continue each other
    ],
)
def test_broken_chains_are_refused(chain, rows, message):
    with pytest.raises(ValueError, match=message):
        path_to(chain(*rows), 0)


def test_paths_of_unknown_steps_are_refused(walk):
    for index in (4, -2):
        with pytest.raises(ValueError, match=f"no step {index} in a chain of 4"):
            path_to(walk, index)
