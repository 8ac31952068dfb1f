"""`tracking`: what goes to MLflow. No result depends on it, so no stage tracks it."""

from typing import Literal

from pydantic import Field

from schemas.base import Strict

AFFECTS_RESULTS = False  # it says what is logged


class TrackingParams(Strict):
    """What the report logs."""

    models: Literal["auto", "upload", "reference"] = Field(
        description="weights of each arm after SFT and after RL: uploaded with the run, or named by DVC's path and md5 alone; "
        "auto: uploaded below 200 MB"
    )
