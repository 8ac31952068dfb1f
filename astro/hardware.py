"""The type of number that this machine multiplies fast."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.engine import Dtype


def native_bf16() -> bool:
    """Whether the hardware has instructions for bfloat16 multiplication."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def vllm_dtype(dtype: "Dtype") -> "Dtype":
    """The type that vLLM is asked for. "auto" on a CPU: bfloat16 if it multiplies it, else float32; on a GPU vLLM decides.

    vLLM's own "auto" is bfloat16 on every CPU, even on one that emulates it fifteen times slower than float32 (docs/log.md).
    """
    if dtype != "auto":
        return dtype
    import torch

    if torch.cuda.is_available():
        return dtype
    return "bfloat16" if native_bf16() else "float32"
