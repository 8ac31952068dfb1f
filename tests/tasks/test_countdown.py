"""The embedded task: grading, its text, and chains of thought read as graphs."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astro.tasks import get_task
from astro.tasks.countdown.task import Countdown
from astro.tasks.countdown.wording import (
    Move,
    apply_move,
    legal_moves,
    parse_question,
    question,
    write_solution,
)
from schemas.records import Problem

TASK = Countdown()


def problem(target=24, numbers=(3, 5, 7, 9), *, gold=None, text=None):
    return Problem(
        id="p",
        task="countdown",
        question=text or question(target, numbers),
        gold=str(target) if gold is None else gold,
        level=len(numbers),
        chance=None,
    )


def test_the_task_is_found_by_name():
    assert isinstance(get_task("countdown"), Countdown)
    with pytest.raises(ValueError, match=r"run\.task.*'chess'.*countdown"):
        get_task("chess")


# --- moves ------------------------------------------------------------------------------------------------------------

MOVES = [
    # sum, product, difference (larger first), quotient (larger first, whole only)
    ([3, 6], 60, {"3 + 6 = 9", "3 * 6 = 18", "6 - 3 = 3", "6 / 3 = 2"}),
    # no fraction
    ([3, 7], 60, {"3 + 7 = 10", "3 * 7 = 21", "7 - 3 = 4"}),
    # no zero; a number divided by itself is one
    ([4, 4], 60, {"4 + 4 = 8", "4 * 4 = 16", "4 / 4 = 1"}),
    # nothing above value_max
    ([8, 9], 20, {"8 + 9 = 17", "9 - 8 = 1"}),
    # no division by zero, and no result of zero
    ([0, 5], 60, {"0 + 5 = 5", "5 - 0 = 5"}),
    # a dead end
    ([9, 9], 0, set()),
    # one number: nothing to combine
    ([9], 60, set()),
]


@pytest.mark.parametrize(("numbers", "value_max", "expected"), MOVES)
def test_legal_moves(numbers, value_max, expected):
    assert {f"{m.a} {m.op} {m.b} = {m.result}" for m in legal_moves(numbers, value_max)} == expected


def test_each_pair_of_positions_is_combined():
    assert len(legal_moves([1, 1, 1], 60)) == 3 * 3  # + * / of each pair; 1 - 1 is zero


def test_apply_takes_two_away_and_puts_the_result_last():
    assert apply_move([5, 3, 5, 7], Move(5, "+", 7, 12)) == [3, 5, 12]


def test_question_round_trip():
    assert parse_question(question(24, [3, 5, 7])) == (24, [3, 5, 7])


@pytest.mark.parametrize(
    "text",
    [
        "make 24 from 3",  # one number
        "make 24 from",  # none
        "make x from 3 4",  # no target
        "make 24 from 3  4",  # two spaces
        "make 24 from 3 4 ",  # trailing space
        "make 24 from -3 4",  # a sign
        "make 24 from 3 4\n",  # a line end
        "make 1234567890 from 3 4",  # ten digits
        "",
    ],
)
def test_a_broken_question_is_refused(text):
    with pytest.raises(ValueError, match="question: expected"):
        parse_question(text)


# --- grading ----------------------------------------------------------------------------------------------------------

GRADES = [
    # right
    ("3 * ( 7 + 9 ) / ( 5 - 3 )", (24, [3, 7, 9, 5, 3]), "correct"),
    # right, through a fraction that floats miss
    ("8 / ( 3 - 8 / 3 )", (24, [3, 3, 8, 8]), "correct"),
    # right: the order of the numbers is free
    ("9 + 7 + 5 + 3", (24, [3, 5, 7, 9]), "correct"),
    # right, in printed signs
    ("6 × 4", (24, [4, 6]), "correct"),
    # another value
    ("3 * 5 + 7 + 9", (24, [3, 5, 7, 9]), "wrong"),
    # off by less than any tolerance: 24 - 1/999999999
    ("24 - 1 / 999999999", (24, [24, 1, 999999999]), "wrong"),
    # the right value, but a number is used twice
    ("3 * ( 3 + 5 )", (24, [3, 5]), "wrong"),
    # the right value, but a number is left out
    ("3 * ( 9 - 1 )", (24, [3, 9, 1, 1]), "wrong"),
    # the right value, but a number was not given
    ("24", (24, [3, 8]), "wrong"),
    ("4 * 6", (24, [3, 8]), "wrong"),
    # two numbers glued into one
    ("24 * 1", (24, [2, 4, 1]), "wrong"),
    # division by zero
    ("24 / ( 3 - 3 )", (24, [24, 3, 3]), "wrong"),
    # no answer at all
    (None, (24, [3, 8]), "unparseable_prediction"),
    ("", (24, [3, 8]), "unparseable_prediction"),
    # not an expression
    ("24 I think", (24, [3, 8]), "unparseable_prediction"),
    ("3 * 8 = 24", (24, [3, 8]), "unparseable_prediction"),
    ("3 * 8 )", (24, [3, 8]), "unparseable_prediction"),
    ("__import__('os')", (24, [3, 8]), "unparseable_prediction"),
    ("9**9**9", (24, [9, 9, 9]), "unparseable_prediction"),
    ("3 * 8" + " " * 10_000 + "+ 0", (24, [3, 8]), "unparseable_prediction"),
    ("3 \x00 * 8", (24, [3, 8]), "unparseable_prediction"),
]


@pytest.mark.parametrize(("answer", "given", "expected"), GRADES)
def test_grades(answer, given, expected):
    assert TASK.grade(problem(*given), answer) == expected


@pytest.mark.parametrize(
    "broken",
    [
        problem(24, (3, 8), gold="25"),  # gold and question disagree
        problem(24, (3, 8), gold="24.0"),  # another spelling of the gold
        problem(24, (3, 8), text="what makes 24 of 3 and 8?"),  # unreadable question
    ],
)
@pytest.mark.parametrize("answer", ["3 * 8", "3 + 8", None])  # right, wrong, none: an unreadable gold never rewards
def test_an_unreadable_gold_is_counted_apart(broken, answer):
    assert TASK.grade(broken, answer) == "unparseable_gold"


EXTRACTS = [
    # the answer stands behind the word, to the end of its line
    ("3 * 8 = 24 make 24 got 24 yes answer 3 * 8", "3 * 8"),
    ("answer 3 * 8\nand so on", "3 * 8"),
    # the last one wins, whatever stood before
    ("answer 1 + 1\nbut wait\nanswer 3 * 8", "3 * 8"),
    ("answer 3 * 8 answer 4 * 6", "4 * 6"),
    # a malformed last one is not replaced by an earlier good one
    ("answer 3 * 8\nanswer ???", "???"),
    ("answer 3 * 8\nanswer ", None),
    ("answer 3 * 8\nanswer \n4 * 6", None),
    # none
    ("3 * 8 = 24 make 24 got 24 yes", None),
    ("", None),
    ("answer", None),
]


@pytest.mark.parametrize(("text", "expected"), EXTRACTS)
def test_extract(text, expected):
    assert TASK.extract(text) == expected


@pytest.mark.parametrize("last", ["???", "", "3 * 8 )", "3 *"])
def test_a_malformed_last_answer_never_scores_by_an_earlier_one(last):
    text = f"3 * 8 = 24 make 24 got 24 yes answer 3 * 8\nanswer {last}"
    assert TASK.grade(problem(24, (3, 8)), TASK.extract(text)) == "unparseable_prediction"


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789+-*/() answer\n×÷\x00x", max_size=60) | st.text(max_size=60))
def test_no_text_breaks_the_grader_or_the_reader(text):
    given_problem = problem(24, (3, 8))
    assert TASK.grade(given_problem, text) in {"correct", "wrong", "unparseable_prediction"}
    chain = TASK.parse_chain(given_problem, text)
    assert all(node.parent < i for i, node in enumerate(chain.nodes))
    assert all(-1 <= to < len(chain.nodes) for _, to in chain.back_edges)


# --- the text of steps ------------------------------------------------------------------------------------------------


def test_a_written_solution_reads_as_it_should():
    moves = [Move(9, "-", 5, 4), Move(7, "+", 4, 11), Move(3, "*", 11, 33)]
    steps = write_solution(24, [3, 5, 7, 9], moves)
    assert steps == [
        "9 - 5 = 4 left 3 7 4",
        "7 + 4 = 11 left 3 11",
        "3 * 11 = 33 make 24 got 33 no answer 3 * ( 7 + ( 9 - 5 ) )",
    ]


def test_a_written_solution_of_equal_numbers_uses_each_once():
    moves = [Move(4, "+", 4, 8), Move(8, "*", 4, 32)]
    *_, last = write_solution(32, [4, 4, 4], moves)
    assert last == "8 * 4 = 32 make 32 got 32 yes answer ( 4 + 4 ) * 4"
    assert TASK.grade(problem(32, (4, 4, 4)), TASK.extract(last)) == "correct"


STATES = [
    # both orders of + and * reach one state
    (["3 + 5 = 8 left 7 8"], ["5 + 3 = 8 left 7 8"], True),
    # so do different operations with one result
    (["2 + 2 = 4 left 9 4"], ["2 * 2 = 4 left 9 4"], True),
    # and different orders of what is left
    (["3 + 5 = 8 left 7 8"], ["3 + 5 = 8 left 8 7"], True),
    # another result is another state
    (["3 + 5 = 8 left 7 8"], ["5 - 3 = 2 left 7 2"], False),
    # sorted as numbers, not as text
    (["9 + 1 = 10 left 9 10"], ["9 + 1 = 10 left 10 9"], True),
    # terminal steps stand for themselves: their answers may differ
    (["3 * 8 = 24 make 24 got 24 yes answer 3 * 8"], ["3 * 8 = 24 make 24 got 24 yes answer 8 * 3"], False),
    # unreadable ones too
    (["3 + 5 =="], ["3 + 5 = ="], False),
    # only the last step counts: siblings share what is above
    (["x", "3 + 5 = 8 left 7 8"], ["x", "5 + 3 = 8 left 7 8"], True),
]


@pytest.mark.parametrize(("one", "other", "same"), STATES)
def test_state_key(one, other, same):
    assert (TASK.state_key(one) == TASK.state_key(other)) is same


STEP, END = "9 - 5 = 4 left 6 4", "6 * 4 = 24 make 24 got 24 yes answer 6 * ( 9 - 5 )"

RESPONSES = [
    # a terminal step ends the response
    ([STEP, END], "", f"{STEP}\n{END}"),
    # a step is ended by a line end, so that raw text continues on its own line
    ([STEP], "6 * 4", f"{STEP}\n6 * 4"),
    ([STEP], "", f"{STEP}\n"),
    # no step yet
    ([], "9 - 5", "9 - 5"),
    # text after a terminal step stays apart from it
    ([END], "more", f"{END}\nmore"),
]


@pytest.mark.parametrize(("steps", "rest", "expected"), RESPONSES)
def test_response(steps, rest, expected):
    assert TASK.response(steps, rest) == expected


def test_prompt_and_terminal():
    assert TASK.prompt(problem(24, (6, 9, 5))) == "make 24 from 6 9 5\n"
    assert (TASK.is_terminal(STEP), TASK.is_terminal(END)) == (False, True)


def test_an_abandoned_step_keeps_its_finding_and_holds_no_answer():
    step, finding = TASK.abandoned(END)
    assert (step, finding) == ("6 * 4 = 24", " make 24 got 24 yes")
    kept = step + finding
    assert TASK.extract(kept) is None
    assert not TASK.is_terminal(kept)
    assert TASK.abandoned(STEP) == (STEP, "")


def test_restate_reads_like_a_first_attempt():
    assert TASK.restate(problem(24, (6, 9, 5)), [STEP]) == f"make 24 from 6 9 5\n{STEP}\n"
    assert TASK.restate(problem(24, (6, 9, 5)), []) == TASK.prompt(problem(24, (6, 9, 5)))


def test_a_vote_is_asked_for_right_before_the_claim():
    prompt, sound = TASK.vote_prompt(problem(24, (6, 9, 5)), [STEP, END])
    assert prompt == f"make 24 from 6 9 5\n{STEP}\n6 * 4 = 24 make 24 got 24"
    assert sound == "yes"


# --- chains -----------------------------------------------------------------------------------------------------------

Q = "make 24 from 6 9 5"
A1, A2 = "9 - 5 = 4 left 6 4", "6 + 4 = 10 make 24 got 10 no"  # a wrong attempt
A3 = "6 * 4 = 24 make 24 got 24 yes answer 6 * ( 9 - 5 )"  # the right end below A1
B1, B2 = "9 + 5 = 14 left 6 14", "14 - 6 = 8 make 24 got 8 no answer 9 + 5 - 6"  # another wrong attempt
DOUBT = "But wait, are we solving the problem correctly so far? Hmm..."
BACK = "Our solution may not be correct so far. Let's go back to where we had"


def read(*lines):
    return TASK.parse_chain(problem(24, (6, 9, 5)), "\n".join(lines))


# name: (lines, [(parent, valid, right)] of the nodes, back edges, attempts, repeats, unparsed)
CHAINS = {
    "one attempt": ([A1, A3], [(-1, True, None), (0, True, True)], [], [1], 0, 0),
    "back to a step": (
        [A1, A2, DOUBT, BACK, Q, A1, A3],
        [(-1, True, None), (0, True, False), (0, True, True)],
        [(1, 0)],
        [1, 2],
        0,
        0,
    ),
    "back to the problem": (
        [A1, A2, DOUBT, BACK, Q, B1, B2],
        [(-1, True, None), (0, True, False), (-1, True, None), (2, True, False)],
        [(1, -1)],
        [1, 3],
        0,
        0,
    ),
    "without phrases a return is still seen": (
        [A1, A2, Q, A1, A3],
        [(-1, True, None), (0, True, False), (0, True, True)],
        [(1, 0)],
        [1, 2],
        0,
        0,
    ),
    "two returns": (
        [A1, A2, Q, B1, B2, Q, A1, A3],
        [(-1, True, None), (0, True, False), (-1, True, None), (2, True, False), (0, True, True)],
        [(1, -1), (3, 0)],
        [1, 3, 4],
        0,
        0,
    ),
    "an attempt made again is a repeat, and no new step": (
        [A1, A2, Q, A1, A2],
        [(-1, True, None), (0, True, False)],
        [(1, 0)],
        [1, 1],
        1,
        0,
    ),
    "with or without its answer it is the same attempt": (
        [B1, B2, Q, B1, B2.partition(" answer")[0]],
        [(-1, True, None), (0, True, False)],
        [(1, 0)],
        [1, 1],
        1,
        0,
    ),
    "back from the middle of an attempt": (
        [A1, Q, B1, B2],
        [(-1, True, None), (-1, True, None), (1, True, False)],
        [(0, -1)],
        [2],
        0,
        0,
    ),
    "a return at the very end of a cut text": ([A1, A2, Q], [(-1, True, None), (0, True, False)], [(1, -1)], [1], 0, 0),
    "the question said twice is one return": (
        [A1, Q, Q, B1],
        [(-1, True, None), (-1, True, None)],
        [(0, -1)],
        [],
        0,
        0,
    ),
    "the question first of all is no return": ([Q, A1, A3], [(-1, True, None), (0, True, True)], [], [1], 0, 0),
    # what is invalid
    "wrong arithmetic": (["9 - 5 = 3 left 6 3"], [(-1, False, None)], [], [], 0, 0),
    "a number that is not there": (["9 - 7 = 2 left 6 2"], [(-1, False, None)], [], [], 0, 0),
    "one number used twice": (["9 + 9 = 18 left 6 18"], [(-1, False, None)], [], [], 0, 0),
    "a fraction": (["9 / 5 = 1 left 6 1"], [(-1, False, None)], [], [], 0, 0),
    "division by zero": (["9 / 0 = 0 left 6 5 0"], [(-1, False, None)], [], [], 0, 0),
    "what is left is copied wrongly": (["9 - 5 = 4 left 6 5"], [(-1, False, None)], [], [], 0, 0),
    "a number is lost": (["9 - 5 = 4 left 4"], [(-1, False, None)], [], [], 0, 0),
    "an end before all numbers are used": (
        ["9 + 5 = 14 make 24 got 14 no"],
        [(-1, False, False)],
        [],
        [0],
        0,
        0,
    ),
    # legal arithmetic, wrong copies: the attempt counts by what was computed
    "the target is restated wrongly": (
        [A1, "6 * 4 = 24 make 25 got 24 no"],
        [(-1, True, None), (0, False, True)],
        [],
        [1],
        0,
        0,
    ),
    "the result is restated wrongly": (
        [A1, "6 + 4 = 10 make 24 got 24 yes"],
        [(-1, True, None), (0, False, False)],
        [],
        [1],
        0,
        0,
    ),
    # the right number after an illegal step solves nothing
    "a target reached through a fake": (
        ["9 - 5 = 18 left 6 18", "6 + 18 = 24 make 24 got 24 yes"],
        [(-1, False, None), (0, True, False)],
        [],
        [1],
        0,
        0,
    ),
    "a target reached through a miscopied number": (
        ["9 * 5 = 45 left 6 4", "6 * 4 = 24 make 24 got 24 yes"],
        [(-1, False, None), (0, True, False)],
        [],
        [1],
        0,
        0,
    ),
    "a target reached with a number left over": (
        ["9 - 5 = 4 left 4 6 8", "4 * 6 = 24 make 24 got 24 yes"],
        [(-1, False, None), (0, False, False)],
        [],
        [1],
        0,
        0,
    ),
    "a step after the end has nothing to combine": (
        [A1, A3, "9 + 5 = 14 left 6 14"],
        [(-1, True, None), (0, True, True), (1, False, None)],
        [],
        [1],
        0,
        0,
    ),
    # the question asked again, its numbers in another order, is a return like any other
    "a return that reorders the numbers": (
        [A1, A2, "make 24 from 5 9 6", A1, A3],
        [(-1, True, None), (0, True, False), (0, True, True)],
        [(1, 0)],
        [1, 2],
        0,
        0,
    ),
    # another question is a return too, but what follows solves another problem: nothing of it is valid, or right
    "a return to another target": (
        [A1, A2, "make 25 from 6 9 5", A1, A3],
        [(-1, True, None), (0, True, False), (-1, False, None), (2, False, False)],
        [(1, -1)],
        [1, 3],
        0,
        0,
    ),
    "a return to other numbers": (
        [A1, A2, "make 24 from 8 3", "8 * 3 = 24 make 24 got 24 yes answer 8 * 3"],
        [(-1, True, None), (0, True, False), (-1, False, False)],
        [(1, -1)],
        [1, 2],
        0,
        0,
    ),
    "back at the right question all is well again": (
        [A1, A2, "make 25 from 6 9 5", B1, Q, A1, A3],
        [(-1, True, None), (0, True, False), (-1, False, None), (0, True, True)],
        [(1, -1), (2, 0)],
        [1, 3],
        0,
        0,
    ),
    "a restated step is miscopied: a new, invalid step": (
        [A1, A2, Q, "9 - 5 = 4 left 6 9", A3],
        [(-1, True, None), (0, True, False), (-1, False, None), (2, False, False)],
        [(1, -1)],
        [1, 3],
        0,
        0,
    ),
    # unreadable lines
    "a step cut in its middle": ([A1, "6 * 4 ="], [(-1, True, None)], [], [], 0, 1),
    "a check cut before its claim": ([A1, "6 * 4 = 24 make 24 got"], [(-1, True, None)], [], [], 0, 1),
    "a line with = that is no step": (["let x = 4", A1], [(-1, True, None)], [], [], 0, 1),
    "prose is passed over": (["First I think.", "", A1], [(-1, True, None)], [], [], 0, 0),
    "more digits than a number has": (["1234567890 + 5 = 1234567895 left 6"], [], [], [], 0, 1),
    "nothing": ([""], [], [], [], 0, 0),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name):
    lines, nodes, back_edges, attempts, repeats, unparsed = CHAINS[name]
    chain = read(*lines)
    assert [(n.parent, n.valid, n.right) for n in chain.nodes] == nodes
    assert chain.back_edges == back_edges
    assert chain.attempts == attempts
    assert (chain.repeats, chain.unparsed) == (repeats, unparsed)
    assert all(n.ends == (n.right is not None) for n in chain.nodes)


CLAIMS = [
    # what the chain says, true or not; None where it does not end
    (A3, True),
    (A2, False),
    ("6 + 4 = 10 make 24 got 10 yes", True),
    ("6 * 4 = 24 make 24 got 24 no", False),
]


@pytest.mark.parametrize(("line", "claim"), CLAIMS)
def test_claims_are_what_the_chain_says(line, claim):
    assert [n.claim for n in read(A1, line).nodes] == [None, claim]


def test_written_solutions_are_read_as_valid_whatever_they_combine():
    """The writer and the reader agree on every path of a small world."""
    for numbers in itertools.combinations_with_replacement(range(1, 6), 3):
        for first in legal_moves(numbers, 30):
            for second in legal_moves(apply_move(numbers, first), 30):
                steps = write_solution(7, list(numbers), [first, second])
                chain = TASK.parse_chain(problem(7, numbers), "\n".join(steps))
                assert [n.valid for n in chain.nodes] == [True, True]
                assert chain.nodes[1].right is (second.result == 7) is chain.nodes[1].claim
                verdict = TASK.grade(problem(7, numbers), TASK.extract(steps[-1]))
                assert verdict == ("correct" if second.result == 7 else "wrong")


def test_an_attempt_that_loses_a_number_is_never_right():
    # as a base that knows four numbers does with five: it drops the 9 and still reaches the target with the rest
    given = problem(24, (3, 5, 7, 9, 2))
    text = "9 - 5 = 4 left 3 7 4\n7 - 4 = 3 left 3 3\n3 * 3 = 9 left 9\n4 * 6 = 24 make 24 got 24 yes answer 4 * 6"
    lost = "3 * 7 = 21 left 5 21\n5 - 2 = 3 left 21 3\n21 + 3 = 24 make 24 got 24 yes answer ( 3 * 7 ) + ( 5 - 2 )"
    for chain in (TASK.parse_chain(given, text), TASK.parse_chain(given, lost)):
        assert not any(chain.nodes[end].right for end in chain.attempts)
    assert not TASK.parse_chain(given, lost).nodes[0].valid


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("7 + 15", "15 + 7", True),
        ("6 / 4", "3 / 2", True),
        ("7 + 15", "7 * 15", False),
        ("x", "x", True),
        ("x", "y", False),
    ],
)
def test_answers_of_equal_value_are_one(one, other, same):
    assert (TASK.canonical(one) == TASK.canonical(other)) is same


CHECKED = [
    (["7 + 3 = 10 left 10 2", "10 * 2 = 20 make 20 got 20 yes answer ( 7 + 3 ) * 2"], True),
    (["7 + 3 = 10 left 10 2", "10 + 2 = 12 make 20 got 12 no answer ( 7 + 3 ) + 2"], True),  # wrong, and it says so
    (["7 + 3 = 10 left 10 2", "10 * 2 = 20 make 20 got 12 no answer ( 7 + 3 ) * 2"], False),  # right by luck
    (["7 + 3 = 11 left 11 2", "11 + 2 = 13 make 20 got 13 no answer ( 7 + 3 ) + 2"], False),  # false arithmetic
    (["7 + 3 = 10 left 10 2", "10 * 2 = 20 make 20 got 20 yes answer 7 + 3 + 2"], False),  # answers something else
    (["7 + 3 = 10 left 10 2", "something else"], False),
    (["7 + 3 = 10 left 10 2"], False),  # not finished
]


@pytest.mark.parametrize(("steps", "passes"), CHECKED)
def test_a_checked_solution_is_true_throughout(steps, passes):
    assert TASK.checked(problem(20, (7, 3, 2)), steps) is passes
