"""The type of number that this machine multiplies fast."""

from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16", "auto"]


def native_bf16() -> bool:
    """Whether the hardware has instructions for bfloat16 multiplication."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def vllm_dtype(dtype: Dtype) -> Dtype:
    """The type that vLLM is asked for. "auto" on a CPU: bfloat16 if it multiplies it, else float32; on a GPU vLLM decides.

    vLLM's own "auto" is bfloat16 on every CPU, also where that is fifteen times as slow as float32 (docs/log.md).
    """
    import torch

    if dtype != "auto" or torch.cuda.is_available():
        return dtype
    return "bfloat16" if native_bf16() else "float32"
