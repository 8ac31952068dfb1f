"""LoRA and QLoRA by PEFT: settings, checks that an adapter belongs to a model, and merging."""

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.process import UserError
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
            mine, theirs = (shape[1], weight[1]) if part.startswith("A.") else (shape[0], weight[0])
            if mine != theirs:
                side = "inputs" if part.startswith("A.") else "outputs"
                raise UserError(f"{name}: {adapter} is for {mine} {side} of {module}, but {base_name} has {theirs}")


def merge(model: "PreTrainedModel", adapter: Path, *, name: str) -> "PreTrainedModel":
    """Merge the adapter of a folder into the model's weights, in the model's own precision.

    Raises:
        UserError: the adapter does not fit; `name` is the parameter or stage that asked for it.
    """
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: {adapter} cannot be merged: {first}") from None
