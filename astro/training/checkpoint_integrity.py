"""Check whether a checkpoint is complete. Only the ends and headers of its files are read, so no gigabytes are loaded."""

import json
import zipfile
from pathlib import Path

from astro.training.safetensors_io import header, weight_files

STATE = "trainer_state.json"
"""The file that the trainer writes last. A checkpoint that was cut off by a kill lacks it."""

NEEDED = ("optimizer.pt", "scheduler.pt")
"""Further files of a checkpoint, if one process holds the whole optimizer state (it is not sharded)."""

ADAPTER = "adapter_model.safetensors"
"""The weights file of an adapter, in place of a model's weights."""

SHARDED = ("pytorch_model_fsdp_*", "optimizer_*", "global_step*")
"""Folders of sharded checkpoints, as FSDP and DeepSpeed write them."""


def fault_of(checkpoint: Path, ranks: int) -> str:
    """Describe what is wrong with a checkpoint (a missing or truncated file); "": it is complete.

    Args:
        ranks: number of processes that wrote it. Each stores the state of its random generators.
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
    except ValueError as error:  # the index names a missing file
        return str(error)
    return "" if weights else "the weights are missing"


def _whole(file: Path) -> bool:
    """Whether a file is complete. torch writes zip archives, whose table of contents is at the end."""
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
