"""Tracking in MLflow. No other package imports MLflow, and the import is late because it takes 3 to 5 s.

A stage that DVC restores from its cache runs no process and logs nothing, so there are two kinds of runs:

1. `stage_run`: each stage that runs opens one run in experiment `stages` (live curves).
2. `log_pipeline`: the report makes one run in experiment `pipelines` for the state of the whole workspace, with all
   params, all metrics and one child per stage, cached or not. These are the runs to compare. `log_models` adds the trained
   models, with their metrics and their weights.

The store is `<root>/mlflow.db` with artifacts beside it. The root is DVC's main checkout (`DVC_ROOT`), so that experiments
that DVC runs in a copy use the same store. `MLFLOW_TRACKING_URI`, else `uri:` in tracking.yaml, selects another store (a
team's server, docs/sharing.md). `ASTRO_TRACKING=off` replaces tracking by the null tracker.

Browse: python -m astro.tracking ui
"""

from astro.tracking.models import ModelInfo, log_models
from astro.tracking.names import flatten, legal_name, numbers
from astro.tracking.pipeline import PIPELINES, StageInfo, log_pipeline
from astro.tracking.registry import check_alias, check_store, register_model
from astro.tracking.rollouts import log_rollouts
from astro.tracking.stage import STAGES, MlflowTracker, NullTracker, Tracker, stage_run
from astro.tracking.traces import log_trees_as_traces

AFFECTS_RESULTS = False  # runs are only logged; no stage reads them

__all__ = [
    "PIPELINES",
    "STAGES",
    "MlflowTracker",
    "ModelInfo",
    "NullTracker",
    "StageInfo",
    "Tracker",
    "check_alias",
    "check_store",
    "flatten",
    "legal_name",
    "log_models",
    "log_pipeline",
    "log_rollouts",
    "log_trees_as_traces",
    "numbers",
    "register_model",
    "stage_run",
]
