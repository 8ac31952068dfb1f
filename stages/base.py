"""The base model: a small Llama trained from scratch as a non-reasoner, or a pretrained one.

    python -m stages.base

Deviations from the paper: 2. the default base is not Llama-3.1-70B-Instruct but is trained here, on solutions written in
one go; a good part of them miss the target and say so, none goes back (docs/log.md).
"""

import random
from pathlib import Path

from astro.runtime import UserError, atomic_path, read_shards, run_stage
from schemas.base_model import BaseModelMetrics
from schemas.records import Problem
from stages.harness import CURVES, Stage, stage

OUT = Path("models/base")
EVAL_SETS = Path("data/problems/eval")


def train(s: Stage) -> BaseModelMetrics:
    """Train on the corpus; after a kill, from the last checkpoint in the work folder."""
    from astro.domains.countdown.sets import corpus, problem_key
    from astro.domains.countdown.steps import parse_question
    from astro.training.common import save_model, tail_mean, write_curve
    from astro.training.pretrain import pack, pretrain
    from astro.training.wordlevel import build_tokenizer

    params, world = s.params.base, s.params.problems
    bounds = {k: getattr(world, k) for k in ("number_max", "target_min", "target_max", "value_max")}
    excluded = {problem_key(*parse_question(p.question)) for p in read_shards(EVAL_SETS, Problem)}
    tokenizer = build_tokenizer(world.value_max, params.model.context)
    documents = corpus(
        random.Random(f"corpus/{s.params.run.seed}"),
        levels=params.corpus.levels,
        miss_share=params.corpus.miss_share,
        excluded=excluded,
        world=bounds,
    )
    rows = pack(documents, tokenizer, rows=params.corpus.rows, row_tokens=params.corpus.row_tokens)
    with s.work() as work:
        model, curve = pretrain(
            rows,
            tokenizer,
            architecture=params.model.model_dump(),
            training=params.training.model_dump(),
            seed=s.params.run.seed,
            work=work,
            log=s.log,
        )
        save_model(model, tokenizer, OUT)
    write_curve(CURVES / "base.csv", curve)
    return BaseModelMetrics(
        parameters=sum(p.numel() for p in model.parameters()),
        vocabulary=len(tokenizer),
        tokens=int(rows.size),
        loss=tail_mean(curve, "loss", 0.05),
    )


def fetch(s: Stage) -> BaseModelMetrics:
    """Take a pretrained model: a local folder, or a hub id at its revision; with an adapter, merged."""
    from astro.training.common import write_curve
    from astro.training.fit import require_fit
    from astro.training.pretrained import require_pinned, take

    pretrained = s.params.base.pretrained
    require_pinned(pretrained.path, pretrained.revision)
    require_fit(pretrained.path, s.params, revision=pretrained.revision or None, name="base.pretrained.path")
    with atomic_path(OUT) as folder:
        parameters, vocabulary = take(pretrained.model_dump(), folder)
    write_curve(CURVES / "base.csv", [])
    return BaseModelMetrics(parameters=parameters, vocabulary=vocabulary, tokens=0, loss=None)


def main() -> None:
    """Write models/base."""
    with stage("base") as s:
        if s.params.base.source == "pretrained" and not s.params.base.pretrained.path:
            raise UserError("base.pretrained.path is empty")
        s.finish(train(s) if s.params.base.source == "train" else fetch(s))


if __name__ == "__main__":
    run_stage(main)
