"""Where runs are kept, and the writes that every kind of run shares. Imports MLflow late: it takes 3 to 5 s."""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from astro.runtime import home_root
from astro.tracking import reach
from astro.tracking.names import flatten, legal_name

SQLITE = "sqlite:///"

VALUE_CHARACTERS = 500
"""Longest param value kept."""

TAG_CHARACTERS = 8000
"""MLflow's bound on tag values."""

_PARAMS_PER_CALL = 100  # MLflow's bound on one log_batch: params, tags ...
_METRICS_PER_CALL = 1000  # ... and metrics

_chosen_uri: str | None = None  # what this process set itself: mlflow.set_tracking_uri also writes the variable


def enabled() -> bool:
    """False with `ASTRO_TRACKING=off`, and in all but the first process of a distributed training."""
    off = os.environ.get("ASTRO_TRACKING", "on").lower() in ("off", "0", "false", "no")
    return not off and os.environ.get("RANK", "0") == "0"


def store_uri(root: Path) -> str:
    """Address of the store: `MLFLOW_TRACKING_URI` if the user set it, else what tracking.yaml says, else the SQLite file.

    Both files stand in the main checkout. Raises UserError for a faulty tracking.yaml.
    """
    given = os.environ.get(reach.SETTING)
    if given and given != _chosen_uri:
        return given
    return reach.file_uri(home_root(root)) or f"{SQLITE}{home_root(root) / 'mlflow.db'}"


def artifact_folder(uri: str) -> Path | None:
    """Folder of the artifacts, absolute, beside a SQLite store; None: the server decides."""
    return Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts" if uri.startswith(SQLITE) else None


@contextmanager
def locked(root: Path, uri: str) -> Iterator[None]:
    """One process at a time: a fresh database (or a search followed by a creation) does not stand two."""
    folder = Path(uri.removeprefix(SQLITE)).resolve().parent if uri.startswith(SQLITE) else home_root(root)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "mlflow.db.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def load(root: Path) -> Any:
    """The module, imported, quiet, sending nothing home, bound to the store, which exists afterwards.

    Raises:
        UserError: the store cannot be reached, or does not let us in.
    """
    global _chosen_uri
    # HF's callback would log 150 of its own arguments, and lose them all when one name is taken
    os.environ.setdefault("MLFLOW_MAX_LOG_PARAMS", "0")
    reach.be_impatient()
    import mlflow

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracing.export.async_export_queue"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = store_uri(root)
    if uri != os.environ.get("MLFLOW_TRACKING_URI"):
        _chosen_uri = uri
    with locked(root, uri), reach.told(uri):
        reach.check_database(uri)
        mlflow.set_tracking_uri(uri)
        mlflow.MlflowClient().search_experiments(max_results=1)
    return mlflow


def experiment_id(mlflow: Any, root: Path, name: str) -> str:
    """Id of the experiment, made if it is not there and taken back if someone deleted it."""
    client, uri = mlflow.MlflowClient(), mlflow.get_tracking_uri()
    with locked(root, uri):
        found = client.get_experiment_by_name(name)
        if found is None:
            folder = artifact_folder(uri)
            try:
                return client.create_experiment(name, artifact_location=folder and (folder / name).as_uri())
            except mlflow.MlflowException:  # another machine of the team was faster
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Write params, flattened; values are cut at 500 characters."""
    from mlflow.entities import Param

    entities = [Param(k, str(v)[:VALUE_CHARACTERS]) for k, v in flatten(params).items()]
    for chunk in _chunks(entities, _PARAMS_PER_CALL):
        client.log_batch(run_id, params=chunk)


def log_metrics(client: Any, run_id: str, entries: Sequence[tuple[str, float, int, int]]) -> None:
    """`entries`: (name, value, milliseconds since 1970, step)."""
    from mlflow.entities import Metric

    for chunk in _chunks(entries, _METRICS_PER_CALL):
        client.log_batch(run_id, metrics=[Metric(*entry) for entry in chunk])


def set_tags(client: Any, run_id: str, tags: Mapping[str, Any]) -> None:
    """Write tags; names are made legal."""
    from mlflow.entities import RunTag

    entities = [RunTag(legal_name(k), str(v)[:TAG_CHARACTERS]) for k, v in tags.items()]
    for chunk in _chunks(entities, _PARAMS_PER_CALL):
        client.log_batch(run_id, tags=chunk)


def log_artifact(client: Any, run_id: str, path: Path) -> None:
    """Copy a file or a folder to the run. Raises ValueError if it is not there."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), artifact_path=path.name)
    elif path.is_file():
        client.log_artifact(run_id, str(path))
    else:
        raise ValueError(f"expected a file or a folder to log, got {path}")
