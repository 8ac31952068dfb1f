"""Supervised fine-tuning on traces with TRL's SFTTrainer (paper section 3.1)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from astro.tokens import encode_continuation
from astro.training.common import Curve, last_checkpoint, quiet, use_cores, wants_bf16
from schemas.records import Trace

IGNORED = -100
"""Label of a token without loss."""

LossOn = Literal["all", "completion", "no_wrong_steps"]


def encode(trace: Trace, tokenizer, loss_on: LossOn) -> dict[str, list[int]]:
    """Tokens and labels of a trace; the end token is part of it (of a chat model: the end of the assistant's turn).

    A token belongs to the segment that its first character stands in. The phrase before a jump keeps its loss in
    `no_wrong_steps`: what is masked there is how to go wrong, not that one turns back.
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


def build_dataset(traces: Sequence[Trace], tokenizer, *, loss_on: LossOn, max_length: int) -> tuple[Dataset, int]:
    """Encoded traces and how many were dropped because they are longer than `max_length` tokens.

    Raises:
        ValueError: none is left.
    """
    rows = [encode(trace, tokenizer, loss_on) for trace in traces]
    kept = [row for row in rows if len(row["input_ids"]) <= max_length]
    if not kept:
        shortest = min((len(row["input_ids"]) for row in rows), default=0)
        raise ValueError(
            f"sft.max_length {max_length}: all {len(rows)} traces are longer (the shortest has {shortest} tokens)"
        )
    return Dataset.from_list(kept), len(rows) - len(kept)


def lora_config(lora: dict, *, new_tokens: bool):
    """PEFT's LoRA settings from ours; None: full fine-tune.

    With `new_tokens` the embeddings and the output layer are trained whole: LoRA leaves them alone, and what was just added
    to the vocabulary would stay random.
    """
    if not lora["enabled"]:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
        modules_to_save=["embed_tokens", "lm_head"] if new_tokens else None,
        task_type="CAUSAL_LM",
    )


def fine_tune(
    model,
    tokenizer,
    dataset: Dataset,
    *,
    settings: dict,
    seed: int,
    work: Path,
    log: Callable[[dict[str, float], int], None],
    new_tokens: bool = False,
) -> tuple[torch.nn.Module, list[dict[str, float]], int]:
    """Train; goes on from a checkpoint in `work`.

    Args:
        settings: the values of schemas.sft.SftParams.
        new_tokens: the vocabulary has just grown (matters to LoRA).

    Returns:
        The model (LoRA merged), its curve (step, loss, lr), and the optimizer steps done.
    """
    use_cores()
    curve = Curve({"loss": "loss", "learning_rate": "lr"}, label=work.parent.name, log=log)
    arguments = SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["gradient_accumulation"],
        num_train_epochs=settings["epochs"],
        learning_rate=settings["lr"],
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.05},
        warmup_steps=settings["warmup"],
        weight_decay=settings["weight_decay"],
        bf16=wants_bf16(settings["bf16"]),
        gradient_checkpointing=settings["gradient_checkpointing"],
        max_length=None,  # longer traces were dropped and counted, not cut: a cut chain teaches not to answer
        packing=False,
        train_sampling_strategy="group_by_length",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,  # a mean over several steps would lose those before the checkpoint when a run goes on
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
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=lora_config(settings["lora"], new_tokens=new_tokens),
        callbacks=[curve],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(work))
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if settings["lora"]["enabled"]:
        trained = trained.merge_and_unload()
    return trained, curve.rows(trainer.state.log_history), trainer.state.global_step
