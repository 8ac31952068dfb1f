"""Does a model go with the parameters? Asked before long work starts; needs its config and tokenizer, no weights.

Only refuses: what a stage makes does not depend on it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from astro.domains import get_domain
from astro.domains.chat import ChatTemplate, chat_template_of
from astro.runtime import UserError
from astro.tokens import encode_prompt, pad_fault
from schemas.params import Params
from schemas.records import Problem

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

AFFECTS_RESULTS = False  # it only refuses


def check_model(
    config: "PreTrainedConfig",
    tokenizer: "PreTrainedTokenizerBase",
    params: Params,
    *,
    generation: "GenerationConfig | None" = None,
    source: str = "the model",
) -> list[str]:
    """What speaks against training and asking this model with these parameters; [] if nothing does.

    Args:
        config, tokenizer: of transformers.
        generation: its GenerationConfig; None: the end tokens stand in `config`.
        source: what to call the model in messages.
    """
    faults, chat = [], None
    if params.run.prompt == "chat":
        try:
            chat = chat_template_of(tokenizer, source=source)
            faults += _turn_faults(chat, tokenizer, _ends(config if generation is None else generation), source)
        except UserError as error:
            return [str(error)]
    config = config.get_text_config()
    if tokenizer.eos_token_id is None:
        faults.append(f"{source}: the tokenizer has no end token")
    elif fault := pad_fault(tokenizer):
        faults.append(f"{source}: {fault}")
    if len(tokenizer) > config.vocab_size:
        faults.append(f"{source}: the tokenizer has {len(tokenizer)} tokens, the model knows {config.vocab_size}")
    context = getattr(config, "max_position_embeddings", None)
    return faults + (
        _context_faults(context, prompt_tokens(tokenizer, params, chat), params, source) if context else []
    )


def _ends(config: "PreTrainedConfig | GenerationConfig") -> set[int]:
    """The end tokens that a config names."""
    ends = config.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) - {None}


def _turn_faults(chat: ChatTemplate, tokenizer: "PreTrainedTokenizerBase", ends: set[int], source: str) -> list[str]:
    """The token that ends a turn in the template must be the one that training ends a chain with and generation stops at."""
    end = chat.turn_end()
    if not end:
        return [
            f"{source}: its chat template ends the assistant's turn with no control token: an answer would have no end"
        ]
    if end != tokenizer.eos_token:
        return [
            f"{source}: its chat template ends a turn with {end}, but the tokenizer's eos_token is {tokenizer.eos_token}: take "
            f"the instruct model, or set eos_token to {end}"
        ]
    if ends and tokenizer.eos_token_id not in ends:
        return [
            f"{source}: its chat template ends a turn with {end}, which generation_config.json does not list as an end"
        ]
    return []


def prompt_tokens(tokenizer: "PreTrainedTokenizerBase", params: Params, chat: ChatTemplate | None) -> int:
    """Tokens of the prompt of a question of one character: what every problem costs. 0 for Countdown, whose prompt is its
    question."""
    if params.run.domain != "math":
        return 0
    shortest = Problem(id="-", domain="math", question="?", gold="0", level=1, chance=None)
    return len(encode_prompt(tokenizer, get_domain("math", chat=chat).prompt(shortest)))


def _context_faults(context: int, asked: int, params: Params, source: str) -> list[str]:
    """Lengths that the parameters allow and the model's context does not hold. asked: tokens of a prompt's frame."""
    faults, has = [], f"{source} has a context of {context} tokens"
    if params.sft.epochs and params.sft.max_length > context:
        faults.append(f"sft.max_length {params.sft.max_length}: {has}")
    if params.grpo.steps and asked + params.grpo.max_completion > context:
        faults.append(f"grpo.max_completion {params.grpo.max_completion}, behind a prompt of {asked} or more: {has}")
    if params.engine.kind != "endpoint":
        length = params.engine.max_model_len
        if length > context:
            faults.append(f"engine.max_model_len {length}: {has}")
        elif asked >= length:
            faults.append(f"engine.max_model_len {length}: the shortest prompt takes {asked} tokens")
    return faults


def require_fit(model: Path | str, params: Params, *, name: str, revision: str | None = None) -> None:
    """Read config and tokenizer of a model, without its weights, and check them.

    Args:
        model: folder, or hub id with its `revision`.
        name: the parameter or file that names it.

    Raises:
        UserError: it cannot be read, or `check_model` finds faults: each on a line of its own.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(str(model), revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(str(model), revision=revision)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: {model} is no model that transformers can load: {first}") from None
    generation: GenerationConfig | None
    try:
        generation = GenerationConfig.from_pretrained(str(model), revision=revision or "main")
    except (OSError, ValueError):
        generation = None
    faults = check_model(config, tokenizer, params, generation=generation, source=str(model))
    if faults:
        raise UserError("\n       ".join(f"{name}: {fault}" for fault in faults))
