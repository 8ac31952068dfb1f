"""What a response gives as its answer."""

import time

import pytest

from astro.grading import extract, grade, grade_batch
from astro.grading.brackets import Malformed
from astro.grading.extract import bare
from astro.grading.worker_tasks import AT_SIGHT, at_sight
from tests.grading.tables import table


@pytest.mark.parametrize("case", table("extraction"), ids=lambda case: case["response"][:30] or "empty")
def test_extract(case):
    assert extract(case["response"]) == case["answer"]


def test_no_hack_is_rewarded():
    cases = table("hacking")
    assert len(cases) > 80
    grades = grade_batch([(case["gold"], case["response"]) for case in cases], responses=True)
    assert [case for case, g in zip(cases, grades, strict=True) if g.verdict == "correct"] == []


def test_no_box_is_no_answer():
    found = grade("5", "The answer is 5.")
    assert (found.verdict, found.answer, found.rule) == ("unparseable_prediction", None, "no box")


@pytest.mark.parametrize("case", table("statements"), ids=lambda case: case["response"][-30:] or "empty")
def test_a_final_statement_is_an_answer_where_it_is_asked_for(case):
    (found,) = grade_batch([(case["gold"], case["response"])], responses=True, reading="box_or_statement")
    assert (found.verdict == "correct", found.extraction) == (case["correct"], case["extraction"])


def test_without_being_asked_for_a_statement_is_none():
    cases = [case for case in table("statements") if case["extraction"] == "statement"]
    grades = grade_batch([(case["gold"], case["response"]) for case in cases], responses=True)
    assert {(g.verdict, g.answer, g.rule, g.extraction) for g in grades} == {
        ("unparseable_prediction", None, "no box", "none")
    }


def test_no_hack_is_rewarded_for_a_statement():
    cases = table("hacking")
    pairs = [(case["gold"], case["response"]) for case in cases]
    grades = grade_batch(pairs, responses=True, reading="box_or_statement")
    rewarded = [case["response"] for case, g in zip(cases, grades, strict=True) if g.verdict == "correct"]
    assert rewarded == [r"\text{The correct answer is } 5"]  # that one is a statement, and right


def test_a_gold_that_is_none_does_not_punish_a_response_without_a_box():
    found = grade(r"\frac{1}{0}", "The answer is 5.")
    assert (found.verdict, found.answer) == ("unparseable_gold", None)


SENTENCES = [
    # (text, the answer in it)
    ("5", "5"),
    ("The answer is 5.", "5"),
    ("The final answer is $\\frac12$. I hope it is correct.", "\\frac12"),
    ("Answer: 7", "7"),
    ("So there are 12 of them.", "12"),
    ("He has 3. Thus she has 5 million people", "5 million"),
    ("Friday, June 20", "Friday, June 20"),
    ("There are not 12 of them", "There are not 12 of them"),
    ("We find that $x \\lt 3$.", "x \\lt 3"),
    ("Therefore $x \\geq 5$ is the solution.", "x \\geq 5"),
    ("Final Answer: The largest $n$ is 34.", "34"),
    ("the ordered pair $(x, y)$ that solves it is $(7, 6)$.", "(7, 6)"),
    ("The final answer is $12$ and $13$.", "12, 13"),
    ("so it is 28 %", "28 %"),
]


@pytest.mark.parametrize(("text", "answer"), SENTENCES)
def test_bare(text, answer):
    assert bare(text).strip() == answer


def test_several_formulas_without_an_announcement_are_no_answer():
    with pytest.raises(Malformed):
        bare("We have $x = 4$ here and then maybe $x = 5$ there, who knows")


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 150_000,
        "\\boxed{1}" * 100_000,
        "{" * 1_000_000,
        "<think>" * 140_000,
        "$" * 1_000_000,
        "\\" * 1_000_000,
        "The answer is " * 70_000,
        "answer " * 140_000,
        "#### " * 200_000,
        "**5** " * 160_000,
        "答案" * 500_000,
        "final answer\n" * 70_000,
        "if the answer is 5 or " * 45_000,
    ],
    ids=[
        *("unclosed", "many", "braces", "thoughts", "dollars", "slashes"),
        *("said", "words", "hashes", "bold", "chinese", "headings", "supposed"),
    ],
)
def test_a_megabyte_takes_no_longer_than_it_is_long(text):
    began = time.process_time()
    grade("5", text)
    grade("5", text, "box_or_statement")
    assert time.process_time() - began < 4


PIECES = [
    *(
        r"\alpha",
        "a",
        " ",
        "1",
        "1,",
        "1 ",
        r"\text{a} ",
        "(",
        "a-",
        "is ",
        "$",
        r"\frac{1}",
        "x_1",
        "**",
        "{,}",
        ":",
        "1.",
        "=",
    ),
    *(
        "+",
        "|",
        r"\ ",
        "答案",
        "或",
        "C_1^",
        r"\text{for any } k",
        "k \\in Z, ",
        "(about 1",
        "(1)",
        "or 1 ",
        "(\\text{",
        r"\begin{aligned}",
    ),
    *("8C3", "mod ", "!!", r"\cup", "(a) ", r"\approx 1 ", "where k is ", "**1**", "answer is "),
    *("hundred and ", "two ", "minus ", "for all x ", "1^\\circ 1'", "\\text{个}"),
]


@pytest.mark.parametrize("piece", PIECES)
def test_no_pattern_takes_long_where_it_fails(piece):
    """What the caller looks at itself is short, and must not be able to hold it."""
    text = piece * ((AT_SIGHT - 5) // len(piece))
    began = time.process_time()
    for end in ("", "!", "}", ";x", "\\"):
        at_sight("5", text + end)
        at_sight(text + end, "x")
    assert time.process_time() - began < 1
