"""Algorithm 1 on trees small enough to read: which terminals, which ancestors, which nodes in which order."""

import itertools
import random

import pytest

from astro.cloning.walk import (
    Leg,
    common_ancestor,
    correct_terminals,
    dead_ends,
    lowest_value,
    path_value,
    plan_walk,
    wrong_terminals,
)
from tests.cloning.trees import GAME, tree

#      0
#    1   2
#   3 4   7 8       3, 4, 8, 9 are terminal; 5 below 4 is not there
#         9
DEEP = tree(
    (0, "a"),
    (0, "b"),
    (1, "aa", "W"),
    (1, "ab"),
    (4, "aba", "W"),
    (4, "abb", "C"),
    (2, "ba"),
    (2, "bb", "W"),
    (7, "baa", "W"),
)


def walk(which, correct, wrong, jump="common_ancestor", seed=0):
    return plan_walk(which, correct=correct, wrong=wrong, jump=jump, rng=random.Random(seed))


# --- which terminals --------------------------------------------------------------------------------------------------


def test_wrong_terminals_have_different_answers():
    """7 has the answer of 4; the first one found stands for both."""
    assert wrong_terminals(GAME) == [4, 5, 6]


def test_answers_that_say_the_same_and_unusable_nodes_are_left_out():
    rows = tree((0, "x", "W =7"), (0, "y", "W =7.0"), (0, "z", "W =8"))
    assert wrong_terminals(rows, key=lambda answer: answer.removesuffix(".0")) == [1, 3]
    assert wrong_terminals(rows, usable=lambda node: node != 1) == [2, 3]


WRONG = [
    # an unreadable answer is no wrong answer, nor is one that could not be graded
    (((0, "x", "U"), (0, "y", "G")), []),
    # a step that is not terminal is none
    (((0, "x"),), []),
    # nor is a correct one
    (((0, "x", "C"),), []),
    # texts differ, answers do not
    (((0, "x", "W =7"), (0, "y", "W =7"), (0, "z", "W =8")), [1, 3]),
]


@pytest.mark.parametrize(("rows", "expected"), WRONG)
def test_what_counts_as_wrong(rows, expected):
    assert wrong_terminals(tree(*rows)) == expected


RANKED = [
    # the mean Q of the path decides: (0.2 + 1) / 2 against (0.9 + 0.8) / 2
    (((0, "a", "q0.2"), (1, "aa", "C q1"), (0, "b", "q0.9"), (3, "ba", "C q0.8")), [4, 2]),
    # the mean, not the sum: a long path of middling steps does not outrank a short good one
    (((0, "a", "C q0.6"), (0, "b", "q0.5"), (2, "ba", "q0.5"), (3, "baa", "C q0.5")), [1, 4]),
    # a tie goes to the lower index
    (((0, "a", "C q1"), (0, "b", "C q1")), [1, 2]),
    # none is correct
    (((0, "a", "W"), (0, "b", "U"), (0, "c")), []),
]


@pytest.mark.parametrize(("rows", "expected"), RANKED)
def test_correct_terminals_come_best_first(rows, expected):
    assert correct_terminals(tree(*rows)) == expected


def test_values_of_a_path():
    one = tree((0, "a", "q0.25"), (1, "aa", "q0.5"), (2, "aaa", "C q1"))
    assert path_value(one, 3) == pytest.approx(1.75 / 3)
    assert lowest_value(one, 3) == 0.25


# --- ancestors --------------------------------------------------------------------------------------------------------

ANCESTORS = [
    (3, 5, 1),  # below one child
    (5, 6, 4),  # siblings: their parent
    (3, 8, 0),  # nothing but the root
    (9, 8, 2),
    (6, 6, 6),  # with itself
]


@pytest.mark.parametrize(("one", "other", "expected"), ANCESTORS)
def test_common_ancestor(one, other, expected):
    assert common_ancestor(DEEP, one, other) == common_ancestor(DEEP, other, one) == expected


# --- walks ------------------------------------------------------------------------------------------------------------

WALKS = [
    # k' = 0: a direct solution
    (6, [], [(0, (1, 4, 6))]),
    # back to the parent of both
    (6, [5], [(0, (1, 4, 5)), (4, (6,))]),
    # back further
    (6, [3], [(0, (1, 3)), (1, (4, 6))]),
    # back to the root
    (6, [8], [(0, (2, 8)), (0, (1, 4, 6))]),
    # from wrong to wrong to right: each return is to the ancestor shared with the next, not with the last
    (6, [3, 8, 5], [(0, (1, 3)), (0, (2, 8)), (0, (1, 4, 5)), (4, (6,))]),
    (6, [8, 9, 3], [(0, (2, 8)), (2, (7, 9)), (0, (1, 3)), (1, (4, 6))]),
]


@pytest.mark.parametrize(("correct", "wrong", "legs"), WALKS)
def test_a_walk_goes_back_to_the_deepest_common_ancestor(correct, wrong, legs):
    planned = walk(DEEP, correct, wrong)
    assert planned.legs == tuple(Leg(*leg) for leg in legs)
    assert planned.backtracks == len(wrong)


def test_the_jump_to_the_root_walks_every_path_from_its_beginning():
    planned = walk(DEEP, 6, [3, 5], jump="root")
    assert planned.legs == (Leg(0, (1, 3)), Leg(0, (1, 4, 5)), Leg(0, (1, 4, 6)))


def test_the_random_jump_goes_to_each_common_ancestor_and_nowhere_else():
    starts = [walk(DEEP, 6, [5], jump="random_ancestor", seed=seed).legs[1] for seed in range(60)]
    assert set(starts) == {Leg(0, (1, 4, 6)), Leg(1, (4, 6)), Leg(4, (6,))}


@pytest.mark.parametrize("jump", ["common_ancestor", "root", "random_ancestor"])
@pytest.mark.parametrize("seed", range(5))
def test_every_leg_continues_its_start_and_ends_at_its_terminal(jump, seed):
    wrong = [3, 9, 5, 8]
    planned = walk(DEEP, 6, wrong, jump=jump, seed=seed)
    assert [leg.nodes[-1] for leg in planned.legs] == [*wrong, 6]
    for leg in planned.legs:
        chain = [leg.start, *leg.nodes]
        assert all(DEEP.nodes[child].parent == parent for parent, child in itertools.pairwise(chain))
    assert planned == walk(DEEP, 6, wrong, jump=jump, seed=seed)  # the same draws, the same walk


# --- going back before the end ----------------------------------------------------------------------------------------


def test_a_dead_end_is_the_first_step_off_every_way_to_a_correct_end():
    assert dead_ends(GAME, [4, 5, 6, 7]) == [4, 5, 2]  # nothing right below 2: both its ends are one visit
    assert dead_ends(DEEP, [3, 5, 8, 9]) == [3, 5, 2]
    found = plan_walk(
        GAME, correct=3, wrong=[6, 4, 7], jump="common_ancestor", rng=random.Random(0), back_from="dead_end"
    )
    assert found.legs == (Leg(0, (2,)), Leg(0, (1, 4)), Leg(1, (3,)))
    assert walk(GAME, 3, [6, 4, 7]).legs == (Leg(0, (2, 6)), Leg(0, (1, 4)), Leg(0, (2, 7)), Leg(0, (1, 3)))
