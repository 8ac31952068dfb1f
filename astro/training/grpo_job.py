"""The whole of GRPO, in one process or in each of many (astro/training/launch.py)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from astro.cloning.template import load_phrases
from astro.domains import get_domain
from astro.domains.chat import chat_for
from astro.runtime import atomic_path, read_jsonl
from astro.training.adapters import merge, quantization
from astro.training.common import load_causal_lm, save_model
from astro.training.grpo import reinforce
from astro.training.restarts import Episode
from astro.training.weights import in_dtype
from schemas.compute import Compute

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def train_job(given: dict, compute: Compute, log: Callable[[dict[str, float], int], None]) -> dict:
    """Train on the episodes in the work folder; rank 0 writes the model.

    Args:
        given: model, target: paths; name: of the stage; work: its folder, with episodes.jsonl; domain, prompt,
            answers: params.run's; phrases: the file; settings: schemas.grpo.GrpoParams; seed; needed: tokens that vLLM must hold.

    Returns:
        steps, curve; published: whether `target` holds the model, or `publish` is still to make it.
    """
    work, settings = Path(given["work"]), given["settings"]
    episodes = list(read_jsonl(work / "episodes.jsonl", Episode))
    model, tokenizer = load(given, quantize=settings["lora"]["quantize"])
    phrases, chat = load_phrases(Path(given["phrases"])), chat_for(given["prompt"], Path(given["model"]))
    trainer, curve, steps = reinforce(
        model,
        tokenizer,
        [e.problem for e in episodes if not e.prefix],
        restarts=[(e.problem, e.prefix) for e in episodes if e.prefix],
        domain=get_domain(given["domain"], phrases, chat, given["answers"]),
        settings=settings,
        seed=given["seed"],
        work=work,
        log=log,
        micro_batch=compute.micro_batch.grpo,
        needed=given["needed"],
    )
    whole = compute.strategy not in ("fsdp2", "zero3") and settings["lora"]["quantize"] == "none"
    if not whole:  # no process holds the model as it is to be published
        trainer.save_model(str(work / "trained"))
    elif trainer.accelerator.is_main_process:
        trained = trainer.accelerator.unwrap_model(trainer.model)
        if settings["lora"]["enabled"]:
            trained = trained.merge_and_unload()
        save_model(trained, tokenizer, Path(given["target"]))
    return {"curve": curve, "steps": steps, "published": whole}


def load(given: dict[str, Any], *, quantize: str = "none") -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """(model to train, tokenizer)."""
    dtype = getattr(torch, given["settings"]["dtype"])
    return load_causal_lm(given["model"], name=given["model"], dtype=dtype, quantization=quantization(quantize))


def publish(given: dict) -> None:
    """Make the model of what sharded or quantized training left in work/trained; in one process.

    An adapter is merged into the model as it was before it was quantized or sharded; whole weights are cast to grpo.dtype.
    """
    trained, target = Path(given["work"]) / "trained", Path(given["target"])
    if given["settings"]["lora"]["enabled"]:
        model, tokenizer = load(given)
        save_model(merge(model, trained, name=given["name"]), tokenizer, target)
        return
    in_dtype(trained, getattr(torch, given["settings"]["dtype"]))
    (trained / "training_args.bin").unlink(missing_ok=True)
    with atomic_path(target) as folder:
        shutil.copytree(trained, folder)
