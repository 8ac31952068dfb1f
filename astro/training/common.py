"""Shared by the three training stages: the curve that goes to CSV, MLflow and the console, and checkpoints to go on from."""

import contextlib
import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BitsAndBytesConfig,
    GenerationConfig,
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

from astro.runtime import UserError, atomic_path
from astro.special_tokens import pad_fault, pad_token
from astro.training.checkpoints import fault_of

disable_progress_bar()  # of loading and saving weights


def use_cores() -> None:
    """All cores on CPU; OMP_NUM_THREADS wins where it is set."""
    if not torch.cuda.is_available():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def native_bf16() -> bool:
    """Whether the hardware multiplies bfloat16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def wants_bf16(setting: bool | str) -> bool:
    """Whether to train in bfloat16 autocast. "auto": where the hardware multiplies it.

    A CPU without such instructions emulates them at a fifteenth of the speed of float32 (docs/log.md).
    """
    native = native_bf16()
    if setting is True and not native:
        print("warning: bf16: true, but this processor only emulates bfloat16, slowly; auto takes float32", flush=True)
    return native if setting == "auto" else bool(setting)


class Curve(TrainerCallback):
    """Collects what a trainer logs, under our names, and hands each row on.

    The rows are rebuilt from the trainer's own log history, which is saved in checkpoints: a resumed run has the whole
    curve, each step once.
    """

    def __init__(self, names: dict[str, str], *, label: str, log: Callable[[dict[str, float], int], None]):
        """names: the trainer's key -> ours; log(row without step, step)."""
        self.names, self.label, self.log = names, label, log
        self.began, self.first_step, self.last_print = time.monotonic(), 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Rates count from the step a resumed run starts at."""
        self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """One row of the curve."""
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
        """None is left out: a step of which TRL knows no reward."""
        found = {ours: logs.get(theirs) for theirs, ours in self.names.items()}
        return {name: float(value) for name, value in found.items() if value is not None}

    def rows(self, history: list[dict]) -> list[dict[str, float]]:
        """The curve from a trainer's log history: [{step, ...}]."""
        return [{"step": entry["step"], **row} for entry in history if (row := self._row(entry))]


class StopNotFinite(TrainerCallback):
    """Ends a training whose loss, gradient norm or weights are not finite, before the step is saved or published.

    The trainer looks at the weights only where a checkpoint is due and at the end. Hence the checkpoints that are there are good.
    """

    def __init__(self, stage: str, lr: str, note: str = ""):
        """lr: the parameter to lower, for the message. note: what the message says at its end."""
        self.stage, self.lr, self.note = stage, lr, note

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Raises UserError for a loss or gradient norm that is not finite."""
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
        """Raises UserError for weights that are not finite, where they would be saved."""
        if control.should_save or state.global_step >= state.max_steps:
            assert model is not None, "the trainer hands its model over"
            for name, weights in model.named_parameters():
                if weights.is_floating_point() and not bool(torch.isfinite(weights.detach()).all()):
                    raise self.fault(state, f"{name} has weights that are not finite")

    def fault(self, state: TrainerState, what: str) -> UserError:
        """One line: step, what, remedy."""
        return UserError(
            f"{self.stage}: step {state.global_step}: {what}. Nothing was published, and the last checkpoint is kept; a smaller "
            f"{self.lr}, or float32 in place of bfloat16, is the usual remedy{self.note}"
        )


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    """A CSV with a column per name (DVC plots CSV, not JSON lines). Rounded, so equal runs give equal bytes."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: (v if k == "step" else f"{v:.6g}") for k, v in row.items()})


def tail_mean(rows: list[dict[str, float]], name: str, share: float, *, first: bool = False) -> float:
    """Mean of the last (or first) `share` of a curve's column, at least one row."""
    values = [row[name] for row in rows if name in row]
    count = max(1, round(len(values) * share))
    chosen = values[:count] if first else values[-count:]
    return round(sum(chosen) / len(chosen), 6)


def last_checkpoint(folder: Path, arguments: TrainingArguments | None = None) -> str | None:
    """The newest complete checkpoint of an earlier, killed run of the same work.

    Args:
        arguments: the trainer's, in one of several processes: all of them call this, and the first sets aside what was cut.
    """
    ranks = arguments.world_size if arguments is not None else 1
    team = arguments if ranks > 1 else None
    with team.main_process_first(local=False) if team is not None else contextlib.nullcontext():
        if folder.is_dir() and (team is None or team.process_index == 0):
            set_aside_broken(folder, ranks)
    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if found:
        print(f"[{folder.parent.name}] goes on from {Path(found).name} of a run that was cut off", flush=True)
    return found


def set_aside_broken(folder: Path, ranks: int) -> None:
    """Rename checkpoints that are not whole, and say so: the run goes on from the one before."""
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        if fault := fault_of(checkpoint, ranks):
            aside = checkpoint.with_name(f"broken-{checkpoint.name}-{time.time_ns()}")
            checkpoint.rename(aside)
            print(
                f"[{folder.parent.name}] {checkpoint.name} is not whole ({fault}): set aside as {aside.name}",
                flush=True,
            )


def quiet(trainer: Trainer) -> None:
    """Take the trainer's own printer away: `Curve` prints the same row, readably."""
    trainer.remove_callback(PrinterCallback)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """The model and its tokenizer as a folder, whole or not at all.

    Raises:
        UserError: a weight is not finite.
    """
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise UserError(f"{target}: {name} holds weights that are not finite: the model is not published")
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
    """(model, tokenizer) from a local folder or a hub id. Remote code is never trusted.

    Args:
        dtype: of the weights; "auto": as their files have it.
        quantization: transformers' settings for loading it quantized, onto this process's GPU; None: as it is.

    Raises:
        UserError: it is no model; `name` says which parameter or file pointed there.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    more: dict[str, Any] = {}
    if quantization is not None:
        more = {"quantization_config": quantization, "device_map": {"": int(os.environ.get("LOCAL_RANK", "0"))}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
        model = AutoModelForCausalLM.from_pretrained(str(path), revision=revision, dtype=dtype, **more)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: {path} is no model that transformers can load: {first}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer of {path} has no end token")
    give_pad(tokenizer, name=name)
    sample_as_asked(model, tokenizer)
    return model, tokenizer


def sample_as_asked(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Leave of a model's own sampling settings its end and begin tokens: `generate` and TRL take the rest as defaults."""
    own = model.generation_config
    if own is None:
        return
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder that has been checked."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(path))


def give_pad(tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
    """See to a pad token that is not the end token: what is padded must not read as an end, nor the end as padding.

    Llama-3.1's tokenizer names none and holds one: <|finetune_right_pad_id|>.

    Raises:
        UserError: there is none to take; `name` says which parameter or file pointed to the tokenizer.
    """
    if fault := pad_fault(tokenizer):
        raise UserError(f"{name}: {fault}")
    found = pad_token(tokenizer)
    if found != tokenizer.pad_token:
        print(f"{name}: {found} is taken as the pad token", flush=True)
        tokenizer.pad_token = found
