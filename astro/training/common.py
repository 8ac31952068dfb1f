"""Code that the three training stages share: the training curve (CSV, MLflow, console), checkpoints for resuming, and models."""

import contextlib
import csv
import math
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils.logging import disable_progress_bar

from astro.files import atomic_path
from astro.hardware import native_bf16
from astro.process import UserError
from astro.special_tokens import pad_fault, pad_token
from astro.training.checkpoint_integrity import fault_of

disable_progress_bar()  # for loading and saving weights


def use_cores() -> None:
    """Use all cores on a CPU, unless OMP_NUM_THREADS is set."""
    if not torch.cuda.is_available():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def wants_bf16(setting: bool | str) -> bool:
    """Whether to train in bfloat16 autocast. "auto" means: if the hardware supports it.

    A CPU without such instructions emulates them at a fifteenth of the speed of float32 (docs/log.md).
    """
    native = native_bf16()
    if setting is True and not native:
        print(
            "warning: bf16 is true, but this processor only emulates bfloat16, which is slow; auto uses float32",
            flush=True,
        )
    return native if setting == "auto" else bool(setting)


class Curve(TrainerCallback):
    """Trainer callback that renames what the trainer logs and passes each row on.

    The rows come from the trainer's own log history, which checkpoints contain. A resumed run therefore has the whole
    curve, with each step once.
    """

    def __init__(self, names: dict[str, str], *, label: str, log: Callable[[dict[str, float], int], None]):
        """Create the callback.

        Args:
            names: the trainer's key -> our name.
            log: called with (row without step, step).
        """
        self.names, self.label, self.log = names, label, log
        self.began, self.first_step, self.last_print = time.monotonic(), 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock for rates at the step where a resumed run begins."""
        self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add one row to the curve."""
        row = self._row(logs or {})
        if not row:
            return
        self.log(row, state.global_step)
        now = time.monotonic()
        if now - self.last_print >= 10 or state.global_step >= state.max_steps:
            self.last_print = now
            rate = (state.global_step - self.first_step) / max(now - self.began, 1e-9)
            left = (state.max_steps - state.global_step) / rate if rate > 0 else float("inf")
            shown = ", ".join(f"{k} {v:.4g}" for k, v in row.items())
            print(
                f"[{self.label}] step {state.global_step}/{state.max_steps}, {rate:.2f} steps/s, {left:.0f} s left, {shown}",
                flush=True,
            )

    def _row(self, logs: dict) -> dict[str, float]:
        """One row with our names. None is left out; TRL logs it for a step without any known reward."""
        found = {ours: logs.get(theirs) for theirs, ours in self.names.items()}
        return {name: float(value) for name, value in found.items() if value is not None}

    def rows(self, history: list[dict]) -> list[dict[str, float]]:
        """The curve from a trainer's log history: [{step, ...}]."""
        return [{"step": entry["step"], **row} for entry in history if (row := self._row(entry))]


class StopNotFinite(TrainerCallback):
    """Ends a training whose loss, gradient norm or weights are not finite, before the step is saved or published.

    Weights are checked only before a checkpoint and at the end, so every existing checkpoint is good.
    """

    def __init__(self, stage: str, lr: str, note: str = ""):
        """Create the callback.

        Args:
            lr: the learning rate parameter that the message advises to lower.
            note: text at the end of the message.
        """
        self.stage, self.lr, self.note = stage, lr, note

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Raise UserError for a loss or gradient norm that is not finite."""
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise self.fault(state, f"{name} is {value}")

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Raise UserError for weights that are not finite, when they are about to be saved."""
        if control.should_save or state.global_step >= state.max_steps:
            assert model is not None, "the trainer must return its model"
            for name, weights in model.named_parameters():
                if weights.is_floating_point() and not bool(torch.isfinite(weights.detach()).all()):
                    raise self.fault(state, f"{name} has weights that are not finite")

    def fault(self, state: TrainerState, what: str) -> UserError:
        """An error in one line: the step, the fault and the remedy."""
        return UserError(
            f"{self.stage}: step {state.global_step}: {what}. Nothing was published, and the last checkpoint is "
            f"kept. Lower {self.lr}, or use float32 instead of bfloat16{self.note}"
        )


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    """Write a CSV with one column per name, because DVC plots CSV and not JSON lines. Rounding makes equal runs equal to the
    byte."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: (v if k == "step" else f"{v:.6g}") for k, v in row.items()})


def tail_mean(rows: list[dict[str, float]], name: str, share: float, *, first: bool = False) -> float:
    """Mean over the last (or first) `share` of a curve's column, at least one row."""
    values = [row[name] for row in rows if name in row]
    count = max(1, round(len(values) * share))
    chosen = values[:count] if first else values[-count:]
    return round(sum(chosen) / len(chosen), 6)


def last_checkpoint(folder: Path, arguments: TrainingArguments | None = None) -> str | None:
    """The newest complete checkpoint of an earlier, killed run of the same work.

    Args:
        arguments: the trainer's arguments in one of several processes. All processes call this function, and the first
            one sets aside broken checkpoints.
    """
    ranks = arguments.world_size if arguments is not None else 1
    team = arguments if ranks > 1 else None
    with team.main_process_first(local=False) if team is not None else contextlib.nullcontext():
        if folder.is_dir() and (team is None or team.process_index == 0):
            set_aside_broken(folder, ranks)
    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if found:
        print(f"[{folder.parent.name}] resumes from {Path(found).name} of an interrupted run", flush=True)
    return found


def set_aside_broken(folder: Path, ranks: int) -> None:
    """Rename broken checkpoints with a message, so that the run resumes from an earlier one."""
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        if fault := fault_of(checkpoint, ranks):
            aside = checkpoint.with_name(f"broken-{checkpoint.name}-{time.time_ns()}")
            checkpoint.rename(aside)
            print(
                f"[{folder.parent.name}] {checkpoint.name} is damaged ({fault}); moved to {aside.name}",
                flush=True,
            )


def quiet(trainer: Trainer) -> None:
    """Remove the trainer's own console printer, because `Curve` prints the same row in a readable form.

    Also tell the trainer which weights are tied. Checkpoints do not repeat them, and it would warn that they are missing.
    """
    trainer.remove_callback(PrinterCallback)
    if isinstance(trainer.model, PreTrainedModel):
        trainer.model._keys_to_ignore_on_save = set(trainer.model.all_tied_weights_keys)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Save the model and its tokenizer as a folder, completely or not at all.

    Raises:
        UserError: a weight is not finite.
    """
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise UserError(f"{target}: {name} has weights that are not finite, so the model is not published")
    with atomic_path(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_causal_lm(
    path: str | Path,
    *,
    name: str,
    revision: str | None = None,
    dtype: torch.dtype | str = torch.float32,
    quantization: BitsAndBytesConfig | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load (model, tokenizer) from a local folder or a hub id. Remote code is never trusted.

    Args:
        dtype: precision of the weights; "auto": as in their files.
        quantization: transformers' settings for quantized loading onto this process's GPU; None: not quantized.

    Raises:
        UserError: it is not a model; `name` is the parameter or file that refers to it.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    more: dict[str, Any] = {}
    if quantization is not None:
        more = {"quantization_config": quantization, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}
    more |= {"revision": revision, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype, **more)
    except (OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{name}: transformers cannot load the model {path}: {load_fault(error)}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer of {path} has no end token")
    give_pad(tokenizer, name=name)
    sample_as_asked(model, tokenizer)
    return model, tokenizer


def load_settings(model: Path | str) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    """Config and tokenizer of a model, without its weights. Code that comes with it never runs.

    Raises:
        ValueError: a folder has no config.json.
        Exception: transformers cannot read it. A broken config.json raises many kinds; `load_fault` says why.
    """
    from transformers import AutoConfig, AutoTokenizer

    if Path(model).is_dir() and not (Path(model) / "config.json").is_file():
        raise ValueError("it has no config.json")
    return (
        AutoConfig.from_pretrained(str(model), trust_remote_code=False),
        AutoTokenizer.from_pretrained(str(model), trust_remote_code=False),
    )


def load_fault(error: Exception) -> str:
    """Why transformers cannot load a model, in one line. For some causes its own text names a remedy that is not allowed here."""
    lines = str(error).strip().splitlines()
    if "custom code" in str(error):
        return (
            "it needs code of its own (auto_map), which is never run; use a model whose architecture transformers knows"
        )
    if isinstance(error, pickle.UnpicklingError):
        return "its weights are pickled with more than tensors, and such code is never run; use safetensors weights"
    if not lines:
        return type(error).__name__
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    # These name a key, an attribute or a byte alone, so their kind is half of what they say.
    bare = isinstance(error, LookupError | AttributeError | UnicodeError | TypeError)
    return f"{type(error).__name__}: {text}" if bare else text


def sample_as_asked(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Reset a model's own sampling settings, except its begin and end tokens. `generate` and TRL would use them as defaults."""
    own = model.generation_config
    if own is None:
        return
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder that was checked before."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(path))


def give_pad(tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
    """Choose a pad token that differs from the end token, so that padding is not read as an end, nor an end as padding.

    Llama-3.1's tokenizer declares no pad token but contains one: <|finetune_right_pad_id|>.

    Raises:
        UserError: the tokenizer has no suitable token; `name` is the parameter or file that refers to it.
    """
    if fault := pad_fault(tokenizer):
        raise UserError(f"{name}: {fault}")
    found = pad_token(tokenizer)
    if found != tokenizer.pad_token:
        print(f"{name}: using {found} as the pad token", flush=True)
        tokenizer.pad_token = found
