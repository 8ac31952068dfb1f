"""Partial correlations within problems: on figures made so that one of the two causes the score."""

import numpy as np
import pytest

from astro.evaluation.partial_correlation import partial_correlations


@pytest.fixture
def done(completion, chain):
    """completions of rows (problem, backtracks, tokens, right, finished)."""

    def make(rows):
        counts = {}
        made = []
        for problem, back, tokens, right, *rest in rows:
            counts[problem] = counts.get(problem, -1) + 1
            steps = [("a", -1)] * (back + 1)
            made.append(
                completion(
                    "correct" if right else "wrong",
                    problem=problem,
                    sample=counts[problem],
                    tokens=int(tokens),
                    finished=not rest,
                    chain=chain(*steps, back=[(i, -1) for i in range(back)]),
                )
            )
        return made

    return make


def correlations(completions):
    return partial_correlations(completions, resamples=200, rng=np.random.default_rng(0))


def drawn(cause: str, problems: int = 60):
    """Chains whose tokens follow their backtracks, and whose score follows only one of the two; harder problems have more."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(problems):
        for _ in range(8):
            back = int(rng.integers(0, 6)) + i % 3
            tokens = 20 * back + rng.normal(0, 25) + 100
            x = back - 2.5 - i % 3 if cause == "backtracks" else (tokens - 150 - 20 * (i % 3)) / 30
            rows.append((f"p{i:02}", back, max(tokens, 1), rng.random() < 1 / (1 + np.exp(-x))))
    return rows


def test_the_cause_is_told_from_what_goes_with_it(done):
    back, tokens = correlations(done(drawn("backtracks")))
    assert back.low > 0.25
    assert abs(tokens.value) < 0.1
    assert back.n == 60
    back, tokens = correlations(done(drawn("tokens")))
    assert tokens.low > 0.25
    assert abs(back.value) < 0.12


def test_the_value_is_the_textbook_one(done):
    rows = drawn("backtracks", problems=5)
    back, _ = correlations(done(rows))
    figures = np.array([[r[3], r[1], int(r[2])] for r in rows], dtype=float)
    for i in range(5):
        figures[8 * i : 8 * i + 8] -= figures[8 * i : 8 * i + 8].mean(axis=0)

    def residual(column):
        z = figures[:, 2]
        return figures[:, column] - z * (figures[:, column] @ z) / (z @ z)

    expected = residual(0) @ residual(1) / np.linalg.norm(residual(0)) / np.linalg.norm(residual(1))
    assert back.value == pytest.approx(expected, abs=1e-6)


def test_none_where_nothing_varies_or_too_little_is_finished(done):
    assert correlations(done([("p", 1, 10, True), ("p", 1, 10, True)])) == (None, None)
    assert correlations(done([("p", 1, 10, True), ("q", 2, 30, False)])) == (None, None)  # one chain per problem
    assert correlations(done([("p", 1, 10, True), ("p", 2, 20, False), ("p", 3, 30, True)])) == (
        None,
        None,
    )  # collinear
    cut = [("p", i, 7 * i * i + 10, i % 2, True) for i in range(1, 6)]
    assert correlations(done(cut)) == (None, None)
