"""The embedded base model: a small Llama trained from scratch on direct solutions."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, Trainer, TrainingArguments

from astro.training.common import Curve, StopNotFinite, last_checkpoint, quiet, use_cores, wants_bf16

ENCODE_BATCH = 2000
"""Documents tokenized per call."""


class PackedRows(Dataset):
    """Data set of rows of equal length with loss on all tokens. tokens: int array, shape (rows, row_tokens)."""

    def __init__(self, tokens: np.ndarray):
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = torch.from_numpy(self.tokens[index].astype(np.int64))
        return {"input_ids": row, "labels": row}


def pack(documents: Iterable[str], tokenizer: PreTrainedTokenizerBase, *, rows: int, row_tokens: int) -> np.ndarray:
    """Concatenate documents, each ended by EOS, and cut them into rows. A row holds several problems, at any position.

    Returns:
        Array of shape (rows, row_tokens), uint16 if that holds the vocabulary. `documents` may be endless, because only
        as many as needed are read.
    """
    needed, stream = rows * row_tokens, []
    batch: list[str] = []
    for document in documents:
        batch.append(document)
        if len(batch) == ENCODE_BATCH:
            for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]:
                stream.extend(ids)
                stream.append(tokenizer.eos_token_id)
            batch = []
            if len(stream) >= needed:
                break
    if len(stream) < needed:
        raise ValueError(f"the corpus has {len(stream)} tokens, but {needed} are needed")
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    return np.asarray(stream[:needed], dtype=dtype).reshape(rows, row_tokens)


def new_llama(
    tokenizer: PreTrainedTokenizerBase, *, hidden: int, layers: int, heads: int, ffn: int, context: int
) -> LlamaForCausalLM:
    """A Llama with random weights. The embeddings are untied, because vLLM silently reloads tied ones wrongly (docs/log.md)."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        rope_theta=10000.0,  # type: ignore[call-arg]  # transformers takes it among **kwargs, its types do not
    )
    model = LlamaForCausalLM(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def pretrain(
    rows: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    *,
    architecture: dict,
    training: dict,
    seed: int,
    work: Path,
    log: Callable[[dict[str, float], int], None],
) -> tuple[LlamaForCausalLM, list[dict[str, float]]]:
    """Train one epoch over `rows`; resume from a checkpoint in `work`. Returns the model and its curve (step, loss, lr)."""
    use_cores()
    torch.manual_seed(seed)
    model = new_llama(tokenizer, **architecture)
    curve = Curve({"loss": "loss", "learning_rate": "lr"}, label="base", log=log)
    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=training["batch_size"],
        num_train_epochs=1,
        learning_rate=training["lr"],
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr_rate": 0.02},
        warmup_steps=training["warmup"],
        weight_decay=training["weight_decay"],
        adam_beta2=0.98,
        bf16=wants_bf16(training["bf16"]),
        use_cpu=not torch.cuda.is_available(),
        logging_nan_inf_filter=False,  # the filter would replace a non-finite loss by the mean so far
        logging_steps=1,  # a mean over several steps would lose those before the checkpoint when a run resumes
        save_steps=training["save_every"],
        save_total_limit=2,
        seed=seed,
        data_seed=seed,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=PackedRows(rows),
        callbacks=[StopNotFinite("base", "base.training.lr"), curve],
    )
    quiet(trainer)
    trainer.train(resume_from_checkpoint=last_checkpoint(work))
    return model, curve.rows(trainer.state.log_history)
