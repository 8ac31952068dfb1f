"""Which engine the params ask for. The heavy imports happen here and late."""

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
"""Memory of an engine process without its weights and cache. vLLM on a CPU was measured at 2.4 GiB, cache included."""

DEVICES = Path("/dev")
"""Folder in which a GPU shows as nvidia0. Asking torch would import it, for seconds."""

BATCH = 64
"""Sequences that each engine of "auto" gets at least. A smaller batch costs more per token than a core brings."""


def open_engine(
    params: "EngineParams", execution: "ExecutionParams", model: Path | str, *, control: Control | None = None
) -> Engine:
    """The engine of `params` with `model` loaded (an endpoint has its own model loaded), in `count_processes` processes.

    control: of the tokenizer of `model`, for an endpoint; None: it is read from the folder.

    Raises:
        EngineError: it cannot be started; says why.
    """
    processes = count_processes(params, execution, model)
    if processes == 1:
        return _open_one(params, execution, model, control)
    return PoolEngine(partial(_open_one, params, share_of(execution, processes), model), processes)


def count_processes(params: "EngineParams", execution: "ExecutionParams", model: Path | str) -> int:
    """Engines on this machine: `execution.processes`, or what "auto" makes of it. 1 for an endpoint.

    auto: a small model gains more from a second process than from a second thread (docs/log.md), so each core gets an engine
    of its own. Each needs memory, and a batch that is worth a step. A GPU is best used by one engine.
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
    """What one of `processes` engines gets of the concurrency and the memory."""
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
    """One engine, in this process."""
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
        patience_s=endpoint.patience_s,
        concurrency=execution.concurrency,
        control=read_control(model) if control is None else control,
    )
