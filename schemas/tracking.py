"""Contract of `tracking`: what is logged to MLflow. Results do not depend on it, so no stage tracks it."""

from typing import Literal

from pydantic import Field

from schemas.strict import Strict

AFFECTS_RESULTS = False  # it only says what is logged


class TrackingParams(Strict):
    """Options of logging to MLflow."""

    models: Literal["auto", "upload", "reference"] = Field(
        description=(
            "weights of each arm after SFT and after RL. upload: stored with the run; reference: only DVC's path and "
            "md5; auto: upload below 200 MB"
        )
    )
