"""Check that a model fits the parameters, before long work starts. Only its config and tokenizer are needed, no weights.

The checks can only refuse, so results do not depend on this module.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from astro.hardware import native_bf16
from astro.process import UserError
from astro.special_tokens import encode_prompt, pad_fault
from astro.tasks import get_task
from astro.tasks.chat import ChatTemplate, chat_template_of
from schemas.params import Params

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

    from schemas.base_model import WarmupParams
    from schemas.grpo import GrpoParams
    from schemas.sft import SftParams

AFFECTS_RESULTS = False  # it can only refuse

OTHER_HEADS = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
"""Ends of the `architectures` of models that do not continue a text. transformers loads many of them as if they did."""


def check_model(
    config: "PreTrainedConfig",
    tokenizer: "PreTrainedTokenizerBase",
    params: Params,
    *,
    generation: "GenerationConfig | None" = None,
    source: str = "the model",
) -> list[str]:
    """Faults that prevent training and sampling this model with these parameters; [] if there are none.

    Args:
        config, tokenizer: objects of transformers.
        generation: its GenerationConfig; None: `config` holds the end tokens.
        source: name of the model in messages.
    """
    if other := _architecture_fault(config, source):
        return [other]
    faults, chat = [], None
    ends = _ends(config if generation is None else generation)
    if params.run.prompt == "chat":
        try:
            chat = chat_template_of(tokenizer, source=source)
            faults += _turn_faults(chat, tokenizer, ends, source)
        except UserError as error:
            return [str(error)]
    faults += _lora_faults(config, params, source)
    config = config.get_text_config()
    if tokenizer.eos_token_id is None:
        faults.append(f"{source}: the tokenizer has no end token")
    elif fault := pad_fault(tokenizer):
        faults.append(f"{source}: {fault}")
    if len(tokenizer) > config.vocab_size:
        faults.append(f"{source}: the tokenizer has {len(tokenizer)} tokens, but the model has {config.vocab_size}")
    elif outside := [end for end in sorted(ends) if end >= config.vocab_size]:
        faults.append(f"{source}: its end token {outside[0]} is none of its {config.vocab_size} tokens")
    context = getattr(config, "max_position_embeddings", None)
    return faults + (
        _context_faults(context, prompt_tokens(tokenizer, params, chat), params, source) if context else []
    )


def _architecture_fault(config: "PreTrainedConfig", source: str) -> str:
    """Why a model cannot continue a text, although transformers may load it for that; "": it can."""
    kinds = config.architectures if isinstance(config.architectures, list) else []
    if config.is_encoder_decoder:
        kind = f"an encoder with a decoder ({kinds[0] if kinds else config.model_type})"
    elif kinds and all(str(kind).endswith(OTHER_HEADS) for kind in kinds):
        kind = str(kinds[0])
    else:
        return ""
    return (
        f"{source}: its architecture is {kind}, which does not continue a text; use a causal language model, "
        "such as a Llama"
    )


def _lora_faults(config: "PreTrainedConfig", params: Params, source: str) -> list[str]:
    """LoRA targets that the model's blocks do not have.

    The embedding and the output layer are none: where they are tied, merging an adapter of one would change the other.
    """
    asked = {
        f"{name}.lora.target_modules": section.lora.target_modules
        for name, section in _trained(params).items()
        if section.lora.enabled and section.lora.target_modules != "all-linear"
    }
    if not asked:
        return []
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    output = model.get_output_embeddings()
    linear = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not output]
    known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    return [
        f"{name} {target!r}: {source} has no such linear layer in its blocks; available: all-linear, {known}"
        for name, target in asked.items()
        if not any(layer == target or layer.endswith(f".{target}") for layer in linear)
    ]


def _trained(params: Params) -> "dict[str, WarmupParams | SftParams | GrpoParams]":
    """The sections of the parameters that train, by name."""
    found: dict[str, WarmupParams | SftParams | GrpoParams] = {}
    if params.base.warmup.steps:
        found["base.warmup"] = params.base.warmup
    if params.sft.epochs:
        found["sft"] = params.sft
    if params.grpo.steps:
        found["grpo"] = params.grpo
    return found


def _ends(config: "PreTrainedConfig | GenerationConfig") -> set[int]:
    """The end tokens in a config."""
    ends = config.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) - {None}


def _turn_faults(chat: ChatTemplate, tokenizer: "PreTrainedTokenizerBase", ends: set[int], source: str) -> list[str]:
    """Check the end-of-turn token: the template, the end of training chains and the stop of generation must agree on it."""
    end = chat.turn_end()
    if not end:
        return [
            f"{source}: its chat template ends the assistant's turn without a control token, so an answer would "
            "have no end"
        ]
    if end != tokenizer.eos_token:
        return [
            f"{source}: its chat template ends a turn with {end}, but the tokenizer's eos_token is "
            f"{tokenizer.eos_token}; use the instruct model, or set eos_token to {end}"
        ]
    if ends and tokenizer.eos_token_id not in ends:
        return [
            f"{source}: its chat template ends a turn with {end}, which generation_config.json does not list in "
            "eos_token_id"
        ]
    return []


def prompt_tokens(tokenizer: "PreTrainedTokenizerBase", params: Params, chat: ChatTemplate | None) -> int:
    """Number of prompt tokens around a short question, a cost of every problem. 0 if the prompt is only the question."""
    task = get_task(params.run.spec, chat=chat)
    example = task.example(params.problems.lowest_level)
    text = task.prompt(example)
    return 0 if text == example.question + "\n" else len(encode_prompt(tokenizer, text))


def _context_faults(context: int, asked: int, params: Params, source: str) -> list[str]:
    """Lengths that the parameters allow but the model's context cannot hold.

    Args:
        asked: prompt tokens around the question.
    """
    faults, has = [], f"{source} has a context of {context} tokens"
    if params.base.warmup.steps and params.base.corpus.row_tokens > context:
        faults.append(f"base.corpus.row_tokens {params.base.corpus.row_tokens}: {has}")
    if params.sft.epochs and params.sft.max_length > context:
        faults.append(f"sft.max_length {params.sft.max_length}: {has}")
    if params.grpo.steps and asked + params.grpo.max_completion_length > context:
        faults.append(
            f"grpo.max_completion_length {params.grpo.max_completion_length}, after a prompt of {asked} or more: {has}"
        )
    if params.engine.kind != "endpoint":
        length = params.engine.max_model_len
        if length > context:
            faults.append(f"engine.max_model_len {length}: {has}")
        elif asked >= length:
            faults.append(f"engine.max_model_len {length}: the shortest prompt has {asked} tokens")
    return faults


def require_fit(model: Path | str, params: Params, *, name: str, called: str = "") -> None:
    """Read config and tokenizer of a model, without its weights, and check them.

    Args:
        model: its folder.
        name: the parameter or file that names it.
        called: the user's name for it; "": the folder.

    Raises:
        UserError: it cannot be read, or `check_model` finds faults, each on its own line.
    """
    from transformers import GenerationConfig

    from astro.training.common import load_fault, load_settings

    source = called or str(model)
    try:
        config, tokenizer = load_settings(model)
    except Exception as error:  # a broken config.json raises many kinds, and tokenizers plain Exception
        raise UserError(f"{name}: {source} is not a model that transformers can load: {load_fault(error)}") from None
    generation: GenerationConfig | None
    try:
        generation = GenerationConfig.from_pretrained(str(model))
    except (OSError, ValueError):
        generation = None
    faults = check_model(config, tokenizer, params, generation=generation, source=source)
    if faults:
        raise UserError("\n       ".join(f"{name}: {fault}" for fault in faults))


def warn_emulated(params: Params, *, gpus: int) -> None:
    """Warn about parameters that select bfloat16 on a processor that only emulates it. Results stay right, but it is slow."""
    if native_bf16():
        return
    asked = {f"engine.{kind}.dtype": getattr(params.engine, kind).dtype for kind in ("vllm", "hf")}
    asked = {name: dtype for name, dtype in asked.items() if f".{params.engine.kind}." in name}
    for name, section in _trained(params).items():
        asked |= {f"{name}.dtype": section.dtype, f"{name}.bf16": "bfloat16" if section.bf16 is True else ""}
    if found := [name for name, dtype in asked.items() if dtype == "bfloat16"]:
        print(
            f"warning: {', '.join(found)}: bfloat16, but {'this GPU' if gpus else 'this processor'} only emulates it, about "
            "fifteen times as slowly as float32; set dtype to float32 and bf16 to auto",
            flush=True,
        )
