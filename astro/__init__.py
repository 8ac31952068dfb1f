"""ASTRO: search in a model's chain of thought. See README.md."""

import os

# Nothing is sent anywhere. Read when MLflow is imported, which TRL does by itself in processes that track nothing.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
