"""GPU memory of a training stage and of an engine, part by part, from the model's shape. In bytes, estimated on the safe side.

Exact: weights, gradients, optimizer states, KV cache. Estimated: activations (the tensors that a Llama block keeps for
its backward pass, with flash attention), the tiles of the output layer, CUDA's own memory and fragmentation.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from astro.preflight.model_shape import Shape

GIB = 2**30
ADAM = 16
"""Bytes per parameter in mixed-precision training: float32 weight and gradient, and two float32 states of AdamW."""
NF4 = 0.5 + 0.127 / 8
"""Bytes per weight in 4 bits: half a byte, plus its part of the doubly quantized scales (QLoRA, Dettmers et al., section 3)."""
TILE = 4096, 32768
"""Tokens and vocabulary entries for which TRL computes the output layer's scores at once, in three float32 copies."""
GPUS = "GPUs (strategy fsdp2)"
CUDA = 1.5 * GIB
"""Bytes for the CUDA context, libraries and NCCL's buffers."""
FRAGMENTS = 0.08
"""Share of memory lost to fragmentation."""


@dataclass(frozen=True)
class Training:
    """The settings that determine the memory of a training stage on one GPU."""

    stage: str
    tokens: int
    """tokens of the longest sequence"""
    sequences: int
    """sequences per forward and backward pass"""
    weight_bytes: int
    """bytes of a loaded weight: 4 (float32) or 2"""
    half: bool
    """whether arithmetic is bfloat16"""
    checkpointing: bool
    world: int
    strategy: str
    """none | ddp | fsdp2 | zero3"""
    rank: int = 0
    """rank of LoRA; 0: all weights are trained"""
    targets: str = "all-linear"
    quantized: bool = False
    reference: bool = False
    """whether a second copy of the model is needed for the KL term"""
    generation: str = ""
    """grpo: hf | vllm_colocate | vllm_server"""
    completions: int = 0
    """grpo, hf: completions that one process generates at once"""
    share: float = 0.0
    """vllm_colocate: share of the GPU for vLLM"""
    sleep: bool = False
    parallel: int = 1
    """vllm_colocate: tensor parallel size"""

    @property
    def sharded(self) -> int:
        """Number of GPUs over which weights, gradients and states are sharded."""
        return self.world if self.strategy in ("fsdp2", "zero3") else 1


@dataclass(frozen=True)
class Memory:
    """Bytes by part. `phases` holds the sums that must fit, each at its own time."""

    parts: dict[str, float]
    phases: dict[str, float]

    @property
    def most(self) -> float:
        """The largest phase."""
        return max(self.phases.values())


def states(shape: Shape, t: Training) -> dict[str, float]:
    """Memory that stays from step to step on one GPU: weights, gradients, optimizer states."""
    over = t.sharded
    if not t.rank:
        # FSDP2 and ZeRO-3 under accelerate keep float32 masters whatever the precision of the loaded weights.
        each = 4 if over > 1 else t.weight_bytes
        parts = {"weights": each, "gradients": each, "optimizer states": 2 * each}
        found = {name: size * shape.parameters / over for name, size in parts.items()}
        if t.reference:
            found["reference model"] = each * shape.parameters / over
    else:
        adapter = shape.adapter(t.rank, t.targets)
        rest = (shape.parameters - shape.linear) * (2 if t.quantized else t.weight_bytes)
        found = {
            "weights": (rest + shape.linear * (NF4 if t.quantized else t.weight_bytes)) / over,
            "adapter, its gradients and states": ADAM * adapter / over,
        }
    if over > 1:
        # the current block and the next one in bfloat16, and the ends; the gradient of a block before it is sharded
        found["gathered weights"] = 2 * (2 * shape.block + shape.ends) + (0 if t.rank else 4 * shape.block)
    return found


def activations(shape: Shape, t: Training) -> dict[str, float]:
    """Additional memory of a forward and backward pass on one GPU."""
    tokens = t.tokens * t.sequences
    # The residual stream has the dtype of the weights; FSDP2 and ZeRO-3 pass bfloat16 to the blocks.
    stream = 2 if t.weight_bytes == 2 or (t.sharded > 1 and t.half) else 4
    matrices = 2 if t.half or t.weight_bytes == 2 else 4
    kv = shape.kv_heads * shape.head_dim
    block = tokens * ((8 * matrices + 4 * stream) * shape.hidden + matrices * (2 * kv + 4 * shape.ffn))
    if t.checkpointing:
        kept = {"inputs of the blocks": tokens * shape.layers * shape.hidden * stream, "one block anew": 1.5 * block}
    else:
        kept = {"activations of all blocks": shape.layers * block}
    tile = min(tokens, TILE[0]) * min(shape.vocabulary, TILE[1]) * 12
    return {**kept, "output layer": tile + 2 * tokens * shape.hidden * 4}


def training_memory(shape: Shape, t: Training, device: float) -> Memory:
    """Memory of a training stage on one GPU.

    Args:
        device: bytes of the GPU, including the share of colocated vLLM.
    """
    kept, passing = states(shape, t), activations(shape, t)
    fixed = CUDA + (1 + FRAGMENTS) * sum(kept.values())
    vllm = t.share * device if t.generation == "vllm_colocate" else 0.0
    parts = {**kept, **passing, "CUDA, fragments": fixed - sum(kept.values()) + FRAGMENTS * sum(passing.values())}
    training = fixed + (1 + FRAGMENTS) * sum(passing.values())
    phases = {"training": training + (0 if t.sleep else vllm)}
    if vllm:
        parts["vLLM (execution.grpo_vllm.gpu_memory_utilization)"] = vllm
        phases["generating"] = fixed + vllm
    if t.generation == "hf":
        cache = t.completions * t.tokens * shape.kv_bytes()
        # transformers generates with full weights on each GPU, so sharded ones are gathered for it
        whole = 2 * shape.parameters if t.sharded > 1 else 0
        parts["KV cache of all completions at once"] = cache
        phases["generating"] = fixed + cache + whole
    return Memory(parts, phases)


@dataclass(frozen=True)
class Serving:
    """Memory of an engine on its GPUs."""

    weights: float
    """weights: bytes on each GPU"""
    working: float
    """working memory of a step: activations, scores of the sequences in the batch, CUDA graphs"""
    cache: float
    """bytes left for the KV cache on each GPU; negative: it does not fit"""
    sequence: float
    """KV cache of one sequence of max_model_len, on each GPU"""

    @property
    def at_once(self) -> int:
        """Number of full-length sequences that the cache holds."""
        return max(0, int(self.cache // self.sequence))


def serving_memory(
    shape: Shape, *, weight_bytes: int, parallel: int, length: int, concurrency: int, share: float, device: float
) -> Serving:
    """Memory of vLLM on each of `parallel` GPUs, of which it may use the share `share` of `device` bytes."""
    weights = weight_bytes * shape.parameters / parallel
    batch = 8192  # most tokens of a step (prefill)
    working = CUDA / 2 + 2 * batch * (4 * shape.hidden + 3 * shape.ffn / parallel) + 8 * concurrency * shape.vocabulary
    sequence = length * shape.kv_bytes(weight_bytes) / min(parallel, shape.kv_heads)
    return Serving(weights, working, share * device - weights - working, sequence)


def hf_serving_memory(shape: Shape, *, weight_bytes: int, length: int, batch: int) -> float:
    """GPU bytes of transformers' generate with `batch` sequences of `length` tokens."""
    each = length * shape.kv_bytes(weight_bytes) + 4 * 3 * shape.vocabulary
    return CUDA + (1 + FRAGMENTS) * (weight_bytes * shape.parameters + batch * each)


def remedies(shape: Shape, t: Training, device: float) -> list[str]:
    """Single changes that make the stage fit, the mildest first; pairs of changes if no single one does."""

    def fits(changed: Training) -> bool:
        return training_memory(shape, changed, device).most <= device

    options = changes(t)
    single = fewest([name for name, change in options.items() if fits(change(t))])
    if single:
        return single
    names = list(options)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if GPUS not in a or GPUS not in b]
    return fewest([f"{a} and {b}" for a, b in pairs if fits(options[b](options[a](t)))])[:4]


def fewest(ways: list[str]) -> list[str]:
    """Of alternatives that differ only in the number of GPUs, keep the first, which needs the fewest."""
    found: dict[str, str] = {}
    for way in ways:
        found.setdefault(re.sub(r"\d+ " + re.escape(GPUS), GPUS, way), way)
    return list(found.values())


def changes(t: Training) -> dict[str, Callable[[Training], Training]]:
    """Possible changes of a stage's settings, by the text that the user would write."""
    found: dict[str, Callable[[Training], Training]] = {}
    if not t.checkpointing:
        found[f"{t.stage}.gradient_checkpointing: true"] = lambda x: replace(x, checkpointing=True)
    if t.sequences > 1:
        found[f"micro_batch.{t.stage}: 1 in the compute profile"] = lambda x: replace(x, sequences=1)
    if t.generation == "vllm_colocate" and not t.sleep:
        found["execution.grpo_vllm.sleep: true"] = lambda x: replace(x, sleep=True)
    if t.generation == "hf":
        found["grpo.generation: vllm_colocate"] = lambda x: replace(
            x, generation="vllm_colocate", share=0.3, sleep=True
        )
    if t.tokens > 4096:
        name = "sft.max_length" if t.stage == "sft" else "grpo.max_completion_length"
        found[f"{name}: a context of {t.tokens // 2} tokens"] = lambda x: replace(x, tokens=x.tokens // 2)
    if t.rank and t.weight_bytes == 4 and not t.quantized:
        found[f"{t.stage}.dtype: bfloat16"] = lambda x: replace(x, weight_bytes=2)
    if not t.rank:
        found[f"LoRA ({t.stage}.lora.enabled: true)"] = lambda x: replace(
            x, rank=16, weight_bytes=min(x.weight_bytes, 2)
        )
    if not t.quantized and t.generation in ("", "hf") and t.sharded == 1:
        found[f"QLoRA ({t.stage}.lora.quantize)"] = lambda x: replace(
            x, rank=x.rank or 16, quantized=True, weight_bytes=2
        )
    for gpus in (2, 4, 8, 16, 32, 64):
        if gpus > t.sharded:
            found[f"{gpus} {GPUS}"] = partial(replace, world=gpus, strategy="fsdp2")
    return found
