"""All figures of one eval set: one `ModelMetrics` per model, and paired differences between models."""

from collections.abc import Mapping, Sequence

import numpy as np

from astro.evaluation import backtracking
from astro.evaluation.accuracy import maj_at_k, pass_at_1, problem_means
from astro.evaluation.intervals import bootstrap_mean, paired_difference, rounded
from astro.evaluation.partial_correlation import partial_correlations
from schemas.evaluate import Estimate, ModelMetrics, PairedDifference
from schemas.records import Completion

BASE = "base"


def comparisons(arms: Sequence[Sequence[str]], baselines: Mapping[str, str]) -> list[tuple[str, str]]:
    """The pairs (better, worse) to compare: each arm with its baseline, before and after RL, then each training stage in every
    arm.

    Args:
        arms: for each arm its models, after SFT and after RL.
        baselines: model -> the model of its arm's baseline.
    """
    searching = [arm for arm in arms if arm[0] in baselines]
    pairs = [(model, baselines[model]) for stage in zip(*searching, strict=True) for model in stage]
    first = searching[0] if searching else ()
    pairs += [(model, main) for arm in searching[1:] for model, main in zip(arm, first, strict=True)]
    for sft, grpo in searching:
        pairs += [(sft, BASE), (grpo, sft), (grpo, BASE)]
    for sft, grpo in (arm for arm in arms if arm[0] not in baselines):
        pairs += [(sft, BASE), (grpo, sft)]
    return pairs


def summarise(
    completions: Mapping[str, Sequence[Completion]],
    *,
    pairs: Sequence[tuple[str, str]],
    majority: int,
    resamples: int,
    seed: int,
) -> tuple[dict[str, ModelMetrics], list[PairedDifference]]:
    """Compute the figures of all models on one eval set.

    Args:
        completions: model -> its completions, all on one eval set; every model answered the same problems.
        pairs: (better, worse) models to compare, see `comparisons`.
        majority: k of maj@k; each problem needs at least this many samples.
        resamples: number of bootstrap resamples.
        seed: seed of each interval's own generator, so that the figures of a model do not depend on which other models are
            present.

    Returns (model -> metrics, differences of the pairs that are present). The order of completions affects neither.

    Raises ValueError for no completions, mixed models or sets, samples that occur twice or are too few, and models that
    answered different problems.
    """
    _check(completions)
    scores = {model: pass_at_1(done) for model, done in completions.items()}
    metrics = {
        model: _model_metrics(done, scores[model], majority=majority, resamples=resamples, seed=seed)
        for model, done in completions.items()
    }
    differences = [
        PairedDifference(
            better=better,
            worse=worse,
            difference=paired_difference(
                scores[better], scores[worse], resamples=resamples, rng=np.random.default_rng(seed)
            ),
        )
        for better, worse in pairs
        if better in scores and worse in scores
    ]
    return metrics, differences


def _model_metrics(
    completions: Sequence[Completion], scores: Mapping[str, float], *, majority: int, resamples: int, seed: int
) -> ModelMetrics:
    """scores: problem id -> pass@1 of these completions."""

    def estimate(by_problem: Mapping[str, float]) -> Estimate:
        return bootstrap_mean(list(by_problem.values()), resamples=resamples, rng=np.random.default_rng(seed))

    def mean(values: Sequence[float]) -> float:
        return rounded(sum(values) / len(values))

    went_back = [backtracking.backtracks(c) for c in completions]
    by_backtracks, by_tokens = partial_correlations(completions, resamples=resamples, rng=np.random.default_rng(seed))
    return ModelMetrics(
        pass_at_1=estimate(scores),
        maj_at_k=estimate(maj_at_k(completions, k=majority)),
        first_attempt=estimate(problem_means(completions, backtracking.first_attempt_right)),
        tokens=mean([c.tokens for c in completions]),
        backtracks=mean(went_back),
        backtracking_share=mean([n > 0 for n in went_back]),
        repeat_share=backtracking.repeat_share(completions),
        valid_steps=backtracking.valid_steps(completions),
        truncated=mean([not c.finished for c in completions]),
        unparseable=mean([c.verdict == "unparseable_prediction" for c in completions]),
        by_backtracks=backtracking.by_backtracks(completions),
        by_attempt=backtracking.by_attempt(completions),
        decisions=backtracking.decisions(completions),
        backtracks_score_r=backtracking.backtracks_score_r(completions),
        backtracks_at_equal_tokens=by_backtracks,
        tokens_at_equal_backtracks=by_tokens,
    )


def _check(completions: Mapping[str, Sequence[Completion]]) -> None:
    """Refuse input whose figures would be meaningless."""
    for model, done in completions.items():
        if not done:
            raise ValueError(f"model {model}: no completions")
        others = {c.model for c in done} - {model}
        if others:
            raise ValueError(f"model {model}: also contains completions of {sorted(others)}")
    sets = sorted({c.set for done in completions.values() for c in done})
    if len(sets) > 1:
        raise ValueError(f"expected completions of one eval set, got {sets}")
    problems = {model: {c.problem_id for c in done} for model, done in completions.items()}
    counts = {model: len(ids) for model, ids in problems.items()}
    if len({frozenset(ids) for ids in problems.values()}) > 1:
        raise ValueError(f"models answered different problems (problems per model: {counts})")
