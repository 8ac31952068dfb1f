"""sft stage: its params and metrics."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict


class LoraParams(Strict):
    """LoRA by PEFT; merged into the model at the end."""

    enabled: bool
    r: int = Field(ge=1)
    alpha: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    target_modules: str = Field(description='"all-linear", or one module name')


class SftParams(Strict):
    """Supervised fine-tuning (paper section 3.1)."""

    epochs: float = Field(ge=0, description="0: the base model as it is, for RL without SFT")
    batch_size: int = Field(ge=1, description="sequences per step on one device")
    gradient_accumulation: int = Field(ge=1)
    lr: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(ge=0)
    max_length: int = Field(ge=16, description="tokens; a longer trace is dropped and counted")
    loss_on: Literal["all", "completion", "no_wrong_steps"] = Field(
        description="all tokens as in the paper; without the prompt; without prompt and wrong steps"
    )
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: where the hardware has it")
    gradient_checkpointing: bool
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    lora: LoraParams


class SftMetrics(Strict):
    """metrics/sft.json"""

    examples: int = Field(ge=0)
    too_long: int = Field(ge=0, description="traces dropped by max_length")
    tokens: int = Field(ge=0, description="trained on, over all epochs")
    steps: int = Field(ge=0)
    loss: float | None = Field(description="mean of the last 5 % of steps, nats per token; None: no step was made")
