"""Contract of the report stage: its params."""

from pydantic import Field

from schemas.strict import Strict


class ReportParams(Strict):
    """The offline page and the MLflow pipeline run."""

    gallery: int = Field(ge=0, description="number of chains shown with their graph, per eval set")
    trees: int = Field(ge=0, description="number of search trees shown")
    rollouts: int = Field(
        ge=0, description="held-out problems whose chains are shown across the RL steps; 0: no such page"
    )
