"""The MLflow run of one stage, with live curves."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from astro.tracking import connectivity, store
from astro.tracking.names import legal_name

STAGES = "stages"
"""Name of the experiment."""

_FLUSH_AT = 200  # buffered metrics; a write takes 3 to 70 ms for one metric or a thousand
_FLUSH_SECONDS = 5.0
_KEEP_AT_MOST = 100_000  # metrics kept while the store cannot be written
_LONGEST_PAUSE = 600.0  # seconds between two tries of an unavailable store; a try may take a minute

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """Interface for logging from a stage. Every thread may call it. An unavailable store causes a warning, not an error."""

    run_id: str
    """Id of the run; "": nothing is tracked."""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Log points of curves. None is left out. They are written a few hundred at a time, and the rest when the run ends."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params, flattened as by `flatten`. Values are cut at 500 characters."""

    def log_artifact(self, path: Path | str) -> None:
        """Copy a file or a folder to the run. Raises ValueError if it does not exist."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set short texts for searching."""


class NullTracker:
    """A tracker that does nothing."""

    run_id = ""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Do nothing."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_artifact(self, path: Path | str) -> None:
        """Do nothing."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Do nothing."""


class MlflowTracker:
    """Writes to one MLflow run. Metrics are buffered, because a write per point would slow down training."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._failing, self._pause = False, _FLUSH_SECONDS
        self._lock = threading.Lock()

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Buffer points of curves, and write the buffer when it is full or old. None is left out."""
        now = int(time.time() * 1000)
        new = [(legal_name(k), float(v), now, step or 0) for k, v in metrics.items() if v is not None]
        with self._lock:
            self._buffer += new
            full = len(self._buffer) >= _FLUSH_AT and not self._failing
            if full or time.monotonic() - self._flushed > self._pause:
                self._flush()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Write params. An unavailable store causes a warning."""
        with warned("params"):
            store.log_params(self._client, self.run_id, params)

    def log_artifact(self, path: Path | str) -> None:
        """Copy a file or a folder to the run. Raises ValueError if it does not exist; an unavailable store causes a warning."""
        if not Path(path).exists():
            raise ValueError(f"expected a file or a folder to log, got {path}")
        with warned(f"the artifact {path}"):
            store.log_artifact(self._client, self.run_id, Path(path))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Write tags. An unavailable store causes a warning."""
        with warned("tags"):
            store.set_tags(self._client, self.run_id, tags)

    def close(self) -> None:
        """Write the buffered metrics."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        try:
            store.log_metrics(self._client, self.run_id, self._buffer)
            self._buffer, self._failing, self._pause = [], False, _FLUSH_SECONDS
        except Exception as error:  # a curve is not worth hours of training: warn, keep the points, try again later
            self._buffer, self._failing = self._buffer[-_KEEP_AT_MOST:], True
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            _log.warning("%d metric points could not be written yet: %s", len(self._buffer), connectivity.reason(error))
        self._flushed = time.monotonic()


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn an error of the store in the middle of a stage into a warning. The data is lost but the stage continues."""
    try:
        yield
    except Exception as error:
        _log.warning("%s could not be written to the store: %s", what, connectivity.reason(error))


@contextmanager
def stage_run(
    stage: str, params: Mapping[str, Any], root: Path, tags: Mapping[str, Any] | None = None
) -> Iterator[Tracker]:
    """Open a run in experiment `stages`, named after the stage. It is MLflow's active run (for `report_to`).

    The run ends FINISHED, FAILED on an exception or KILLED on an interrupt. Runs of this stage whose process died without
    notice (SIGKILL) are marked KILLED when the next one starts. If the store or its artifacts cannot be reached at the start,
    that is an error. If they become unavailable later, it is a warning: the stage completes, its curve is in metrics/curves,
    and writing the points is tried again until the stage ends.

    Raises:
        UserError: nothing can be logged; the stage has not begun.
    """
    if not store.enabled():
        yield NullTracker()
        return
    mlflow = store.load(root)
    client, uri = mlflow.MlflowClient(), mlflow.get_tracking_uri()
    with connectivity.told(uri):
        experiment = store.experiment_id(mlflow, root, STAGES)
        _close_dead_runs(client, experiment, stage)
        run = mlflow.start_run(
            experiment_id=experiment, run_name=stage, tags=_tags(stage, tags or {}), log_system_metrics=False
        )
    tracker, status = MlflowTracker(client, run.info.run_id), "FAILED"
    try:
        with connectivity.told(uri):
            store.log_params(client, run.info.run_id, params)
            connectivity.check_artifacts(client, run.info.run_id, uri)
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.close()
        with warned("points that a trainer sent"):
            mlflow.flush_async_logging()
        with warned("the end of the run"):
            mlflow.end_run(status)


def _tags(stage: str, more: Mapping[str, Any]) -> dict[str, str]:
    """Tags of a stage's run: the stage, its place, and its DVC experiment."""
    own = {"dvc_stage": stage, "host": socket.gethostname(), "pid": os.getpid()}
    if name := os.environ.get("DVC_EXP_NAME"):
        own["DVC_EXP_NAME"] = name
    return {legal_name(k): str(v)[: store.TAG_CHARACTERS] for k, v in {**own, **more}.items()}


def _close_dead_runs(client: Any, experiment: str, stage: str) -> None:
    """Mark RUNNING runs of this stage and machine as KILLED if their process is gone."""
    mine = f"attributes.status = 'RUNNING' and tags.dvc_stage = '{stage}' and tags.host = '{socket.gethostname()}'"
    for run in client.search_runs([experiment], mine):
        pid = run.data.tags.get("pid", "")
        try:
            os.kill(int(pid), 0)  # signal 0 only checks that the process exists
        except (ProcessLookupError, ValueError):
            client.set_terminated(run.info.run_id, "KILLED")
        except PermissionError:
            pass  # it is alive and belongs to another user
