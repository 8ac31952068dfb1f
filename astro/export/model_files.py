"""The files of an exported model folder: weights in safetensors, config, tokenizer and licences, nothing else."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from astro.process import UserError

BASE = Path("models/base")

KEPT = (
    r"config\.json",
    r"generation_config\.json",
    r".*\.safetensors",
    r"model\.safetensors\.index\.json",
    r"tokenizer.*\.json",
    r"tokenizer\.model",
    r"special_tokens_map\.json",
    r"added_tokens\.json",
    r"vocab\.(json|txt)",
    r"merges\.txt",
    r"chat_template\.(jinja|json)",
    r"additional_chat_templates",
)
"""Names of files that loading and serving need. Pickles (*.bin, *.pt) and leftovers of trainers are not exported."""

LICENCES = r"(?i)(licen[cs]e|notice|use[_-]?policy).*"
"""Names of the base's licence files, which accompany every derivative."""


def model_files(folder: Path) -> list[Path]:
    """The files to export, by name.

    Raises:
        UserError: a LoRA adapter without its base, no safetensors, missing shards, no config, or no tokenizer.
    """
    found = sorted(p for p in folder.iterdir() if any(re.fullmatch(pattern, p.name) for pattern in KEPT))
    names = {p.name for p in found}
    if "adapter_config.json" in {p.name for p in folder.iterdir()} and "config.json" not in names:
        raise UserError(f"{folder}: contains only a LoRA adapter; merge it into its base before the export")
    if "config.json" not in names:
        raise UserError(f"{folder}: not a transformers model folder (it has no config.json)")
    if not any(name.endswith(".safetensors") for name in names):
        raise UserError(f"{folder}: has no safetensors weights; other formats cannot be exported")
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise UserError(f"{folder}: has no tokenizer")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        gone = sorted(set(json.loads(index.read_bytes())["weight_map"].values()) - names)
        if gone:
            raise UserError(f"{index}: these shards are missing: {', '.join(gone)}")
    return found


def licence_files() -> list[Path]:
    """Licences, notices and use policies of a base from elsewhere."""
    return sorted(p for p in BASE.iterdir() if p.is_file() and re.fullmatch(LICENCES, p.name)) if BASE.is_dir() else []


def licence_fields() -> dict[str, Any]:
    """`license`, `license_name`, `license_link` of the base's own card; {}: the card has none."""
    path = BASE / "README.md"
    if not path.is_file():
        return {}
    try:
        data = ModelCard.load(path, ignore_metadata_errors=True).data.to_dict()
    except ValueError:
        return {}
    return {k: str(data[k]) for k in ("license", "license_name", "license_link") if data.get(k)}


def copy_files(files: list[Path], to: Path) -> None:
    """Copy files and folders into `to`. Links into DVC's cache become files.

    Raises:
        UserError: the disk is too full.
    """
    size = sum(f.stat().st_size for p in files for f in (p.rglob("*") if p.is_dir() else [p]) if f.is_file())
    free = shutil.disk_usage(to).free
    if size > free:
        raise UserError(f"{to.parent}: {size / 2**30:.1f} GiB are needed, but only {free / 2**30:.1f} GiB are free")
    for path in files:
        shutil.copytree(path, to / path.name) if path.is_dir() else shutil.copyfile(path, to / path.name)


def config_of(folder: Path) -> dict[str, Any]:
    """config.json of a model."""
    try:
        return json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
