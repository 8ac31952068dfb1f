"""ASTRO: search in a model's chain of thought. See README.md."""

import os

# Nothing is sent anywhere. MLflow reads it when imported, which TRL does by itself even in processes that track
# nothing.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"

# Hides warnings that a user cannot act on: vLLM binds memory to the only NUMA node, and leaves semaphores to Python's
# tracker.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
