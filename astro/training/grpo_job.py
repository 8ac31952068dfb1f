"""The complete GRPO training job, for one process or for each of many (astro/training/launch.py)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from astro.cloning.verbalize import load_phrases
from astro.files import atomic_path, read_jsonl
from astro.tasks import get_task
from astro.tasks.chat import chat_for
from astro.training.checkpoint_integrity import STATE
from astro.training.common import load_causal_lm, save_model
from astro.training.grpo import reinforce
from astro.training.lora import merge, quantization
from astro.training.mid_chain_starts import Episode
from astro.training.rl_validation import best_step, points_of
from astro.training.safetensors_io import in_dtype
from schemas.compute_profile import Compute
from schemas.records import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


HELD_OUT = "held_out.jsonl"


def train_job(given: dict, compute: Compute, log: Callable[[dict[str, float], int], None]) -> dict:
    """Train on the episodes in the work folder; rank 0 writes the model.

    Args:
        given: model, target: paths; name: name of the stage; work: its folder, with episodes.jsonl; task, prompt,
            answers: as in params.run; phrases: the file; settings: schemas.grpo.GrpoParams; seed; needed: tokens that vLLM
                must
            hold; rollouts_mb: disk for rollouts. The work folder may also hold held_out.jsonl, the validation problems.

    Returns:
        steps, curve; points: validation points; published_step: step of the published model; trained: folder with
        weights that `publish` still has to turn into the model; "": `target` holds the model.
    """
    work, settings = Path(given["work"]), given["settings"]
    episodes = list(read_jsonl(work / "episodes.jsonl", Episode))
    held_out = list(read_jsonl(work / HELD_OUT, Problem)) if (work / HELD_OUT).is_file() else []
    model, tokenizer = load(given, quantize=settings["lora"]["quantize"])
    phrases, chat = load_phrases(Path(given["phrases"])), chat_for(given["prompt"], Path(given["model"]))
    trainer, curve, steps = reinforce(
        model,
        tokenizer,
        [e.problem for e in episodes if not e.prefix],
        restarts=[(e.problem, e.prefix) for e in episodes if e.prefix],
        task=get_task(given["task"], phrases, chat, given["answers"]),
        settings=settings,
        seed=given["seed"],
        work=work,
        log=log,
        held_out=held_out,
        rollouts_mb=given["rollouts_mb"],
        micro_batch=compute.micro_batch.grpo,
        needed=given["needed"],
    )
    history = trainer.state.log_history
    best = best_step(history, settings["validation"]["margin"]) if settings["keep"] == "best" else None
    chosen = steps if best is None else best
    result = {
        "curve": curve,
        "steps": steps,
        "points": [point.model_dump() for point in points_of(history)],
        "published_step": chosen,
    }
    if chosen != steps:  # its checkpoint is protected; step 0 is the SFT model
        return result | {"trained": str(work / f"checkpoint-{chosen}") if chosen else given["model"]}
    whole = compute.strategy not in ("fsdp2", "zero3") and settings["lora"]["quantize"] == "none"
    if not whole:  # no single process holds the model in its published form
        trainer.save_model(str(work / "trained"))
    elif trainer.accelerator.is_main_process:
        trained = trainer.accelerator.unwrap_model(trainer.model)
        if settings["lora"]["enabled"]:
            trained = trained.merge_and_unload()
        save_model(trained, tokenizer, Path(given["target"]))
    return result | {"trained": "" if whole else str(work / "trained")}


def load(given: dict[str, Any], *, quantize: str = "none") -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """(model to train, tokenizer)."""
    dtype = getattr(torch, given["settings"]["dtype"])
    return load_causal_lm(given["model"], name=given["model"], dtype=dtype, quantization=quantization(quantize))


def publish(given: dict, trained: Path) -> None:
    """Turn the weights in `trained` (a checkpoint, or the result of sharded or quantized training) into the model, in one
    process.

    An adapter is merged into the model as it was before quantization or sharding. Full weights are cast to grpo.dtype.
    """
    target = Path(given["target"])
    if trained == Path(given["model"]):  # no step improved on it
        with atomic_path(target) as folder:
            shutil.copytree(trained, folder)
        return
    if (trained / STATE).is_file() and not given["settings"]["lora"]["enabled"]:
        model, tokenizer = load_causal_lm(trained, name=str(trained), dtype=getattr(torch, given["settings"]["dtype"]))
        save_model(model, tokenizer, target)
        return
    if given["settings"]["lora"]["enabled"]:
        model, tokenizer = load(given)
        save_model(merge(model, trained, name=given["name"]), tokenizer, target)
        return
    in_dtype(trained, getattr(torch, given["settings"]["dtype"]))
    (trained / "training_args.bin").unlink(missing_ok=True)
    with atomic_path(target) as folder:
        shutil.copytree(trained, folder)
