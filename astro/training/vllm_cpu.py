"""vLLM in the training process on a CPU, which TRL supports on GPUs only.

Two things differ there: vLLM repacks weights for the CPU when it loads them, so new ones must go through its own reload
instead of being written over the old (written over, they are silently not used, or do not fit); and a seeded request crashes when
its prompt is split over two steps.
"""

import contextlib
import os
from collections.abc import Iterator

# Read when vLLM is imported, which TRL does.
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

import trl.generation.vllm_generation as backend
import trl.trainer.grpo_trainer as trainers


class CpuColocated(backend.VLLMGeneration):
    """TRL's vLLM backend, colocated, on a CPU in one process."""

    def _init_vllm(self) -> None:
        """As TRL's, with options that a CPU needs."""
        plain = backend.LLM

        def on_cpu(**options):
            needed = max(options["max_num_batched_tokens"], options["max_model_len"] or 0)
            return plain(
                **options
                | {
                    "dtype": "float32",
                    "enforce_eager": True,
                    "enable_chunked_prefill": False,
                    "max_num_batched_tokens": needed,
                }
            )

        backend.LLM = on_cpu
        try:
            super()._init_vllm()
        finally:
            backend.LLM = plain

    def sync_weights(self) -> None:
        """Give vLLM the trainer's weights."""
        weights = [(name, parameter.detach().clone()) for name, parameter in self._iter_named_params()]
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
        self.llm.reset_prefix_cache()


@contextlib.contextmanager
def colocated_on_cpu() -> Iterator[None]:
    """A GRPOTrainer that is made in the block generates by `CpuColocated`."""
    plain = trainers.VLLMGeneration
    trainers.VLLMGeneration = CpuColocated
    try:
        yield
    finally:
        trainers.VLLMGeneration = plain
