"""Answers against golds, table by table."""

import pytest

from astro.grading import gold_faults, grade_batch
from tests.grading.tables import table

KINDS = [
    (name, kind) for name in ("kinds", "notations", "unseen") for kind in sorted({case["kind"] for case in table(name)})
]


def faults(cases: list[dict]) -> list[str]:
    """The cases that are graded otherwise than they should be."""
    grades = grade_batch([(case["gold"], case["answer"]) for case in cases])
    return [
        f"{case['gold']!r} and {case['answer']!r}: {grade.verdict} ({grade.rule})"
        for case, grade in zip(cases, grades, strict=True)
        if (grade.verdict == "correct") != case["correct"]
    ]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_kind(name, kind):
    assert faults([case for case in table(name) if case["kind"] == kind]) == []


@pytest.mark.parametrize("name", ["graders", "math_verify"])
def test_public_table(name):
    assert faults([case for case in table(name) if "disputed" not in case]) == []


@pytest.mark.parametrize("name", ["graders", "math_verify"])
def test_what_is_disputed_is_decided_otherwise(name):
    """A case that agrees is not disputed: the table would hide it."""
    disputed = [case for case in table(name) if "disputed" in case]
    assert len(faults(disputed)) == len(disputed)


def test_the_tables_are_large_and_balanced():
    cases = [case for name in ("kinds", "notations", "unseen", "graders", "math_verify") for case in table(name)]
    assert len(cases) > 1000
    assert 0.3 < sum(case["correct"] for case in cases) / len(cases) < 0.7


def test_a_gold_without_an_answer_is_the_golds_fault():
    cases = [case for case in table("kinds") if case["kind"] == "unparseable gold"]
    grades = grade_batch([(case["gold"], case["answer"]) for case in cases])
    assert [grade.verdict for grade in grades] == ["unparseable_gold"] * len(cases)


def test_an_answer_without_a_value_is_unparseable():
    answers = ["", " ", r"\boxed{}", r"\boxed{5", r"\frac{5}{0}", "{5", "5+", "5 6", "5\x00", "()"]
    assert [g.verdict for g in grade_batch([("5", a) for a in answers])] == ["unparseable_prediction"] * len(answers)


GOLDS = [
    # (gold, is it one)
    ("12", True),
    ("9 (apples)", True),
    ("$C_{10}^{3}=120$", True),
    ("0.30000000000000004", True),
    ("3/4", True),
    ("May 5", True),
    ("Friday, June 20", True),
    ("No", True),
    (r"1, 2, \ldots, n", True),
    ("3-Apr", False),
    ("Apr-03", False),
    ("2024-03-04", False),
    ("2024-03-04 00:00:00", False),
    ("#DIV/0!", False),
    ("nan", False),
    ("9 (or 10)", False),
    ("9 (not 10)", False),
    ("9 (10)", False),
    ("9 (eight)", False),
    ("2+3=6", False),
    (r"\frac{1}{0}", False),
    ("", False),
]


def test_a_gold_is_one_whose_meaning_is_known():
    faults = gold_faults([gold for gold, _ in GOLDS])
    assert [(gold, fault is None) for (gold, _), fault in zip(GOLDS, faults, strict=True)] == GOLDS
    assert all(fault for fault in faults if fault is not None), "a reason is told"


def test_a_gold_that_is_none_is_not_right_against_itself_either():
    bad = [gold for gold, good in GOLDS if not good]
    assert {grade.verdict for grade in grade_batch([(gold, gold) for gold in bad])} == {"unparseable_gold"}
