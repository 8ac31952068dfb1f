"""Does a model go with the parameters? Asked before long work starts; needs its config and tokenizer, no weights.

Only refuses: what a stage makes does not depend on it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from astro.runtime import UserError
from astro.special_tokens import encode_prompt, pad_fault
from astro.tasks import get_task
from astro.tasks.chat import ChatTemplate, chat_template_of
from schemas.params import Params

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

    from schemas.base_model import WarmupParams
    from schemas.grpo import GrpoParams
    from schemas.sft import SftParams

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
    """Tokens of the prompt of a short question: what every problem costs. 0 where the prompt is the question alone."""
    task = get_task(params.run.spec, chat=chat)
    text = task.prompt(task.example())
    return 0 if text == task.example().question + "\n" else len(encode_prompt(tokenizer, text))


def _context_faults(context: int, asked: int, params: Params, source: str) -> list[str]:
    """Lengths that the parameters allow and the model's context does not hold. asked: tokens of a prompt's frame."""
    faults, has = [], f"{source} has a context of {context} tokens"
    if params.base.warmup.steps and params.base.corpus.row_tokens > context:
        faults.append(f"base.corpus.row_tokens {params.base.corpus.row_tokens}: {has}")
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


def require_fit(model: Path | str, params: Params, *, name: str, called: str = "") -> None:
    """Read config and tokenizer of a model, without its weights, and check them.

    Args:
        model: its folder.
        name: the parameter or file that names it.
        called: what the user calls it; "": the folder.

    Raises:
        UserError: it cannot be read, or `check_model` finds faults: each on a line of its own.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    source = called or str(model)
    try:
        config = AutoConfig.from_pretrained(str(model))
        tokenizer = AutoTokenizer.from_pretrained(str(model))
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: {source} is no model that transformers can load: {first}") from None
    generation: GenerationConfig | None
    try:
        generation = GenerationConfig.from_pretrained(str(model))
    except (OSError, ValueError):
        generation = None
    faults = check_model(config, tokenizer, params, generation=generation, source=source)
    if faults:
        raise UserError("\n       ".join(f"{name}: {fault}" for fault in faults))


def require_generation(model: Path, params: Params, *, gpus: int, name: str, called: str) -> None:
    """Refuse what `grpo.generation` cannot do with this model, before the hours of work that come first.

    Args:
        gpus: how many training sees.
        name, called: as `require_fit`.

    Raises:
        UserError: names the parameter and what to take instead.
    """
    from astro.training.rl_checks import shape_of

    how = params.grpo.generation
    if params.grpo.steps and how == "vllm_colocate" and not gpus and shape_of(model)[2]:
        raise UserError(
            f"{name}: {called}: its output layer is its embedding (tie_word_embeddings), and on a CPU vLLM cannot take new "
            f"weights of such a model: grpo.generation {how}; set grpo.generation to hf"
        )


def warn_emulated(params: Params, *, gpus: int) -> None:
    """Say which parameters ask for bfloat16 on a processor that only emulates it: the results are right, the time is not."""
    from astro.training.common import native_bf16

    if native_bf16():
        return
    asked = {f"engine.{kind}.dtype": getattr(params.engine, kind).dtype for kind in ("vllm", "hf")}
    asked = {name: dtype for name, dtype in asked.items() if f".{params.engine.kind}." in name}
    trained: dict[str, WarmupParams | SftParams | GrpoParams] = {
        "base.warmup": params.base.warmup,
        "sft": params.sft,
        "grpo": params.grpo,
    }
    used = {"base.warmup": params.base.warmup.steps, "sft": params.sft.epochs, "grpo": params.grpo.steps}
    for name, section in trained.items():
        if used[name]:
            asked |= {f"{name}.dtype": section.dtype, f"{name}.bf16": "bfloat16" if section.bf16 is True else ""}
    if found := [name for name, dtype in asked.items() if dtype == "bfloat16"]:
        print(
            f"warning: {', '.join(found)}: bfloat16, but {'this GPU' if gpus else 'this processor'} only emulates it, about "
            "fifteen times as slowly as float32; set dtype to float32 and bf16 to auto",
            flush=True,
        )
