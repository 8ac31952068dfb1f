"""Derive the settings that determine a stage's memory from the params, the compute profile and the lengths."""

from collections.abc import Mapping

from astro.preflight.memory import Training
from schemas.compute_profile import Compute
from schemas.grpo import GrpoParams
from schemas.params import Params
from schemas.sft import SftParams

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


def _optimised(section: SftParams | GrpoParams, compute: Compute) -> dict:
    """Settings that SFT and GRPO share."""
    return {
        "weight_bytes": BYTES[section.dtype],
        "half": section.bf16 is not False,
        "checkpointing": section.gradient_checkpointing,
        "world": compute.world,
        "strategy": compute.strategy,
        "rank": section.lora.r if section.lora.enabled else 0,
        "targets": section.lora.target_modules,
        "quantized": section.lora.quantize != "none",
    }


def sft_training(params: Params, compute: Compute) -> Training:
    """Settings of sft (and sft_direct). A row counts as sft.max_length tokens, because longer traces are dropped."""
    s, share = params.sft, max(1, params.sft.batch_size // compute.world)
    return Training(
        stage="sft",
        tokens=s.max_length,
        sequences=min(compute.micro_batch.sft or share, share),
        **_optimised(s, compute),
    )


def grpo_training(params: Params, compute: Compute, prompt: int) -> Training:
    """Settings of grpo (and grpo_direct). prompt: tokens of the longest prompt."""
    g, vllm = params.grpo, params.execution.grpo_vllm
    share = max(1, g.prompts_per_step * g.group_size // compute.world)
    return Training(
        stage="grpo",
        tokens=prompt + g.max_completion_length,
        sequences=min(compute.micro_batch.grpo or g.micro_batch, share),
        **_optimised(g, compute),
        reference=g.beta > 0,
        generation=g.generation,
        completions=share,
        share=vllm.gpu_memory_utilization,
        sleep=vllm.sleep,
        parallel=vllm.tensor_parallel_size,
    )


def prompt_tokens(lengths: Mapping[str, float]) -> int:
    """Tokens of the longest prompt, from an entry of `searches` in rates.yaml."""
    return int(lengths["prompt_tokens"])
