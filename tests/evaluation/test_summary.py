"""All figures of one eval set together."""

import random

import pytest

from astro.evaluation.summary import comparisons, summarise

BASELINES = {"sft": "sft_direct", "grpo": "grpo_direct"}
PAIRS = comparisons([["sft_direct", "grpo_direct"], ["sft", "grpo"]], BASELINES)
SETTINGS = {"pairs": PAIRS, "majority": 3, "resamples": 200, "seed": 1}


def test_pairs_of_two_arms_and_of_a_third():
    """The first order is that of metrics/eval.json since its beginning."""
    assert PAIRS == [
        ("sft", "sft_direct"),
        ("grpo", "grpo_direct"),
        ("sft", "base"),
        ("grpo", "sft"),
        ("grpo", "base"),
        ("sft_direct", "base"),
        ("grpo_direct", "sft_direct"),
    ]
    third = BASELINES | {"sft_x": "sft_direct", "grpo_x": "grpo_direct"}
    arms = [["sft_direct", "grpo_direct"], ["sft", "grpo"], ["sft_x", "grpo_x"]]
    assert comparisons(arms, third)[:6] == [
        ("sft", "sft_direct"),
        ("sft_x", "sft_direct"),
        ("grpo", "grpo_direct"),
        ("grpo_x", "grpo_direct"),
        ("sft_x", "sft"),
        ("grpo_x", "grpo"),
    ]
    assert comparisons([["sft", "grpo"]], {}) == [("sft", "base"), ("grpo", "sft")]


@pytest.fixture
def answers(completion, chain):
    """`answers(model, p="++-", q="--?")`: samples of a model, one sign each (+ correct, - wrong, ? no answer)."""
    searched = chain(("a", -1, "Wn"), ("b", -1, "Ry"), back=[(0, -1)])
    direct = chain(("a", -1, "Wy"))
    kinds = {
        "+": ("correct", "x", searched),
        "-": ("wrong", "y", direct),
        "?": ("unparseable_prediction", None, chain()),
    }

    def build(model, **signs):
        return [
            completion(
                verdict, answer, model=model, problem=p, sample=i, tokens=10 * i, finished=answer is not None, chain=c
            )
            for p, text in signs.items()
            for i, (verdict, answer, c) in enumerate(kinds[s] for s in text)
        ]

    return build


def test_figures_of_one_model(answers):
    metrics, differences = summarise({"sft": answers("sft", p="++-", q="--?")}, **SETTINGS)
    assert differences == []
    sft = metrics["sft"]
    assert sft.pass_at_1.value == 0.333333  # (2/3 + 0) / 2
    assert (sft.pass_at_1.low, sft.pass_at_1.high, sft.pass_at_1.n) == (0.0, 0.666667, 2)
    assert sft.maj_at_k.value == 0.5  # p by 2 : 1, q not
    assert sft.first_attempt.value == 0.0  # every chain begins wrong
    assert sft.tokens == 10.0  # 0 10 20, twice
    assert sft.backtracks == 0.333333  # 2 in 6 chains
    assert sft.backtracking_share == 0.333333
    assert sft.repeat_share == 0.0
    assert sft.valid_steps == 1.0
    assert sft.truncated == 0.166667  # the unanswered one
    assert sft.unparseable == 0.166667
    assert [(r.backtracks, r.chains, r.accuracy) for r in sft.by_backtracks] == [(0, 4, 0.0), (1, 2, 1.0)]
    assert [(r.attempt, r.chains, r.right) for r in sft.by_attempt] == [(1, 5, 0.0), (2, 2, 1.0)]
    assert sft.decisions.stop_when_right == 1.0  # 2 of 2
    assert sft.decisions.back_when_wrong == 0.4  # 2 of 5
    assert sft.decisions.stop_precision == 0.4  # stops at 2 right and 3 wrong
    assert sft.decisions.claim_accuracy == 0.571429  # 4 of 7: the three direct claims are false
    assert sft.backtracks_score_r == 1.0


def test_differences_of_the_models_present(answers):
    base, sft, grpo = (
        answers("base", p="+--", q="---"),
        answers("sft", p="++-", q="+--"),
        answers("grpo", p="+++", q="++-"),
    )
    _, differences = summarise({"base": base, "sft": sft, "grpo": grpo}, **SETTINGS)
    assert [(d.better, d.worse, d.difference.value) for d in differences] == [
        ("sft", "base", 0.333333),  # 1/3 on both problems
        ("grpo", "sft", 0.333333),
        ("grpo", "base", 0.666667),
    ]
    assert {(d.difference.low, d.difference.high) for d in differences[:2]} == {(0.333333, 0.333333)}  # no variance
    _, without_sft = summarise({"base": base, "grpo": grpo}, **SETTINGS)
    assert [(d.better, d.worse) for d in without_sft] == [("grpo", "base")]


def test_same_seed_same_bytes_whatever_the_order(answers):
    """Also: a model's figures do not depend on which other models are there."""
    signs = {f"p{i}": random.Random(i).choices("+-?", k=4) for i in range(12)}
    sft, base = answers("sft", **signs), answers("base", **{p: s[::-1] for p, s in signs.items()})
    shuffled = random.Random(0).sample(sft, len(sft))
    metrics, differences = summarise({"base": base, "sft": sft}, **SETTINGS)
    again, differences_again = summarise({"base": base, "sft": shuffled}, **SETTINGS)
    alone, _ = summarise({"sft": shuffled}, **SETTINGS)
    as_json = metrics["sft"].model_dump_json()
    assert again["sft"].model_dump_json() == as_json
    assert alone["sft"].model_dump_json() == as_json
    assert differences_again == differences
    other, _ = summarise({"sft": sft}, **{**SETTINGS, "seed": 2})
    assert other["sft"].pass_at_1.value == metrics["sft"].pass_at_1.value  # the seed moves intervals only
    assert other["sft"].pass_at_1 != metrics["sft"].pass_at_1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"sft": []}, "model sft: no completions"),
        (
            lambda a: {"sft": a("sft", p="+++") + a("base", q="+++")},
            r"model sft: also contains completions of \['base'\]",
        ),
        (lambda a: {"sft": a("sft", p="++")}, "problem p: maj@3 needs 3 samples, got 2"),  # fewer samples than k
        (lambda a: {"sft": a("sft", p="+++") * 2}, "sample 0 occurs twice"),  # a shard read twice
        (lambda a: {"sft": a("sft", p="+++"), "base": a("base", q="+++")}, "different problems"),
    ],
)
def test_refuses(answers, change, message):
    with pytest.raises(ValueError, match=message):
        summarise(change(answers), **SETTINGS)


def test_refuses_two_sets(completion):
    done = [completion(sample=i, set=name) for i, name in enumerate(["easy", "easy", "hard"])]
    with pytest.raises(ValueError, match=r"one eval set, got \['easy', 'hard'\]"):
        summarise({"sft": done}, **SETTINGS)
