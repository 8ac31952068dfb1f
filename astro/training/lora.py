"""LoRA and QLoRA by PEFT: settings, checks that an adapter belongs to a model, and merging."""

import importlib.util
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.process import UserError, plural
from astro.training.safetensors_io import header, shapes
from schemas.compute_profile import Compute

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig, PreTrainedModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def lora_config(lora: dict[str, Any], *, new_tokens: bool) -> "LoraConfig | None":
    """PEFT's LoRA settings from ours; None: full fine-tuning.

    With `new_tokens` the embeddings and the output layer are trained in full. LoRA would leave them unchanged, so that
    the new rows of the vocabulary would stay random.
    """
    if not lora["enabled"]:
        return None
    from peft import LoraConfig

    targets = lora["target_modules"]
    return LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        # PEFT treats a plain string as a pattern for the whole dotted name, which no single name matches
        target_modules=targets if targets == "all-linear" else [targets],
        modules_to_save=["embed_tokens", "lm_head"] if new_tokens else None,
        task_type="CAUSAL_LM",
    )


def check_quantize(quantize: str, compute: Compute, gpus: int, *, stage: str = "sft") -> None:
    """Check whether weights can be held in 4 bits here.

    Args:
        gpus: number of GPUs that this process sees.

    Raises:
        UserError: there is no GPU or no bitsandbytes, or the strategy shards weights.
    """
    if quantize == "none":
        return
    said = f"{stage}.lora.quantize {quantize}"
    if not gpus:
        raise UserError(
            f"{said}: bitsandbytes needs a GPU to train on quantized weights, and there is none; use none (plain LoRA)"
        )
    if compute.strategy in ("fsdp2", "zero3"):
        raise UserError(
            f"{said}: not possible with strategy {compute.strategy}; use ddp, or quantize none, where the strategy "
            "shards the base instead"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"{said}: needs the package bitsandbytes (extra quantize)")


def quantization(quantize: str) -> "BitsAndBytesConfig | None":
    """transformers' settings for loading the base in 4 bits; None: not quantized."""
    if quantize == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def check_adapter(adapter: Path, base: Path | dict[str, list[int]], *, base_name: str, name: str) -> None:
    """Check that `adapter` was made for the model in `base`. Only headers are read, no weights.

    Args:
        base: a model folder with safetensors weights, or the shape of each of its weights by name.
        base_name: the user's path or hub id of the base.
        name: the parameter that names the adapter.

    Raises:
        UserError: it is not a PEFT adapter, was made for another model, or its shapes do not fit.
    """
    if not (adapter / CONFIG).is_file() or not (adapter / WEIGHTS).is_file():
        raise UserError(f"{name}: {adapter} is not a PEFT adapter; it needs {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((adapter / CONFIG).read_bytes())
        own, model = header(adapter / WEIGHTS), shapes(base) if isinstance(base, Path) else base
    except ValueError as error:
        raise UserError(f"{name}: {adapter}: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        found = f"is a {kind} adapter" if isinstance(kind, str) else f"has no peft_type in its {CONFIG}"
        raise UserError(f"{name}: {adapter} {found}; only LoRA adapters can be merged")
    made_for = str(config.get("base_model_name_or_path") or "")
    last = [text.rstrip("/").rpartition("/")[2].lower() for text in (made_for, base_name)]
    if made_for and last[0] != last[1]:
        raise UserError(
            f"{name}: {adapter} was made for {made_for}, not for {base_name}; if that is the same model under "
            f"another name, change base_model_name_or_path in its {CONFIG}"
        )
    for key, shape in own.items():
        module, _, part = key.removeprefix("base_model.model.").partition(".lora_")
        if not part:
            continue
        weight = model.get(f"{module}.weight")
        if weight is None:
            raise UserError(f"{name}: {adapter} changes {module}, which {base_name} does not have")
        if part.startswith(("A.", "B.")):
            if len(shape) != 2 or len(weight) != 2:
                raise UserError(f"{name}: {adapter}: {key} has shape {shape}, but LoRA needs a matrix")
            mine, theirs = (shape[1], weight[1]) if part.startswith("A.") else (shape[0], weight[0])
            if mine != theirs:
                side = "inputs" if part.startswith("A.") else "outputs"
                raise UserError(f"{name}: {adapter} is for {mine} {side} of {module}, but {base_name} has {theirs}")


def merge(model: "PreTrainedModel", adapter: Path, *, name: str) -> "PreTrainedModel":
    """Merge the adapter of a folder into the model's weights, in the model's own precision.

    Raises:
        UserError: the adapter does not fit; `name` is the parameter or stage that asked for it.
    """
    from peft import PeftModel, get_peft_model_state_dict

    from astro.training.common import load_fault

    try:
        own = header(adapter / WEIGHTS).keys()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)  # an error below
            adapted = PeftModel.from_pretrained(model, str(adapter))
        expected = get_peft_model_state_dict(adapted).keys()
        places = adapted.state_dict().keys()
        if gone := sorted(expected - own):
            raise ValueError(
                f"its weights lack {len(gone)} of {plural(len(expected), 'tensor')}, the first is {gone[0]}"
            )
        if unused := sorted(key for key in own - expected if key not in places):
            raise ValueError(f"the model has no place for its {unused[0]}")
        return adapted.merge_and_unload()
    except Exception as error:  # PEFT raises many kinds for a broken adapter
        raise UserError(f"{name}: {adapter} cannot be merged: {load_fault(error)}") from None
