"""The order of RL's prompts by difficulty: easy ones first, as the pass rate of the SFT model has it."""

import random
from collections.abc import Mapping, Sequence

from schemas.records import Problem

BLOCKS = 8
"""Parts of the problems, by difficulty, that a run goes through one after the other where it takes problems more than once."""


def easy_first(
    problems: Sequence[Problem], rates: Mapping[str, float], *, batches: int, per_batch: int, seed: int
) -> list[Problem]:
    """The prompts of `batches` batches in the order they are trained on, easy to hard. No batch has a problem twice.

    Where there are enough problems, each comes at most once: a sample of them, sorted. Otherwise the sorted problems are cut
    into up to `BLOCKS` blocks, and each block is gone through several times before the next one begins.

    Args:
        rates: problem id -> share of the SFT model's samples that are right.
        seed: draws the sample, and the order of problems with equal rates.
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
        due = round((i + 1) * batches / count) * per_batch  # prompts that the blocks so far give
        whole = len(block) // per_batch * per_batch
        while len(made) < due:
            made += draw.sample(block, len(block))[: min(whole, due - len(made))]
    return made
