"""P_LM(a|s): the policy's probability of each step, normalised over the siblings."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

from astro.search.requests import Sample

PriorKind = Literal["sequence", "token", "frequency", "uniform"]

LOGPROB_PRIORS = ("sequence", "token")
"""The priors that use log-probabilities of the samples."""


def priors(actions: Sequence[Sequence[Sample]], *, kind: PriorKind, counts: Sequence[int] | None = None) -> list[float]:
    """P(a|s) of each action, in order; the sum is 1.

    An action is one step in one or more spellings. `actions[i]` holds its samples, one per distinct text: the same text
    drawn twice counts once, and the probabilities of different texts of one step are added.

    kind:
        sequence: exp(logprob), the probability of the whole step. Long steps are unlikely by their length alone.
        token: exp(logprob / tokens), the geometric mean of its token probabilities.
        frequency: share of the samples that drew the action, from `counts`; an estimate without log-probabilities.
        uniform: 1 / number of actions; needs no log-probabilities.

    Raises:
        ValueError: a logprob is not finite.
    """
    if not actions:
        return []
    if kind == "uniform":
        return [1 / len(actions)] * len(actions)
    if kind == "frequency":
        drawn = [len(spellings) for spellings in actions] if counts is None else counts
        return [count / sum(drawn) for count in drawn]
    masses = [_log_sum_exp(_log_weight(sample, kind) for sample in spellings) for spellings in actions]
    total = _log_sum_exp(masses)
    return [math.exp(mass - total) for mass in masses]


def _log_weight(sample: Sample, kind: PriorKind) -> float:
    if not math.isfinite(sample.logprob):
        raise ValueError(f"logprob of step {sample.text!r} is {sample.logprob}, expected a finite number")
    return sample.logprob / max(sample.tokens, 1) if kind == "token" else sample.logprob


def _log_sum_exp(values: Iterable[float]) -> float:
    """log(sum(exp(v))) without underflow: the probability of a step of 1,000 tokens is below the smallest float."""
    values = list(values)
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
