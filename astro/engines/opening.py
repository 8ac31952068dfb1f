"""Which engine the params ask for. The heavy imports happen here and late."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from astro.engines.api import Engine
from astro.tokens import Control, read_control

if TYPE_CHECKING:
    from schemas.engine import EngineParams
    from schemas.execution import ExecutionParams


def open_engine(
    params: "EngineParams", execution: "ExecutionParams", model: Path | str, *, control: Control | None = None
) -> Engine:
    """The engine of `params` with `model` loaded (an endpoint has its own model loaded), in `execution.processes` processes.

    control: of the tokenizer of `model`, for an endpoint; None: it is read from the folder.

    Raises:
        EngineError: it cannot be started; says why.
    """
    if execution.processes == 1 or params.kind == "endpoint":
        return _open_one(params, execution, model, control)
    from astro.engines.pool import PoolEngine

    return PoolEngine(partial(_open_one, params, share_of(execution), model), execution.processes)


def share_of(execution: "ExecutionParams") -> "ExecutionParams":
    """What one of `execution.processes` engines gets of the concurrency and the memory."""
    processes, vllm = execution.processes, execution.vllm
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
        from astro.engines.vllm_engine import VllmEngine

        return VllmEngine(
            model,
            concurrency=execution.concurrency,
            max_model_len=params.max_model_len,
            **params.vllm.model_dump(),
            **execution.vllm.model_dump(),
        )
    if params.kind == "hf":
        from astro.engines.hf_engine import HfEngine

        return HfEngine(model, max_model_len=params.max_model_len, **params.hf.model_dump())
    from astro.engines.endpoint_engine import EndpointEngine

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
