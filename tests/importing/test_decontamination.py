"""The index of eval problems: against a plain search, turns of phrase, and the time it takes."""

import random
import time

import pytest

from astro.importing.decontamination import Index
from astro.tasks.math.solution_text import words_of

WORDS = [
    f"{a}{b}"
    for a in ("ka", "lo", "mi", "ne", "pu", "ra", "so", "ti")
    for b in ("ban", "der", "fil", "gon", "hem", "jur")
]


def sentence(rng: random.Random, length: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length))


def plain(question: str, evals: list[str], ngram: int) -> bool:
    """Does the question share `ngram` words in a row with one of them? Every pair of places is looked at."""
    mine = words_of(question)
    return any(
        mine[i : i + ngram] == theirs[j : j + ngram]
        for theirs in map(words_of, evals)
        for i in range(len(mine) - ngram + 1)
        for j in range(len(theirs) - ngram + 1)
    )


@pytest.mark.parametrize("ngram", [8, 13])
def test_agrees_with_a_plain_search(ngram):
    rng = random.Random(ngram)
    evals = [sentence(rng, 30) for _ in range(8)]
    questions = []
    for length in [0, 3, ngram - 1, ngram, ngram + 1, 20] * 6:
        at = rng.randrange(30 - length + 1)
        copied = " ".join(rng.choice(evals).split()[at : at + length])
        questions.append(f"{sentence(rng, 12)} {copied} {sentence(rng, 5)}")
    hits = Index([(str(i), q) for i, q in enumerate(evals)], ngram=ngram).hits(questions)
    assert [hit is not None for hit in hits] == [plain(q, evals, ngram) for q in questions]
    for question, hit in zip(questions, hits, strict=True):
        assert hit is None or (hit.detail in question and hit.detail in evals[int(hit.place)])


def test_a_turn_of_phrase_is_no_overlap():
    phrase = "can be written as m over n where m and n are relatively prime positive integers find m plus n"
    rng = random.Random(1)
    evals = [(str(i), f"{sentence(rng, 20)} {phrase}") for i in range(3)]
    index = Index(evals, ngram=13)
    other, copied = f"{sentence(rng, 30)} {phrase}", f"some words before {evals[0][1]}"
    assert [hit and hit.place for hit in index.hits([other, copied])] == [None, "0"]


def test_a_run_that_many_train_problems_share_is_a_turn_of_phrase():
    rng = random.Random(2)
    phrase = sentence(rng, 13)
    index = Index([("e", f"{sentence(rng, 15)} {phrase}")], ngram=13)
    few = [f"{sentence(rng, 40)} {phrase}" for _ in range(10)]
    many = [f"{sentence(rng, 40)} {phrase}" for _ in range(11)]
    assert all(index.hits(few))
    assert not any(index.hits(many))


def test_a_problem_of_nothing_but_such_runs_is_one():
    """Three eval problems that differ in their last word, and a copy of the rest: no run is telling, all are there."""
    rng = random.Random(3)
    body = sentence(rng, 30)
    index = Index([(str(i), f"{body} {word}") for i, word in enumerate(("one", "two", "three"))], ngram=13)
    assert index.hits([f"{body} four"])[0].reason == "ngram"


def test_a_short_eval_problem_is_found_as_a_whole():
    short = "how many positive whole number divisors does 196 have"  # 9 words
    index = Index([("e", short)], ngram=13)
    found = index.hits(
        [f"Tell me, {short}? Explain.", "how many positive whole number divisors does 197 have", short.upper()]
    )
    assert [hit and hit.reason for hit in found] == ["ngram", None, "exact"]
    assert Index([("e", "what is 2 + 2")], ngram=13).hits(["so what is 2 + 2 now"]) == [None]  # too short to tell


def test_many_problems_take_seconds():
    rng = random.Random(4)
    evals = [(str(i), sentence(rng, rng.randint(8, 60))) for i in range(570)]
    questions = [sentence(rng, 60) for _ in range(5000)] + [f"x {evals[5][1]} y"]
    began = time.process_time()
    hits = Index(evals, ngram=13).hits(questions)
    assert hits[-1].place == "5"
    assert not any(hits[:-1])
    assert time.process_time() - began < 10  # 1 s here


def test_chinese_problems_overlap_character_by_character():
    body = "某校从甲乙丙丁四名教师中选派三人分别到三所乡村学校支教"
    index = Index([("e", body + "，共有多少种不同的方案？")], ngram=13)
    asked = [
        f"已知：{body}，若甲不去，问有几种安排？",  # a part of it
        body.replace("四名教师", "五位医生").replace("三所乡村", "两家城市")
        + "，求概率。",  # no 13 characters in a row
        f"{body}，共有多少种不同的方案",  # but for punctuation
    ]
    assert [hit and hit.reason for hit in index.hits(asked)] == ["ngram", None, "exact"]
