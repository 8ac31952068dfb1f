"""Prompts of chat models: messages are rendered by the model's own chat template."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astro.process import UserError
from astro.special_tokens import control_texts, inert

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY = datetime(2024, 7, 26, tzinfo=UTC)
"""The date that Llama-3.1's template writes. It is fixed to the template's own default, so that equal runs write equal
prompts."""

_SYSTEM, _USER, _ANSWER = "astro system", "astro user", "astro answer"
"""Probe messages, used to find out how a template renders its parts."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template and everything that rendering needs. It is plain data, because it travels to the workers of a cluster.

    Attributes:
        source: file or folder that it was read from, for messages.
        template: Jinja source, rendered in transformers' sandbox.
        names: (name, text) of the special tokens that the template may use (bos_token, ...).
        controls: texts of all control tokens. Inside a message they are broken up (`astro.special_tokens.inert`).
        system: whether the template accepts a system message. If not, the text is put in front of the user message.
    """

    source: str
    template: str
    names: tuple[tuple[str, str], ...]
    controls: tuple[str, ...]
    system: bool = True

    def render(self, message: str, *, system: str | None = None) -> str:
        """Render the prompt for one user message. It ends where the assistant begins to write.

        Args:
            message: the user message. A control token spelled out in it does not become a control token.
            system: the system message.

        Raises:
            UserError: the template rejects the messages.
        """
        return _rendered(self, message, system, None)

    def turn_end(self) -> str:
        """The control token that ends the assistant's turn; "": the template writes none."""
        whole = _rendered(self, _USER, None, _ANSWER)
        rest = whole.rpartition(_ANSWER)[2].lstrip()
        return next((token for token in self.controls if rest.startswith(token)), "")


@lru_cache(maxsize=4096)
def _rendered(chat: ChatTemplate, message: str, system: str | None, answer: str | None) -> str:
    """Render messages as text. With `answer` the conversation is complete."""
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    if system and not chat.system:
        message, system = f"{system}\n\n{message}", None
    turns = [("system", system), ("user", message), ("assistant", answer)]
    messages = [{"role": role, "content": inert(text, chat.controls)} for role, text in turns if text is not None]
    names: dict[str, Any] = dict(chat.names)
    try:
        texts, _ = render_jinja_template(  # type: ignore[str-unpack]  # it returns a pair, whatever its signature says
            conversations=[messages],
            chat_template=chat.template,
            add_generation_prompt=answer is None,
            date_string=TODAY.strftime("%d %b %Y"),
            strftime_now=TODAY.strftime,
            **names,
        )
    except (
        TemplateError,
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{chat.source}: the chat template cannot render a message: {text}") from None
    return texts[0]


def load_chat_template(model: Path) -> ChatTemplate:
    """Load the chat template of a model folder.

    Raises:
        UserError: the folder has no chat template, or an unusable one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{model}: transformers cannot load a tokenizer: {str(error).splitlines()[0]}") from None
    return chat_template_of(tokenizer, source=str(model))


def chat_for(prompt: str, model: Path) -> ChatTemplate | None:
    """The chat template of a model folder if `run.prompt` asks for one; None: plain text prompts."""
    return load_chat_template(model) if prompt == "chat" else None


def chat_template_of(tokenizer: "PreTrainedTokenizerBase", *, source: str) -> ChatTemplate:
    """The chat template of a transformers tokenizer.

    Args:
        source: where the tokenizer comes from, for messages.

    Raises:
        UserError: the tokenizer has no chat template, or an unusable one.
    """
    if not tokenizer.chat_template:
        raise UserError(
            f"run.prompt chat: the tokenizer of {source} has no chat template; use an instruct model, or set "
            "run.prompt to plain"
        )
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        raise UserError(f"run.prompt chat: {source}: {error}") from None
    names = tuple(sorted((name, str(text)) for name, text in tokenizer.special_tokens_map.items() if text))
    controls = control_texts(tokenizer)
    for system in (True, False):
        found = ChatTemplate(source, template, names, controls, system)
        try:
            text = found.render(_USER, system=_SYSTEM)
        except UserError:
            if not system:
                raise
            continue
        if _USER in text and _SYSTEM in text:
            return found
    raise UserError(f"run.prompt chat: the chat template of {source} omits the user's message")
