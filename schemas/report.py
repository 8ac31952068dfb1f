"""report stage: its params."""

from pydantic import Field

from schemas.base import Strict


class ReportParams(Strict):
    """The offline page and the MLflow pipeline run."""

    gallery: int = Field(ge=0, description="chains shown with their graph, per eval set")
    trees: int = Field(ge=0, description="search trees shown")
