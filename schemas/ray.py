"""`ray`: the cluster of `runner: ray` (mcts, eval, the pass-rate filter of grpo). No result depends on it, so no stage does."""

from pydantic import Field

from schemas.base import Strict


class RayParams(Strict):
    """Where the workers are. Each holds one engine, as `engine` says, and is handed problems."""

    address: str = Field(
        description='"": a cluster of this machine alone, which ends with the stage; "auto" or "host:6379": one that runs. '
        "Its nodes need the environment of requirements/, and the variable that engine.endpoint.api_key_env names"
    )
    workers: int = Field(ge=0, description="0: as many as the cluster has CPUs (or GPUs) for")
    patience_s: float = Field(gt=0, description="how long a cluster without a single worker is waited for, seconds")
