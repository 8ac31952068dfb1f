"""base stage: its params and metrics."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class PretrainedParams(Strict):
    """A model that exists."""

    path: str = Field(description="local folder or hub id")
    revision: str = Field(description='commit or tag of a hub id; "" for a local folder')
    adapter: str = Field(description='folder of a PEFT adapter made for this model, merged into it; "": none')


class ArchitectureParams(Strict):
    """Shape of the Llama trained from scratch."""

    hidden: int = Field(ge=16)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    ffn: int = Field(ge=16, description="intermediate size of the MLP")
    context: int = Field(ge=64, description="longest sequence, tokens (prompt and chain)")

    @model_validator(mode="after")
    def _heads_divide(self) -> "ArchitectureParams":
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} must be divisible by 2 * heads ({2 * self.heads})")
        return self


class CorpusParams(Strict):
    """The base corpus: solutions written in one go, several problems to a row, no search among them."""

    rows: int = Field(ge=1, description="packed rows; one optimizer step takes batch_size of them")
    row_tokens: int = Field(ge=32)
    miss_share: float = Field(ge=0, lt=1, description="share of solutions that miss the target (and say so)")
    levels: dict[str, float] = Field(description="numbers per problem -> share")


class PretrainingParams(Strict):
    """Optimisation, one epoch over the corpus."""

    batch_size: int = Field(ge=1, description="rows per step")
    lr: float = Field(gt=0)
    warmup: float = Field(ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(ge=0)
    bf16: bool | Literal["auto"] = Field(description="bfloat16 autocast; auto: where the hardware has it")
    save_every: int = Field(ge=1, description="steps between checkpoints in the work folder")


class BaseModelParams(Strict):
    """Where the base model comes from."""

    source: Literal["train", "pretrained"]
    pretrained: PretrainedParams
    model: ArchitectureParams
    corpus: CorpusParams
    training: PretrainingParams

    @model_validator(mode="after")
    def _fits(self) -> "BaseModelParams":
        if self.source == "pretrained" and not self.pretrained.path:
            raise ValueError("source is pretrained but pretrained.path is empty")
        if self.corpus.row_tokens > self.model.context:
            raise ValueError(f"corpus.row_tokens {self.corpus.row_tokens} is above model.context {self.model.context}")
        return self


class BaseModelMetrics(Strict):
    """metrics/base.json"""

    parameters: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    tokens: int = Field(ge=0, description="trained on; 0 for a pretrained base")
    loss: float | None = Field(description="mean of the last 5 % of steps, nats per token; None for a pretrained base")
