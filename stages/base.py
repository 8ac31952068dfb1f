"""The base model: a small Llama trained from scratch as a non-reasoner, or a pretrained one.

    python -m stages.base

Deviations from the paper: 2. the default base is not Llama-3.1-70B-Instruct but is trained here on direct solutions.
Many of them miss the target and say so, and none goes back (docs/log.md). A pretrained base can first be warmed up on
such solutions (`base.warmup`), which the paper's 70B model does not need.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from astro.compute_profile import identity, load_compute, split_batch
from astro.files import atomic_path, read_jsonl, read_shards, write_text
from astro.process import UserError, run_stage
from astro.tasks import get_task
from astro.tasks.chat import ChatTemplate, chat_for
from astro.training.launch import Log, launch, visible_gpus
from schemas.base_model import BaseModelMetrics
from schemas.compute_profile import Compute
from schemas.records import Problem
from stages.harness import CURVES, Stage, stage

OUT = Path("models/base")
RAW = Path("models/base_raw")
"""A pretrained base before its warm-up; without a warm-up a folder with the text `NO_RAW`."""
NO_RAW = "There is no model here, because models/base was not warmed up (base.warmup.steps is 0).\n"

EVAL_SETS = Path("data/problems/eval")
CORPUS = Path("data/problems/corpus/train.jsonl")
"""Problems for the base's corpus, if the task does not generate problems."""

SEEN = 20_000
"""Number of corpus solutions that define the vocabulary, if the task cannot list its words."""


def world_of(s: Stage) -> dict[str, int]:
    """Bounds of the numbers, for tasks that use them."""
    world = s.params.problems
    return {k: getattr(world, k) for k in ("number_max", "target_min", "target_max", "value_max")}


def documents(s: Stage, chat: ChatTemplate | None = None) -> Iterator[str]:
    """Endless direct solutions of problems outside the eval sets; with a chat template they are conversations."""
    excluded = list(read_shards(EVAL_SETS, Problem))
    task = get_task(s.params.run.spec, chat=chat)
    given = list(read_jsonl(CORPUS, Problem)) if CORPUS.is_file() else []
    if given:
        yield from task.corpus_of(given, s.params.run.seed)
    yield from task.corpus(s.params.base.corpus, world_of(s), excluded, s.params.run.seed)


def vocabulary(s: Stage) -> list[str]:
    """The words of the base's tokenizer."""
    return get_task(s.params.run.spec).vocabulary(world_of(s), itertools.islice(documents(s), SEEN))


def train(s: Stage) -> BaseModelMetrics:
    """Train on the corpus. After a kill, resume from the last checkpoint in the work folder."""
    from astro.training.common import save_model, tail_mean, write_curve
    from astro.training.train_base import pack, pretrain
    from astro.training.wordlevel import build_tokenizer

    params = s.params.base
    tokenizer = build_tokenizer(vocabulary(s), params.model.context)
    rows = pack(documents(s), tokenizer, rows=params.corpus.rows, row_tokens=params.corpus.row_tokens)
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
    """Import a pretrained model, merge an adapter if there is one, and warm it up if requested."""
    from astro.training.common import write_curve
    from astro.training.import_base import PATH, is_hub_id, require_pinned, take
    from astro.training.lora import check_quantize
    from astro.training.model_checks import require_fit, warn_emulated
    from astro.training.safetensors_io import SETTINGS, download

    pretrained, warmup = s.params.base.pretrained, s.params.base.warmup
    path, compute = pretrained.path, load_compute()
    if warmup.steps:
        split_batch(warmup.batch_size, compute.micro_batch.sft, compute.world, "base.warmup.batch_size")
        if warmup.lora.enabled:
            check_quantize(warmup.lora.quantize, compute, visible_gpus(compute), stage="base.warmup")
    require_pinned(path, pretrained.revision)
    warn_emulated(s.params, gpus=visible_gpus(compute))
    if is_hub_id(path) or Path(path).is_dir():  # check the settings before gigabytes of weights are downloaded
        folder = download(path, pretrained.revision, SETTINGS) if is_hub_id(path) else Path(path)
        require_fit(folder, s.params, name=PATH, called=path)
    with atomic_path(RAW if warmup.steps else OUT) as folder:
        parameters, vocabulary = take(pretrained.model_dump(), folder)
        require_fit(folder, s.params, name=PATH, called=path)
    if warmup.steps:
        return warm_up(s, compute, parameters, vocabulary)
    write_curve(CURVES / "base.csv", [])
    return BaseModelMetrics(parameters=parameters, vocabulary=vocabulary, tokens=0, loss=None)


def warm_up(s: Stage, compute: Compute, parameters: int, vocabulary: int) -> BaseModelMetrics:
    """Train models/base_raw on the corpus. After a kill, resume from the last checkpoint in the work folder."""
    import numpy as np

    from astro.training.common import load_tokenizer, tail_mean, write_curve
    from astro.training.import_base import copy_papers
    from astro.training.sft import publish
    from astro.training.train_base import pack

    params, row_tokens = s.params.base.warmup, s.params.base.corpus.row_tokens
    with s.work(*identity(compute)) as work:
        solutions = documents(s, chat_for(s.params.run.prompt, RAW))
        rows = pack(solutions, load_tokenizer(RAW), rows=params.steps * params.batch_size, row_tokens=row_tokens)
        np.save(work / "rows.npy", rows)
        given = {
            "name": s.name,
            "model": str(RAW),
            "rows": str(work / "rows.npy"),
            "target": str(OUT),
            "work": str(work),
            "phrases": [],
            "settings": {**params.model_dump(), "epochs": 1.0},
            "seed": s.params.run.seed,
        }
        done = launch(job, given, compute=compute, work=work, log=s.log)
        if not done["published"]:
            publish(given)
        copy_papers(RAW, OUT)
    write_curve(CURVES / "base.csv", done["curve"])
    return BaseModelMetrics(
        parameters=parameters,
        vocabulary=vocabulary,
        tokens=int(rows.size),
        loss=tail_mean(done["curve"], "loss", 0.05),
    )


def job(given: dict, compute: Compute, log: Log) -> dict:
    """The warm-up, in this process or in each process that `launch` starts."""
    from astro.training.base_warmup import train_job

    return train_job(given, compute, log)


def main() -> None:
    """Write models/base, and models/base_raw if a pretrained base is warmed up."""
    with stage("base") as s:
        if s.params.base.source == "pretrained" and not s.params.base.pretrained.path:
            raise UserError("base.pretrained.path is empty")
        metrics = train(s) if s.params.base.source == "train" else fetch(s)
        if not s.params.base.warmup.steps:
            with atomic_path(RAW) as folder:  # DVC expects every out to exist, and warns of an empty one
                write_text(folder / "README.md", NO_RAW)
        s.finish(metrics)


if __name__ == "__main__":
    run_stage(main)
