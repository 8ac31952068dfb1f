"""Which chains are shown: every outcome, typical ones first, each problem once, the contrast on the same problem."""

import random

import pytest

from astro.viz.chain_selection import choose, examples, outcome
from tests.viz.example import make_completion, make_problem


def completion(identifier: str, *, backtracks: int, solve: bool, model: str = "grpo", sample: int = 0):
    problem = make_problem(identifier, 24, [4, 6, 8])
    return make_completion(problem, model, seed=sample, attempts=backtracks + 1, solve=solve)


@pytest.fixture
def pool():
    """Six solved at once, three after going back (two of them three times, one once), two failed."""
    at_once = [completion(f"o{i}", backtracks=0, solve=True) for i in range(6)]
    back = [completion("b0", backtracks=1, solve=True)]
    back += [completion(f"b{i}", backtracks=3, solve=True) for i in (1, 2)]
    return [*at_once, *back, *(completion(f"f{i}", backtracks=2, solve=False) for i in range(2))]


@pytest.mark.parametrize(
    ("backtracks", "solve", "expected"),
    [
        (0, True, "solved at once"),
        (2, True, "solved after going back"),
        (0, False, "failed"),
        (2, False, "failed"),
    ],
)
def test_outcome(backtracks, solve, expected):
    assert outcome(completion("p", backtracks=backtracks, solve=solve)) == expected


def test_a_right_answer_that_the_steps_did_not_make():
    done = completion("p", backtracks=1, solve=False)
    lucky = done.model_copy(update={"verdict": "correct", "answer": "24"})
    assert outcome(lucky) == "right answer, wrong steps"
    nothing = done.chain.model_copy(update={"nodes": [], "attempts": [], "back_edges": []})
    assert outcome(lucky.model_copy(update={"chain": nothing})) == "right answer, wrong steps"
    assert choose([lucky, completion("q", backtracks=0, solve=True)], 1)[0].problem_id == "q"  # the others come first


def test_outcomes_take_turns_and_typical_ones_come_first(pool):
    ids = [c.problem_id for c in choose(pool, 8)]
    # b1: going back three times is more frequent than once, which comes second; then the outcomes' turns again
    assert ids == ["b1", "o0", "f0", "b0", "b2", "o1", "f1", "o2"]


def test_the_order_of_the_completions_does_not_show(pool):
    shuffled = random.Random(5).sample(pool, len(pool))
    assert choose(shuffled, 6) == choose(pool, 6)


def test_a_problem_is_shown_once_and_all_samples_are_looked_at():
    done = [completion("p", backtracks=0, solve=True, sample=i) for i in range(3)]
    done += [completion("q", backtracks=1, solve=True, sample=1)]  # no chain that went back has sample number 0
    assert [(c.problem_id, c.sample) for c in choose(done, 5)] == [("q", 1), ("p", 0)]


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_no_more_than_asked_for_and_than_there_are(pool, count):
    assert len(choose(pool, count)) == min(count, len(pool))
    assert choose([], count) == []


def test_the_contrast_is_of_the_same_problem_and_sample():
    problems = {name: make_problem(name, 24, [4, 6, 8]) for name in ("p", "q", "r")}
    chains = [completion("p", backtracks=1, solve=True, sample=s) for s in (1, 2)]
    chains += [completion("q", backtracks=1, solve=True), completion("r", backtracks=0, solve=False)]
    chains += [completion("elsewhere", backtracks=0, solve=True)]
    direct = [completion("p", backtracks=0, solve=s == 2, sample=s, model="grpo_direct") for s in (0, 1, 2)]
    direct += [completion("r", backtracks=0, solve=False, sample=5, model="grpo_direct")]
    found = {example.problem.id: example for example in examples(problems, chains, direct, 9)}
    assert found.keys() == {"p", "q", "r"}  # another set's problem is left out
    assert found["p"].completion.sample == found["p"].contrast.sample == 1
    assert found["p"].contrast.model == "grpo_direct"
    assert (found["p"].right, found["p"].contrast_right) == ((2, 2), (1, 3))
    assert found["r"].contrast.sample == 5  # none has the same number
    assert (found["q"].contrast, found["q"].contrast_right) == (None, None)  # the other model has none
