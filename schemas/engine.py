"""Contract of `engine`: the text generator. Shared by mcts, linearize (votes and rewrites), grpo (pass rates) and eval."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.strict import Strict

Dtype = Literal["float32", "bfloat16", "float16", "auto"]


class VllmParams(Strict):
    """vLLM in the process of the stage."""

    dtype: Dtype = Field(
        description=(
            "precision of weights and arithmetic, also of samples of RL on a CPU; auto: vLLM's choice on a GPU; on a CPU "
            "bfloat16 if it multiplies it, else float32, so results differ between processors"
        )
    )
    block_size: int = Field(ge=16, description="tokens per KV block")
    enforce_eager: bool = Field(description="no CUDA graphs and no compilation, for a faster start")
    seeded: bool = Field(
        description="samples depend only on their request; false: faster (docs/log.md), but no two runs are alike"
    )
    prefix_caching: bool = Field(description="compute the common beginning of several prompts only once")


class HfParams(Strict):
    """transformers' generate, in batches."""

    batch_size: int = Field(ge=1, description="sequences per generate call")
    dtype: Dtype = Field(description="precision of weights and arithmetic; auto: the model's own")


class EndpointParams(Strict):
    """Any OpenAI-compatible completions endpoint. `execution.endpoint` holds its address."""

    model: str = Field(description="the server's name of the model; required by kind endpoint")


class EngineParams(Strict):
    """The text generator and its arithmetic. `execution` says where and how fast it works."""

    kind: Literal["vllm", "hf", "endpoint"] = Field(
        description="vllm: vLLM in this process; hf: transformers' generate; endpoint: an OpenAI-compatible server"
    )
    max_model_len: int = Field(ge=16, description="longest prompt and completion together, in tokens")
    vllm: VllmParams
    hf: HfParams
    endpoint: EndpointParams

    @model_validator(mode="after")
    def _named(self) -> "EngineParams":
        if self.kind == "endpoint" and not self.endpoint.model:
            raise ValueError(
                "kind endpoint needs endpoint.model, the name of the served model, because results depend on the "
                "model and not on its address (execution.endpoint.url)"
            )
        return self
