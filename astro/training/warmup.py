"""The warm-up of a pretrained base: a short training on solutions written in one go, by the trainer of SFT."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Dataset

from astro.training.common import save_model
from astro.training.sft import fine_tune, load_base, trainer_arguments, warn_rounding
from schemas.compute import Compute

SECTION = "base.warmup"


def train_job(given: dict, compute: Compute, log: Callable[[dict[str, float], int], None]) -> dict:
    """The whole of it, in one process or in each of many (astro/training/launch.py).

    Args:
        given: model, rows (.npy: tokens, shape (rows, row_tokens), all trained on), target: paths; name: of the stage; work:
            its folder; phrases: none; settings: schemas.base_model.WarmupParams and epochs; seed.

    Returns:
        steps, curve; published: whether `target` holds the model, or `astro.training.sft.publish` is still to make it.
    """
    settings, work = given["settings"], Path(given["work"])
    arguments = trainer_arguments(settings, seed=given["seed"], work=work, compute=compute, section=SECTION)
    first = arguments.process_index == 0  # the processes meet here
    warn_rounding(settings, compute, SECTION)
    model, tokenizer, _ = load_base(given, quantize=settings["lora"]["quantize"])
    rows = np.load(given["rows"]).astype(np.int64).tolist()
    trained, curve, steps = fine_tune(
        model,
        tokenizer,
        Dataset.from_dict({"input_ids": rows, "labels": rows}),
        settings=settings,
        seed=given["seed"],
        work=work,
        log=log,
        compute=compute,
        arguments=arguments,
        section=SECTION,
    )
    if first and trained is not None:
        save_model(trained, tokenizer, Path(given["target"]))
    return {"steps": steps, "curve": curve, "published": trained is not None}
