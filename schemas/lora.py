"""`lora`: the same settings in every stage that trains."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict


class LoraParams(Strict):
    """LoRA by PEFT; merged into the model at the end."""

    enabled: bool = Field(description="train an adapter in place of all weights")
    r: int = Field(ge=1, description="rank of the adapter")
    alpha: int = Field(ge=1, description="the adapter is scaled by alpha / r")
    dropout: float = Field(ge=0, lt=1, description="inside the adapter")
    target_modules: str = Field(description='"all-linear", or one module name')
    quantize: Literal["none", "nf4"] = Field(
        description="nf4: QLoRA: the base is held in 4 bits while it is trained (bitsandbytes, GPUs, no sharding), and the "
        "adapter merged into the base as it was"
    )


def require_enabled(lora: LoraParams) -> None:
    """Raises ValueError: quantized weights without an adapter to train."""
    if lora.quantize != "none" and not lora.enabled:
        raise ValueError(
            f"lora.quantize {lora.quantize} is for LoRA, but lora.enabled is false: quantized weights are not trained"
        )
