"""Which engine the params ask for. The heavy imports happen here and late."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from astro.engines.api import Engine
from astro.tokens import Control, read_control

if TYPE_CHECKING:
    from schemas.engine import EngineParams


def open_engine(params: "EngineParams", model: Path | str, *, control: Control | None = None) -> Engine:
    """The engine of `params` with `model` loaded (an endpoint has its own model loaded), in `params.processes` processes.

    control: of the tokenizer of `model`, for an endpoint; None: it is read from the folder.

    Raises:
        EngineError: it cannot be started; says why.
    """
    if params.processes == 1 or params.kind == "endpoint":
        return _open_one(params, model, control)
    from astro.engines.pool import PoolEngine

    return PoolEngine(partial(_open_one, share_of(params), model), params.processes)


def share_of(params: "EngineParams") -> "EngineParams":
    """What one of `params.processes` engines gets; an endpoint is one engine and gets all."""
    if params.kind == "endpoint":
        return params.model_copy(update={"processes": 1})
    return params.model_copy(
        update={
            "processes": 1,
            "concurrency": max(1, params.concurrency // params.processes),
            "vllm": params.vllm.model_copy(update={"kv_cache_gb": params.vllm.kv_cache_gb / params.processes}),
        }
    )


def same_results(params: "EngineParams") -> "EngineParams":
    """The params without what decides where and how fast an engine works, but not on what it answers: for work keys.

    The address of an endpoint is such a thing where the model is named; else another address may serve another model.
    """
    endpoint = params.endpoint
    same = {"timeout_s": 1.0, "retries": 0, "patience_s": 0.0, "url": "" if endpoint.model else endpoint.url}
    return params.model_copy(update={"processes": 1, "concurrency": 1, "endpoint": endpoint.model_copy(update=same)})


def _open_one(params: "EngineParams", model: Path | str, control: Control | None = None) -> Engine:
    """One engine, in this process."""
    if params.kind == "vllm":
        from astro.engines.vllm_engine import VllmEngine

        return VllmEngine(
            model, concurrency=params.concurrency, max_model_len=params.max_model_len, **params.vllm.model_dump()
        )
    if params.kind == "hf":
        from astro.engines.hf_engine import HfEngine

        return HfEngine(model, max_model_len=params.max_model_len, **params.hf.model_dump())
    from astro.engines.endpoint_engine import EndpointEngine

    endpoint = params.endpoint
    key = os.environ.get(endpoint.api_key_env, "") if endpoint.api_key_env else ""
    return EndpointEngine(
        endpoint.url,
        model=endpoint.model,
        api_key=key,
        timeout_s=endpoint.timeout_s,
        retries=endpoint.retries,
        patience_s=endpoint.patience_s,
        concurrency=params.concurrency,
        control=read_control(model) if control is None else control,
    )
