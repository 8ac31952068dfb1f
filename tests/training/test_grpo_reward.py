"""The reward: the verifier's verdict, and nothing that can be had without solving the problem."""

import pytest

from astro.tasks.countdown.task import Countdown
from astro.tasks.math.task import Math
from astro.training.grpo import Verifier
from schemas.records import Problem


def problem(identifier, *, question="make 24 from 6 9 5", gold="24"):
    return Problem(id=identifier, task="countdown", question=question, gold=gold, level=3, chance=None)


PROBLEMS = {
    "good": problem("good"),
    "other": problem("other", question="make 20 from 6 9 5", gold="20"),
    "gold": problem("gold", gold="25"),
    "question": problem("question", question="what is 6 times 4?"),
}
RIGHT = "9 - 5 = 4 left 6 4\n6 * 4 = 24 make 24 got 24 yes answer 6 * ( 9 - 5 )"
WRONG = "9 - 5 = 4 left 6 4\n6 + 4 = 10 make 24 got 10 no answer 6 + ( 9 - 5 )"
BACK = f"9 - 5 = 4 left 6 4\n6 + 4 = 10 make 24 got 10 no\nmake 24 from 6 9 5\n{RIGHT}"


def reward(completions, ids=None, log_metric=None):
    verifier = Verifier(Countdown(), PROBLEMS, correct=1.0, wrong=-1.0)
    ids = ids or ["good"] * len(completions)
    return verifier(
        prompts=["p"] * len(completions),
        completions=completions,
        problem_id=ids,
        log_metric=log_metric,
        trainer_state=None,
    )


CASES = [
    # solved, at once or after going back
    (RIGHT, 1.0),
    (BACK, 1.0),
    # the right answer is what counts, whatever stands before it
    ("answer 6 * ( 9 - 5 )", 1.0),
    # not solved, no answer, nothing, an unreadable answer
    (WRONG, -1.0),
    ("9 - 5 = 4 left 6 4", -1.0),
    ("", -1.0),
    ("answer 24", -1.0),
    ("answer __import__('os')", -1.0),
    # a right answer is not kept in hand for the case that the last one fails
    (f"{RIGHT}\nanswer ???", -1.0),
    (f"{RIGHT}\nanswer 1 + 1", -1.0),
    # to say yes is no answer
    ("6 * 4 = 24 make 24 got 24 yes", -1.0),
    # ten thousand brackets
    ("answer " + "(" * 10_000, -1.0),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_rewards(text, expected):
    assert reward([text]) == [expected]


def test_each_completion_is_graded_against_its_own_problem():
    assert reward([RIGHT, RIGHT], ["good", "other"]) == [1.0, -1.0]


@pytest.mark.parametrize("broken", ["gold", "question"])  # gold and question disagree; the question is unreadable
@pytest.mark.parametrize("text", [RIGHT, WRONG, ""])
def test_an_unreadable_gold_neither_rewards_nor_punishes(broken, text):
    assert reward([text, RIGHT], [broken, "good"]) == [None, 1.0]


def test_the_values_are_the_parameters():
    verifier = Verifier(Countdown(), PROBLEMS, correct=2.0, wrong=0.0)
    assert verifier(prompts=["p", "p"], completions=[RIGHT, WRONG], problem_id=["good", "good"]) == [2.0, 0.0]


def test_what_is_logged_beside_the_reward():
    logged = {}
    reward([RIGHT, WRONG, BACK, ""], log_metric=logged.__setitem__)
    assert logged == {"accuracy": 2 / 4, "first_attempt": 1 / 4, "backtracks": 1 / 4, "repeats": 0.0}


def test_the_share_of_repeats_is_logged():
    logged = {}
    lost = "9 - 5 = 4 left 6 4\n6 + 4 = 10 make 24 got 10 no\nmake 24 from 6 9 5\n"
    reward([lost + lost + RIGHT, RIGHT], log_metric=logged.__setitem__)
    assert logged["repeats"] == 1 / 4


def test_mathematics_is_graded_in_one_batch():
    """A readable gold, an unreadable one, a hostile completion and none at all."""
    problems = {
        "sum": Problem(id="sum", task="math", question="What is $3+4$?", gold="7", level=1, chance=None),
        "none": Problem(id="none", task="math", question="Why?", gold="\\frac{1}{", level=1, chance=None),
    }
    verifier = Verifier(Math(), problems, correct=1.0, wrong=-1.0)
    right, wrong = "Step 1: $3+4=7$.\n\nSo $\\boxed{7}$.", "Step 1: $3+4=8$.\n\nSo $\\boxed{8}$."
    texts = [right, wrong, "\\boxed{9^{9^{9^{9}}}}", "", right, "", f"{wrong}\n\nStep 1: $3+4=8$.\n\n{right}"]
    ids = ["sum", "sum", "sum", "sum", "none", "none", "sum"]
    logged = {}
    rewards = verifier(prompts=texts, completions=texts, problem_id=ids, log_metric=logged.__setitem__)
    assert rewards == [1.0, -1.0, -1.0, -1.0, None, None, 1.0]
    assert logged == {"accuracy": 2 / 7, "first_attempt": 1 / 7, "backtracks": 1 / 7, "repeats": 0.0}
