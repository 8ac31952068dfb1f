"""pass@1 and maj@k on small tables."""

import itertools

import pytest

from astro.evaluation.accuracy import answer_class, by_problem, maj_at_k, majority_solves, pass_at_1

VERDICTS = {"+": "correct", "-": "wrong", "?": "unparseable_prediction", "g": "unparseable_gold"}


@pytest.fixture
def samples(completion):
    """Writes "+a -b ?" as three samples of one problem: verdict sign, then answer (none: no answer)."""
    return lambda text, problem="p": [
        completion(VERDICTS[word[0]], word[1:] or None, problem=problem, sample=i)
        for i, word in enumerate(text.split())
    ]


@pytest.mark.parametrize(
    ("votes", "k", "solved"),
    [
        ("+a", 1, True),  # one vote
        ("-a", 1, False),
        ("+a -b -c", 3, True),  # three classes with one vote each: the first wins the tie
        ("-b +a -c", 3, False),  # the same tie, another first
        ("-b +a*b +b*a", 3, True),  # two texts of the correct answer are one vote class of two
        ("-b -b +a*b +b*a", 4, False),  # 2 : 2, the wrong class appeared first
        ("+a*b -b -b +b*a", 4, True),  # 2 : 2, the correct class appeared first
        ("-1+2 -1+3 +a", 3, False),  # wrong answers that differ do not add up, but the tie goes to the first
        ("-x -x +a +b +c", 4, False),  # the fifth sample does not vote: 2 : 2
        ("-x -x +a +b +c", 5, True),  # now it does: 2 : 3
        ("? ? ? +a", 4, True),  # abstentions do not outvote
        ("? ? ? ?", 4, False),  # all abstain
        ("?7 ?7 +a", 3, True),  # an unparseable text abstains though it is there
        ("- - +a", 3, True),  # a wrong completion without an answer abstains
        ("g7 g7 g8", 3, False),  # an unparseable gold is never solved
    ],
)
def test_majority(samples, votes, k, solved):
    assert majority_solves(samples(votes), k=k) is solved


def test_majority_ignores_the_order_beyond_first_appearance(samples):
    """With a strict majority every order of the votes gives the same winner."""
    for order in itertools.permutations(["+a", "+b", "+c", "-x", "-x"]):
        assert majority_solves(samples(" ".join(order)), k=5) is True


def test_answer_class_reads_white_space_as_one_space(completion):
    assert answer_class(completion("wrong", "1  + 2\t")) == answer_class(completion("wrong", "1 + 2"))
    # a wrong answer spelled like the sentinel of the correct class is not that class
    assert answer_class(completion("wrong", "")) != answer_class(completion("correct", ""))


@pytest.mark.parametrize(("k", "message"), [(3, "problem p: maj@3 needs 3 samples, got 2"), (0, "k must be >= 1")])
def test_majority_refuses(samples, k, message):
    with pytest.raises(ValueError, match=message):
        majority_solves(samples("+a -b"), k=k)


def test_per_problem_means(samples):
    done = samples("+a -b -b ?", "q") + samples("+a +b g -c", "p")
    assert pass_at_1(done) == {"p": 0.5, "q": 0.25}
    assert list(pass_at_1(done)) == ["p", "q"]  # ordered by id, whatever the order of the input
    assert maj_at_k(done, k=4) == {"p": 1.0, "q": 0.0}
    assert maj_at_k(done, k=1) == {"p": 1.0, "q": 1.0}
    assert maj_at_k(done[::-1], k=1) == {"p": 1.0, "q": 1.0}  # "first" is by sample number, not by place in the file


def test_a_sample_twice_is_refused(samples):
    with pytest.raises(ValueError, match="problem p: sample 1 occurs twice"):
        by_problem(samples("+a +b") + samples("+a +b")[1:])
