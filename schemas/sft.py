"""sft stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict
from schemas.lora import LoraParams, require_enabled


class SftParams(Strict):
    """Supervised fine-tuning (paper section 3.1)."""

    epochs: float = Field(ge=0, description="0: the base model as it is, for RL without SFT")
    batch_size: int = Field(
        ge=1,
        description="sequences (rows, if packed) per optimizer step in all; the compute profile says how they are spread",
    )
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: float = Field(ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(ge=0, description="of AdamW")
    max_length: int = Field(ge=16, description="tokens; a longer trace is dropped and counted")
    loss_on: Literal["all", "completion", "no_wrong_steps"] = Field(
        description="all tokens as in the paper; without the prompt; without prompt and wrong steps"
    )
    packing: bool = Field(description="traces laid together in rows of max_length tokens; none sees another")
    dtype: Literal["float32", "bfloat16"] = Field(
        description="of the weights as loaded and saved; see bf16 for the arithmetic"
    )
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: where the hardware has it")
    gradient_checkpointing: bool = Field(description="compute activations twice to save memory")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    lora: LoraParams

    @model_validator(mode="after")
    def _fits(self) -> "SftParams":
        require_enabled(self.lora)
        return self


class SftMetrics(Strict):
    """metrics/sft.json"""

    examples: int = Field(ge=0)
    too_long: int = Field(ge=0, description="traces dropped by max_length")
    tokens: int = Field(ge=0, description="trained on, over all epochs")
    steps: int = Field(ge=0)
    loss: float | None = Field(description="mean of the last 5 % of steps, nats per token; None: no step was made")
