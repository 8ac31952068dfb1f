"""Contract of `lora`, shared by all stages that train."""

from typing import Literal

from pydantic import Field

from schemas.strict import Strict


class LoraParams(Strict):
    """LoRA by PEFT. The adapter is merged into the model at the end."""

    enabled: bool = Field(description="train an adapter in place of all weights")
    r: int = Field(ge=1, description="rank of the adapter")
    alpha: int = Field(ge=1, description="the adapter is scaled by alpha / r")
    dropout: float = Field(ge=0, lt=1, description="dropout probability inside the adapter")
    target_modules: str = Field(description='"all-linear", or the name of one module')
    quantize: Literal["none", "nf4"] = Field(
        description=(
            "nf4: QLoRA; during training the base is held in 4 bits (bitsandbytes, GPUs, no sharding), and the "
            "adapter is merged into the base in full precision"
        )
    )


def require_enabled(lora: LoraParams) -> None:
    """Raises ValueError: quantized weights without an adapter to train."""
    if lora.quantize != "none" and not lora.enabled:
        raise ValueError(
            f"lora.quantize {lora.quantize} is only for LoRA, but lora.enabled is false; full fine-tuning cannot "
            "train quantized weights"
        )
