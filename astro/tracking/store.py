"""The store of runs, and the write operations that all kinds of runs share. MLflow is imported late: it takes 3 to 5 s."""

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from astro.process import home_root
from astro.tracking import connectivity
from astro.tracking.names import flatten, legal_name

SQLITE = "sqlite:///"

VALUE_CHARACTERS = 500
"""Longest param value that is stored, in characters."""

TAG_CHARACTERS = 8000
"""MLflow's limit on tag values, in characters."""

METRICS_PER_CALL = 1000
"""MLflow's limit on metrics in one log_batch call."""

_PARAMS_PER_CALL = 100  # the limit on params and tags

_chosen_uri: str | None = None  # set by this process; mlflow.set_tracking_uri also writes the environment variable


LEFT_OVER = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_REGISTRY_URI",
)
"""Environment variables that would direct MLflow to another run, experiment, model or registry."""


def enabled() -> bool:
    """Whether tracking is on; `ASTRO_TRACKING=off` turns it off. `astro.training.launch` sets that for training workers."""
    return os.environ.get("ASTRO_TRACKING", "on").lower() not in ("off", "0", "false", "no")


def store_uri(root: Path) -> str:
    """Address of the store: `MLFLOW_TRACKING_URI` if the user set it, else from tracking.yaml, else the SQLite file.

    Both files are in the main checkout. Raises UserError for a faulty tracking.yaml.
    """
    given = os.environ.get(connectivity.SETTING)
    if given and given != _chosen_uri:
        return given
    return connectivity.file_uri(home_root(root)) or sqlite_uri(home_root(root) / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """The address of an SQLite file. SQLAlchemy takes what follows a `?` for settings, and `%3F` for a `?`, so both are quoted.
    The driver is named because MLflow creates the folder of an address `sqlite:///` without unquoting it.
    """
    text = str(file)
    return f"sqlite+pysqlite:///{quote(text, safe='/')}" if {"?", "%"} & set(text) else f"{SQLITE}{text}"


def database_file(uri: str) -> Path | None:
    """The SQLite file of an address; None: the store is of another kind."""
    found = re.match(r"sqlite(\+\w+)?:///(?P<path>[^?]+)", uri)
    return Path(unquote(found["path"])).resolve() if found else None


def artifact_folder(uri: str) -> Path | None:
    """Absolute folder of the artifacts beside a SQLite store; None: the server decides."""
    file = database_file(uri)
    return file.parent / "mlartifacts" if file else None


@contextmanager
def locked(root: Path, uri: str, what: str = "") -> Iterator[None]:
    """Lock the store for one process, because a fresh database (or a search followed by a creation) allows only one at a time.

    Args:
        what: name of one of several independent locks, e.g. ".models".
    """
    file = database_file(uri)
    folder = file.parent if file else home_root(root)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"mlflow.db{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def adopt_artifacts(uri: str) -> None:
    """Adapt a database that was copied or moved with its checkout to the artifacts beside it.

    MLflow stores absolute addresses, so a copy would write into the folder of the original checkout. Artifacts without a
    counterpart beside the database keep their address.
    """
    file = database_file(uri)
    if file is None or not file.exists():
        return
    here = file.parent / "mlartifacts"
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as database, database:
        rows = database.execute("SELECT name, artifact_location FROM experiments").fetchall()
        elsewhere = {
            location.removesuffix(f"/{name}")
            for name, location in rows
            if location.endswith(f"/mlartifacts/{name}") and location != f"{here.as_uri()}/{name}"
        }
        for old in sorted(elsewhere):
            for table, column in _ADDRESSES:
                found = database.execute(
                    f"SELECT rowid, {column} FROM {table} WHERE substr({column}, 1, ?) = ?", (len(old) + 1, f"{old}/")
                )
                moved = [(here.as_uri() + address[len(old) :], row) for row, address in found]
                kept = [
                    m
                    for m in moved
                    if table == "experiments" or (here / unquote(m[0][len(here.as_uri()) + 1 :])).exists()
                ]
                database.executemany(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", kept)
            print(f"tracking: this checkout was copied or moved; artifacts are now kept in {here}", flush=True)


_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
)
"""Table and column of each artifact address in MLflow's database."""


def drop_left_over() -> None:
    """Remove environment variables that would send our logs elsewhere, with a message."""
    dropped = [f"{name}={os.environ.pop(name)}" for name in LEFT_OVER if os.environ.get(name)]
    if dropped:
        print(f"tracking: {', '.join(dropped)}: ignored, because each stage opens its own run; unset it", flush=True)


def load(root: Path) -> Any:
    """Import MLflow, quiet and without telemetry, and bind it to the store, which is created if needed.

    Raises:
        UserError: the store cannot be reached, or refuses access.
    """
    global _chosen_uri
    # HF's callback would log 150 of its own arguments, and fail for all of them if one name is taken
    os.environ.setdefault("MLFLOW_MAX_LOG_PARAMS", "0")
    connectivity.be_impatient()
    drop_left_over()
    import mlflow

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracing.export.async_export_queue"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = store_uri(root)
    if uri != os.environ.get("MLFLOW_TRACKING_URI"):
        _chosen_uri = uri
    with locked(root, uri), connectivity.told(uri):
        connectivity.check_database(uri)
        mlflow.set_tracking_uri(uri)
        mlflow.MlflowClient().search_experiments(max_results=1)
        adopt_artifacts(uri)
    return mlflow


def experiment_id(mlflow: Any, root: Path, name: str) -> str:
    """Id of the experiment. It is created if missing, and restored if someone deleted it."""
    client, uri = mlflow.MlflowClient(), mlflow.get_tracking_uri()
    with locked(root, uri):
        found = client.get_experiment_by_name(name)
        if found is None:
            folder = artifact_folder(uri)
            try:
                return client.create_experiment(name, folder and (folder / name).as_uri())
            except mlflow.MlflowException:  # another machine of the team was faster
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Parts of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))


def log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Write params, flattened. Values are cut at 500 characters."""
    from mlflow.entities import Param

    entities = [Param(k, str(v)[:VALUE_CHARACTERS]) for k, v in flatten(params).items()]
    for chunk in chunks(entities, _PARAMS_PER_CALL):
        client.log_batch(run_id, params=chunk)


def log_metrics(client: Any, run_id: str, entries: Sequence[tuple[str, float, int, int]]) -> None:
    """`entries`: (name, value, milliseconds since 1970, step)."""
    from mlflow.entities import Metric

    for chunk in chunks(entries, METRICS_PER_CALL):
        client.log_batch(run_id, metrics=[Metric(*entry) for entry in chunk])


def set_tags(client: Any, run_id: str, tags: Mapping[str, Any]) -> None:
    """Write tags under legal names."""
    from mlflow.entities import RunTag

    entities = [RunTag(legal_name(k), str(v)[:TAG_CHARACTERS]) for k, v in tags.items()]
    for chunk in chunks(entities, _PARAMS_PER_CALL):
        client.log_batch(run_id, tags=chunk)


def log_artifact(client: Any, run_id: str, path: Path) -> None:
    """Copy a file or a folder to the run. Raises ValueError if it does not exist."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), artifact_path=path.name)
    elif path.is_file():
        client.log_artifact(run_id, str(path))
    else:
        raise ValueError(f"expected a file or a folder to log, got {path}")
