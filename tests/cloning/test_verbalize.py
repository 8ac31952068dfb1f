"""From a walk to text: pieces, their kinds, and phrase files."""

import random
from functools import partial
from pathlib import Path

import pytest

from astro.cloning.verbalize import Phrases, load_phrases, write_chain
from astro.cloning.walk import plan_walk
from astro.process import UserError
from tests.cloning.trees import GAME, PROBLEM, TASK

PHRASES = Phrases(reflection=["Hmm."], return_step=["Back to"], return_root=["Anew:"])


def chain(correct, wrong, *, phrases=PHRASES, jump="common_ancestor", seed=0):
    rng = random.Random(seed)
    return write_chain(
        GAME,
        plan_walk(GAME, correct=correct, wrong=wrong, jump=jump, rng=rng),
        phrases=phrases,
        rng=rng,
        step_end=TASK.step_end,
        abandoned=TASK.abandoned,
        restate=partial(TASK.restate, PROBLEM),
    )


def text(segments):
    return "".join(s.text for s in segments)


RIGHT = "6 * 4 = 24 make 24 got 24 yes answer 2 * 3 * 4"


def test_a_direct_solution_is_its_steps():
    segments = chain(3, [])
    assert text(segments) == f"2 * 3 = 6 left 4 6\n{RIGHT}"
    assert [(s.kind, s.node) for s in segments] == [("step", 1), ("step", 3)]


def test_a_return_to_a_step():
    segments = chain(3, [4])
    assert [(s.text, s.kind, s.node) for s in segments] == [
        ("2 * 3 = 6 left 4 6\n", "step", 1),  # the step is shared with the right path
        ("6 + 4 = 10", "wrong_step", 4),
        (" make 24 got 10 no\n", "reflection", None),  # it does not answer
        ("Hmm.\n", "reflection", None),
        ("Back to\nmake 24 from 2 3 4\n2 * 3 = 6 left 4 6\n", "return", 1),
        (RIGHT, "step", 3),
    ]


def test_a_return_to_the_problem():
    segments = chain(3, [6])
    assert [(s.text, s.kind, s.node) for s in segments] == [
        ("2 + 3 = 5 left 4 5\n", "wrong_step", 2),
        ("5 * 4 = 20", "wrong_step", 6),
        (" make 24 got 20 no\n", "reflection", None),
        ("Hmm.\n", "reflection", None),
        ("Anew:\nmake 24 from 2 3 4\n", "return", 0),
        ("2 * 3 = 6 left 4 6\n", "step", 1),
        (RIGHT, "step", 3),
    ]


def test_without_phrases_the_wrong_branches_stay():
    with_them, without = chain(3, [6, 4]), chain(3, [6, 4], phrases=None)
    assert [s.text for s in without if s.kind == "reflection"] == [f" make 24 got {value} no\n" for value in (20, 10)]
    kinds = [s.kind for s in with_them if s.kind != "reflection"]
    assert [s.kind for s in without if s.kind != "reflection"] == kinds
    steps = [s for s in with_them if s.kind in ("step", "wrong_step")]
    assert [s for s in without if s.kind in ("step", "wrong_step")] == steps
    for said in ("Hmm.", "Back to", "Anew:"):
        assert said in text(with_them)
        assert said not in text(without)


@pytest.mark.parametrize("jump", ["common_ancestor", "root", "random_ancestor"])
@pytest.mark.parametrize("phrases", [PHRASES, None])
def test_the_chain_reads_back_as_the_walk(jump, phrases):
    """The task's reader finds the attempts and back edges that were written, and one answer: the last."""
    wrong = [6, 4, 5]
    rng = random.Random(3)
    walk = plan_walk(GAME, correct=3, wrong=wrong, jump=jump, rng=rng)
    written = text(chain(3, wrong, phrases=phrases, jump=jump, seed=3))
    read = TASK.parse_chain(PROBLEM, written)
    texts = ["".join(TASK.abandoned(GAME.nodes[i].text)) for i in [*wrong, 3]]
    assert [read.nodes[i].text for i in read.attempts] == texts
    assert len(read.back_edges) == 3
    assert read.unparsed == read.repeats == 0
    assert all(n.valid for n in read.nodes)
    assert written.count("answer") == 1
    assert TASK.grade(PROBLEM, TASK.extract(written)) == "correct"
    if jump == "common_ancestor":
        targets = [-1 if leg.start == 0 else GAME.nodes[leg.start].text for leg in walk.legs[1:]]
        assert [-1 if to < 0 else read.nodes[to].text for _, to in read.back_edges] == targets


def test_one_phrase_of_each_list_is_drawn_per_jump():
    many = Phrases(reflection=["r1", "r2", "r3"], return_step=["s1", "s2"], return_root=["a1", "a2"])
    drawn = {text(chain(3, [6, 4], phrases=many, seed=seed)) for seed in range(40)}
    joined = "\n".join(drawn)
    assert all(f"{said}\n" in joined for said in many.all())
    assert len(drawn) > 5


# --- phrase files -----------------------------------------------------------------------------------------------------

GOOD = 'reflection: ["a", "b"]\nreturn_step: ["c"]\nreturn_root: ["a"]\n'


def test_a_phrase_file_and_its_order(tmp_path):
    (tmp_path / "p.yaml").write_text(GOOD)
    assert load_phrases(tmp_path / "p.yaml").all() == ["a", "b", "c"]  # each once


def test_the_shipped_phrase_files_load():
    shipped = sorted(Path("phrases").glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert all(p and p == p.strip() and "\n" not in p for p in load_phrases(path).all())


BROKEN = {
    # what is wrong: (content, parts of the message)
    "no YAML": ("reflection: [", ["p.yaml", "invalid YAML", "line"]),
    "a list is missing": ('reflection: ["a"]\nreturn_step: ["c"]\n', ["p.yaml", "'return_root'", "required"]),
    "a list is empty": (GOOD.replace('["c"]', "[]"), ["p.yaml", "'return_step'", "at least 1"]),
    "a text for a list": (GOOD.replace('["c"]', '"c"'), ["p.yaml", "'return_step'", "list", "'c'"]),
    "a number for a text": (GOOD.replace('["c"]', "[3]"), ["p.yaml", "'return_step.0'", "string", "3"]),
    "an unknown list": (GOOD + 'doubt: ["d"]\n', ["p.yaml", "'doubt'"]),
    "an empty file": ("", ["p.yaml"]),
    "a list of lists": ("- a\n", ["p.yaml"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_phrase_file_is_refused(tmp_path, name):
    content, parts = BROKEN[name]
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        load_phrases(tmp_path / "p.yaml")
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_missing_phrase_file_names_the_parameter(tmp_path):
    with pytest.raises(UserError, match=r"linearize\.phrase_file: .*nowhere\.yaml: No such file"):
        load_phrases(tmp_path / "nowhere.yaml")
