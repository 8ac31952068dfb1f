"""Which chains a tree gives: the mix, the arms of the ablations, and what is the same in all of them."""

import pytest

from astro.cloning.example_selection import accepted, traces_of
from astro.cloning.verbalize import Phrases
from astro.cloning.walk import correct_terminals
from astro.validation import check_traces
from tests.cloning.trees import GAME, PROBLEM, TASK, tree
from tests.validation.world import paired

PHRASES = Phrases(reflection=["Hmm.", "Wait."], return_step=["Back to"], return_root=["Anew:"])
SETTINGS = {
    "count": 4,
    "max_backtracks": 3,
    "direct_share": 0.25,
    "reflection": True,
    "phrases": PHRASES,
    "jump": "common_ancestor",
    "seed": 1,
    "prompt": TASK.prompt,
    "step_end": TASK.step_end,
    "abandoned": TASK.abandoned,
    "restate": TASK.restate,
}
DIRECT_ONLY = tree((0, "2 * 3 = 6 left 4 6"), (1, "6 * 4 = 24 make 24 got 24 yes answer 2 * 3 * 4", "C"))


def many(count=30):
    """GAME as the tree of many problems."""
    return [GAME.model_copy(update={"problem": PROBLEM.model_copy(update={"id": f"p{i}"})}) for i in range(count)]


def traces(which=GAME, **changes):
    return traces_of(which, candidates=correct_terminals(which), **(SETTINGS | changes))


def all_traces(**changes):
    return [t for which in many() for t in traces(which, **changes)]


def test_traces_hold_what_they_should():
    for t in all_traces():
        assert t.prompt == "make 24 from 2 3 4\n"
        assert t.answer == "2*3*4"
        assert t.completion == "".join(s.text for s in t.segments)
        assert t.backtracks == sum(s.kind == "return" for s in t.segments) <= 3
        assert t.kind == ("search" if t.backtracks else "direct")
        assert TASK.grade(PROBLEM, TASK.extract(t.completion)) == "correct"
        assert t.id.startswith(t.problem_id + "/")


def test_no_chain_of_a_tree_comes_twice():
    for which in many():
        texts = [t.completion for t in traces(which, phrases=None)]
        assert len(set(texts)) == len(texts)


def test_every_number_of_backtracks_comes_up():
    assert {t.backtracks for t in all_traces()} == {0, 1, 2, 3}


def test_wrong_attempts_of_a_chain_differ():
    for t in all_traces():
        ends = [s.node for s in t.segments if s.kind == "wrong_step" and not s.text.endswith("\n")]
        assert len(set(ends)) == len(ends) == t.backtracks


SHARES = [
    (0.0, 0.0),  # never direct
    (1.0, 1.0),  # always
    (0.5, 0.5),
]


@pytest.mark.parametrize(("direct_share", "expected"), SHARES)
def test_the_share_of_direct_solutions(direct_share, expected):
    """One chain per tree, since a tree gives its direct solution only once."""
    kinds = [traces(which, count=1, direct_share=direct_share)[0].kind for which in many(300)]
    assert kinds.count("direct") / 300 == pytest.approx(expected, abs=0.12)  # four standard errors


def test_a_tree_without_wrong_terminals_gives_its_direct_solution_once():
    (only,) = traces(DIRECT_ONLY, direct_share=0.0)
    assert only.kind == "direct"


def test_without_backtracks_all_is_direct():
    assert {t.kind for t in all_traces(max_backtracks=0)} == {"direct"}


def test_candidates_take_turns():
    two = tree(
        (0, "2 * 3 = 6 left 4 6", "q0.5"),
        (1, "6 * 4 = 24 make 24 got 24 yes answer 2 * 3 * 4", "C =one q1"),
        (0, "3 * 4 = 12 left 2 12", "q0.4"),
        (3, "12 * 2 = 24 make 24 got 24 yes answer 3 * 4 * 2", "C =two q1"),
    )
    assert [t.answer for t in traces(two, count=2)] == ["one", "two"]


# --- arms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", ["common_ancestor", "root", "random_ancestor"])
def test_the_direct_arm_has_the_same_examples_but_for_the_wrong_branches(jump):
    search, direct = all_traces(jump=jump), all_traces(jump=jump, reflection=False)
    assert [(t.id, t.problem_id, t.prompt, t.answer) for t in direct] == [
        (t.id, t.problem_id, t.prompt, t.answer) for t in search
    ]
    assert {t.kind for t in search} == {"direct", "search"}
    assert {t.kind for t in direct} == {"direct"}


def test_the_arm_without_phrases_visits_the_same_branches():
    with_them, without = all_traces(), all_traces(phrases=None)
    assert [t.id for t in without] == [t.id for t in with_them]
    for a, b in zip(with_them, without, strict=True):
        assert [s.node for s in a.segments if "step" in s.kind] == [s.node for s in b.segments if "step" in s.kind]
        assert a.backtracks == b.backtracks
        assert not any(said in b.completion for said in PHRASES.all())


@pytest.mark.parametrize("jump", ["root", "random_ancestor"])
def test_jump_variants_visit_the_same_terminals_in_the_same_order(jump):
    def ends(t):
        return [s.node for s in t.segments if " got " in s.text]

    assert [(t.id, ends(t)) for t in all_traces(jump=jump)] == [(t.id, ends(t)) for t in all_traces()]
    assert [t.completion for t in all_traces(jump=jump)] != [t.completion for t in all_traces()]


# --- determinism ------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_traces_and_another_seed_others():
    assert all_traces() == all_traces()
    assert all_traces(seed=2) != all_traces()


def test_a_tree_gives_the_same_traces_whatever_came_before_it():
    """No state is carried from tree to tree."""
    assert traces(many()[3]) == [t for which in many() for t in traces(which) if t.problem_id == "p3"]


# --- counts -----------------------------------------------------------------------------------------------------------


def test_trees_are_counted_by_what_became_of_them():
    unsolved = tree((0, "2 * 3 = 6 left 4 6"), (1, "6 + 4 = 10 make 24 got 10 no answer 2 * 3 + 4", "W"))
    refused = GAME.model_copy(update={"problem": PROBLEM.model_copy(update={"id": "refused"})})
    counts = {"trees_used": 0, "trees_unsolved": 0, "trees_filtered": 0}
    chosen = [
        accepted(which, accept=lambda t, correct: [] if t.problem.id == "refused" else correct, counts=counts)
        for which in (GAME, unsolved, refused, DIRECT_ONLY)
    ]
    assert counts == {"trees_used": 2, "trees_unsolved": 1, "trees_filtered": 1}
    assert chosen == [[3], [], [], [2]]


def test_a_chain_that_goes_back_at_a_dead_end_passes_its_gate_only():
    found = [t for which in many() for t in traces(which, back_from="dead_end") if t.kind == "search"]
    short = [t for t in found if "2 + 3 = 5 left 4 5\n" in t.completion]
    assert short
    assert not any("5 * 4 = 20" in t.completion or "5 + 4 = 9" in t.completion for t in short)
    assert check_traces(paired(found, many()), [], to_the_end=False, max_answer_share=1).success
    early = [t for t in found if not any("make 24 got" in s.text for s in t.segments if s.kind == "wrong_step")]
    assert early
    assert not check_traces(paired(early, many()), [], max_answer_share=1).success
