"""Means over problems with percentile bootstrap intervals, for one model and for paired differences.

The resampled unit is the problem and not the completion, because completions of one problem are not independent. On
test sets of 30 to 500 problems (paper section 4) the choice of problems alone moves a mean by several points. An
interval says how the mean would vary over other problem sets of the same kind; it does not cover training with another
seed.

Method: Efron's percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from schemas.evaluate import Estimate

DECIMALS = 6
"""Decimals of stored floats, so that a metrics file has the same bytes in every run and summation order."""

PERCENTILES = (2.5, 97.5)
"""Ends of the 95 % interval."""

DRAWS_AT_ONCE = 1 << 20
"""Largest number of indices held in memory. It does not affect the result, because the draws come in the same order."""


def rounded(value: float | np.floating) -> float:
    """`value` rounded to `DECIMALS` places; never -0.0, which JSON would write differently from 0.0."""
    return round(float(value), DECIMALS) + 0.0


def bootstrap_mean(values: ArrayLike, *, resamples: int, rng: np.random.Generator) -> Estimate:
    """Mean of `values` with its 95 % percentile bootstrap interval.

    Args:
        values: (problems,) one figure per problem, e.g. its pass rate.
        resamples: number of resamples of the problems, with replacement.
        rng: random generator; the same state gives the same interval.

    The interval of a single problem, or of equal values, has width 0, because the bootstrap sees no variance.

    Raises ValueError if `values` is empty, not one-dimensional or not finite, or `resamples` is below 1.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(
            f"expected one value per problem, shape (problems,) with problems >= 1, got shape {data.shape}"
        )
    if not np.isfinite(data).all():
        raise ValueError(f"expected finite values, got {data[~np.isfinite(data)][0]}")
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}")
    low, high = np.percentile(_resampled_means(data, resamples, rng), PERCENTILES)
    return Estimate(value=rounded(data.mean()), low=rounded(low), high=rounded(high), n=data.size)


def paired_difference(
    better: Mapping[str, float], worse: Mapping[str, float], *, resamples: int, rng: np.random.Generator
) -> Estimate:
    """Mean of `better - worse` over problems, paired, with its interval.

    Args:
        better, worse: problem id -> figure of that problem.

    Problems are resampled as pairs. The difficulty of a problem for both models cancels out, so the interval is
    narrower than that of two independent means.

    Raises ValueError if the two do not hold the same problems.
    """
    only_better, only_worse = sorted(better.keys() - worse.keys()), sorted(worse.keys() - better.keys())
    if only_better or only_worse:
        raise ValueError(
            "a paired difference needs the same problems on both sides: "
            f"{len(only_better)} only on the first {only_better[:3]}, "
            f"{len(only_worse)} only on the second {only_worse[:3]}"
        )
    return bootstrap_mean([better[i] - worse[i] for i in sorted(better)], resamples=resamples, rng=rng)


def _resampled_means(data: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples,) means of `data` (problems,), drawn with replacement."""
    rows = max(1, DRAWS_AT_ONCE // data.size)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn = rng.integers(0, data.size, size=(stop - start, data.size))  # (rows, problems)
        means[start:stop] = data[drawn].mean(axis=1)
    return means
