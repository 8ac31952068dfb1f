"""Shared by the three training stages: the curve that goes to CSV, MLflow and the console, and checkpoints to go on from."""

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from astro.runtime import UserError, atomic_path
from astro.tokens import pad_token


def use_cores() -> None:
    """All cores on CPU; OMP_NUM_THREADS wins where it is set."""
    if not torch.cuda.is_available():
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


def wants_bf16(setting: bool | str) -> bool:
    """Whether to train in bfloat16 autocast. "auto": where the hardware multiplies it.

    A CPU without such instructions emulates them at a fifteenth of the speed of float32 (docs/log.md).
    """
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported()
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
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

    def on_train_begin(self, args, state, control, **kwargs):
        """Rates count from the step a resumed run starts at."""
        self.began, self.first_step = time.monotonic(), state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
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
        return {ours: float(logs[theirs]) for theirs, ours in self.names.items() if theirs in logs}

    def rows(self, history: list[dict]) -> list[dict[str, float]]:
        """The curve from a trainer's log history: [{step, ...}]."""
        return [{"step": entry["step"], **row} for entry in history if (row := self._row(entry))]


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


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint of an earlier, killed run of the same work."""
    if not folder.is_dir():
        return None
    for broken in folder.glob("checkpoint-*"):
        # the trainer writes its state last; a checkpoint without the whole of it was cut by a kill
        try:
            json.loads((broken / "trainer_state.json").read_bytes())
        except (OSError, ValueError):
            broken.rename(broken.with_name(f"broken-{broken.name}-{time.time_ns()}"))
    found = get_last_checkpoint(str(folder))
    if found:
        print(f"[{folder.parent.name}] goes on from {Path(found).name} of a run that was cut off", flush=True)
    return found


def quiet(trainer) -> None:
    """Take the trainer's own printer away: `Curve` prints the same row, readably."""
    trainer.remove_callback(PrinterCallback)


def save_model(model, tokenizer, target: Path) -> None:
    """The model and its tokenizer as a folder, whole or not at all."""
    with atomic_path(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def load_causal_lm(path: str | Path, *, name: str, revision: str | None = None, dtype: torch.dtype = torch.float32):
    """(model, tokenizer) from a local folder or a hub id. Remote code is never trusted.

    Raises:
        UserError: it is no model; `name` says which parameter or file pointed there.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
        model = AutoModelForCausalLM.from_pretrained(str(path), revision=revision, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: {path} is no model that transformers can load: {first}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer of {path} has no end token")
    give_pad(tokenizer, name=name)
    return model, tokenizer


def give_pad(tokenizer, *, name: str) -> None:
    """See to a pad token that is not the end token: what is padded must not read as an end, nor the end as padding.

    Llama-3.1's tokenizer names none and holds one: <|finetune_right_pad_id|>.

    Raises:
        UserError: there is none to take; `name` says which parameter or file pointed to the tokenizer.
    """
    found = pad_token(tokenizer)
    if found is None:
        raise UserError(
            f"{name}: the tokenizer has {'no pad token' if tokenizer.pad_token is None else 'its end token as pad token'} and "
            "none that could be one; add a special token such as <|pad|> to it"
        )
    if found != tokenizer.pad_token:
        print(f"{name}: {found} is taken as the pad token", flush=True)
        tokenizer.pad_token = found
