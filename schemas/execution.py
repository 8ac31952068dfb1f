"""`execution`: where and how fast work is done. No result depends on it, so no stage tracks it; every run logs it."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Strict

AFFECTS_RESULTS = False  # it says where and how fast work is done


class VllmExecution(Strict):
    """Memory and GPUs of vLLM in this process."""

    kv_cache_gb: float = Field(gt=0, description="KV cache on CPU, GiB (on GPU gpu_memory_utilization decides)")
    gpu_memory_utilization: float = Field(gt=0, le=1, description="share of the GPU for weights and KV cache")
    tensor_parallel_size: int = Field(ge=1, description="GPUs that share one copy of the model")


class EndpointExecution(Strict):
    """The address of `engine.kind: endpoint`, and how patient its client is."""

    url: str = Field(description='base url, e.g. "http://127.0.0.1:8000/v1"')
    api_key_env: str = Field(description='environment variable that holds the key; "": none')
    timeout_s: float = Field(gt=0, description="per request")
    retries: int = Field(ge=0, description="with exponential back-off")
    patience_s: float = Field(
        ge=0, description="longest wait for an endpoint that does not answer, since its last answer, seconds"
    )


class RayParams(Strict):
    """The cluster of `runner: ray`. Each worker holds one engine, as `engine` says, and receives jobs."""

    address: str = Field(
        description='"": a cluster of this machine alone, which ends with the stage; "auto" or "host:6379": one that runs. '
        "Its nodes need the environment of requirements/, and the variable that execution.endpoint.api_key_env names"
    )
    workers: int = Field(ge=0, description="0: as many as the cluster has CPUs (or GPUs) for")
    patience_s: float = Field(gt=0, description="longest wait for a cluster without a single worker, seconds")


class ServerParams(Strict):
    """A vLLM server that generates for RL and takes new weights after each step (docs/rl.md says how to start it)."""

    url: str = Field(pattern=r"^https?://[^/\s]+", description="base url; the weights go to the same host")
    group_port: int = Field(ge=1024, le=65535, description="port over which the weights are sent")
    patience_s: float = Field(ge=0, description="longest wait at the start for a server that is not up yet, seconds")


class GrpoVllmExecution(Strict):
    """How vLLM generates for RL, with `grpo.generation: vllm_colocate` or `vllm_server`. It changes results by rounding only."""

    max_model_len: int = Field(ge=0, description="prompt and completion, tokens; 0: the model's context")
    gpu_memory_utilization: float = Field(
        gt=0, le=1, description="colocate: share of the GPU for vLLM's weights and cache"
    )
    tensor_parallel_size: int = Field(ge=1, description="colocate: processes that share one copy of the model")
    sleep: bool = Field(description="colocate: vLLM frees its GPU memory while the optimizer works")
    server: ServerParams


class ExecutionParams(Strict):
    """Where and how fast the engines work."""

    runner: Literal["local", "ray"] = Field(
        description="of search, votes, rewrites, pass rates and eval: engines on this machine, or on a Ray cluster"
    )
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description="engines with the same model, which share cores and concurrency; auto: one per core, as far as memory and "
        "concurrency reach, and 1 on a machine with a GPU"
    )
    concurrency: int = Field(ge=1, description="sequences in the engine at once, all processes together")
    trees_in_flight: int = Field(ge=1, description="trees that search at the same time")
    vllm: VllmExecution
    endpoint: EndpointExecution
    ray: RayParams
    grpo_vllm: GrpoVllmExecution
    rollouts_mb: float = Field(
        ge=0,
        description="disk for the completions that RL keeps beside the run, MB for each arm, compressed; where they do not fit, "
        "every second step is kept, then every fourth; 0: none is kept",
    )
