"""Accuracy against the token limit: one set of long chains, cut at every limit and graded again.

It distinguishes a model that needs a hundred more tokens to find the answer from one that never finds it. At a single limit
both look alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from astro.evaluation.accuracy import by_problem
from astro.evaluation.compute_matched import caps
from astro.evaluation.intervals import bootstrap_mean, rounded
from schemas.evaluate import LimitCurve, LimitPoint
from schemas.records import Completion, Verdict

RANGE = 8
"""Ratio of the highest to the lowest limit."""


@dataclass(frozen=True)
class LongChain:
    """A completion and its continuation beyond the limit that had cut it.

    Attributes:
        completion: as sampled and graded at `eval.max_tokens`.
        text, tokens, finished: of the whole chain; equal to those of `completion` if nothing was added.
    """

    completion: Completion
    text: str
    tokens: int
    finished: bool

    @property
    def is_longer(self) -> bool:
        """Whether a continuation was added."""
        return self.tokens > self.completion.tokens


def limits(longest: int, asked: int) -> list[int]:
    """The limits of a curve, ascending, two per factor of two, up to `longest` and including `asked` (`eval.max_tokens`)."""
    return sorted({*caps(max(1, longest // RANGE), longest), asked})


def limit_curve(
    chains: Sequence[LongChain],
    model: str,
    at: Sequence[int],
    *,
    cut: Callable[[str, Sequence[int]], list[str]],
    grade: Callable[[Sequence[tuple[str, str]]], list[Verdict]],
    resamples: int,
    seed: int,
) -> LimitCurve:
    """The curve of one model on one eval set.

    A chain longer than a limit is cut there and graded. An unfinished answer is therefore wrong, and at
    `eval.max_tokens` the accuracy equals pass@1.

    Args:
        chains: all chains of one model on one set.
        at: the limits.
        cut: (text, token counts) -> the beginning of the text for each count.
        grade: [(problem id, text)] -> verdicts.
    """
    by_id = {(c.completion.problem_id, c.completion.sample): c for c in chains}
    asked: list[tuple[str, str]] = []
    wanted: list[tuple[LongChain, int | None]] = []
    for chain in chains:
        # Verdicts that are known already: at the sampling limit, and for chains without a continuation.
        inside = [
            limit for limit in at if limit < chain.tokens and not (chain.is_longer and limit == chain.completion.tokens)
        ]
        wanted += [(chain, limit) for limit in inside]
        asked += [(chain.completion.problem_id, text) for text in cut(chain.text, inside)]
        if chain.is_longer:
            wanted.append((chain, None))
            asked.append((chain.completion.problem_id, chain.text))
    verdicts = {
        (chain.completion.problem_id, chain.completion.sample, limit): verdict
        for (chain, limit), verdict in zip(wanted, grade(asked) if asked else [], strict=True)
    }

    def right(completion: Completion, limit: int) -> bool:
        chain = by_id[completion.problem_id, completion.sample]
        key = (completion.problem_id, completion.sample)
        whole = verdicts.get((*key, None), completion.verdict) if limit >= chain.tokens else completion.verdict
        return verdicts.get((*key, limit), whole) == "correct"

    groups = list(by_problem([chain.completion for chain in chains]).values())
    points = []
    for limit in at:
        scores = [float(np.mean([right(c, limit) for c in samples])) for samples in groups]
        points.append(
            LimitPoint(
                limit=limit,
                accuracy=bootstrap_mean(scores, resamples=resamples, rng=np.random.default_rng(seed)),
                tokens=rounded(float(np.mean([min(c.tokens, limit) for c in chains]))),
                truncated=rounded(float(np.mean([not c.finished or c.tokens > limit for c in chains]))),
            )
        )
    return LimitCurve(model=model, points=points)
