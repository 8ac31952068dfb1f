"""Models that do not go with the parameters are refused, by name and figure, before any work."""

from pathlib import Path

import pytest
from transformers import GenerationConfig, LlamaConfig

from astro.hardware import vllm_dtype
from astro.params import load_params
from astro.process import UserError
from astro.tasks.chat import chat_template_of
from astro.training.common import give_pad, load_causal_lm
from astro.training.model_checks import check_model, prompt_tokens, require_fit, warn_emulated
from tests.tiny_chat import ENDS, chat_tokenizer, write_tiny_chat

PARAMS = load_params(Path("params.yaml"))
CONTEXT = 1024


def params(**changes):
    """params.yaml on mathematics with a chat model, and `section__key=value`."""
    values = {"run__task": "math", "run__prompt": "chat"} | changes
    found = PARAMS
    for name, value in values.items():
        section, key = name.split("__")
        changed = getattr(found, section).model_copy(update={key: value})
        found = found.model_copy(update={section: changed})
    return found


def config(tokenizer, **changes):
    values = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "eos_token_id": tokenizer.eos_token_id}
    return LlamaConfig(**(values | changes))


def llama(**changes):
    found = chat_tokenizer("llama")
    for name, value in changes.items():
        setattr(found, name, value)
    return found


@pytest.mark.parametrize("family", ["llama", "qwen"])
@pytest.mark.parametrize("prompt", ["chat", "plain"])
def test_a_model_that_fits(family, prompt):
    tokenizer = chat_tokenizer(family)
    ends = GenerationConfig(eos_token_id=tokenizer.convert_tokens_to_ids(ENDS[family]))
    assert check_model(config(tokenizer), tokenizer, params(run__prompt=prompt), generation=ends) == []


def lora(target):
    """SFT of one kind of layers."""
    return {"sft__lora": params().sft.lora.model_copy(update={"enabled": True, "target_modules": target})}


ASKED = prompt_tokens(llama(), params(), chat_template_of(llama(), source="m"))
FAULTS = [
    (llama(chat_template=None), {}, {}, "has no chat template"),
    (
        llama(eos_token="<|end_of_text|>"),
        {},
        {},
        "ends a turn with <|eot_id|>, but the tokenizer's eos_token is <|end_of",
    ),
    (llama(), {"eos_token_id": [3, 4]}, {}, "generation_config.json does not list"),
    (llama(), {"vocab_size": 300}, {}, "tokens, but the model has 300"),
    (llama(), {}, {"sft__max_length": 1025}, "sft.max_length 1025: m has a context of 1024 tokens"),
    (llama(), {}, {"engine__max_model_len": 1025}, "engine.max_model_len 1025: m has a context of 1024"),
    (llama(), {}, {"engine__max_model_len": ASKED}, "the shortest prompt has"),
    (llama(), {}, {"grpo__max_completion_length": 1000}, "grpo.max_completion_length 1000, after a prompt of"),
    (llama(), {"eos_token_id": [504, 9999]}, {}, "its end token 9999 is none of its"),
    (
        llama(),
        {},
        lora("q_proj,v_proj"),
        "sft.lora.target_modules 'q_proj,v_proj': m has",
    ),
    (
        llama(),
        {},
        lora(""),
        "available: all-linear, q_proj, k_proj, v_proj, o_proj, gate_",
    ),
    (llama(), {}, lora("embed_tokens"), "no such linear layer in its blocks"),
    (llama(), {}, lora("lm_head"), "no such linear layer in its blocks"),
    (llama(), {"architectures": ["BertForMaskedLM"]}, {}, "m: its architecture is BertForMaskedLM, which does not"),
    (
        llama(),
        {"architectures": ["LlamaForSequenceClassification"]},
        {},
        "its architecture is LlamaForSequenceClassification",
    ),
    (llama(), {"is_encoder_decoder": True}, {}, "its architecture is an encoder with a decoder (llama)"),
    (chat_tokenizer("qwen", pad=None), {}, {}, "no pad token"),
    (chat_tokenizer("qwen", pad="<|im_end|>"), {}, {}, "its end token as pad token"),
]


@pytest.mark.parametrize(("tokenizer", "shape", "changes", "reason"), FAULTS)
def test_each_fault_is_named(tokenizer, shape, changes, reason):
    if tokenizer.unk_token == "<|endoftext|>":
        tokenizer.unk_token = None
    (fault,) = check_model(config(tokenizer, **shape), tokenizer, params(**changes), source="m")
    assert reason in fault


def test_what_is_not_used_is_not_checked():
    unused = {"sft__epochs": 0.0, "sft__max_length": 9999, "grpo__steps": 0, "grpo__max_completion_length": 9999}
    endpoint = {"engine__kind": "endpoint", "engine__max_model_len": 9999}
    assert check_model(config(llama()), llama(), params(**lora("nope"), **unused, **endpoint)) == []


@pytest.mark.parametrize("target", ["all-linear", "q_proj", "self_attn.v_proj"])
def test_the_linear_layers_of_the_blocks_may_be_adapted(target):
    assert check_model(config(llama()), llama(), params(**lora(target))) == []


def test_all_faults_are_told_at_once():
    wrong = params(sft__max_length=2000, engine__max_model_len=2000, grpo__max_completion_length=2000)
    assert len(check_model(config(llama()), llama(), wrong)) == 3


def test_a_folder_is_refused_without_its_weights(tmp_path):
    folder = write_tiny_chat(tmp_path / "m", context=128)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(UserError) as refused:
        require_fit(folder, params(), name="base.pretrained.path")
    lines = str(refused.value).splitlines()
    assert all(line.strip().startswith(f"base.pretrained.path: {word}") for line, word in zip(
        lines, ("sft.max_length 448", "grpo.max_completion_length 224", "engine.max_model_len 512"), strict=True))  # fmt: skip
    with pytest.raises(UserError, match="is not a model"):
        require_fit(tmp_path, params(), name="base.pretrained.path")


def test_training_pads_with_another_token_than_the_end(tmp_path, capsys):
    """Llama-3.1 names no pad token; a tokenizer that pads with its end token would take ends for padding."""
    for pad in (None, "<|eot_id|>"):
        _, tokenizer = load_causal_lm(write_tiny_chat(tmp_path / str(pad), pad=pad), name="models/base")
        assert tokenizer.pad_token == "<|finetune_right_pad_id|>"
        assert "models/base: using <|finetune_right_pad_id|> as the pad token" in capsys.readouterr().out
    with pytest.raises(UserError, match="models/base: the tokenizer has its end token as pad token"):
        give_pad(chat_tokenizer("qwen", pad="<|im_end|>"), name="models/base")


EMULATED = [
    # (what asks for bfloat16, what is named)
    ({}, []),
    ({"engine__vllm": PARAMS.engine.vllm.model_copy(update={"dtype": "bfloat16"})}, ["engine.vllm.dtype"]),
    ({"engine__hf": PARAMS.engine.hf.model_copy(update={"dtype": "bfloat16"})}, []),  # that engine is not used
    ({"sft__dtype": "bfloat16", "grpo__bf16": True}, ["sft.dtype", "grpo.bf16"]),
    ({"sft__dtype": "bfloat16", "sft__epochs": 0.0}, []),
]


@pytest.mark.parametrize(("changes", "named"), EMULATED)
def test_bfloat16_where_it_is_emulated_is_named(changes, named, monkeypatch, capsys):
    for native in (True, False):
        monkeypatch.setattr("astro.training.model_checks.native_bf16", lambda native=native: native)
        warn_emulated(params(**changes), gpus=0)
        said = capsys.readouterr().out
        assert said.startswith(f"warning: {', '.join(named)}: bfloat16") if named and not native else said == ""


@pytest.mark.parametrize(
    ("asked", "native", "gpu", "given"),
    [
        ("auto", True, False, "bfloat16"),
        ("auto", False, False, "float32"),  # vLLM's own choice would be bfloat16, emulated
        ("auto", False, True, "auto"),
        ("bfloat16", False, False, "bfloat16"),
        ("float32", True, False, "float32"),
    ],
)
def test_auto_is_the_type_that_the_processor_multiplies(asked, native, gpu, given, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("astro.hardware.native_bf16", lambda: native)
    assert vllm_dtype(asked) == given


def test_the_prompt_of_countdown_counts_where_it_is_a_conversation():
    tokenizer = llama()
    chat = chat_template_of(tokenizer, source="m")
    plain = params(run__task="countdown", run__prompt="plain")
    assert prompt_tokens(tokenizer, plain, None) == 0
    asked = prompt_tokens(tokenizer, params(run__task="countdown"), chat)
    (fault,) = check_model(
        config(tokenizer), tokenizer, params(run__task="countdown", engine__max_model_len=asked), source="m"
    )
    assert f"engine.max_model_len {asked}: the shortest prompt has {asked} tokens" in fault
