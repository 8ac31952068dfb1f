"""Is a checkpoint whole? Read from the ends and headers of its files, so that gigabytes are not loaded to find out."""

import json
import zipfile
from pathlib import Path

from astro.training.safetensors_io import header, weight_files

STATE = "trainer_state.json"
"""The trainer writes it last, so a kill while a checkpoint is written leaves none."""

NEEDED = ("optimizer.pt", "scheduler.pt")
"""Where the process holds all of the optimizer's state: not where it is sharded."""

ADAPTER = "adapter_model.safetensors"
"""In place of a model's weights, where an adapter is trained."""

SHARDED = ("pytorch_model_fsdp_*", "optimizer_*", "global_step*")
"""Folders in which FSDP and DeepSpeed keep theirs."""


def fault_of(checkpoint: Path, ranks: int) -> str:
    """What is wrong with a checkpoint: a file that is missing or cut short; "": it is whole.

    ranks: processes that wrote it; each keeps the state of its random generators.
    """
    sharded = any(found for pattern in SHARDED for found in checkpoint.glob(pattern))
    needed = [STATE, *([] if sharded else NEEDED)]
    needed += [f"rng_state_{rank}.pth" for rank in range(ranks)] if ranks > 1 else ["rng_state.pth"]
    for name in needed:
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
    for file in sorted(checkpoint.rglob("*")):
        if file.is_file() and not _whole(file):
            return f"{file.relative_to(checkpoint)} is cut"
    try:
        weights = sharded or weight_files(checkpoint) or (checkpoint / ADAPTER).is_file()
    except ValueError as error:  # the index names a file that is not there
        return str(error)
    return "" if weights else "the weights are missing"


def _whole(file: Path) -> bool:
    """Whether a file has its end. torch writes zip archives, whose table of contents is at the end."""
    try:
        if file.suffix == ".safetensors":
            header(file)
        elif file.suffix in (".pt", ".pth", ".bin"):
            return zipfile.is_zipfile(file)
        elif file.suffix == ".json":
            json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return True
