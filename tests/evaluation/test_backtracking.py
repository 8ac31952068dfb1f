"""What models do inside their chains, on chains small enough to count by hand."""

import pytest

from astro.evaluation import backtracking
from astro.tasks.countdown.task import Countdown
from schemas.records import Problem

# One wrong attempt (a b), back to a, another wrong attempt (a c), back to the problem, a right one (d).
THREE = {"rows": [("a", -1), ("b", 0, "Wn"), ("c", 0, "Wn"), ("d", -1, "Ry")], "back": [(1, 0), (2, -1)]}


@pytest.fixture
def three(chain):
    return chain(*THREE["rows"], back=THREE["back"])


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ([("a", -1, "R")], True),  # right at once
        ([("a", -1, "W"), ("b", -1, "R")], False),  # right, but second
        ([("a", -1, "R"), ("b", -1, "W")], True),  # right first and lost later
        ([("a", -1)], False),  # no attempt is finished
        ([], False),  # no step at all
    ],
)
def test_first_attempt(chain, completion, rows, right):
    assert backtracking.first_attempt_right(completion(chain=chain(*rows))) is right


@pytest.mark.parametrize(
    ("rows", "attempts", "novel"),
    [
        (THREE["rows"], None, [True, True, True]),  # three different paths
        ([("a", -1), ("b", 0, "W")], [1, 1], [True, False]),  # one step, visited twice
        ([("a", -1, "W"), ("a", -1, "W")], None, [True, False]),  # the same text in two steps is the same attempt
        ([("a", -1), ("b", 0, "W"), ("c", -1), ("b", 2, "W")], None, [True, True]),  # same last step, other path
        ([("a", -1), ("b", 0, "W"), ("b", -1), ("a", 2, "W")], None, [True, True]),  # the same steps, other order
        ([("a", -1, "W")] * 3, None, [True, False, False]),  # a third time is a second repeat
        ([], None, []),
    ],
)
def test_novelty(chain, rows, attempts, novel):
    found = backtracking.novelty(chain(*rows, attempts=attempts))
    assert found == novel


QUESTION = "make 24 from 3 5 7 9"
WRONG = "9 - 5 = 4 left 3 7 4\n7 + 4 = 11 left 3 11\n3 * 11 = 33 make 24 got 33 no\n"
OTHER = "9 - 5 = 4 left 3 7 4\n7 + 4 = 11 left 3 11\n3 + 11 = 14 make 24 got 14 no\n"


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        (WRONG, 0),  # one attempt
        (f"{WRONG}{QUESTION}\n{OTHER}", 0),  # two that share a path
        (f"{WRONG}{QUESTION}\n{WRONG}", 1),  # the same again
        (f"{WRONG}{QUESTION}\n{OTHER}{QUESTION}\n{WRONG}{QUESTION}\n{OTHER}", 2),  # both again
        (f"{WRONG}{QUESTION}\n{WRONG}{QUESTION}\n{WRONG}", 2),  # twice more
        ("", 0),
    ],
)
def test_novelty_agrees_with_the_task(completion, text, repeats):
    problem = Problem(id="p", task="countdown", question=QUESTION, gold="24", level=4, chance=None)
    read = Countdown().parse_chain(problem, text)
    assert backtracking.novelty(read).count(False) == read.repeats == repeats
    # each restated question is one jump, and each attempt but the last is followed by one
    decided = backtracking.decisions_in(completion("wrong", None, chain=read))
    assert decided == ["went_back"] * text.count(QUESTION) + ["gave_up"] * bool(text)


def test_by_backtracks(chain, completion):
    none, one, three = chain(), chain(("a", -1, "W"), back=[(0, -1)]), chain(("a", -1, "W"), back=[(0, -1)] * 3)
    done = [
        completion("correct", chain=none),
        completion("wrong", chain=none),
        completion("wrong", chain=none),
        completion("wrong", chain=one),
        completion("correct", chain=three),
    ]
    assert [(row.backtracks, row.chains, row.accuracy) for row in backtracking.by_backtracks(done)] == [
        (0, 3, 0.333333),
        (1, 1, 0.0),
        (2, 0, None),  # nobody went back exactly twice: the row is there, without a figure
        (3, 1, 1.0),
    ]
    assert backtracking.by_backtracks([]) == []


def test_by_attempt(chain, completion, three):
    spoiled = chain(
        ("a", -1, "!"), ("b", 0, "W"), ("c", 0, "R"), back=[(1, 0)]
    )  # both attempts stand on an illegal step
    again = chain(("a", -1, "W"), back=[(0, -1)], attempts=[0, 0], repeats=1)
    unfinished = chain(("a", -1))
    found = backtracking.by_attempt([completion(chain=c) for c in (three, spoiled, again, unfinished)])
    assert [(row.attempt, row.chains, row.right, row.valid, row.novel) for row in found] == [
        (1, 3, 0.0, 0.666667, 1.0),  # spoiled is not valid; unfinished made no attempt
        (2, 3, 0.333333, 0.666667, 0.666667),  # spoiled's is right; again's repeats
        (3, 1, 1.0, 1.0, 1.0),
    ]
    assert backtracking.by_attempt([completion()]) == []


@pytest.mark.parametrize(
    ("rows", "back", "attempts", "answer", "finished", "expected"),
    [
        ([("a", -1, "R")], [], None, "x", True, ["stopped"]),
        ([("a", -1, "R")], [], None, "x", False, ["stopped"]),  # it answers, and is cut later
        ([("a", -1, "R")], [], None, None, True, ["gave_up"]),  # ends by itself, without an answer
        ([("a", -1, "R")], [], None, None, False, ["cut"]),  # the limit came right at the end of the attempt
        ([("a", -1, "W")], [(0, -1)], None, None, False, ["went_back"]),  # cut after the jump: the decision was made
        ([("a", -1, "W")], [(0, -1)], None, "x", True, ["went_back"]),  # it answers after a jump without an attempt
        ([("a", -1, "W"), ("b", 0)], [], None, None, False, ["went_on"]),  # writes on below a finished attempt
        ([("a", -1, "W"), ("b", 0)], [(1, -1)], None, "x", True, ["went_on"]),  # the jump leaves a later step
        (THREE["rows"], THREE["back"], None, "x", True, ["went_back", "went_back", "stopped"]),
        ([("a", -1, "W"), ("b", -1, "R")], [], None, "x", True, ["went_on", "stopped"]),  # a second one without a jump
        ([("a", -1, "W")], [(0, -1)], [0, 0], "x", True, ["went_back", "stopped"]),  # made again, then it answers
        ([("a", -1, "W")], [(0, -1)] * 2, [0, 0], None, False, ["went_back", "went_back"]),
        ([("a", -1), ("b", 0, "W"), ("c", 0)], [(1, 0)], None, "x", True, ["went_back"]),  # c continues a, not b
        ([("a", -1)], [], None, "x", True, []),  # no attempt, no decision
    ],
)
def test_decisions_in(chain, completion, rows, back, attempts, answer, finished, expected):
    one = completion("wrong", answer, finished=finished, chain=chain(*rows, back=back, attempts=attempts))
    assert backtracking.decisions_in(one) == expected


def test_decisions(chain, completion, three):
    done = [
        completion(chain=three),  # back after 2 wrong, stops at 1 right; claims 3 of 3 true
        completion("wrong", chain=chain(("a", -1, "Wy"))),  # stops at a wrong one; claim false
        completion("wrong", None, chain=chain(("a", -1, "R"))),  # right, gives up; no claim
        completion("wrong", None, finished=False, chain=chain(("a", -1, "Rn"))),  # cut: left out; its claim is false
        completion(
            "wrong", chain=chain(("a", -1, "R"), ("b", -1, "W"), back=[(0, -1)])
        ),  # leaves right, stops at wrong
        completion(chain=chain(("a", -1, "y"))),  # a claim where no attempt ends: left out
    ]
    found = backtracking.decisions(done)
    assert (found.right_attempts, found.wrong_attempts) == (3, 4)
    assert found.stop_when_right == 0.333333  # 1 of 3
    assert found.back_when_wrong == 0.5  # 2 of 4
    assert found.stop_precision == 0.333333  # stops at 1 right and 2 wrong
    assert found.claim_accuracy == 0.6  # 3 of 5


def test_decisions_of_nothing_have_no_figures(completion):
    found = backtracking.decisions([completion()])
    assert found.model_dump(exclude={"right_attempts", "wrong_attempts"}) == dict.fromkeys(
        ["stop_when_right", "back_when_wrong", "stop_precision", "claim_accuracy"]
    )


def test_a_repeated_claim_counts_each_time_it_is_written(chain, completion):
    done = [
        completion("wrong", chain=chain(("a", -1, "Wn"), back=[(0, -1)], attempts=[0, 0], repeats=1)),
        completion("wrong", chain=chain(("a", -1, "Wy"))),
    ]
    assert backtracking.decisions(done).claim_accuracy == 0.666667


def test_shares_over_attempts_and_steps(chain, completion):
    again = chain(("a", -1, "W"), back=[(0, -1)], attempts=[0, 0], repeats=1)
    done = [completion(chain=again), completion(chain=chain(("a", -1, "!"), ("b", 0, "W")))]
    assert backtracking.repeat_share(done) == 0.333333  # 1 of 3 attempts
    assert backtracking.valid_steps(done) == 0.666667  # 2 of 3 steps
    assert backtracking.repeat_share([completion()]) is None
    assert backtracking.valid_steps([completion()]) is None


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([(0, "+"), (1, "+"), (2, "-")], -0.866025),  # -sqrt(3) / 2 by hand: x = 0 1 2, y = 1 1 0
        ([(0, "-"), (1, "+")], 1.0),  # two problems are a line
        ([(3, "-"), (3, "+")], None),  # backtracks do not vary
        ([(0, "+"), (5, "+")], None),  # the score does not vary
        ([(1, "+")], None),  # one problem
    ],
)
def test_backtracks_score_r(chain, completion, table, expected):
    done = [
        completion(
            "correct" if sign == "+" else "wrong",
            problem=f"p{i}",
            chain=chain(("a", -1, "W"), back=[(0, -1)] * backtracks),
        )
        for i, (backtracks, sign) in enumerate(table)
    ]
    assert backtracking.backtracks_score_r(done) == expected


def test_backtracks_score_r_is_over_problem_means(chain, completion):
    """Within each problem the longer chain fails; between problems the longer ones succeed. Only the latter counts."""
    rows = [("p", 0, "correct"), ("p", 2, "wrong"), ("p", 2, "wrong"), ("q", 4, "correct"), ("q", 6, "correct")]
    done = [
        completion(verdict, problem=problem, sample=i, chain=chain(("a", -1, "W"), back=[(0, -1)] * n))
        for i, (problem, n, verdict) in enumerate(rows)
    ]
    assert backtracking.backtracks_score_r(done) == 1.0
