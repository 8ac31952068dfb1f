"""`engine`: who generates text. Shared by mcts, linearize (votes and rewrites), grpo (pass rates) and eval."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.base import Strict


class VllmParams(Strict):
    """vLLM in this process."""

    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        description="of weights and arithmetic; auto: the model's own"
    )
    block_size: int = Field(ge=16, description="tokens per KV block")
    enforce_eager: bool = Field(description="no CUDA graphs and no compilation, so that an engine starts faster")
    seeded: bool = Field(
        description="samples depend on their request alone; false: faster by docs/log.md, and no two runs are alike"
    )
    prefix_caching: bool = Field(description="the steps that prompts share are computed once")


class HfParams(Strict):
    """transformers' generate, batch by batch."""

    batch_size: int = Field(ge=1, description="sequences per generate call")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        description="of weights and arithmetic; auto: the model's own"
    )


class EndpointParams(Strict):
    """Any OpenAI-compatible completions endpoint; `execution.endpoint` says where it is."""

    model: str = Field(description="name the server knows the model by; kind endpoint needs it")


class EngineParams(Strict):
    """Who generates text, and with which arithmetic; `execution` says where and how fast."""

    kind: Literal["vllm", "hf", "endpoint"] = Field(
        description="vLLM in this process, transformers' generate, or an OpenAI-compatible server"
    )
    max_model_len: int = Field(ge=16, description="prompt and completion, tokens")
    vllm: VllmParams
    hf: HfParams
    endpoint: EndpointParams

    @model_validator(mode="after")
    def _named(self) -> "EngineParams":
        if self.kind == "endpoint" and not self.endpoint.model:
            raise ValueError(
                "kind endpoint needs endpoint.model, the name of the served model: results depend on the model, and its "
                "address (execution.endpoint.url) is not part of a stage's identity"
            )
        return self
