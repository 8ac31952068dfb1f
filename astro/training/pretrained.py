"""A pretrained base: checked from its settings and headers, and copied file by file. A 70B model is not loaded for that."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from astro.runtime import UserError
from astro.training.adapters import check_adapter, merge
from astro.training.common import load_causal_lm, save_model
from astro.training.weights import copy_snapshot, count, download, shapes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATH = "base.pretrained.path"
ADAPTER = "base.pretrained.adapter"


def require_pinned(path: str, revision: str) -> None:
    """Refuse a hub id without a revision: what stands there today may not tomorrow.

    Raises:
        UserError: `path` is no folder, and there is no revision.
    """
    if not Path(path).is_dir() and not revision:
        raise UserError(
            f"{PATH}: {path} is no model folder; if it is the id of a hub repository, pin it by a commit or tag in "
            "base.pretrained.revision"
        )


def source_of(path: str, revision: str) -> Path:
    """The folder of a model: the one named, or the snapshot of a hub id.

    Raises:
        UserError: neither, or it is not pinned.
    """
    require_pinned(path, revision)
    return Path(path) if Path(path).is_dir() else download(path, revision)


def check_model(folder: Path, path: str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder that transformers will load: settings, tokenizer, and weights that are all there.

    Raises:
        UserError: it will not; `path` is what the user gave.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        with torch.device("meta"):
            wanted = {name: list(p.shape) for name, p in AutoModelForCausalLM.from_config(config).named_parameters()}
        held = shapes(folder)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{PATH}: {path} is no model that transformers can load: {first}") from None
    for name in sorted(wanted.keys() & held.keys()):
        if wanted[name] != held[name]:
            raise UserError(f"{PATH}: {path}: {name} has shape {held[name]}, its config.json makes it {wanted[name]}")
    if tokenizer.eos_token_id is None:
        raise UserError(f"{PATH}: the tokenizer of {path} has no end token")
    return tokenizer


def take(pretrained: dict, target: Path) -> tuple[int, int]:
    """Write a pretrained base to `target`: its files, or with an adapter the merged model, in the precision of its config.json.

    Args:
        pretrained: the values of schemas.base_model.PretrainedParams.

    Returns:
        Parameters, and tokens of the vocabulary.

    Raises:
        UserError: no model, or an adapter of another one.
    """
    path, adapter = pretrained["path"], pretrained["adapter"]
    source = source_of(path, pretrained["revision"])
    tokenizer = check_model(source, path)
    held = shapes(source)
    if adapter:
        if not held:
            raise UserError(f"{PATH}: {path} holds no safetensors weights, which an adapter needs")
        check_adapter(Path(adapter), source, base_name=path, name=ADAPTER)
    if held and not adapter:
        copy_snapshot(source, target)
        return count(source), len(tokenizer)
    # Weights in another format are written as safetensors, for that is what the engines read.
    model, tokenizer = load_causal_lm(source, name=PATH, dtype="auto")
    model = merge(model, Path(adapter), name=ADAPTER) if adapter else model
    save_model(model, tokenizer, target)
    return sum(p.numel() for p in model.parameters()), len(tokenizer)
