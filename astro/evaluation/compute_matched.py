"""Accuracy against generated tokens per problem: search within one chain, compared with other uses of the same tokens.

PAPER.md, question 5. The x axis of every curve is the number of tokens generated for one problem, averaged over
problems: all N samples of best-of-N and of a vote, and all actions and rollouts of a tree search. Prompt tokens are not
counted, because all methods read them.

Two methods choose with the verifier, that is, with the gold answer: best-of-N, and tree search, which the verifier also
guides. They are upper bounds for a real chooser. A single chain and the vote choose without the gold (except for how
the vote merges answers, see `accuracy.answer_class`).
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from astro.evaluation.accuracy import by_problem, is_correct, majority_solves
from astro.evaluation.intervals import bootstrap_mean, rounded
from schemas.evaluate import BudgetCurve, BudgetPoint, EqualTokens
from schemas.records import Completion, Tree

BASE = "base"

STEPS_PER_DOUBLING = 2
"""Number of token limits per factor of 2 in a curve."""

_Found = TypeVar("_Found")


def one_sample_curve(completions: Sequence[Completion], label: str, *, resamples: int, seed: int) -> BudgetCurve:
    """Accuracy of one chain per problem, cut at T tokens. It shows what longer chains gain from search in context.

    Args:
        completions: completions of one model on one eval set.

    A chain is right at T if its verdict is correct and it ended by itself within T tokens; its cost is min(tokens, T).
    Both are averaged over the samples of a problem, then over problems. T grows geometrically from the shortest chain
    to the longest. Unlike pass@1, the last point excludes answers of chains that the length limit cut.

    Raises ValueError for no completions, and for samples that occur twice.
    """
    groups = _groups(completions)
    lengths = [c.tokens for c in completions]
    points = [
        _point(
            cap,
            [np.mean([min(c.tokens, cap) for c in samples]) for samples in groups],
            [np.mean([_right_within(c, cap) for c in samples]) for samples in groups],
            resamples=resamples,
            seed=seed,
        )
        for cap in caps(min(lengths), max(lengths))
    ]
    return BudgetCurve(label=label, method="one_sample", points=points)


def best_of_n_curve(completions: Sequence[Completion], label: str, *, resamples: int, seed: int) -> BudgetCurve:
    """Accuracy of the best of N samples, chosen by the verifier (pass@N), for N = 1, 2, 4, ... and all samples.

    A chooser that knows the gold answer is an oracle. This is an upper bound of every method that chooses among N
    samples, not a way to answer without the gold.

    Args:
        completions: completions of one model on one eval set.

    Per problem it is the unbiased estimate from all n samples (`pass_at_n`), at N * (mean tokens of its samples).

    Raises ValueError for no completions, and for samples that occur twice.
    """

    def solved(samples: list[Completion], n: int) -> float:
        return pass_at_n(len(samples), sum(map(is_correct, samples)), n)

    return BudgetCurve(
        label=label, method="best_of_n", points=_points_by_n(completions, solved, resamples=resamples, seed=seed)
    )


def majority_curve(completions: Sequence[Completion], label: str, *, resamples: int, seed: int) -> BudgetCurve:
    """Accuracy of a majority vote of N samples, for N = 1, 2, 4, ... and all samples.

    Args:
        completions: completions of one model on one eval set.

    Per problem it is the share of its floor(n / N) disjoint blocks of N successive samples whose vote is correct
    (`accuracy.majority_solves`; ties go to the first answer, so N = 2 equals N = 1 except for abstentions), at
    N * (mean tokens of its samples). The first block alone is maj@N as in `maj_at_k`.

    Raises ValueError for no completions, and for samples that occur twice.
    """

    def solved(samples: list[Completion], n: int) -> float:
        blocks = [samples[i : i + n] for i in range(0, len(samples) - n + 1, n)]
        return sum(majority_solves(block, k=n) for block in blocks) / len(blocks)

    return BudgetCurve(
        label=label, method="majority", points=_points_by_n(completions, solved, resamples=resamples, seed=seed)
    )


def search_curve(
    trees: Sequence[Tree],
    label: str,
    *,
    found: Mapping[str, int | None] | None = None,
    resamples: int,
    seed: int,
) -> BudgetCurve:
    """Accuracy of MCTS at test time, stopped at T tokens: share of problems with a correct solution in the tree by then.

    A solution is a terminal node or a rollout. The verifier selects it, and its verdicts on the rollouts guided the
    search, so it is an oracle in two ways. As with best-of-N the whole budget is spent: min(tree's tokens, T).

    Args:
        trees: one per problem of one eval set.
        found: problem id -> tokens generated when the first correct solution appeared (`first_found`); None: never.
            Without it the curve is one point for whole trees, because a tree's record does not hold the tokens of
            single expansions.

    Raises ValueError for no trees, two of one problem, or a `found` that does not match them.
    """
    by_id = {tree.problem.id: tree for tree in trees}
    if not trees or len(by_id) < len(trees):
        raise ValueError(f"expected one tree per problem, at least one; got {len(trees)} of {len(by_id)} problems")
    ordered = [by_id[i] for i in sorted(by_id)]
    longest = max(1, *(tree.tokens for tree in ordered))
    if found is None:
        spent = [tree.tokens if is_solved(tree) else None for tree in ordered]
        budgets = [longest]
    else:
        _check_found(found, by_id)
        spent = [found[tree.problem.id] for tree in ordered]
        budgets = caps(min((t for t in spent if t is not None), default=longest), longest)
    points = [
        _point(
            cap,
            [min(tree.tokens, cap) for tree in ordered],
            [t is not None and t <= cap for t in spent],
            resamples=resamples,
            seed=seed,
        )
        for cap in budgets
    ]
    return BudgetCurve(label=label, method="search", points=points)


def budget_curves(
    completions_by_model: Mapping[str, Sequence[Completion]],
    trees: Sequence[Tree] | None = None,
    *,
    baselines: Mapping[str, str],
    found: Mapping[str, int | None] | None = None,
    resamples: int,
    seed: int,
) -> list[BudgetCurve]:
    """All curves of one eval set: single chains for the models that search in context, other methods for Direct and base.

    Args:
        completions_by_model: model -> its completions. Missing models, and those without completions, are skipped.
        baselines: model that searches in its chain -> its baseline, trained on direct solutions of the same trees.
        trees, found: the base model's search at test time, see `search_curve`; without trees there is no such curve.
        seed: each interval uses a fresh generator, as in `summary.summarise`.
    """
    present = {model: done for model, done in completions_by_model.items() if done}
    curves = [
        one_sample_curve(present[model], model, resamples=resamples, seed=seed)
        for model in baselines
        if model in present
    ]
    for model in (*dict.fromkeys(baselines.values()), BASE):
        if model in present:
            curves.append(best_of_n_curve(present[model], model, resamples=resamples, seed=seed))
            curves.append(majority_curve(present[model], model, resamples=resamples, seed=seed))
    if trees:
        curves.append(search_curve(trees, BASE, found=found, resamples=resamples, seed=seed))
    return curves


def at_equal_tokens(curves: Sequence[BudgetCurve], baselines: Mapping[str, str]) -> list[EqualTokens]:
    """Compare uncut chains of each model that searches with its baseline and the base at the same mean tokens.

    Args:
        curves: curves of one eval set.
        baselines: as in `budget_curves`.

    The accuracy of the others is interpolated between neighbouring points, linearly in log tokens. It is None if the
    chains' tokens lie outside the other curve, because nothing is extrapolated.
    """
    rows = []
    for mine in curves:
        if mine.method != "one_sample":
            continue
        end = mine.points[-1]
        rows += [
            EqualTokens(
                better=mine.label,
                worse=f"{other.label}_{other.method}",
                tokens=end.tokens,
                accuracy=end.accuracy.value,
                other=interpolated(other.points, end.tokens),
            )
            for other in curves
            if other.method != "one_sample" and other.label in (baselines.get(mine.label), BASE)
        ]
    return rows


def pass_at_n(samples: int, correct: int, n: int) -> float:
    """Probability that n samples, drawn without replacement, include a correct one: 1 - C(samples - correct, n) / C(samples, n).

    The unbiased estimate of pass@n (Chen et al. 2021, Evaluating large language models trained on code, section 2.1).

    Raises ValueError if n is below 1 or above `samples`.
    """
    if not 1 <= n <= samples:
        raise ValueError(f"n must be in 1..{samples} (samples), got {n}")
    return 1 - math.comb(samples - correct, n) / math.comb(samples, n)


def interpolated(points: Sequence[BudgetPoint], tokens: float) -> float | None:
    """Accuracy at `tokens`, linear in log tokens between neighbouring points; None outside of them.

    Args:
        points: in ascending order of tokens. Points with 0 tokens are left out, because they have no logarithm.
    """
    known = [p for p in points if p.tokens > 0]
    if not known or not known[0].tokens <= tokens <= known[-1].tokens:
        return None
    at = np.log([p.tokens for p in known])
    return rounded(np.interp(math.log(tokens), at, [p.accuracy.value for p in known]))


def caps(shortest: int, longest: int) -> list[int]:
    """Token limits from about `shortest` up to exactly `longest`, ascending, `STEPS_PER_DOUBLING` per factor of 2.

    None is below `shortest` or below 1; `longest` is always included (as 1 if it is 0).
    """
    longest = max(1, longest)
    lowest = min(max(1, shortest), longest)
    steps = range(math.floor(STEPS_PER_DOUBLING * math.log2(longest / lowest)) + 2)
    found = {round(longest / 2 ** (i / STEPS_PER_DOUBLING)) for i in steps}
    return sorted(cap for cap in found if cap >= lowest)


def is_solved(tree: Tree) -> bool:
    """Whether the tree holds a correct solution, as a terminal node or as a rollout."""
    return any(n.verdict == "correct" or any(r.verdict == "correct" for r in n.rollouts) for n in tree.nodes)


@dataclass(slots=True)
class Ledger:
    """The tokens that one search had spent at each state. The record of a tree does not hold them.

    Attributes:
        tokens: generated so far; at the end equal to `Tree.tokens`.
        first, last: steps of a state -> `tokens` after the first, and the last, batch for this state. A node first requests
        its
            rollouts and last its expansion (the root: only its expansion).
    """

    tokens: int = 0
    first: dict[tuple[str, ...], int] = field(default_factory=dict)
    last: dict[tuple[str, ...], int] = field(default_factory=dict)


def metered(search: Generator[list[Any], Any, _Found], ledger: Ledger) -> Generator[list[Any], list[list], _Found]:
    """Run `search` (an `astro.search.Search`) unchanged and record its token cost in `ledger`.

    Requests have `steps`; text requests also have `n`, and their samples `tokens`. All samples of a batch count at
    once, because they are generated together.
    """
    answers: Any = None  # a generator that has not started accepts only None
    try:
        while True:
            try:
                wanted = search.send(answers)
            except StopIteration as stop:
                return stop.value
            answers = yield wanted
            for request, answer in zip(wanted, answers, strict=True):
                ledger.tokens += sum(sample.tokens for sample in answer) if hasattr(request, "n") else 0
            for request in wanted:
                ledger.first.setdefault(request.steps, ledger.tokens)
                ledger.last[request.steps] = ledger.tokens
    finally:
        search.close()


def first_found(tree: Tree, ledger: Ledger) -> int | None:
    """Tokens generated when the tree's first correct solution (see `is_solved`) appeared; None: it has none.

    Args:
        ledger: from the search that made this tree (`metered`).

    A terminal node appears when its parent's expansion is answered, a rollout when its batch is. The figure is exact up to
    the batch.

    Raises ValueError if the ledger belongs to another search.
    """
    try:
        moments = [
            ledger.last[tuple(tree.steps(node.parent))]
            for node in tree.nodes
            if node.verdict == "correct"  # the root has no step, it can only be closed
        ]
        moments += [
            ledger.first[tuple(tree.steps(node.index))]
            for node in tree.nodes
            if any(r.verdict == "correct" for r in node.rollouts)
        ]
    except KeyError as error:
        raise ValueError(f"problem {tree.problem.id}: the ledger has no request for {error.args[0]}") from None
    if ledger.tokens != tree.tokens:
        raise ValueError(f"problem {tree.problem.id}: the ledger has {ledger.tokens} tokens, the tree {tree.tokens}")
    return min(moments, default=None)


def _groups(completions: Sequence[Completion]) -> list[list[Completion]]:
    """The samples of each problem, in the order of the ids."""
    if not completions:
        raise ValueError("expected at least one completion")
    return list(by_problem(completions).values())


def _right_within(completion: Completion, cap: int) -> bool:
    return is_correct(completion) and completion.finished and completion.tokens <= cap


def _points_by_n(
    completions: Sequence[Completion],
    solved: Callable[[list[Completion], int], float],
    *,
    resamples: int,
    seed: int,
) -> list[BudgetPoint]:
    """One point for N = 1, 2, 4, ... and the smallest number of samples. `solved(samples of one problem, N)` is in 0..1."""
    groups = _groups(completions)
    most = min(map(len, groups))
    tokens = np.array([np.mean([c.tokens for c in samples]) for samples in groups])  # (problems,) per sample
    return [
        _point(n, n * tokens, [solved(samples, n) for samples in groups], resamples=resamples, seed=seed)
        for n in sorted({2**i for i in range(most.bit_length())} | {most})
    ]


def _point(budget: int, tokens: ArrayLike, scores: ArrayLike, *, resamples: int, seed: int) -> BudgetPoint:
    """tokens, scores: (problems,)."""
    return BudgetPoint(
        budget=budget,
        tokens=rounded(np.mean(np.asarray(tokens))),
        accuracy=bootstrap_mean(scores, resamples=resamples, rng=np.random.default_rng(seed)),
    )


def _check_found(found: Mapping[str, int | None], trees: Mapping[str, Tree]) -> None:
    """Refuse token counts that do not match the trees."""
    if found.keys() != trees.keys():
        odd = sorted(found.keys() ^ trees.keys())
        raise ValueError(
            f"the list of found solutions and the trees cover different problems: {len(odd)}, e.g. {odd[:3]}"
        )
    for problem, tokens in found.items():
        tree = trees[problem]
        if (tokens is not None) != is_solved(tree) or (tokens or 0) > tree.tokens:
            raise ValueError(
                f"problem {problem}: solved at {tokens} tokens, but its tree of {tree.tokens} tokens is "
                f"{'solved' if is_solved(tree) else 'not solved'}"
            )
