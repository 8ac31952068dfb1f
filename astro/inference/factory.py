"""Create the engine that the params select. Heavy imports happen here, as late as possible."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from astro.inference.engine import Engine
from astro.inference.process_pool import PoolEngine, usable_cores
from astro.special_tokens import Control, read_control

if TYPE_CHECKING:
    from schemas.engine import EngineParams
    from schemas.execution import ExecutionParams

GIB = 2**30
ENGINE_BYTES = 2.5 * GIB
"""Bytes of an engine process without its weights and cache. On a CPU, vLLM was measured at 2.4 GiB with its cache."""

DEVICES = Path("/dev")
"""Folder in which a GPU appears as nvidia0. Asking torch instead would cost seconds for its import."""

BATCH = 64
"""Least number of sequences per engine with "auto". In smaller batches the cost per token outweighs an additional core."""


def open_engine(
    params: "EngineParams", execution: "ExecutionParams", model: Path | str, *, control: Control | None = None
) -> Engine:
    """Open the engine of `params` with `model`, in `count_processes` processes. An endpoint serves its own model.

    Args:
        control: special tokens of the tokenizer of `model`, for an endpoint; None: read them from the folder.

    Raises:
        EngineError: the engine cannot be started; says why.
    """
    processes = count_processes(params, execution, model)
    if processes == 1:
        return _open_one(params, execution, model, control)
    return PoolEngine(partial(_open_one, params, share_of(execution, processes), model), processes)


def count_processes(params: "EngineParams", execution: "ExecutionParams", model: Path | str) -> int:
    """Number of engines on this machine: `execution.processes`, or a choice for "auto". An endpoint always has 1.

    With "auto" each core runs one engine, because a small model gains more from a second process than from a second thread
    (docs/log.md). The number is limited by memory and by the batch size that each engine needs. A GPU runs one engine.
    """
    if params.kind == "endpoint":
        return 1
    if execution.processes != "auto":
        return execution.processes
    if any(DEVICES.glob("nvidia[0-9]*")):
        return 1
    weights = sum(f.stat().st_size for f in Path(model).glob("*.safetensors"))
    memory = psutil.virtual_memory().available - execution.vllm.kv_cache_gb * GIB
    return max(1, min(usable_cores(), int(memory / (ENGINE_BYTES + 2 * weights)), execution.concurrency // BATCH))


def share_of(execution: "ExecutionParams", processes: int) -> "ExecutionParams":
    """The share of concurrency and memory for each of `processes` engines."""
    vllm = execution.vllm
    return execution.model_copy(
        update={
            "processes": 1,
            "concurrency": max(1, execution.concurrency // processes),
            "vllm": vllm.model_copy(update={"kv_cache_gb": vllm.kv_cache_gb / processes}),
        }
    )


def _open_one(
    params: "EngineParams", execution: "ExecutionParams", model: Path | str, control: Control | None = None
) -> Engine:
    """Open one engine in this process."""
    if params.kind == "vllm":
        from astro.inference.vllm_engine import VllmEngine

        return VllmEngine(
            model,
            concurrency=execution.concurrency,
            max_model_len=params.max_model_len,
            **params.vllm.model_dump(),
            **execution.vllm.model_dump(),
        )
    if params.kind == "hf":
        from astro.inference.hf_engine import HfEngine

        return HfEngine(model, max_model_len=params.max_model_len, **params.hf.model_dump())
    from astro.inference.endpoint_engine import EndpointEngine

    endpoint = execution.endpoint
    key = os.environ.get(endpoint.api_key_env, "") if endpoint.api_key_env else ""
    return EndpointEngine(
        endpoint.url,
        model=params.endpoint.model,
        api_key=key,
        timeout_s=endpoint.timeout_s,
        retries=endpoint.retries,
        wait_timeout_s=endpoint.wait_timeout_s,
        concurrency=execution.concurrency,
        control=read_control(model) if control is None else control,
    )
