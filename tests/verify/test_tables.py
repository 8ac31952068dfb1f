"""Answers against golds, table by table."""

import pytest

from astro.verify import grade_batch
from tests.verify.tables import table

KINDS = sorted({case["kind"] for case in table("kinds")})


def faults(cases: list[dict]) -> list[str]:
    """The cases that are graded otherwise than they should be."""
    grades = grade_batch([(case["gold"], case["answer"]) for case in cases])
    return [
        f"{case['gold']!r} and {case['answer']!r}: {grade.verdict} ({grade.rule})"
        for case, grade in zip(cases, grades, strict=True)
        if (grade.verdict == "correct") != case["correct"]
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_kind(kind):
    assert faults([case for case in table("kinds") if case["kind"] == kind]) == []


@pytest.mark.parametrize("name", ["graders", "math_verify"])
def test_public_table(name):
    assert faults([case for case in table(name) if "disputed" not in case]) == []


@pytest.mark.parametrize("name", ["graders", "math_verify"])
def test_what_is_disputed_is_decided_otherwise(name):
    """A case that agrees is not disputed: the table would hide it."""
    disputed = [case for case in table(name) if "disputed" in case]
    assert len(faults(disputed)) == len(disputed)


def test_the_tables_are_large_and_balanced():
    cases = [case for name in ("kinds", "graders", "math_verify") for case in table(name)]
    assert len(cases) > 1000
    assert 0.3 < sum(case["correct"] for case in cases) / len(cases) < 0.7


def test_a_gold_without_an_answer_is_the_golds_fault():
    cases = [case for case in table("kinds") if case["kind"] == "unparseable gold"]
    grades = grade_batch([(case["gold"], case["answer"]) for case in cases])
    assert [grade.verdict for grade in grades] == ["unparseable_gold"] * len(cases)


def test_an_answer_without_a_value_is_unparseable():
    answers = ["", " ", r"\boxed{}", r"\boxed{5", r"\frac{5}{0}", "{5", "5+", "5 6", "5\x00", "()"]
    assert [g.verdict for g in grade_batch([("5", a) for a in answers])] == ["unparseable_prediction"] * len(answers)
