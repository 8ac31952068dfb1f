"""The run of one stage: live curves while it works."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from astro.tracking import store
from astro.tracking.names import legal_name

STAGES = "stages"
"""Name of the experiment."""

_FLUSH_AT = 200  # buffered metrics; a write costs 3 to 70 ms, whether it holds one metric or a thousand
_FLUSH_SECONDS = 5.0
_KEEP_AT_MOST = 100_000  # metrics kept while the store cannot be written

_log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a stage may log. All methods may be called from any thread."""

    run_id: str
    """Id of the run; "" when nothing is tracked."""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Points of curves; None is left out. Written a few hundred at a time, the rest when the run ends."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Flattened as by `flatten`; values are cut at 500 characters."""

    def log_artifact(self, path: Path | str) -> None:
        """A file or a folder, copied to the store. Raises ValueError if it is not there."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Short texts to search by."""


class NullTracker:
    """Tracks nothing."""

    run_id = ""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None: ...

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def log_artifact(self, path: Path | str) -> None: ...

    def set_tags(self, tags: Mapping[str, Any]) -> None: ...


class MlflowTracker:
    """Writes to one MLflow run; metrics are buffered, for a write per point would slow a training step."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.run_id = run_id
        self._client = client
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._failing = False
        self._lock = threading.Lock()

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        now = int(time.time() * 1000)
        new = [(legal_name(k), float(v), now, step or 0) for k, v in metrics.items() if v is not None]
        with self._lock:
            self._buffer += new
            full = len(self._buffer) >= _FLUSH_AT and not self._failing
            if full or time.monotonic() - self._flushed > _FLUSH_SECONDS:
                self._flush()

    def log_params(self, params: Mapping[str, Any]) -> None:
        store.log_params(self._client, self.run_id, params)

    def log_artifact(self, path: Path | str) -> None:
        store.log_artifact(self._client, self.run_id, Path(path))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        store.set_tags(self._client, self.run_id, tags)

    def close(self) -> None:
        """Write what is buffered."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        try:
            store.log_metrics(self._client, self.run_id, self._buffer)
            self._buffer, self._failing = [], False
        except Exception as error:  # a curve is not worth hours of training: say so, keep the points, try again later
            self._buffer, self._failing = self._buffer[-_KEEP_AT_MOST:], True
            _log.warning("%d metric points could not be written yet: %s", len(self._buffer), error)


@contextmanager
def stage_run(
    stage: str, params: Mapping[str, Any], root: Path, tags: Mapping[str, Any] | None = None
) -> Iterator[Tracker]:
    """A run in experiment `stages`, named after the stage; it is MLflow's active run (for `report_to`).

    The run ends FINISHED, FAILED on an exception or KILLED on an interrupt. Runs of this stage whose process died
    without a word (SIGKILL) are closed as KILLED when the next one starts. A store that cannot be reached is an error
    here, at the start; later write errors of metrics only warn.
    """
    if not store.enabled():
        yield NullTracker()
        return
    mlflow = store.load(root)
    client, experiment = mlflow.MlflowClient(), store.experiment_id(mlflow, root, STAGES)
    _close_dead_runs(client, experiment, stage)
    own = {"dvc_stage": stage, "host": socket.gethostname(), "pid": os.getpid()}
    if name := os.environ.get("DVC_EXP_NAME"):
        own["DVC_EXP_NAME"] = name
    all_tags = {legal_name(k): str(v)[: store.TAG_CHARACTERS] for k, v in {**own, **(tags or {})}.items()}
    run = mlflow.start_run(experiment_id=experiment, run_name=stage, tags=all_tags, log_system_metrics=False)
    tracker, status = MlflowTracker(client, run.info.run_id), "FAILED"
    try:
        tracker.log_params(params)
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            tracker.close()
            mlflow.flush_async_logging()  # points that HF's callback sent
        finally:
            mlflow.end_run(status)


def _close_dead_runs(client: Any, experiment: str, stage: str) -> None:
    """Mark RUNNING runs of this stage and machine as KILLED if their process is gone."""
    mine = f"attributes.status = 'RUNNING' and tags.dvc_stage = '{stage}' and tags.host = '{socket.gethostname()}'"
    for run in client.search_runs([experiment], mine):
        pid = run.data.tags.get("pid", "")
        try:
            os.kill(int(pid), 0)  # signal 0 only asks whether the process is there
        except (ProcessLookupError, ValueError):
            client.set_terminated(run.info.run_id, "KILLED")
        except PermissionError:
            pass  # alive, someone else's
