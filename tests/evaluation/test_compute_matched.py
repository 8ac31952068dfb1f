"""Accuracy against tokens, on tables small enough to work out by hand."""

import itertools
import math
from collections.abc import Sequence

import pytest

from astro.evaluation.compute_matched import (
    Ledger,
    at_equal_tokens,
    best_of_n_curve,
    budget_curves,
    caps,
    first_found,
    interpolated,
    is_solved,
    majority_curve,
    metered,
    one_sample_curve,
    pass_at_n,
    search_curve,
)
from astro.execution.scheduler import run_searches
from astro.execution.search_and_sample_jobs import rendered
from astro.inference.engine import Request
from astro.search import Sample, SearchConfig, search
from schemas.evaluate import BudgetCurve, BudgetPoint, Estimate, EvalMetrics
from schemas.records import Node, Problem, Rollout, Tree
from tests.scripted_engine import END, ScriptedEngine
from tests.search.world import judged

BASELINES = {"sft": "sft_direct", "grpo": "grpo_direct"}
DRAWS = {"resamples": 100, "seed": 0}


@pytest.fixture
def samples(completion):
    """Writes "+10 -20 ?30 +40!" as four samples of one problem: verdict sign, tokens, ! cut by the length limit."""
    verdicts = {"+": ("correct", "a"), "-": ("wrong", "b"), "?": ("unparseable_prediction", None)}
    return lambda text, problem="p": [
        completion(
            *verdicts[word[0]],
            problem=problem,
            sample=i,
            tokens=int(word[1:].rstrip("!")),
            finished=not word.endswith("!"),
        )
        for i, word in enumerate(text.split())
    ]


def values(curve):
    """(budget, tokens, accuracy) of each point."""
    return [(p.budget, p.tokens, p.accuracy.value) for p in curve.points]


def points(*rows):
    """Points from (tokens, accuracy)."""
    return [
        BudgetPoint(budget=i + 1, tokens=t, accuracy=Estimate(value=a, low=a, high=a, n=1))
        for i, (t, a) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("shortest", "longest", "expected"),
    [
        (10, 40, [10, 14, 20, 28, 40]),  # 40 / sqrt(2) = 28.3, 20 / sqrt(2) = 14.1
        (11, 40, [14, 20, 28, 40]),
        (40, 40, [40]),
        (0, 0, [1]),
        (0, 4, [1, 2, 3, 4]),  # 4, 2.8, 2, 1.4, 1: rounded ones that are equal count once
        (50, 40, [40]),
    ],
)
def test_caps(shortest, longest, expected):
    assert caps(shortest, longest) == expected


def test_one_sample_curve_by_hand(samples):
    """p: right after 10 and 40; q: wrong after 20, right after 20."""
    curve = one_sample_curve(samples("+10 +40") + samples("-20 +20", "q"), "sft", **DRAWS)
    assert (curve.label, curve.method) == ("sft", "one_sample")
    assert values(curve) == [
        (10, 10, 0.25),  # p 1/2, q 0
        (14, 13, 0.25),  # p (10 + 14) / 2 = 12, q 14
        (20, 17.5, 0.5),  # p 15, q 20; the limit itself is within
        (28, 19.5, 0.5),  # p 19, q 20
        (40, 22.5, 0.75),  # p 25, q 20
    ]
    assert {p.accuracy.n for p in curve.points} == {2}


def test_a_chain_cut_by_the_limit_is_never_right(samples):
    assert values(one_sample_curve(samples("+40! +40"), "sft", **DRAWS)) == [(40, 40, 0.5)]


def test_means_are_over_samples_then_problems(samples):
    """Three samples of p weigh as much as the one of q."""
    curve = one_sample_curve(samples("+8 +8 +8") + samples("-8", "q"), "sft", **DRAWS)
    assert values(curve) == [(8, 8, 0.5)]


@pytest.mark.parametrize(("n", "c"), list(itertools.product([1, 2, 5], [0, 2, 5])))
def test_pass_at_n_counts_subsets(n, c):
    """Against the definition: the share of the subsets of size n that hold a correct sample."""
    total = 5
    hits = [any(i < c for i in chosen) for chosen in itertools.combinations(range(total), n)]
    assert pass_at_n(total, c, n) == pytest.approx(sum(hits) / len(hits))


def test_pass_at_n_by_hand():
    assert pass_at_n(4, 1, 2) == 0.5
    assert pass_at_n(4, 2, 2) == pytest.approx(5 / 6)  # of 6 pairs one holds none
    with pytest.raises(ValueError, match=r"n must be in 1\.\.4"):
        pass_at_n(4, 1, 5)


def test_best_of_n_curve_by_hand(samples):
    """p: 1 of 4 right, 20 tokens in the mean; q: none right, 10 tokens."""
    curve = best_of_n_curve(samples("-10 -20 +30 -20") + samples("-10 -10 -10 -10", "q"), "base", **DRAWS)
    assert values(curve) == [(1, 15, 0.125), (2, 30, 0.25), (4, 60, 0.5)]
    assert (curve.label, curve.method) == ("base", "best_of_n")


def test_n_ends_at_all_samples_of_the_problem_with_fewest(samples):
    done = samples("-10 -10 +10") + samples("+10 -10 -10 -10 -10", "q")
    assert [p.budget for p in best_of_n_curve(done, "base", **DRAWS).points] == [1, 2, 3]
    assert [p.budget for p in majority_curve(done, "base", **DRAWS).points] == [1, 2, 3]


def test_majority_curve_by_hand(samples):
    """p votes + - | - - and then all; q abstains first."""
    curve = majority_curve(samples("+10 -10 -10 -10") + samples("?20 +20 +20 -20", "q"), "base", **DRAWS)
    assert values(curve) == [
        (1, 15, 0.375),  # p 1/4, q 2/4
        (2, 30, 0.75),  # p: + by the tie, then -; q: + alone, then + by the tie
        (4, 60, 0.5),  # p 1 : 3, q 2 : 1
    ]


def test_majority_leaves_the_last_part_of_a_block_out(samples):
    assert values(majority_curve(samples("-1 -1 +1"), "base", **DRAWS)) == [
        (1, 1, pytest.approx(1 / 3, abs=1e-6)),
        (2, 2, 0),
        (3, 3, 0),
    ]


@pytest.mark.parametrize("make", [one_sample_curve, best_of_n_curve, majority_curve])
def test_no_completions_are_refused(make, samples):
    with pytest.raises(ValueError, match="at least one completion"):
        make([], "sft", **DRAWS)
    with pytest.raises(ValueError, match="occurs twice"):
        make(samples("+1") * 2, "sft", **DRAWS)


# --- tree search -------------------------------------------------------------------------------------------------------


def problem(name):
    return Problem(id=name, task="countdown", question="make 6 from 1 2 3", gold="6", level=3, chance=None)


def node(index, parent, text, *, verdict=None, rollouts=()):
    return Node(
        index=index,
        parent=parent,
        depth=0 if parent < 0 else parent + 1,
        text=text,
        prior=1,
        visits=1,
        q=0,
        reward=0,
        terminal=verdict is not None,
        answer=None,
        verdict=verdict,
        rollouts=[Rollout(answer=None, verdict=v, tokens=7) for v in rollouts],
    )


def tree(name, *nodes, tokens):
    return Tree(problem=problem(name), nodes=[node(0, -1, ""), *nodes], iterations=1, requests=1, tokens=tokens)


@pytest.fixture
def forest():
    """Solved by a rollout, solved by a terminal node, not solved."""
    return [
        tree("p", node(1, 0, "a", rollouts=["wrong", "correct"]), tokens=100),
        tree("q", node(1, 0, "a", verdict="correct"), tokens=40),
        tree("r", node(1, 0, "a", verdict="wrong", rollouts=["wrong"]), tokens=160),
    ]


def test_whole_trees_give_one_point(forest):
    curve = search_curve(forest, "base", **DRAWS)
    assert (curve.label, curve.method) == ("base", "search")
    assert values(curve) == [(160, 100, pytest.approx(2 / 3, abs=1e-6))]


def test_search_curve_does_not_depend_on_the_order_of_trees():
    """Nor does its interval, though the draws go by position; ten draws alone would show it."""
    verdicts = ["correct", "wrong", "wrong", "correct", "wrong", "correct", "wrong"]
    trees = [tree(f"p{i}", node(1, 0, "a", verdict=v), tokens=10) for i, v in enumerate(verdicts)]
    turned = [trees[i:] + trees[:i] for i in range(len(trees))]
    assert len({search_curve(t, "base", resamples=10, seed=0).model_dump_json() for t in turned}) == 1


def test_search_curve_by_hand(forest):
    curve = search_curve(forest[::-1], "base", found={"p": 80, "q": 40, "r": None}, **DRAWS)
    assert values(curve) == [
        (40, 40, pytest.approx(1 / 3, abs=1e-6)),
        (57, pytest.approx((57 + 40 + 57) / 3, abs=1e-6), pytest.approx(1 / 3, abs=1e-6)),
        (80, pytest.approx(200 / 3, abs=1e-6), pytest.approx(2 / 3, abs=1e-6)),  # 80 + 40 + 80
        (113, pytest.approx(253 / 3, abs=1e-6), pytest.approx(2 / 3, abs=1e-6)),  # 100 + 40 + 113
        (160, 100, pytest.approx(2 / 3, abs=1e-6)),
    ]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"p": 80, "q": 40}, "different problems: 1, e.g. .'r'."),
        ({"p": 80, "q": None, "r": None}, "problem q.*is solved"),
        ({"p": 80, "q": 40, "r": 1}, "problem r.*is not solved"),
        ({"p": 80, "q": 41, "r": None}, "problem q: solved at 41 tokens, but its tree of 40"),
    ],
)
def test_found_must_fit_the_trees(forest, found, message):
    with pytest.raises(ValueError, match=message):
        search_curve(forest, "base", found=found, **DRAWS)


def test_trees_must_be_one_per_problem(forest):
    with pytest.raises(ValueError, match="got 0 of 0"):
        search_curve([], "base", **DRAWS)
    with pytest.raises(ValueError, match="got 2 of 1"):
        search_curve(forest[:1] * 2, "base", **DRAWS)


def small_search(name, *, iterations=2):
    """k = 2, M = 2. A step "!" ends; the rest "+" and the terminal step "+!" are right."""

    def judge(steps: Sequence[str], rest: str):
        return None, "correct" if "+" in (rest or steps[-1]) else "wrong"

    config = SearchConfig(
        num_actions=2, rollouts_per_child=2, num_simulations=iterations, max_depth=3, c_puct=1.0, prior="uniform"
    )
    return judged(search(problem(name), config=config, seed=0, is_terminal=lambda s: s.endswith("!")), judge)


def play(run, batches):
    """Drive a search with answers given as [[(text, tokens), ...] per request] per batch."""
    wanted = next(run)
    try:
        for batch in batches:
            assert len(batch) == len(wanted)
            wanted = run.send([[Sample(text, 0.0, tokens, True) for text, tokens in answer] for answer in batch])
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the search wants more")


ROLLED = [[("a", 3), ("b", 4)]], [[("-", 10), ("-", 20)], [("-", 30), ("-", 40)]]
"""The root's expansion, and rollouts of its two children: 7 + 100 tokens, nothing right."""


@pytest.mark.parametrize(
    ("batches", "found"),
    [
        # the second expansion (of a) gives a right answer at once: before the rollouts of its sibling
        ([*ROLLED, [[("+!", 5), ("c", 6)]], [[("+", 1), ("-", 2)]]], 118),
        # ... or only its rollouts do
        ([*ROLLED, [[("-!", 5), ("c", 6)]], [[("+", 1), ("-", 2)]]], 121),
        # the first rollouts: a and b are asked for at once, the batch counts whole; a is asked for again later
        ([ROLLED[0], [[("+", 10), ("-", 20)], [("-", 30), ("-", 40)]], [[("+!", 5), ("d", 6)]], [[("-", 1)] * 2]], 107),
        ([*ROLLED, [[("-!", 5), ("c", 6)]], [[("-", 1), ("-", 2)]]], None),
        # an expansion without a usable step makes no node, but its tokens count
        ([*ROLLED, [[("", 5), (" ", 6)]]], None),
    ],
)
def test_first_found_by_hand(batches, found):
    ledger = Ledger()
    made = play(metered(small_search("p"), ledger), batches)
    assert made == play(small_search("p"), batches)
    assert ledger.tokens == made.tokens == sum(t for batch in batches for answer in batch for _, t in answer)
    assert first_found(made, ledger) == found
    assert (found is not None) == is_solved(made)


def test_a_ledger_of_another_search_is_refused():
    ledger, other = Ledger(), Ledger()
    made = play(metered(small_search("p", iterations=1), ledger), ROLLED)
    play(metered(small_search("p", iterations=1), other), [[[("a", 3), ("b", 5)]], ROLLED[1]])
    with pytest.raises(ValueError, match="the ledger has 108 tokens, the tree 107"):
        first_found(made, other)
    right = tree("p", node(1, 0, "z", rollouts=["correct"]), tokens=107)
    with pytest.raises(ValueError, match="no request for"):
        first_found(right, ledger)


def test_closing_a_metered_search_closes_it():
    inner = small_search("p")
    run = metered(inner, Ledger())
    next(run)
    run.close()
    assert inner.gi_frame is None


def test_metered_searches_under_the_driver():
    """Any order of answers: the same trees, and the same tokens until found, which a shorter search confirms."""

    def next_tokens(text):
        steps = {"+!": 0.03, "-!": 0.17, "a": 0.25, "b": 0.25, "c": 0.3}
        return {END: 0.5, **{token: p / 2 for token, p in steps.items()}} if text else steps

    def to_request(wanted):
        return Request(
            prompt="",
            n=wanted.n,
            max_tokens=4,
            temperature=1.0,
            stop=(),
            seed=wanted.seed,
            logprobs=False,
        )

    def grow(order_seed, iterations):
        names = [f"p{i}" for i in range(12)]
        ledgers = {name: Ledger() for name in names}
        runs = ((n, rendered(metered(small_search(n, iterations=iterations), ledgers[n]), to_request)) for n in names)
        engine = ScriptedEngine(next_tokens, order_seed=order_seed)
        trees = dict(run_searches(runs, engine=engine, in_flight=5))
        return trees, {name: first_found(trees[name], ledgers[name]) for name in names}

    trees, found = grow(1, 6)
    assert grow(2, 6)[1] == found
    assert None in found.values()
    assert len(set(found.values())) > 3
    for iterations in (1, 2, 3):
        shorter, _ = grow(3, iterations)
        for name, made in shorter.items():
            # a search of fewer iterations is the beginning of the longer one: it is solved if that had found by then
            assert is_solved(made) == (found[name] is not None and found[name] <= made.tokens), name
    assert (
        search_curve(list(trees.values()), "base", found=found, **DRAWS).points[-1]
        == (search_curve(list(trees.values()), "base", **DRAWS).points[0])
    )


# --- all curves --------------------------------------------------------------------------------------------------------


def test_budget_curves_of_the_models_that_are_there(samples, forest):
    done = samples("+10 -20")
    everything = dict.fromkeys(["base", "sft", "sft_direct", "grpo", "grpo_direct"], done)
    direct = [(m, way) for m in ("sft_direct", "grpo_direct", "base") for way in ("best_of_n", "majority")]
    found = [(c.label, c.method) for c in budget_curves(everything, forest, baselines=BASELINES, **DRAWS)]
    assert found == [("sft", "one_sample"), ("grpo", "one_sample"), *direct, ("base", "search")]
    some = budget_curves({"grpo": done, "sft_direct": [], "base": done}, baselines=BASELINES, **DRAWS)
    assert [(c.label, c.method) for c in some] == [
        ("grpo", "one_sample"),
        ("base", "best_of_n"),
        ("base", "majority"),
    ]


def test_curves_do_not_depend_on_the_order_of_completions(samples):
    done = samples("+10 -20 +30") + samples("-10 ?20 +30", "q")
    given = {"sft": done, "base": done}
    turned = {"base": done[::-1], "sft": done[::-1]}
    assert budget_curves(given, baselines=BASELINES, **DRAWS) == budget_curves(turned, baselines=BASELINES, **DRAWS)


def test_intervals_draw_anew_for_each_point(samples):
    """Two points with the same scores get the same interval, and it has a width."""
    curve = one_sample_curve(samples("+10") + samples("-40", "q") + samples("+10", "r"), "sft", **DRAWS)
    assert len({p.accuracy.model_dump_json() for p in curve.points}) == 1
    assert curve.points[0].accuracy.low < curve.points[0].accuracy.value < curve.points[0].accuracy.high


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (10, 0.2),  # the ends belong to the curve
        (40, 0.6),
        (20, 0.4),  # halfway in log tokens
        (80, 0.5),
        (160, 0.4),
        (9.99, None),
        (160.1, None),
        (10 * math.sqrt(2), 0.3),
    ],
)
def test_interpolated(tokens, expected):
    found = interpolated(points((10, 0.2), (40, 0.6), (160, 0.4)), tokens)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_interpolated_without_tokens():
    assert interpolated(points((0, 0.5)), 0) is None
    assert interpolated(points((0, 0.5), (4, 0.25)), 4) == 0.25


def curve(label, method, *rows):
    return BudgetCurve(label=label, method=method, points=points(*rows))


def test_at_equal_tokens_by_hand():
    curves = [
        curve("sft", "one_sample", (5, 0.0), (20, 0.7)),
        curve("grpo", "one_sample", (50, 0.9)),
        curve("sft_direct", "best_of_n", (10, 0.2), (40, 0.6)),
        curve("grpo_direct", "majority", (10, 0.3), (40, 0.5)),
        curve("base", "search", (20, 0.1), (80, 0.5)),
    ]
    rows = [(r.better, r.worse, r.tokens, r.accuracy, r.other) for r in at_equal_tokens(curves, BASELINES)]
    assert rows == [
        ("sft", "sft_direct_best_of_n", 20, 0.7, 0.4),
        ("sft", "base_search", 20, 0.7, 0.1),
        ("grpo", "grpo_direct_majority", 50, 0.9, None),
        ("grpo", "base_search", 50, 0.9, pytest.approx(0.1 + 0.4 * math.log(2.5) / math.log(4), abs=1e-6)),
    ]
    assert at_equal_tokens(curves[2:], BASELINES) == []


def test_metrics_of_before_the_curves_are_read():
    metrics = EvalMetrics.model_validate({"samples": 1, "seed": 0, "sets": {}, "differences": {}})
    assert (metrics.budgets, metrics.equal_tokens) == ({}, {})
