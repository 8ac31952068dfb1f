"""Checks that need no weights. Each returns its faults as text, so that all of them are reported at once."""

from collections.abc import Callable
from functools import partial

from astro.compute_profile import split_batch
from astro.preflight.memory import (
    GIB,
    Memory,
    Serving,
    Training,
    hf_serving_memory,
    remedies,
    serving_memory,
    training_memory,
)
from astro.preflight.memory_settings import BYTES
from astro.preflight.model_shape import Shape
from astro.process import UserError
from schemas.compute_profile import Compute
from schemas.params import Params


def told(check: Callable[[], object]) -> list[str]:
    """The fault that a check raises as UserError, as a list of none or one."""
    try:
        check()
    except UserError as error:
        return [str(error)]
    return []


def batch_faults(params: Params, compute: Compute) -> list[str]:
    """Steps that cannot be divided evenly over the processes of the compute profile."""
    g, micro = params.grpo, compute.micro_batch
    completions = g.prompts_per_step * g.group_size
    found = []
    if params.sft.epochs:
        found += told(lambda: split_batch(params.sft.batch_size, micro.sft, compute.world, "sft.batch_size"))
    if g.steps:
        name = "grpo.prompts_per_step * grpo.group_size"
        found += told(lambda: split_batch(completions, micro.grpo or g.micro_batch, compute.world, name))
        if g.pass_rate.problems < g.prompts_per_step:
            found.append(
                f"grpo.pass_rate.problems {g.pass_rate.problems}: fewer than one step needs, prompts_per_step "
                f"{g.prompts_per_step}"
            )
        if g.generation == "vllm_colocate" and compute.world % (
            parallel := params.execution.grpo_vllm.tensor_parallel_size
        ):
            found.append(
                f"execution.grpo_vllm.tensor_parallel_size {parallel}: must divide {compute.world}, the number of "
                "training processes, because each of them also runs vLLM"
            )
    return found


def target_faults(params: Params, compute: Compute, shape: Shape) -> list[str]:
    """LoRA targets that the model does not have, and 4-bit weights that cannot be sharded."""
    found = []
    for name, section in (("sft", params.sft), ("grpo", params.grpo)):
        if section.lora.enabled:
            found += told(partial(shape.adapter, section.lora.r, section.lora.target_modules, name))
        if section.lora.quantize != "none" and compute.strategy in ("fsdp2", "zero3"):
            found.append(
                f"{name}.lora.quantize {section.lora.quantize}: not possible with strategy {compute.strategy}; use "
                "ddp, or quantize none"
            )
    return found


def parallel_faults(params: Params, compute: Compute, shape: Shape) -> list[str]:
    """Tensor parallel sizes that do not divide the model's heads or the machine's GPUs."""
    found = []
    sizes = {"execution.vllm.tensor_parallel_size": params.execution.vllm.tensor_parallel_size}
    if params.engine.kind != "vllm":
        sizes = {}
    if params.grpo.generation == "vllm_colocate":
        sizes["execution.grpo_vllm.tensor_parallel_size"] = params.execution.grpo_vllm.tensor_parallel_size
    for where, size in sizes.items():
        if shape.heads % size:
            found.append(f"{where} {size}: does not divide the {shape.heads} attention heads of {shape.name}")
        elif shape.kv_heads % size and size % shape.kv_heads:
            found.append(
                f"{where} {size}: neither divides the {shape.kv_heads} key-value heads of {shape.name} nor is a multiple"
            )
        if size > compute.processes and compute.device == "gpu":
            found.append(f"{where} {size}: more than the {compute.processes} GPUs of a machine (compute profile)")
    processes = 1 if params.execution.processes == "auto" else params.execution.processes  # auto: 1 on a GPU
    engines = processes * sizes.get("execution.vllm.tensor_parallel_size", 1)
    if compute.device == "gpu" and params.engine.kind == "vllm" and processes > 1:
        found.append(
            f"execution.processes {processes}: all engines of one machine would use its first GPU; set it to 1, and "
            f"execution.runner to ray for {engines} GPUs"
        )
    return found


def training_faults(shape: Shape, training: Training, device: float, name: str) -> tuple[Memory, list[str]]:
    """Memory of a training stage, and faults if it does not fit.

    Args:
        device: bytes of one GPU.
        name: name of the device, for messages.
    """
    memory = training_memory(shape, training, device)
    faults = []
    if memory.most > device:
        phase = max(memory.phases, key=lambda name: memory.phases[name])
        most = sorted(memory.parts.items(), key=lambda item: -item[1])[:3]
        largest = ", ".join(f"{part} {size / GIB:.1f}" for part, size in most)
        ways = remedies(shape, training, device)
        help_ = f"it would fit with: {'; or '.join(ways)}" if ways else "no change of one or two settings makes it fit"
        faults.append(
            f"{training.stage}: needs {memory.most / GIB:.1f} GiB of each GPU ({phase}; {largest}), but {name} has "
            f"{device / GIB:.1f}; " + help_
        )
    if training.generation == "vllm_colocate":
        faults += serve_faults(
            serving_memory(
                shape,
                weight_bytes=2,
                parallel=training.parallel,
                length=training.tokens,
                concurrency=training.completions,
                share=training.share,
                device=device,
            ),
            where="execution.grpo_vllm.gpu_memory_utilization",
            share=training.share,
            length=training.tokens,
            name=name,
        )
    return memory, faults


def engine_memory(params: Params, shape: Shape, device: float, name: str) -> tuple[Serving | float | None, list[str]]:
    """GPU memory of the engine for mcts, linearize, the pass rate and eval, and faults if it cannot start; None: an endpoint."""
    engine, execution = params.engine, params.execution
    if engine.kind == "endpoint":
        return None, []
    if engine.kind == "hf":
        size, batch = BYTES[engine.hf.dtype], engine.hf.batch_size
        needed = hf_serving_memory(shape, weight_bytes=size, length=engine.max_model_len, batch=batch)
        if needed <= device:
            return needed, []
        return needed, [
            f"engine.hf.batch_size {batch}: {shape.name} with {batch} sequences of {engine.max_model_len} tokens "
            f"needs {needed / GIB:.1f} GiB, but {name} has {device / GIB:.1f}; reduce the batch size or "
            "engine.max_model_len, or use vllm"
        ]
    serving = serving_memory(
        shape,
        weight_bytes=BYTES[engine.vllm.dtype],
        parallel=execution.vllm.tensor_parallel_size,
        length=engine.max_model_len,
        concurrency=execution.concurrency,
        share=execution.vllm.gpu_memory_utilization,
        device=device,
    )
    return serving, serve_faults(
        serving,
        where="execution.vllm.gpu_memory_utilization",
        share=execution.vllm.gpu_memory_utilization,
        length=engine.max_model_len,
        name=name,
    )


def serve_faults(serving: Serving, *, where: str, share: float, length: int, name: str) -> list[str]:
    """Faults of vLLM, which cannot start if its share does not hold the weights and one sequence of full length."""
    if serving.at_once:
        return []
    return [
        f"{where} {share}: on {name} that leaves {serving.cache / GIB:.1f} GiB besides weights "
        f"({serving.weights / GIB:.1f}) and working memory ({serving.working / GIB:.1f}), but one sequence of "
        f"{length} tokens takes {serving.sequence / GIB:.1f}. Raise it, or use more GPUs (tensor_parallel_size), "
        "bfloat16 or a shorter max_model_len"
    ]
