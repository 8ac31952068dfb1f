"""The bootstrap: hand-computed cases, the vectorised version against a plain one, and coverage on simulated data."""

import numpy as np
import pytest

from astro.evaluation import intervals
from astro.evaluation.intervals import bootstrap_mean, paired_difference, rounded


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("values", "value", "low", "high"),
    [
        ([0.5], 0.5, 0.5, 0.5),  # one problem: no width
        ([1.0, 1.0, 1.0], 1.0, 1.0, 1.0),  # no variance: no width
        ([0.1] * 7, 0.1, 0.1, 0.1),  # sums of 0.1 are not exact; what is stored is
        ([0.0, 1.0], 0.5, 0.0, 1.0),  # a quarter of the resamples is all 0, a quarter all 1: both ends are reached
        ([0, 1, 1, 1] * 100, 0.75, 0.7075, 0.7925),  # normal approximation 0.75 +- 1.96 * sqrt(0.1875 / 400) = 0.0424
    ],
)
def test_known_intervals(values, value, low, high):
    found = bootstrap_mean(values, resamples=4000, rng=rng())
    assert (found.value, found.n) == (value, len(values))
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)


def test_equals_a_plain_loop(monkeypatch):
    values = rng(1).random(37)
    plain_rng = rng(2)
    means = [np.mean([values[plain_rng.integers(0, 37)] for _ in range(37)]) for _ in range(200)]
    fast = bootstrap_mean(values, resamples=200, rng=rng(2))
    assert fast.low == pytest.approx(np.percentile(means, 2.5), abs=1e-6)
    assert fast.high == pytest.approx(np.percentile(means, 97.5), abs=1e-6)
    # 100 draws at once: two resamples of 37, so that the last chunk is reached by an uneven number of steps
    monkeypatch.setattr(intervals, "DRAWS_AT_ONCE", 100)
    assert bootstrap_mean(values, resamples=200, rng=rng(2)) == fast
    assert bootstrap_mean(values, resamples=199, rng=rng(2)) != fast


def test_same_seed_same_interval():
    values = rng(3).random(50)
    first, again, other = (bootstrap_mean(values, resamples=300, rng=rng(seed)) for seed in (5, 5, 6))
    assert first.model_dump_json() == again.model_dump_json()
    assert (first.low, first.high) != (other.low, other.high)


def test_coverage_on_simulated_problems():
    """The interval holds the true mean about 95 times in 100: 60 problems of Beta(1, 2) difficulty, 4 samples each."""
    world, draws = rng(7), rng(8)
    true_mean = 1 / 3
    hits = 0
    for _ in range(400):
        scores = world.binomial(4, world.beta(1, 2, size=60)) / 4
        found = bootstrap_mean(scores, resamples=400, rng=draws)
        hits += found.low <= true_mean <= found.high
    # 95 % +- 3 standard errors of 400 trials (1.1 % each), and 1 % below for the percentile method's small-sample bias
    assert 0.907 <= hits / 400 <= 0.983


def test_paired_coverage_and_gain():
    """Paired on shared difficulty the interval still covers the true difference, and is narrower than unpaired."""
    world, draws = rng(9), rng(10)
    hits, paired_width, single_width = 0, 0.0, 0.0
    for _ in range(300):
        difficulty = world.uniform(0, 0.9, size=50)
        worse = world.binomial(8, difficulty) / 8
        better = world.binomial(8, difficulty + 0.1) / 8  # true difference 0.1
        names = [f"p{i}" for i in range(50)]
        found = paired_difference(
            dict(zip(names, better, strict=True)), dict(zip(names, worse, strict=True)), resamples=300, rng=draws
        )
        hits += found.low <= 0.1 <= found.high
        paired_width += found.high - found.low
        alone = [bootstrap_mean(side, resamples=300, rng=draws) for side in (better, worse)]
        single_width += sum((e.high - e.low) ** 2 for e in alone) ** 0.5  # of a difference of independent means
    assert 0.9 <= hits / 300 <= 0.99
    assert paired_width < 0.75 * single_width


def test_paired_difference_by_hand():
    better, worse = {"a": 1.0, "b": 0.5, "c": 0.25}, {"c": 0.25, "b": 0.25, "a": 0.5}
    found = paired_difference(better, worse, resamples=500, rng=rng())
    assert (found.value, found.n) == (0.25, 3)  # (0.5 + 0.25 + 0) / 3
    assert 0 <= found.low <= 0.25 <= found.high <= 0.5
    swapped = paired_difference(worse, better, resamples=500, rng=rng())
    assert swapped.value == -0.25
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    # the order in which problems are listed does not matter
    assert paired_difference(dict(reversed(better.items())), worse, resamples=500, rng=rng()) == found


@pytest.mark.parametrize(
    ("better", "worse", "message"),
    [
        ({"a": 1.0, "b": 0.0}, {"a": 1.0}, r"1 only on the first \['b'\], 0 only on the second"),  # one missing
        ({"a": 1.0}, {"b": 1.0}, "the same problems"),  # as many, but others
        ({}, {}, "one value per problem"),  # none
    ],
)
def test_paired_difference_refuses(better, worse, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(better, worse, resamples=100, rng=rng())


@pytest.mark.parametrize(
    ("values", "resamples", "message"),
    [
        ([], 100, "problems >= 1"),  # nothing to average
        ([[0.1, 0.2]], 100, r"shape \(1, 2\)"),  # samples were not averaged first
        ([0.1, float("nan")], 100, "finite"),
        ([0.1], 0, "resamples must be >= 1"),
    ],
)
def test_bootstrap_refuses(values, resamples, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, resamples=resamples, rng=rng())


def test_rounded_has_no_negative_zero():
    assert str(rounded(-1e-9)) == "0.0"
    assert rounded(2 / 3) == 0.666667
