"""Partial correlations of backtracks and of length with the score, each with the other one held constant.

Over problems, difficulty would drive all three. Chains are therefore compared only within a problem: each figure is its
distance from the mean of its problem. Chains cut by the length limit are left out, because they are wrong by
construction.
"""

from collections.abc import Sequence

import numpy as np

from astro.evaluation.accuracy import by_problem, is_correct
from astro.evaluation.intervals import PERCENTILES, rounded
from schemas.evaluate import Estimate
from schemas.records import Completion

_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Pairs of (score, backtracks, tokens) whose products are summed."""


def partial_correlations(
    completions: Sequence[Completion], *, resamples: int, rng: np.random.Generator
) -> tuple[Estimate | None, Estimate | None]:
    """Within problems: (backtracks and score at equal tokens, tokens and score at equal backtracks), each in -1..1.

    Partial Pearson correlations over chains that ended by themselves, for problems with at least two of them, with a 95
    % percentile bootstrap interval over problems. `n` counts problems. None if a figure does not vary, or if backtracks
    and tokens are collinear.
    """
    groups = [[c for c in samples if c.finished] for samples in by_problem(completions).values()]
    sums = np.array([_products(samples) for samples in groups if len(samples) > 1])  # (problems, 6)
    if not len(sums):
        return None, None
    whole = _partials(sums.sum(axis=0, keepdims=True))
    counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)  # (resamples, problems)
    drawn = _partials(counts @ sums)
    return _estimate(whole[0], drawn[0], len(sums)), _estimate(whole[1], drawn[1], len(sums))


def _products(samples: Sequence[Completion]) -> list[float]:
    """Sums of products of the centred figures of one problem's chains."""
    rows = np.array([[is_correct(c), len(c.chain.back_edges), c.tokens] for c in samples], dtype=np.float64)
    rows -= rows.mean(axis=0)
    return [float(rows[:, i] @ rows[:, j]) for i, j in _PAIRS]


def _partials(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, 6) sums of products -> two partial correlations per row; NaN where they do not exist."""
    score, back, tokens, score_back, score_tokens, back_tokens = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        a = score_back / np.sqrt(score * back)
        b = score_tokens / np.sqrt(score * tokens)
        c = back_tokens / np.sqrt(back * tokens)
        rest = np.where(1 - c**2 > 1e-9, 1 - c**2, np.nan)
        return (a - b * c) / np.sqrt((1 - b**2) * rest), (b - a * c) / np.sqrt((1 - a**2) * rest)


def _estimate(whole: np.ndarray, drawn: np.ndarray, problems: int) -> Estimate | None:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(whole[0]) or not len(drawn):
        return None
    low, high = np.percentile(drawn, PERCENTILES)
    return Estimate(value=rounded(whole[0]), low=rounded(low), high=rounded(high), n=problems)
