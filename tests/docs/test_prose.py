"""Pages for a reader are easy to read, as far as that can be counted."""

from pathlib import Path

import pytest

from tools.docs.prose import density, faults, sentences

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/index.md",
    "docs/tutorial.md",
    "docs/glossary.md",
    "docs/pipeline.md",
    "docs/pretrained.md",
    "docs/training.md",
    "docs/rl.md",
    "docs/production.md",
    "docs/problems.md",
    "docs/tasks.md",
    "docs/gym.md",
    "docs/linearize.md",
    "docs/chat.md",
    "docs/sharing.md",
    "docs/handover.md",
    "docs/grading.md",
    "docs/metrics.md",
    "docs/results.md",
    "docs/paper_map.md",
]
"""Add a page once it is written this way."""


@pytest.mark.parametrize("page", PAGES)
def test_the_prose_of_a_page(page):
    assert faults((ROOT / page).read_text(encoding="utf-8")) == []


CASES = [
    ("One idea. Another one.", ["2 sentences on one line"]),
    ("One idea that is not ended\non the next line.", ["line 1: the sentence continues"]),
    ("A word " * 30 + "ends.", ["61 words in one sentence"]),
    ("This: one; two (three).", ["3.00 semicolons"]),
    ("- A list item.\n- Another one.", []),
    ("A value such as `a: b; (c)` is one word.", []),
    ("See [the page](docs/page.md) for more.", []),
    ("# A heading: with a colon\n\nA sentence.", []),
    ("| a: b; (c) | d; e |\n|---|---|\n", []),
    ("```\ncode: a; b (c)\n```\n\nA sentence.", []),
    ("<!-- begin x -->\nGenerated: a; b\n<!-- end x -->\nA sentence.", []),
    ("Such a list, e.g. Apples, is one sentence.", []),
    ("It takes 1.5 GB of memory.", []),
]


@pytest.mark.parametrize(("page", "expected"), CASES)
def test_what_is_a_fault(page, expected):
    found = faults(page)
    assert len(found) == len(expected)
    assert all(want in got for want, got in zip(expected, found, strict=True)), found


def test_density_is_a_mean_over_sentences():
    found = sentences("One: two.\n\nThree.\n\nFour (five).\n\nSix.")
    assert [s.line for s in found] == [1, 3, 5, 7]
    assert density(found) == 0.5
