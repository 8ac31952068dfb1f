"""Supervised fine-tuning on traces with TRL's SFTTrainer (paper section 3.1)."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging
from trl import SFTConfig

from astro.compute_profile import split_batch
from astro.files import atomic_path, read_jsonl
from astro.process import plural
from astro.special_tokens import encode_continuation
from astro.training.common import (
    Curve,
    StopNotFinite,
    last_checkpoint,
    load_causal_lm,
    quiet,
    save_model,
    use_cores,
    wants_bf16,
)
from astro.training.lora import lora_config, merge, quantization
from astro.training.packing import PackedRows, pack
from astro.training.safetensors_io import in_dtype
from astro.training.step_sampler import IGNORED
from astro.training.trl_overrides import steps_trainer
from astro.training.wordlevel import add_unspellable, unknown_words
from schemas.compute_profile import Compute
from schemas.records import Trace

LossOn = Literal["all", "completion", "no_wrong_steps"]


def encode(trace: Trace, tokenizer: PreTrainedTokenizerBase, loss_on: LossOn) -> dict[str, list[int]]:
    """Tokens and labels of a trace, including the end token (for a chat model: the end of the assistant's turn).

    A token belongs to the segment that contains its first character. The phrase before a jump keeps its loss in
    `no_wrong_steps`: that setting masks the wrong steps, but not the decision to go back.
    """
    ids, spans, _ = encode_continuation(tokenizer, trace.prompt, trace.completion)
    masked = [] if loss_on == "all" else [(0, len(trace.prompt))]
    if loss_on == "no_wrong_steps":
        at = len(trace.prompt)
        for segment in trace.segments:
            if segment.kind == "wrong_step":
                masked.append((at, at + len(segment.text)))
            at += len(segment.text)
    labels = [
        IGNORED if any(low <= start < high for low, high in masked) else token
        for token, (start, _) in zip(ids, spans, strict=True)
    ]
    return {"input_ids": [*ids, tokenizer.eos_token_id], "labels": [*labels, tokenizer.eos_token_id]}


def build_dataset(
    traces: Sequence[Trace], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn, max_length: int
) -> tuple[Dataset, int]:
    """The encoded traces, and the number of traces dropped because they exceed `max_length` tokens.

    Raises:
        ValueError: no trace is left.
    """
    rows = [encode(trace, tokenizer, loss_on) for trace in traces]
    kept = [row for row in rows if len(row["input_ids"]) <= max_length]
    if not kept:
        shortest = min((len(row["input_ids"]) for row in rows), default=0)
        raise ValueError(
            f"sft.max_length {max_length}: all {len(rows)} traces are longer (the shortest has {shortest} tokens)"
        )
    return Dataset.from_list(kept), len(rows) - len(kept)


def trainer_arguments(settings: dict, *, seed: int, work: Path, compute: Compute, section: str = "sft") -> SFTConfig:
    """The trainer's arguments. They must exist before the model is loaded, because sharded loading depends on them.

    Args:
        section: section of params.yaml, for messages.

    Raises:
        UserError: the batch cannot be divided as the profile says.
    """
    per_device, accumulation = split_batch(
        settings["batch_size"], compute.micro_batch.sft, compute.world, f"{section}.batch_size"
    )
    return SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=settings["epochs"],
        learning_rate=settings["lr"],
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        warmup_steps=settings["warmup"],
        weight_decay=settings["weight_decay"],
        bf16=wants_bf16(settings["bf16"]),
        gradient_checkpointing=settings["gradient_checkpointing"],
        max_length=None,  # longer traces were dropped, because a cut chain teaches not to answer
        packing=False,  # TRL's packing; astro/training/packing.py replaces it
        use_cpu=not torch.cuda.is_available(),
        logging_nan_inf_filter=False,  # the filter would replace a non-finite loss by the mean so far
        logging_steps=1,  # a mean over several steps would lose those before the checkpoint when a run resumes
        save_steps=settings["save_every"],
        save_total_limit=2,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    *,
    settings: dict,
    seed: int,
    work: Path,
    log: Callable[[dict[str, float], int], None],
    new_tokens: bool = False,
    compute: Compute | None = None,
    arguments: SFTConfig | None = None,
    section: str = "sft",
) -> tuple[PreTrainedModel | None, list[dict[str, float]], int]:
    """Train; resume from a checkpoint in `work`.

    Args:
        settings: the values of schemas.sft.SftParams.
        new_tokens: the vocabulary has just grown (this affects LoRA).
        compute: the compute profile; None: this process alone.
        arguments: result of `trainer_arguments`, if it was called already.
        section: section of params.yaml, for messages.

    Returns:
        The model (LoRA merged), its curve (step, loss, lr), and the number of optimizer steps. The model is None if no single
        process holds it in its published form; then `work`/trained holds the weights or the adapter.
    """
    use_cores()
    compute = compute or Compute()
    curve = Curve({"loss": "loss", "learning_rate": "lr"}, label=work.parent.name, log=log)
    arguments = arguments or trainer_arguments(settings, seed=seed, work=work, compute=compute, section=section)
    packed = "position_ids" in dataset.column_names
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    trainer = steps_trainer()(
        model=model,
        args=arguments,
        train_dataset=dataset,
        data_collator=PackedRows(pad) if packed else None,
        processing_class=tokenizer,
        peft_config=lora_config(settings["lora"], new_tokens=new_tokens),
        callbacks=[StopNotFinite(section, f"{section}.lr"), curve],
        batch=settings["batch_size"],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(work, arguments))
    rows, steps = curve.rows(trainer.state.log_history), trainer.state.global_step
    if compute.strategy in ("fsdp2", "zero3") or settings["lora"]["quantize"] != "none":
        trainer.save_model(str(work / "trained"))
        return None, rows, steps
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if settings["lora"]["enabled"]:
        trained = trained.merge_and_unload()
    return trained, rows, steps


def load_base(
    given: dict[str, Any], *, quantize: str = "none"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[str]]:
    """Load the model to train, its tokenizer, and the phrases that were added to its vocabulary."""
    dtype = getattr(torch, given["settings"]["dtype"])
    model, tokenizer = load_causal_lm(
        given["model"], name=given["model"], dtype=dtype, quantization=quantization(quantize)
    )
    # The vocabulary gets the phrases even if these traces do not use them, so that all ablations share one shape.
    added = add_unspellable(tokenizer, given["phrases"])
    if added:
        said = logging.get_verbosity()
        logging.set_verbosity_error()  # it would explain how it initialises the new weights
        model.resize_token_embeddings(len(tokenizer))
        logging.set_verbosity(said)
    return model, tokenizer, added


def warn_rounding(settings: dict, compute: Compute, section: str) -> None:
    """Warn that small updates are lost when weights are bfloat16."""
    if settings["dtype"] == "bfloat16" and not settings["lora"]["enabled"] and compute.strategy in ("none", "ddp"):
        print(
            f"warning: {section}.dtype bfloat16 for a full fine-tune loses small updates by rounding; use float32, "
            "or strategy fsdp2",
            flush=True,
        )


def warn_unknown(words: dict[str, int], traces: str) -> None:
    """Warn about words of the chains that the model cannot write."""
    if words:
        shown = ", ".join(f"{word!r} in {count}" for word, count in list(words.items())[:5])
        print(
            f"warning: {traces}: the base's tokenizer lacks {plural(len(words), 'word')} of these chains ({shown}), so the "
            "model cannot write them; add them to the base's corpus (solution() of the task, base.corpus.rows)",
            flush=True,
        )


def train_job(given: dict, compute: Compute, log: Callable[[dict[str, float], int], None]) -> dict:
    """The complete SFT job, for one process or for each of many (astro/training/launch.py).

    Args:
        given: model, traces, target: paths; name: name of the stage; work: its folder; phrases; settings:
            schemas.sft.SftParams; seed.

    Returns:
        examples, too_long, tokens (of one epoch), steps, curve; published: whether `target` holds the model, or
        `publish` still has to write it.
    """
    settings, work = given["settings"], Path(given["work"])
    arguments = trainer_arguments(settings, seed=given["seed"], work=work, compute=compute)
    first = arguments.process_index == 0  # the processes connect here
    warn_rounding(settings, compute, "sft")
    model, tokenizer, added = load_base(given, quantize=settings["lora"]["quantize"])
    traces = list(read_jsonl(Path(given["traces"]), Trace))
    dataset, too_long = build_dataset(traces, tokenizer, loss_on=settings["loss_on"], max_length=settings["max_length"])
    examples, tokens = len(dataset), sum(len(ids) for ids in dataset["input_ids"])
    print(f"[{given['name']}] {plural(examples, 'example')}, dropped as too long: {too_long}", flush=True)
    if first and any(tokenizer.unk_token_id in ids for ids in dataset["input_ids"]):
        warn_unknown(unknown_words(tokenizer, (trace.prompt + trace.completion for trace in traces)), given["traces"])
    if settings["packing"]:
        rows = pack(dataset.to_list(), settings["max_length"], seed=given["seed"])
        full = tokens / (len(rows) * settings["max_length"])
        print(
            f"[{given['name']}] packed into {plural(len(rows), 'row')} of {settings['max_length']} tokens, {full:.0%} full",
            flush=True,
        )
        dataset = Dataset.from_list(rows)
    trained, curve, steps = fine_tune(
        model,
        tokenizer,
        dataset,
        settings=settings,
        seed=given["seed"],
        work=work,
        log=log,
        new_tokens=bool(added),
        compute=compute,
        arguments=arguments,
    )
    if first and trained is not None:
        save_model(trained, tokenizer, Path(given["target"]))
    return {
        "examples": examples,
        "too_long": too_long,
        "tokens": tokens,
        "steps": steps,
        "curve": curve,
        "published": trained is not None,
    }


def publish(given: dict) -> None:
    """Turn the result of training in work/trained into the model, in a process that is not part of a distributed group.

    An adapter is merged into the base as it was before quantization or sharding. Full weights are cast to sft.dtype.
    """
    trained = Path(given["work"]) / "trained"
    if given["settings"]["lora"]["enabled"]:
        model, tokenizer, _ = load_base(given)
        save_model(merge(model, trained, name=given["name"]), tokenizer, Path(given["target"]))
        return
    in_dtype(trained, getattr(torch, given["settings"]["dtype"]))
    (trained / "training_args.bin").unlink(missing_ok=True)
    with atomic_path(Path(given["target"])) as folder:
        shutil.copytree(trained, folder)
