"""P_LM(a|s) under each reading of the policy's probability."""

import math

import pytest

from astro.search.priors import priors
from astro.search.requests import Sample


def spelling(probability: float, tokens: int = 1) -> Sample:
    return Sample("x", math.log(probability), tokens, True)


@pytest.mark.parametrize(
    ("kind", "actions", "expected"),
    [
        # probabilities are normalised over what was sampled
        ("sequence", [[spelling(0.3)], [spelling(0.1)]], [0.75, 0.25]),
        # spellings of one action add up
        ("sequence", [[spelling(0.1), spelling(0.2)], [spelling(0.1)]], [0.75, 0.25]),
        # 4 tokens of 0.5 each (0.0625 together) are as likely per token as 1 token of 0.5
        ("token", [[spelling(0.0625, 4)], [spelling(0.5, 1)]], [0.5, 0.5]),
        ("sequence", [[spelling(0.0625, 4)], [spelling(0.5, 1)]], [1 / 9, 8 / 9]),
        # every action the same, however many spellings it has
        ("uniform", [[spelling(0.1), spelling(0.2)], [spelling(0.6)]], [0.5, 0.5]),
        # one action: certain, whatever its probability
        ("sequence", [[spelling(1e-9)]], [1.0]),
        ("sequence", [], []),
    ],
)
def test_priors(kind, actions, expected):
    assert priors(actions, kind=kind) == pytest.approx(expected)


def test_steps_too_unlikely_for_a_float_keep_their_ratio():
    actions = [[Sample("a", -2000.0, 900, True)], [Sample("b", -2000.0 - math.log(3), 900, True)]]
    assert math.exp(-2000.0) == 0.0
    assert priors(actions, kind="sequence") == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize("logprob", [float("nan"), float("-inf"), float("inf")])
def test_a_logprob_that_is_no_number_is_refused(logprob):
    sample = Sample("a", logprob, 1, True)
    with pytest.raises(ValueError, match="expected a finite number"):
        priors([[sample]], kind="token")
    assert priors([[sample]], kind="uniform") == [1.0]  # which reads no logprob
