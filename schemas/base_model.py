"""Contracts of the base stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.lora import LoraParams, require_enabled
from schemas.strict import Strict


class PretrainedParams(Strict):
    """An existing pretrained model."""

    path: str = Field(
        description="local folder, hub id, GGUF file, or package:<name> for the GGUF file in an installed package"
    )
    revision: str = Field(
        description='commit or tag of a hub id; version of a package ("": as installed); "" for a folder or file'
    )
    adapter: str = Field(description='folder of a PEFT adapter made for this model, to be merged into it; "": none')


class ArchitectureParams(Strict):
    """Shape of the Llama trained from scratch."""

    hidden: int = Field(ge=16, description="width of the model; divisible by 2 * heads")
    layers: int = Field(ge=1, description="transformer blocks")
    heads: int = Field(ge=1, description="attention heads of a block")
    ffn: int = Field(ge=16, description="intermediate size of the MLP")
    context: int = Field(ge=64, description="longest sequence in tokens (prompt and chain)")

    @model_validator(mode="after")
    def _heads_divide(self) -> "ArchitectureParams":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} must be divisible by 2 * heads ({2 * self.heads})")
        return self


class CorpusParams(Strict):
    """The base corpus: direct solutions, several problems to a row, without any search."""

    rows: int = Field(ge=1, description="packed rows; an optimizer step uses batch_size of them")
    row_tokens: int = Field(ge=32, description="tokens per row; at most model.context")
    miss_share: float = Field(ge=0, lt=1, description="share of solutions that miss the target and say so")
    levels: dict[str, float] = Field(
        description=("level -> share; in Countdown the level is the number of given numbers")
    )


class PretrainingParams(Strict):
    """Optimisation of the base: one epoch over the corpus."""

    batch_size: int = Field(ge=1, description="rows per optimizer step")
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: float = Field(ge=0, lt=1, description="share of the steps during which the learning rate rises")
    weight_decay: float = Field(ge=0, description="weight decay of AdamW")
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: if the hardware supports it")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")


class WarmupParams(Strict):
    """Warm-up of a pretrained base on the direct solutions of base.corpus, in rows of corpus.row_tokens tokens."""

    steps: int = Field(ge=0, description="optimizer steps; 0: no warm-up")
    batch_size: int = Field(ge=1, description="rows per optimizer step, over all processes")
    lr: float = Field(gt=0, description="peak learning rate")
    warmup: float = Field(ge=0, lt=1, description="share of the steps during which the learning rate rises")
    weight_decay: float = Field(ge=0, description="weight decay of AdamW")
    dtype: Literal["float32", "bfloat16"] = Field(
        description="precision of the loaded and saved weights; bf16 sets that of the arithmetic"
    )
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: if the hardware supports it")
    gradient_checkpointing: bool = Field(description="recompute activations to save memory")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")
    lora: LoraParams

    @model_validator(mode="after")
    def _fits(self) -> "WarmupParams":
        require_enabled(self.lora)
        return self


class BaseModelParams(Strict):
    """The origin of the base model."""

    source: Literal["train", "pretrained"] = Field(
        description=("train: a small Llama trained here; pretrained: an existing model")
    )
    pretrained: PretrainedParams
    model: ArchitectureParams
    corpus: CorpusParams
    training: PretrainingParams
    warmup: WarmupParams

    @model_validator(mode="after")
    def _fits(self) -> "BaseModelParams":
        if self.source == "pretrained" and not self.pretrained.path:
            raise ValueError("source is pretrained but pretrained.path is empty")
        if self.source == "train" and self.warmup.steps:
            raise ValueError(
                f"warmup.steps {self.warmup.steps} is only for a pretrained base, but source is train; set it to 0 "
                "(training.* holds the settings of a base that is trained here)"
            )
        if self.source == "train" and self.corpus.row_tokens > self.model.context:
            raise ValueError(f"corpus.row_tokens {self.corpus.row_tokens} is above model.context {self.model.context}")
        return self


class BaseModelMetrics(Strict):
    """Content of metrics/base.json."""

    parameters: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    tokens: int = Field(ge=0, description="trained tokens; for a pretrained base those of its warm-up")
    loss: float | None = Field(
        description="mean of the last 5 % of steps, nats per token; None: pretrained base without warm-up"
    )
