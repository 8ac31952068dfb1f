"""`engine`: who generates text. Shared by mcts, linearize (self-evaluation), grpo (pass-rate filter) and eval."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict


class VllmParams(Strict):
    """vLLM in this process."""

    dtype: Literal["float32", "bfloat16", "float16", "auto"]
    block_size: int = Field(ge=16, description="tokens per KV block")
    kv_cache_gb: float = Field(gt=0, description="KV cache on CPU, GiB (on GPU gpu_memory_utilization decides)")
    gpu_memory_utilization: float = Field(gt=0, le=1)
    tensor_parallel_size: int = Field(ge=1)
    enforce_eager: bool
    seeded: bool = Field(
        description="samples depend on their request alone; false: faster by docs/log.md, and no two runs are alike"
    )
    prefix_caching: bool = Field(description="the steps that prompts share are computed once")


class HfParams(Strict):
    """transformers' generate, batch by batch."""

    batch_size: int = Field(ge=1, description="sequences per generate call")
    dtype: Literal["float32", "bfloat16", "float16", "auto"]


class EndpointParams(Strict):
    """Any OpenAI-compatible completions endpoint."""

    url: str = Field(description='base url, e.g. "http://127.0.0.1:8000/v1"')
    model: str = Field(description='name the server knows the model by; "": the served one')
    api_key_env: str = Field(description='environment variable that holds the key; "": none')
    timeout_s: float = Field(gt=0, description="per request")
    retries: int = Field(ge=0, description="with exponential back-off")
    patience_s: float = Field(
        ge=0, description="an endpoint that is gone is waited for so long since its last answer, seconds"
    )


class EngineParams(Strict):
    """Who generates text for mcts, eval and the pass-rate filter of grpo."""

    kind: Literal["vllm", "hf", "endpoint"]
    processes: int = Field(
        ge=1, description="engines with the same model, sharing cores and concurrency; on CPU 2 cores: 2; on a GPU: 1"
    )
    concurrency: int = Field(ge=1, description="sequences in the engine at once, all processes together")
    max_model_len: int = Field(ge=16, description="prompt and completion, tokens")
    vllm: VllmParams
    hf: HfParams
    endpoint: EndpointParams
