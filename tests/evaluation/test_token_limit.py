"""Accuracy against the token limit: chains are cut and graded again, and nothing else changes."""

import pytest

from astro.evaluation.token_limit import LongChain, limit_curve, limits
from astro.execution.search_and_sample_jobs import ContinueJobs, Unfinished
from astro.search.requests import Sample
from astro.special_tokens import cut_text
from astro.tasks.countdown.wording import vocabulary
from astro.training.wordlevel import build_tokenizer
from schemas.records import Problem

WORDS = {"p": "yes", "q": "no"}


def cut(text, tokens):
    """One token a word."""
    return [" ".join(text.split()[:count]) for count in tokens]


def grade(asked):
    """Right is a text that ends with the answer to its problem, and a stop."""
    return ["correct" if text.endswith(f"{WORDS[problem]} .") else "wrong" for problem, text in asked]


def curve(chains, at, **changes):
    options = {"cut": cut, "grade": grade, "resamples": 100, "seed": 1} | changes
    return [
        (p.limit, p.accuracy.value, p.tokens, p.truncated) for p in limit_curve(chains, "sft", at, **options).points
    ]


def chain(completion, text, *, problem="p", sample=0, finished=True, limit=100, more=""):
    """A chain of which `limit` words were sampled first."""
    words = text.split()
    seen = " ".join(words[:limit])
    ended = finished and len(words) <= limit
    made = completion(
        grade([(problem, seen)])[0], problem=problem, sample=sample, tokens=min(len(words), limit), finished=ended
    ).model_copy(update={"text": seen})
    return LongChain(made, text, len(words), finished)


def test_an_answer_that_was_not_finished_at_the_limit_is_wrong(completion):
    chains = [chain(completion, "a b yes .")]
    assert curve(chains, [1, 2, 3, 4, 8]) == [
        (1, 0.0, 1.0, 1.0),
        (2, 0.0, 2.0, 1.0),
        (3, 0.0, 3.0, 1.0),  # "yes" without its stop
        (4, 1.0, 4.0, 0.0),
        (8, 1.0, 4.0, 0.0),
    ]


def test_a_chain_that_takes_back_its_answer_is_graded_as_it_stands(completion):
    """Right after four words, wrong again after six."""
    assert [value for _, value, _, _ in curve([chain(completion, "a b yes . but no .")], [3, 4, 5, 7])] == [0, 1, 0, 0]


def test_what_was_cut_goes_on_and_what_was_measured_stays(completion):
    long = chain(completion, "a b c d e yes .", limit=4)
    other = chain(completion, "a no .", problem="q", limit=4)
    assert (long.completion.finished, other.completion.finished) == (False, True)
    found = curve([long, other], [2, 4, 6, 8])
    assert [(limit, value) for limit, value, _, _ in found] == [(2, 0.0), (4, 0.5), (6, 0.5), (8, 1.0)]
    assert [cut for _, _, _, cut in found] == [1.0, 0.5, 0.5, 0.0]
    assert [tokens for _, _, tokens, _ in found] == [2.0, 3.5, 4.5, 5.0]


def test_at_max_tokens_the_accuracy_is_pass_at_1_whatever_the_grader_says_of_the_text(completion):
    """The verdicts of today are used as they are: only what is cut elsewhere is graded."""
    done = [
        completion(verdict, problem=problem, sample=sample, tokens=4, finished=finished).model_copy(update={"text": "a b c d"})
        for problem, sample, verdict, finished in [
            ("p", 0, "correct", True), ("p", 1, "wrong", False), ("q", 0, "correct", False), ("q", 1, "correct", True),
        ]
    ]  # fmt: skip
    chains = [LongChain(c, c.text if c.finished else c.text + " e f", 4 if c.finished else 6, True) for c in done]
    asked = []

    def watched(texts):
        asked.extend(texts)
        return grade(texts)

    found = curve(chains, [2, 4, 6], grade=watched)
    assert found[1][:2] == (4, 0.75)
    assert found[2][:2] == (6, 0.5)
    assert sorted(asked) == sorted(
        [("p", "a b")] * 2 + [("q", "a b")] * 2 + [("p", "a b c d e f"), ("q", "a b c d e f")]
    )


def test_samples_of_a_problem_are_averaged_first(completion):
    chains = [chain(completion, "yes .", sample=n) for n in range(3)] + [chain(completion, "yes .", problem="q")]
    assert curve(chains, [2])[0][1] == 0.5


# longest, max_tokens -> limits
@pytest.mark.parametrize(
    ("longest", "asked", "expected"),
    [
        (224, 224, [28, 40, 56, 79, 112, 158, 224]),
        (448, 224, [56, 79, 112, 158, 224, 317, 448]),
        (448, 200, [56, 79, 112, 158, 200, 224, 317, 448]),
        (1, 1, [1]),
        (3, 2, [1, 2, 3]),
    ],
)
def test_the_limits(longest, asked, expected):
    assert limits(longest, asked) == expected


def test_a_text_is_cut_between_the_tokens_that_made_it():
    tokenizer = build_tokenizer(vocabulary(60), 256)
    text = "3 + 8 = 11 left 1 11\n11 + 1 = 12 make 24 got 12 no\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for count, seen in enumerate(cut_text(tokenizer, text, range(len(ids) + 2))):
        assert tokenizer(seen, add_special_tokens=False)["input_ids"] == ids[:count]
        assert text.startswith(seen)
    assert cut_text(tokenizer, text, [len(ids), 10_000]) == [text, text]
    assert cut_text(tokenizer, text, []) == []


def test_cut_samples_go_on_from_where_they_were_cut_each_with_a_seed_of_its_own():
    problem = Problem(id="p", task="countdown", question="make 24 from 3 8 1", gold="24", level=3, chance=None)
    item = Unfinished(problem=problem, samples={"0": "3 * 8", "5": "3 + 8"})
    name, job = ContinueJobs("countdown", 1, "eval long", 100, 1.0)(item)
    requests = next(job)
    assert name == "p"
    assert [r.prompt for r in requests] == ["make 24 from 3 8 1\n3 * 8", "make 24 from 3 8 1\n3 + 8"]
    assert {(r.n, r.max_tokens, r.stop) for r in requests} == {(1, 100, ())}
    assert len({r.seed for r in requests}) == 2
    with pytest.raises(StopIteration) as ended:
        job.send([[Sample(" = 24", 0.0, 2, True)], [Sample(" = 11", 0.0, 3, False)]])
    added = ended.value.value.samples
    assert {number: (a.text, a.tokens, a.finished) for number, a in added.items()} == {
        "0": (" = 24", 2, True),
        "5": (" = 11", 3, False),
    }
