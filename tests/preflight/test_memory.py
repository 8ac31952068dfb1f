"""Memory by shape: exact where it can be (weights, gradients, AdamW, KV cache), near a real block's elsewhere."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig

from astro.preflight import memory
from astro.preflight.memory import GIB, Training
from astro.preflight.model_shape import build, shape_of

CONFIG = LlamaConfig(
    hidden_size=64,
    intermediate_size=224,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=96,
)
FULL = Training(
    stage="sft", tokens=128, sequences=2, weight_bytes=4, half=False, checkpointing=False, world=1, strategy="none"
)


@pytest.fixture(scope="module")
def tiny():
    """(shape, model) with random weights, float32."""
    torch.manual_seed(0)
    return build(CONFIG.to_dict(), name="tiny", source="-"), AutoModelForCausalLM.from_config(CONFIG)


def size(tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def test_states_of_full_fine_tuning_are_those_of_a_real_step(tiny):
    shape, model = tiny
    optimizer = torch.optim.AdamW(model.parameters())
    ids = torch.randint(0, 96, (1, 8))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    found = memory.states(shape, FULL)
    assert found["weights"] == size(model.parameters())
    assert found["gradients"] == size(p.grad for p in model.parameters())
    moments = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
    assert found["optimizer states"] == size(moments)


def test_activations_are_near_what_a_real_model_keeps(tiny):
    """All that autograd keeps for the backward pass of the blocks, each storage once; the estimate is a little above."""
    shape, model = tiny
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.model(input_ids=torch.randint(0, 96, (2, 128)), use_cache=False)
    assert out is not None  # alive while the storages are counted
    estimate = memory.activations(shape, FULL)["activations of all blocks"]
    assert 0.7 < sum(kept.values()) / estimate < 1.1


def test_the_cache_is_that_of_a_real_model(tiny):
    shape, model = tiny
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.randint(0, 96, (2, 16)), past_key_values=cache, use_cache=True)
    real = size(t for layer in cache.layers for t in (layer.keys, layer.values))
    assert real == 2 * 16 * shape.kv_bytes(4)


LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def eight(**changes) -> Training:
    return replace(FULL, tokens=8192, sequences=1, half=True, checkpointing=True, **changes)


def test_the_figures_that_everybody_quotes():
    """16 bytes a parameter: 128 GB of 8 B; over 8 GPUs an eighth of it each; LoRA: 16 GB of weights and little more."""
    shape = shape_of(LLAMA)
    assert sum(memory.states(shape, eight()).values()) == pytest.approx(128.5e9, rel=0.01)
    spread = memory.states(shape, eight(world=8, strategy="fsdp2"))
    assert spread["weights"] + spread["gradients"] + spread["optimizer states"] == pytest.approx(16.1e9, rel=0.01)
    lora = memory.states(shape, replace(eight(), rank=16, weight_bytes=2))
    assert lora["weights"] == 2 * shape.parameters
    assert lora["adapter, its gradients and states"] == 16 * 41_943_040  # PEFT's count at rank 16, all-linear
    qlora = memory.states(shape, replace(eight(), rank=16, weight_bytes=2, quantized=True))
    assert qlora["weights"] == pytest.approx(5.7e9, rel=0.02)  # what a 4-bit Llama-3-8B takes
    assert memory.states(shape, eight(world=8, strategy="ddp")) == memory.states(shape, eight())


def test_a_reference_model_costs_its_weights():
    shape = shape_of(LLAMA)
    extra = sum(memory.states(shape, eight(reference=True)).values()) - sum(memory.states(shape, eight()).values())
    assert extra == 4 * shape.parameters
    adapted = replace(eight(), rank=16)
    assert memory.states(shape, replace(adapted, reference=True)) == memory.states(shape, adapted)


def test_vllm_in_the_training_process_counts_unless_it_sleeps():
    shape, device = shape_of(LLAMA), 79 * GIB
    awake = replace(eight(), stage="grpo", rank=16, weight_bytes=2, generation="vllm_colocate", share=0.5)
    asleep = replace(awake, sleep=True)
    phases = [memory.training_memory(shape, t, device).phases for t in (awake, asleep)]
    assert phases[0]["training"] - phases[1]["training"] == pytest.approx(0.5 * device)
    assert phases[0]["generating"] == phases[1]["generating"]


def test_transformers_generate_holds_all_completions_at_once():
    shape = shape_of(LLAMA)
    few, many = (
        memory.training_memory(shape, replace(eight(), stage="grpo", generation="hf", completions=n), 79 * GIB)
        for n in (1, 9)
    )
    assert many.phases["generating"] - few.phases["generating"] == 8 * 8192 * shape.kv_bytes()


def test_what_would_fit_does():
    shape, device = shape_of(LLAMA), 79 * GIB
    ways = memory.remedies(shape, eight(), device)
    assert ways == ["LoRA (sft.lora.enabled: true)", "QLoRA (sft.lora.quantize)", f"2 {memory.GPUS}"]
    for name, change in memory.changes(eight()).items():
        fits = memory.training_memory(shape, change(eight()), device).most <= device
        assert (name in ways) == (fits and not name.startswith(("4 ", "8 ", "16 ", "32 ", "64 ")))


def test_where_one_change_is_not_enough_two_are_named():
    shape = shape_of(LLAMA)
    assert memory.remedies(shape, replace(eight(), checkpointing=False), 22 * GIB) == [
        "sft.gradient_checkpointing: true and QLoRA (sft.lora.quantize)",
        f"sft.gradient_checkpointing: true and 16 {memory.GPUS}",
    ]
    assert memory.remedies(shape, eight(), GIB) == []


def test_an_engine_over_two_gpus_has_half_the_weights_and_twice_the_room():
    shape = shape_of(LLAMA)
    one, two = (
        memory.serving_memory(
            shape, weight_bytes=2, parallel=n, length=16384, concurrency=64, share=0.9, device=79 * GIB
        )
        for n in (1, 2)
    )
    assert two.weights == one.weights / 2
    assert two.sequence == one.sequence / 2
    assert one.sequence == 2 * GIB  # 128 KiB x 16,384
    assert two.at_once > 2 * one.at_once
