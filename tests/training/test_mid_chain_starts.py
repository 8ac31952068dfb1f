"""States that episodes of RL restart from: where chains are cut, and an even draw."""

import pytest

from astro.training.mid_chain_starts import cuts, draw_restarts, restarts_beside
from schemas.records import Segment, Trace

STEP, WRONG, DOUBT, BACK = "2 * 3 = 6 left 4 6\n", "6 + 4 = 10", " make 24 got 10 no\n", "make 24 from 2 3 4\n"
END = "6 * 4 = 24 make 24 got 24 yes answer 2 * 3 * 4"
SEARCH = [("step", STEP), ("wrong_step", WRONG), ("reflection", DOUBT), ("return", BACK), ("step", STEP), ("step", END)]
DIRECT = [("step", STEP), ("step", END)]


def trace(pieces, name="p"):
    backtracks = sum(kind == "return" for kind, _ in pieces)
    return Trace(
        id=f"{name}/0",
        problem_id=name,
        kind="search" if backtracks else "direct",
        prompt=f"{name} make 24 from 2 3 4\n",
        completion="".join(text for _, text in pieces),
        backtracks=backtracks,
        segments=[Segment(text=text, kind=kind, node=None if kind == "reflection" else 1) for kind, text in pieces],
        answer="2 * 3 * 4",
    )


def test_a_chain_is_cut_behind_a_wrong_step_before_it_is_found_out():
    assert cuts(trace(SEARCH).segments, "wrong") == [2]
    (found,) = draw_restarts([trace(SEARCH)], count=1, states="wrong", seed=0)
    assert found.prefix == STEP + WRONG
    assert found.prompt == "p make 24 from 2 3 4\n" + STEP + WRONG
    assert found.problem_id == "p"


def test_any_state_is_behind_a_step_and_never_at_the_end():
    assert cuts(trace(SEARCH).segments, "any") == [1, 2, 5]
    assert cuts(trace(DIRECT).segments, "any") == [1]
    assert cuts(trace(DIRECT[1:]).segments, "any") == []


def test_chains_without_wrong_steps_have_no_wrong_states():
    assert draw_restarts([trace(DIRECT)], count=3, states="wrong", seed=0) == []
    assert draw_restarts([], count=3, states="any", seed=0) == []


def test_states_are_spread_over_the_chains_and_come_twice_only_after_all_came_once():
    traces = [trace(SEARCH, f"p{i}") for i in range(5)]
    drawn = draw_restarts(traces, count=20, states="any", seed=3)
    assert {r.problem_id for r in drawn[:5]} == {r.problem_id for r in drawn[5:10]} == {f"p{i}" for i in range(5)}
    assert len({(r.problem_id, r.prefix) for r in drawn[:15]}) == 15
    assert drawn[15:] == drawn[:5]


def test_the_draw_follows_the_seed_and_fewer_are_the_first_of_more():
    traces = [trace(SEARCH, f"p{i}") for i in range(9)]
    drawn = draw_restarts(traces, count=20, states="any", seed=3)
    assert draw_restarts(traces, count=20, states="any", seed=3) == drawn
    assert draw_restarts(traces, count=20, states="any", seed=4) != drawn
    assert draw_restarts(traces, count=7, states="any", seed=3) == drawn[:7]


def test_states_that_leave_no_room_are_left_out():
    traces = [trace(SEARCH, f"p{i}") for i in range(3)]
    drawn = draw_restarts(traces, count=9, states="any", seed=0, fits=lambda prompt: WRONG not in prompt)
    assert {r.prefix for r in drawn} == {STEP}
    assert draw_restarts(traces, count=9, states="any", seed=0, fits=lambda prompt: False) == []


@pytest.mark.parametrize(
    ("fresh", "fraction", "expected"), [(90, 0.1, 10), (100, 0.5, 100), (100, 0.0, 0), (3, 0.25, 1)]
)
def test_the_fraction_is_of_all_prompts(fresh, fraction, expected):
    assert restarts_beside(fresh, fraction) == expected
