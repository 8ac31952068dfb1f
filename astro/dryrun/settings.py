"""What of the params, the compute profile and the lengths decides the memory of a stage."""

from collections.abc import Mapping

from astro.dryrun.memory import Training
from schemas.compute import Compute
from schemas.params import Params

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


def sft_training(params: Params, compute: Compute) -> Training:
    """Of sft (and sft_direct). A row is sft.max_length long where it counts: a longer trace is dropped."""
    s, share = params.sft, max(1, params.sft.batch_size // compute.world)
    return Training(
        stage="sft",
        tokens=s.max_length,
        sequences=min(compute.micro_batch.sft or share, share),
        weight_bytes=BYTES[s.dtype],
        half=s.bf16 is not False,
        checkpointing=s.gradient_checkpointing,
        world=compute.world,
        strategy=compute.strategy,
        rank=s.lora.r if s.lora.enabled else 0,
        targets=s.lora.target_modules,
        quantized=s.lora.quantize != "none",
    )


def grpo_training(params: Params, compute: Compute, prompt: int) -> Training:
    """Of grpo (and grpo_direct). prompt: tokens of the longest one."""
    g = params.grpo
    share = max(1, g.prompts_per_step * g.group_size // compute.world)
    return Training(
        stage="grpo",
        tokens=prompt + g.max_completion,
        sequences=min(compute.micro_batch.grpo or g.micro_batch, share),
        weight_bytes=BYTES[g.dtype],
        half=g.bf16 is not False,
        checkpointing=g.gradient_checkpointing,
        world=compute.world,
        strategy=compute.strategy,
        rank=g.lora.r if g.lora.enabled else 0,
        targets=g.lora.target_modules,
        quantized=g.lora.quantize != "none",
        reference=g.beta > 0,
        generation=g.generation,
        completions=share,
        share=g.vllm.gpu_memory_utilization,
        sleep=g.vllm.sleep,
        parallel=g.vllm.tensor_parallel_size,
    )


def prompt_tokens(lengths: Mapping[str, float]) -> int:
    """Tokens of the longest prompt, of an entry of `searches` in rates.yaml."""
    return int(lengths["prompt_tokens"])
