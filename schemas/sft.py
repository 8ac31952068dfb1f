"""Contracts of the sft stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.lora import LoraParams, require_enabled
from schemas.strict import Strict


class SftParams(Strict):
    """Supervised fine-tuning (paper section 3.1)."""

    epochs: float = Field(
        ge=0, description=("epochs over the traces; 0: the base model is published unchanged, for RL without SFT")
    )
    batch_size: int = Field(
        ge=1,
        description=(
            "sequences (rows if packed) per optimizer step, over all processes; the compute profile divides them"
        ),
    )
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: float = Field(ge=0, lt=1, description="share of the steps during which the learning rate rises")
    weight_decay: float = Field(ge=0, description="weight decay of AdamW")
    max_length: int = Field(ge=16, description="longest trace in tokens; longer ones are dropped and counted")
    loss_on: Literal["all", "completion", "no_wrong_steps"] = Field(
        description=(
            "all: all tokens, as in the paper; completion: without the prompt; no_wrong_steps: without prompt and "
            "wrong steps"
        )
    )
    packing: bool = Field(description="combine traces into rows of max_length tokens, without attention between traces")
    dtype: Literal["float32", "bfloat16"] = Field(
        description="precision of the loaded and saved weights; bf16 sets that of the arithmetic"
    )
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: if the hardware supports it")
    gradient_checkpointing: bool = Field(description="recompute activations to save memory")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    lora: LoraParams

    @model_validator(mode="after")
    def _fits(self) -> "SftParams":
        require_enabled(self.lora)
        return self


class SftMetrics(Strict):
    """Content of metrics/sft.json."""

    examples: int = Field(ge=0)
    too_long: int = Field(ge=0, description="traces dropped by max_length")
    tokens: int = Field(ge=0, description="trained tokens, over all epochs")
    steps: int = Field(ge=0)
    loss: float | None = Field(description="mean of the last 5 % of steps, nats per token; None: there were no steps")
