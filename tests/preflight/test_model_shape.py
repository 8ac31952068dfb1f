"""Shapes from config.json alone: against the published sizes, against real models, and what is no model."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from astro.preflight import model_shape
from astro.process import UserError

PUBLISHED = [
    # hub id, parameters, KV cache bytes per token in bfloat16
    ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, 2 * 32 * 8 * 128 * 2),
    ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496, 2 * 80 * 8 * 128 * 2),
    ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304, 2 * 28 * 2 * 128 * 2),  # tied: its embedding counts once
]


@pytest.mark.parametrize(("model", "parameters", "cache"), PUBLISHED)
def test_the_shipped_shapes_are_those_of_the_models(model, parameters, cache):
    shape = model_shape.shape_of(model)
    assert shape.parameters == parameters
    assert shape.kv_bytes() == cache
    assert shape.parameters == shape.layers * shape.block + shape.ends


def test_a_folder_is_read_before_what_ships_and_needs_no_weights(tmp_path):
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
    config.num_key_value_heads, config.vocab_size = 2, 60
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    shape = model_shape.shape_of(str(tmp_path))
    real = AutoModelForCausalLM.from_config(config)
    assert shape.parameters == sum(p.numel() for p in real.parameters())
    assert shape.tensors == {name: list(p.shape) for name, p in real.named_parameters()}
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.folder) == (3, 2, 8, tmp_path)


@pytest.mark.parametrize("targets", ["all-linear", "q_proj"])
def test_adapters_have_as_many_parameters_as_pefts(targets):
    from peft import get_peft_model

    from astro.training.lora import lora_config

    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=60
    )
    shape = model_shape.build(config.to_dict(), name="tiny", source="-")
    lora = {"enabled": True, "r": 3, "alpha": 6, "dropout": 0.0, "target_modules": targets}
    model = get_peft_model(AutoModelForCausalLM.from_config(config), lora_config(lora, new_tokens=False))
    assert shape.adapter(3, targets) == model.get_nb_trainable_parameters()[0]


def test_a_lora_target_that_is_not_there_is_told():
    with pytest.raises(UserError, match=r"target_modules 'query': .* available: all-linear, down_proj, gate_proj"):
        model_shape.shape_of("Qwen/Qwen2.5-1.5B-Instruct").adapter(8, "query")


FAULTS = [
    ({"model_type": "no-such-architecture"}, "transformers cannot build a causal LM"),
    (None, "not a model config"),
]


@pytest.mark.parametrize(("config", "said"), FAULTS)
def test_what_is_no_model_is_told(tmp_path, config, said):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        model_shape.shape_of(str(tmp_path))


def test_a_hub_id_that_does_not_ship_is_told_with_those_that_do():
    with pytest.raises(UserError, match=r"has no config for this id; .*Qwen/Qwen2.5-1.5B"):
        model_shape.shape_of("acme/Llama-9B")


def test_nothing_is_allocated():
    before = torch.get_default_device()
    model_shape.shape_of("meta-llama/Llama-3.1-8B-Instruct")
    assert torch.get_default_device() == before
