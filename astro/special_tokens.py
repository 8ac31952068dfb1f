"""Text with spelled-out control tokens: prompts of chat models, and data in which such text must not become a token.

A rendered prompt begins with a control token (Llama's "<|begin_of_text|>", ChatML's "<|im_start|>") and is complete;
adding the tokenizer's own first token would double it. All code that tokenizes a prompt uses this module.
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
"""Pattern of pad tokens that are not for text (Qwen's <|image_pad|>)."""


@dataclass(frozen=True)
class Control:
    """The control tokens of a tokenizer, for code that has only text (endpoints). Can be pickled.

    Attributes:
        begin: text of the token that the tokenizer puts in front of every text; "": none.
        texts: the text of every control token.
    """

    begin: str = ""
    texts: tuple[str, ...] = ()


UNKNOWN = Control()
"""Used if the tokenizer is unknown."""


@lru_cache(maxsize=16)
def control_texts(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    """The text of every control token of a transformers tokenizer, longest first."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return _ordered({*added, *tokenizer.all_special_tokens})


def read_control(folder: Path | str) -> Control:
    """Read the control tokens from a model folder's tokenizer.json. Without that file they are unknown."""
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
    """Whether a text begins with a control token, so that a chat template rendered it completely."""
    return text.startswith(control_texts(tokenizer))


def encode_prompt(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a prompt: as from `apply_chat_template(tokenize=True)` if it is rendered, else as from the tokenizer.

    Args:
        tokenizer: a transformers tokenizer.
    """
    return tokenizer(text, add_special_tokens=not is_rendered(tokenizer, text))["input_ids"]


def encode_continuation(
    tokenizer: "PreTrainedTokenizerBase", prompt: str, completion: str
) -> tuple[list[int], list[tuple[int, int]], int]:
    """Tokens of prompt and completion as a model meets them: the prompt's tokens, then those that it would generate.

    After a rendered prompt no text of the completion becomes a control token, because it comes from a model or a file.

    Returns:
        Token ids; for each token, the range of characters of `prompt + completion`; the number of prompt tokens.
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

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def cut_text(tokenizer: "PreTrainedTokenizerBase", text: str, tokens: Sequence[int]) -> list[str]:
    """The beginning of a completion for each number of tokens in `tokens`; the whole text if it has fewer."""
    if not tokens:
        return []
    encoded = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    return [text if count >= len(ends) else text[: ends[count - 1]] if count else "" for count in tokens]


def pad_token(tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """The text of a token for padding: the tokenizer's own unless that is its end token, else a reserved padding token,
    an unused control token, or the unknown token; None: there is none.
    """
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
    return f"the tokenizer has {has} and no other token to pad with; add a special token such as <|pad|>"


def inert(text: str, texts: tuple[str, ...]) -> str:
    """The text with a space inside every control token, so that it reads the same but controls nothing.

    Args:
        texts: the control tokens (`control_texts`, `Control.texts`).
    """
    if not any(control in text for control in texts):
        return text
    pattern = "|".join(map(re.escape, texts))
    return re.sub(pattern, lambda found: f"{found[0][0]} {found[0][1:]}", text)
