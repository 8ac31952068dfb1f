"""The shape of a model from its config.json: the model is built on the meta device, where parameters have no storage."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from astro.process import UserError

SHIPPED = Path("profiles/models")
"""Public config.json files of the profiles' models, for a dry run without the models."""


@dataclass(frozen=True)
class Linear:
    """One linear layer in each of the model's blocks."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, repr=False)
class Shape:
    """Sizes of a causal LM, as numbers of parameters unless stated otherwise."""

    name: str
    source: str
    config: dict
    parameters: int
    block: int
    """parameters of one transformer block"""
    ends: int
    """parameters of the embedding, the output layer (once if tied) and the last norm"""
    linears: tuple[Linear, ...]
    """linear layers of one block, which LoRA's "all-linear" reaches and QLoRA keeps in 4 bits"""
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    """longest sequence in tokens"""
    tied: bool
    tensors: dict[str, list[int]]
    """shape of every parameter by its name"""
    chat_template: str = ""
    """name of TRL's copy of the model's chat template; "": the model's own folder has it, or it is unknown"""
    tokenizer: dict | None = None
    """special tokens by role, for a shipped shape"""
    folder: Path | None = None
    """folder of the model, if it is here"""

    @property
    def linear(self) -> int:
        """Parameters in the linear layers of all blocks."""
        return self.layers * sum(x.inputs * x.outputs for x in self.linears)

    def adapter(self, rank: int, targets: str, stage: str = "sft") -> int:
        """Parameters of a LoRA adapter.

        Args:
            targets: "all-linear", or the name of one linear layer (PEFT matches the end of the dotted name).
            stage: whose parameter it is, for the message.

        Raises:
            UserError: no linear layer has that name.
        """
        chosen = [x for x in self.linears if targets == "all-linear" or x.name.split(".")[-1] == targets.split(".")[-1]]
        if not chosen:
            known = ", ".join(sorted({x.name.split(".")[-1] for x in self.linears}))
            raise UserError(
                f"{stage}.lora.target_modules {targets!r}: {self.name} has no such module; available: all-linear, "
                f"{known}"
            )
        return self.layers * rank * sum(x.inputs + x.outputs for x in chosen)

    def kv_bytes(self, bytes_each: int = 2) -> int:
        """Bytes of the KV cache per token."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_each


def find_config(path: str) -> tuple[dict, dict, str]:
    """(config, further facts about a shipped model, origin) for a model folder or hub id.

    Raises:
        UserError: the folder has no config.json, or none ships for the hub id.
    """
    folder = Path(path)
    if folder.is_dir():
        file = folder / "config.json"
        try:
            return json.loads(file.read_text(encoding="utf-8")), {}, str(file)
        except (OSError, ValueError) as error:
            raise UserError(f"base.pretrained.path: {file}: not a model config: {error}") from None
    known = []
    for file in sorted(SHIPPED.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        known += content["models"]
        if path in content["models"]:
            return content["config"], content, f"{file}: {content['source']}"
    raise UserError(
        f"base.pretrained.path {path!r}: not a folder, and the project has no config for this id; give a folder "
        f"with its config.json, or add the config to {SHIPPED}. Available: {', '.join(known)}"
    )


def known(path: str) -> bool:
    """Whether the model's config is available. For a hub id that does not ship it is not, until the base stage is done."""
    try:
        find_config(path)
    except UserError:
        return False
    return True


def shape_of(path: str) -> Shape:
    """Shape of the model in a folder, or of a model whose config ships.

    Raises:
        UserError: there is no config, or transformers does not know the architecture.
    """
    config, more, source = find_config(path)
    folder = path if Path(path).is_dir() else ""
    return _built(json.dumps(config), path, source, json.dumps(more), folder)


def build(config: dict, *, name: str, source: str) -> Shape:
    """Shape of a model from its config.

    Raises:
        UserError: as `shape_of`.
    """
    return _built(json.dumps(config), name, source, "{}", "")


@lru_cache(maxsize=16)
def _built(config_text: str, name: str, source: str, more_text: str, folder: str) -> Shape:
    """Build the model on the meta device and sum up its parameters.

    Raises:
        UserError: transformers does not know the architecture, or it is not a plain causal LM.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config, more = json.loads(config_text), json.loads(more_text)
    try:
        settings = AutoConfig.for_model(**config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(settings)
        blocks = model.model.layers
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{name}: transformers cannot build a causal LM from its config: {first}") from None
    block = sum(p.numel() for p in blocks[0].parameters())
    total = sum(p.numel() for p in model.parameters())
    linears = [
        Linear(where, layer.in_features, layer.out_features)
        for where, layer in blocks[0].named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    heads = settings.num_attention_heads
    return Shape(
        name=name,
        source=source,
        config=config,
        parameters=total,
        block=block,
        ends=total - sum(p.numel() for p in blocks.parameters()),
        linears=tuple(linears),
        layers=len(blocks),
        hidden=settings.hidden_size,
        ffn=settings.intermediate_size,
        heads=heads,
        kv_heads=getattr(settings, "num_key_value_heads", None) or heads,
        head_dim=getattr(settings, "head_dim", None) or settings.hidden_size // heads,
        vocabulary=settings.vocab_size,
        context=settings.max_position_embeddings,
        tied=bool(settings.tie_word_embeddings),
        tensors={where: list(p.shape) for where, p in model.named_parameters()},
        chat_template=more.get("tokenizer", {}).get("chat_template", ""),
        tokenizer=more.get("tokenizer"),
        folder=Path(folder) if folder else None,
    )
