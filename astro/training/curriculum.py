"""The order of RL prompts by difficulty, which is the pass rate of the SFT model. Easy prompts come first."""

import random
from collections.abc import Mapping, Sequence

from schemas.records import Problem

BLOCKS = 8
"""Number of blocks of equal difficulty for a run that uses each problem several times."""


def easy_first(
    problems: Sequence[Problem], rates: Mapping[str, float], *, batches: int, per_batch: int, seed: int
) -> list[Problem]:
    """The prompts of `batches` batches in training order, from easy to hard. No batch contains a problem twice.

    If there are enough problems, each is used at most once: a sample is drawn and sorted. Otherwise the sorted problems
    are cut into up to `BLOCKS` blocks, and each block is repeated several times before the next one begins.

    Args:
        rates: problem id -> share of correct samples of the SFT model.
        seed: seed for the sample, and for the order of problems with equal rates.
    """
    draw = random.Random(f"curriculum/{seed}")
    needed = batches * per_batch
    drawn = draw.sample(list(problems), len(problems))
    if needed <= len(problems):
        return sorted(drawn[:needed], key=lambda p: -rates[p.id])
    ordered = sorted(drawn, key=lambda p: -rates[p.id])
    count = max(1, min(BLOCKS, len(ordered) // per_batch, batches))
    edges = [round(i * len(ordered) / count) for i in range(count + 1)]
    made: list[Problem] = []
    for i in range(count):
        block = ordered[edges[i] : edges[i + 1]]
        due = round((i + 1) * batches / count) * per_batch  # number of prompts up to this block
        whole = len(block) // per_batch * per_batch
        while len(made) < due:
            made += draw.sample(block, len(block))[: min(whole, due - len(made))]
    return made
