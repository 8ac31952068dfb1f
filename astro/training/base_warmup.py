"""Warm-up of a pretrained base: a short training on direct solutions, by the SFT trainer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Dataset

from astro.training.common import save_model
from astro.training.sft import fine_tune, load_base, trainer_arguments, warn_rounding
from schemas.compute_profile import Compute

SECTION = "base.warmup"


def train_job(given: dict, compute: Compute, log: Callable[[dict[str, float], int], None]) -> dict:
    """The complete warm-up job, for one process or for each of many (astro/training/launch.py).

    Args:
        given: model, rows (.npy: tokens, shape (rows, row_tokens), loss on all), target: paths; name: name of the
            stage; work: its folder; phrases: none; settings: schemas.base_model.WarmupParams and epochs; seed.

    Returns:
        steps, curve; published: whether `target` holds the model, or `astro.training.sft.publish` still has to write it.
    """
    settings, work = given["settings"], Path(given["work"])
    arguments = trainer_arguments(settings, seed=given["seed"], work=work, compute=compute, section=SECTION)
    first = arguments.process_index == 0  # the processes connect here
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
