"""report stage: its params."""

from pydantic import Field

from schemas.base import Strict


class ReportParams(Strict):
    """The offline page and the MLflow pipeline run."""

    gallery: int = Field(ge=0, description="chains shown with their graph, per eval set")
    trees: int = Field(ge=0, description="search trees shown")
    rollouts: int = Field(
        ge=0, description="held-out problems whose chains are shown over the steps of RL; 0: no page of them"
    )
