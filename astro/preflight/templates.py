"""Check the model's chat template: that it exists, that it accepts our prompts, and that padding is safe."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from astro.preflight.model_shape import Shape
from astro.process import UserError
from astro.tasks import get_task
from astro.tasks.chat import ChatTemplate, load_chat_template
from schemas.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Rendered:
    """A rendered prompt. `frame`: what is added to the question, in tokens or, without a tokenizer, in characters."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    frame: str = ""


def template(params: Params, shape: Shape) -> Rendered:
    """Render a prompt through the template in the model's folder, or through TRL's copy if the folder is not here."""
    found = Rendered()
    if shape.folder is not None:
        found.faults += model_faults(params, shape)
        if found.faults:
            return found
    if params.run.prompt == "plain":
        found.lines = ["not used, because run.prompt is plain"]
        task = get_task(params.run.spec)
        example = task.example(params.problems.lowest_level)
        if (text := task.prompt(example)) != example.question + "\n":
            found.frame = framed(text, example.question, None)
        return found
    try:
        chat, note = chosen(shape)
        if chat is None:
            found.lines, found.frame = [note], "the prompt's frame is not known"
            return found
        task = get_task(params.run.spec, chat=chat)
        example = task.example(params.problems.lowest_level)
        text = task.prompt(example)
    except UserError as error:
        found.faults.append(str(error))
        return found
    found.lines = [
        note,
        f"a prompt begins {text[:60]!r}",
        f"and ends {text[-60:]!r}",
        f"the assistant's turn ends {chat.turn_end()!r}",
    ]
    found.frame = framed(text, example.question, tokenizer_of(shape))
    return found


def model_faults(params: Params, shape: Shape) -> list[str]:
    """Faults of a model that is here: its tokenizer, its padding, its context."""
    from astro.training.model_checks import require_fit

    assert shape.folder is not None  # the model is here
    try:
        require_fit(shape.folder, params, name="base.pretrained.path")
    except UserError as error:
        return str(error).split("\n       ")
    return []


def chosen(shape: Shape) -> tuple[ChatTemplate | None, str]:
    """The template and its origin.

    Raises:
        UserError: the model's folder has none.
    """
    if shape.folder is not None:
        return load_chat_template(shape.folder), f"of {shape.folder}"
    if not shape.chat_template:
        return None, "cannot be checked without the tokenizer; the base stage checks it once the model is available"
    special = {role: text for role, text in (shape.tokenizer or {}).items() if role != "chat_template" and text}
    names = tuple(sorted((f"{role}_token", text) for role, text in special.items()))
    return (
        ChatTemplate(
            shape.name, shipped(shape.chat_template), names, tuple(sorted(set(special.values()), reverse=True))
        ),
        f"TRL's copy ({shape.chat_template}) of the model's template, because the tokenizer is missing; the base "
        "stage checks the model's own",
    )


def shipped(name: str) -> str:
    """The text of a chat template that TRL ships.

    Raises:
        UserError: TRL ships no template of that name.
    """
    spec = importlib.util.find_spec("trl")
    assert spec is not None, "trl is a dependency"
    assert spec.submodule_search_locations is not None, "trl is a package"
    (trl,) = spec.submodule_search_locations
    path = Path(trl) / "chat_templates" / f"{name}.jinja"
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise UserError(f"TRL ships no chat template {name!r}") from None


def tokenizer_of(shape: Shape) -> "PreTrainedTokenizerBase | None":
    """The tokenizer of a model folder; None: it is not here."""
    if shape.folder is None:
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(shape.folder), trust_remote_code=False)


def framed(text: str, question: str, tokenizer: "PreTrainedTokenizerBase | None") -> str:
    """Describe how much a prompt adds to its question."""
    if tokenizer is None:
        return f"a prompt adds {len(text) - len(question)} characters to its question"
    from astro.special_tokens import encode_prompt

    added = len(encode_prompt(tokenizer, text)) - len(encode_prompt(tokenizer, question))
    return f"a prompt adds {added} tokens to its question"
