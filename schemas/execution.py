"""Contract of `execution`: where and how fast work is done. Results do not depend on it, so no stage tracks it; runs log it."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.strict import Strict

AFFECTS_RESULTS = False  # it only says where and how fast work is done


class VllmExecution(Strict):
    """Memory and GPUs of vLLM in this process."""

    kv_cache_gb: float = Field(gt=0, description="KV cache on a CPU in GiB (on a GPU gpu_memory_utilization applies)")
    gpu_memory_utilization: float = Field(gt=0, le=1, description="share of the GPU for weights and KV cache")
    tensor_parallel_size: int = Field(ge=1, description="GPUs that share one copy of the model")


class EndpointExecution(Strict):
    """Address of `engine.kind: endpoint`, and settings of its client."""

    url: str = Field(description='base url, e.g. "http://127.0.0.1:8000/v1"')
    api_key_env: str = Field(description='environment variable with the key; "": none')
    timeout_s: float = Field(gt=0, description="seconds per request")
    retries: int = Field(ge=0, description="repetitions of a failed request, with exponential back-off")
    wait_timeout_s: float = Field(
        ge=0, description="longest wait for an endpoint that does not answer, in seconds since its last answer"
    )


class RayParams(Strict):
    """The cluster of `runner: ray`. Each worker holds one engine, as `engine` says, and receives jobs."""

    address: str = Field(
        description=(
            '"": a local cluster that ends with the stage; "auto" or "host:6379": a running cluster. Its nodes need '
            "the environment of requirements/, and the variable named by execution.endpoint.api_key_env"
        )
    )
    workers: int = Field(ge=0, description="number of workers; 0: as many as the cluster has CPUs (or GPUs) for")
    wait_timeout_s: float = Field(gt=0, description="longest wait for a cluster without a single worker, in seconds")


class ServerParams(Strict):
    """A vLLM server that generates for RL and receives new weights after each step (docs/rl.md says how to start it)."""

    url: str = Field(pattern=r"^https?://[^/\s]+", description="base url; the weights are sent to the same host")
    group_port: int = Field(ge=1024, le=65535, description="port over which the weights are sent")
    wait_timeout_s: float = Field(ge=0, description="longest wait for a server that is still starting, in seconds")


class GrpoVllmExecution(Strict):
    """Settings of vLLM for RL, with `grpo.generation: vllm_colocate` or `vllm_server`. They change results only by rounding."""

    max_model_len: int = Field(
        ge=0,
        description=(
            "longest prompt and completion together, in tokens; 0: what the longest prompt and completion need"
        ),
    )
    gpu_memory_utilization: float = Field(
        gt=0, le=1, description="colocate: share of the GPU's memory for vLLM's weights and cache"
    )
    tensor_parallel_size: int = Field(
        ge=1, description=("colocate: number of processes that share one copy of the model")
    )
    sleep: bool = Field(description="colocate: vLLM frees its GPU memory while the optimizer works")
    server: ServerParams


class ExecutionParams(Strict):
    """Where and how fast the engines work."""

    runner: Literal["local", "ray"] = Field(
        description="engines for search, votes, rewrites, pass rates and eval: on this machine, or on a Ray cluster"
    )
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        description=(
            "engines with the same model, which share cores and concurrency; auto: one per core as far as memory and "
            "concurrency allow, and 1 on a machine with a GPU"
        )
    )
    concurrency: int = Field(ge=1, description="sequences that are generated at once, over all processes")
    trees_in_flight: int = Field(ge=1, description="trees that are searched at once")
    vllm: VllmExecution
    endpoint: EndpointExecution
    ray: RayParams
    grpo_vllm: GrpoVllmExecution
    rollouts_mb: float = Field(
        ge=0,
        description=(
            "disk for the stored completions of RL, in MB per arm, compressed; if they do not fit, every second step "
            "is kept, then every fourth; 0: none"
        ),
    )
