"""Texts in which control tokens are written out: prompts of chat models, and what must not be read as such a token.

A rendered prompt begins with a control token (Llama's "<|begin_of_text|>", ChatML's "<|im_start|>") and is complete: to add
the tokenizer's own beginning would double it. All that tokenizes a prompt does it here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PICTURE = re.compile("image|video|vision|audio")
"""Of other pads than those of text (Qwen's <|image_pad|>)."""


@dataclass(frozen=True)
class Control:
    """The control tokens of a tokenizer, for those who have only text (endpoints). Picklable.

    Attributes:
        begin: text of what the tokenizer puts in front of every text; "": nothing.
        texts: every control token as it is written.
    """

    begin: str = ""
    texts: tuple[str, ...] = ()


UNKNOWN = Control()
"""Of a tokenizer that nobody has."""


@lru_cache(maxsize=16)
def control_texts(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """Every text that a transformers tokenizer reads as a control token, longest first."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return _ordered({*added, *tokenizer.all_special_tokens})


def read_control(folder: Path | str) -> Control:
    """From a model folder's tokenizer.json; of a folder without one, nothing is known."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        return UNKNOWN
    from tokenizers import Tokenizer

    core = Tokenizer.from_file(str(path))
    texts = {token.content for token in core.get_added_tokens_decoder().values() if token.special}
    return Control(begin="".join(core.encode("").tokens), texts=_ordered(texts))


def _ordered(texts: set[str]) -> tuple[str, ...]:
    return tuple(sorted(filter(None, texts), key=lambda text: (-len(text), text)))


def is_rendered(tokenizer: "PreTrainedTokenizerBase", text: str) -> bool:
    """Whether a text begins with a control token: then a chat template wrote it, with all that belongs in front."""
    return text.startswith(control_texts(tokenizer))


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a prompt, rendered or plain: as `apply_chat_template(tokenize=True)` has them, or as the tokenizer does.

    tokenizer: of transformers.
    """
    return tokenizer(text, add_special_tokens=not is_rendered(tokenizer, text))["input_ids"]


def encode_continuation(
    tokenizer: "PreTrainedTokenizerBase", prompt: str, completion: str
) -> tuple[list[int], list[tuple[int, int]], int]:
    """Prompt and completion as a model meets them: the prompt's tokens, then those that it would write.

    Behind a rendered prompt no text of the completion is read as a control token: it is what a model or a file said.

    Returns:
        Token ids; of each token, the characters of `prompt + completion` that it stands for; the number of prompt tokens.
    """
    if not is_rendered(tokenizer, prompt):
        encoded = tokenizer(prompt + completion, return_offsets_mapping=True)
        spans = encoded["offset_mapping"]
        asked = sum(start < len(prompt) for start, _ in spans)
        return encoded["input_ids"], spans, asked
    first = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    then = tokenizer(completion, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    at = len(prompt)
    spans = [*first["offset_mapping"], *((start + at, end + at) for start, end in then["offset_mapping"])]
    return [*first["input_ids"], *then["input_ids"]], spans, len(first["input_ids"])


def load_tokenizer(folder: Path | str) -> "PreTrainedTokenizerBase":
    """The tokenizer of a local model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def cut_text(tokenizer: "PreTrainedTokenizerBase", text: str, tokens: Sequence[int]) -> list[str]:
    """What a completion says after so many of its tokens, for each number in `tokens`; all of it where it has no more."""
    if not tokens:
        return []
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    return [text if count >= len(ends) else text[: ends[count - 1]] if count else "" for count in tokens]


def pad_token(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The text of a token to pad with: the tokenizer's own, unless that is its end token; then a control token that is there
    for it, one that is there for nothing, or the unknown token. None: there is no such."""
    if tokenizer.pad_token is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return tokenizer.pad_token
    texts = [text for text in sorted(control_texts(tokenizer)) if text != tokenizer.eos_token]
    for word in ("pad", "reserved", "unused"):
        named = [text for text in texts if word in text.lower() and not _PICTURE.search(text)]
        if named:
            return named[0]
    unknown = tokenizer.unk_token
    return unknown if unknown is not None and unknown not in (tokenizer.eos_token, tokenizer.bos_token) else None


def pad_fault(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """Why batches cannot be padded with this tokenizer; None: they can."""
    if pad_token(tokenizer) is not None:
        return None
    has = "no pad token" if tokenizer.pad_token is None else "its end token as pad token"
    return f"the tokenizer has {has} and none that could be one; add a special token such as <|pad|> to it"


def inert(text: str, texts: tuple[str, ...]) -> str:
    """The text with a space inside whatever reads as a control token: it says the same and steers nothing.

    texts: of the control tokens (`control_texts`, `Control.texts`).
    """
    if not any(control in text for control in texts):
        return text
    pattern = "|".join(map(re.escape, texts))
    return re.sub(pattern, lambda found: f"{found[0][0]} {found[0][1:]}", text)
