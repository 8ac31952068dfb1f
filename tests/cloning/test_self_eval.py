"""Self-evaluation: votes counted, candidates kept in their order."""

import pytest

from astro.cloning.self_eval import passing, sound_share

SHARES = [
    (["yes", "yes"], 1.0),
    (["yes", "no"], 0.5),
    # what stands after the word, or before it as space, does not matter
    ([" yes answer 3 * 8", "yes\n"], 1.0),
    # an unreadable vote is a no, and so is silence
    (["", "y", "maybe yes", "no yes"], 0.0),
    # an instruct model says more, and marks it up
    (["Yes, every step is sound.", "**Yes**", "Yes.", "*yes*, since", "- YES", '"Yes"', "$\\boxed{yes}$"], 1.0),
    (
        ["Answer: Yes", "**Answer:** yes", "The answer is yes.", "My final verdict is: Yes", "The answer is: **yes**"],
        1.0,
    ),
    # another word that only begins so, a no, an answer that is put off
    (["Yesterday", "No, yes is wrong.", "The answer is no", "Let me check each step. Yes", "Not yes"], 0.0),
    # one of eight
    (["yes", *["no"] * 7], 0.125),
]


@pytest.mark.parametrize(("votes", "expected"), SHARES)
def test_share_of_sound_votes(votes, expected):
    assert sound_share(votes, "yes") == expected


BALLOTS = {7: ["yes", "yes"], 3: ["yes", "no"], 5: ["no", "no"]}


@pytest.mark.parametrize(
    ("min_share", "expected"),
    [
        (0.0, [7, 3, 5]),  # everything passes, in the order it came
        (0.5, [7, 3]),  # the bound itself passes
        (0.51, [7]),
        (1.0, [7]),
    ],
)
def test_candidates_that_reach_the_share_pass(min_share, expected):
    asked = []

    def ask(candidates):
        asked.append(list(candidates))
        return [BALLOTS[c] for c in candidates]

    assert passing([7, 3, 5], ask=ask, sound=lambda _: "yes", min_share=min_share) == expected
    assert asked == [[7, 3, 5]]  # in one batch


def test_each_candidate_has_its_own_word_for_sound():
    words = {1: "yes", 2: "true"}
    assert passing([1, 2], ask=lambda c: [["yes"], ["yes"]], sound=words.get, min_share=1.0) == [1]


def test_votes_that_do_not_match_the_candidates_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        passing([1, 2], ask=lambda c: [["yes"]], sound=lambda _: "yes", min_share=0.5)
