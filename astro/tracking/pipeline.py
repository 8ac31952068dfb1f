"""The MLflow run of the whole pipeline."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from astro.tracking import connectivity, store
from astro.tracking.names import numbers

PIPELINES = "pipelines"
"""Name of the experiment."""


@dataclass(frozen=True)
class StageInfo:
    """The state of one stage in the workspace."""

    outs: Mapping[str, str]
    """Path of each out -> its md5."""
    run_id: str
    """Stage run that made the outs; "": it was not tracked."""
    cached: bool
    """Whether an earlier invocation made the outs."""
    seconds: float | None = None
    """Wall time of the stage when it ran; None: unknown."""


def log_pipeline(
    root: Path,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    stages: Mapping[str, StageInfo],
    fingerprint: str,
    artifacts: Sequence[Path] = (),
    table: Mapping[str, Sequence[Any]] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> str:
    """Create one run in experiment `pipelines` for this state of the workspace, with a child per stage. Returns its id.

    If a finished run has the same fingerprint, only its tag `last_seen` is updated. Returns "" if tracking is off.

    Args:
        root: the checkout.
        params: all of params.yaml.
        metrics: flat, `stage/name` (see `numbers`). A child gets those of its stage; None is left out.
        stages: by name, in the order of the pipeline.
        fingerprint: hash of everything that the run shows.
        artifacts: files or folders to copy, e.g. dvc.lock and the HTML report.
        table: column -> values, all of one length; shown as `samples.json`.
        tags: more tags, e.g. the git commit.

    Raises:
        ValueError: an artifact does not exist.
        UserError: the store cannot be reached.
    """
    if not store.enabled():
        return ""
    if missing := [str(path) for path in artifacts if not Path(path).exists()]:
        raise ValueError(f"expected files to log, but these are missing: {missing}")
    mlflow = store.load(root)
    client, uri = mlflow.MlflowClient(), mlflow.get_tracking_uri()
    with connectivity.told(uri):
        experiment = store.experiment_id(mlflow, root, PIPELINES)
    seen = {"last_seen": datetime.now(UTC).isoformat(timespec="seconds")}
    with store.locked(root, uri), connectivity.told(uri):
        known = f"tags.fingerprint = '{fingerprint}' and attributes.status = 'FINISHED'"
        if found := client.search_runs([experiment], known, max_results=1):
            store.set_tags(client, found[0].info.run_id, seen)
            return found[0].info.run_id
        name = os.environ.get("DVC_EXP_NAME") or fingerprint[:8]
        run_id = client.create_run(experiment, run_name=name, tags={"fingerprint": fingerprint}).info.run_id
        status = "FAILED"
        try:
            store.set_tags(client, run_id, {**seen, **(tags or {}), **_stage_tags(stages)})
            store.log_params(client, run_id, params)
            _log_numbers(client, run_id, metrics)
            for path in artifacts:
                store.log_artifact(client, run_id, Path(path))
            if table:
                client.log_table(run_id, {k: list(v) for k, v in table.items()}, "samples.json")
            for stage, info in stages.items():
                _log_child(client, experiment, run_id, stage, info, metrics)
            status = "FINISHED"
        finally:
            client.set_terminated(run_id, status)
    return run_id


def _stage_tags(stages: Mapping[str, StageInfo]) -> dict[str, str]:
    """Tags with the md5 of every out and the source run of every stage, and a table of them for the run's page."""
    tags = {f"run_id/{stage}": info.run_id for stage, info in stages.items() if info.run_id}
    rows = ["| stage | cached | out | md5 | run |", "|---|---|---|---|---|"]
    for stage, info in stages.items():
        for path, md5 in info.outs.items():
            tags[f"md5/{stage}/{path}"] = md5
            rows.append(f"| {stage} | {'yes' if info.cached else 'no'} | {path} | {md5} | {info.run_id} |")
    return {**tags, "mlflow.note.content": "\n".join(rows)}


def _log_numbers(client: Any, run_id: str, metrics: Mapping[str, float | None]) -> None:
    now = int(time.time() * 1000)
    store.log_metrics(client, run_id, [(k, v, now, 0) for k, v in numbers(metrics).items()])


def _log_child(
    client: Any, experiment: str, parent: str, stage: str, info: StageInfo, metrics: Mapping[str, float | None]
) -> None:
    tags = {"mlflow.parentRunId": parent, "dvc_stage": stage, "cached": str(info.cached).lower()}
    child = client.create_run(experiment, run_name=stage, tags=tags).info.run_id
    store.set_tags(
        client, child, {"source_run_id": info.run_id, **{f"md5/{path}": md5 for path, md5 in info.outs.items()}}
    )
    mine = {name: value for name, value in metrics.items() if name.startswith(f"{stage}/")}
    _log_numbers(client, child, mine if info.seconds is None else {**mine, "seconds": info.seconds})
    client.set_terminated(child)
