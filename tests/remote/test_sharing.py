"""A team shares a run: data over an S3-compatible remote, tracking over a server with PostgreSQL and a bucket."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from astro import tracking
from tests.pipeline.checkout import Checkout, environment
from tests.remote import servers

pytestmark = pytest.mark.slow


def test_a_run_is_pushed_and_pulled_over_s3(finished: Checkout, bucket: servers.Bucket, tmp_path: Path):
    """As docs/sharing.md has it: the address is committed, keys are in the environment, the run cache comes along."""
    finished.run("dvc", "remote", "add", "-d", "team", f"s3://{servers.BUCKET}/dvc")
    finished.run("dvc", "remote", "modify", "team", "endpointurl", bucket.url)
    finished.commit("The team's remote")
    finished.run("dvc", "push", "--run-cache", **bucket.keys)

    finished.run("git", "clone", "-q", str(finished.root), str(tmp_path / "second"))
    second = Checkout(tmp_path / "second", environment(**bucket.keys))
    assert bucket.secret not in (second.root / ".dvc/config").read_text()
    second.run("dvc", "pull", "--run-cache")
    assert second.status() == set()
    assert (second.root / "models/grpo/model.safetensors").read_bytes() == (
        finished.root / "models/grpo/model.safetensors"
    ).read_bytes()

    # A lock that does not know the stage: what the first member ran is found, and not run again.
    runs = second.root / ".dvc/cache/runs"
    kept = runs.with_name("kept")
    runs.rename(kept)
    second.forget("sft@astro")
    kept.rename(runs)
    done = second.run("dvc", "repro", "-s", "sft@astro")
    assert done.ran == []
    assert second.md5("models/sft") == finished.md5("models/sft")


def test_wrong_keys_are_told(finished: Checkout, bucket: servers.Bucket):
    finished.run("dvc", "remote", "add", "--local", "-f", "wrong", f"s3://{servers.BUCKET}/dvc")
    finished.run("dvc", "remote", "modify", "--local", "wrong", "endpointurl", bucket.url)
    wrong = {**bucket.keys, "AWS_SECRET_ACCESS_KEY": "wrong"}
    done = finished.run("dvc", "push", "-r", "wrong", "models/grpo", ok=False, **wrong)
    assert done.code != 0
    assert "403" in done.err


def test_a_model_is_pushed_and_pulled_over_ssh(finished: Checkout, folder: Path, tmp_path: Path):
    store = tmp_path / "store"
    store.mkdir()
    with servers.ssh(folder) as (port, key):
        finished.run("dvc", "remote", "add", "--local", "-f", "machine", f"ssh://me@127.0.0.1:{port}{store}")
        finished.run("dvc", "remote", "modify", "--local", "machine", "keyfile", str(key))
        finished.run("dvc", "push", "-r", "machine", "models/grpo")
        second = finished.copy(tmp_path / "second")
        for gone in (second.root / ".dvc/cache", second.root / "models/grpo"):
            shutil.rmtree(gone)
        second.run("dvc", "pull", "-r", "machine", "models/grpo")
    weights = "models/grpo/model.safetensors"
    assert (second.root / weights).read_bytes() == (finished.root / weights).read_bytes()


def test_a_run_is_tracked_on_postgresql_and_seen_by_another_client(
    finished: Checkout,
    bucket: servers.Bucket,
    database: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    # through the server: this S3 server does not know the addresses that are signed for the bucket itself
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")

    keys = {**bucket.keys, "MLFLOW_S3_ENDPOINT_URL": bucket.url}
    with servers.mlflow(database, f"s3://{servers.BUCKET}/mlflow", folder, **keys) as (url, _):
        ours = {"MLFLOW_TRACKING_URI": url}  # no key of the bucket: the server has them
        finished.run("python", "-m", "stages.report", **ours)
        finished.run("python", "-m", "astro.export", "--alias", "production", **ours)
        assert not (finished.root / "mlflow.db").exists()

        client = MlflowClient(tracking_uri=url)
        experiment = client.get_experiment_by_name(tracking.PIPELINES)
        assert experiment.artifact_location.startswith("mlflow-artifacts:")
        runs = client.search_runs([experiment.experiment_id], "tags.fingerprint != ''")
        assert len(runs) == 1
        assert runs[0].data.metrics["eval/sets/numbers_4/grpo/pass_at_1/value"] == pytest.approx(0.279)
        lock = client.download_artifacts(runs[0].info.run_id, "dvc.lock", str(tmp_path))
        assert Path(lock).read_text() == (finished.root / "dvc.lock").read_text()
        version = client.get_model_version_by_alias("astro", "production")
        assert version.tags["dvc.md5"] == finished.md5("models/grpo")
        assert version.run_id == runs[0].info.run_id
        assert client.get_model_version_by_alias("astro", "current").version == version.version
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        loaded = download_artifacts("models:/astro@production", dst_path=str(tmp_path / "loaded"))
        weights = "model.safetensors"
        assert (Path(loaded) / "model" / weights).read_bytes() == (finished.root / "models/grpo" / weights).read_bytes()

    wrong = database.replace(servers.PASSWORD, "wrong")
    done = finished.run("python", "-m", "stages.problems", ok=False, MLFLOW_TRACKING_URI=wrong)
    assert done.code == 2
    assert "denies access" in done.err
    assert "wrong" not in done.err, "the password is shown"


def test_a_bucket_that_is_not_there_is_told_before_the_work(
    finished: Checkout, bucket: servers.Bucket, folder: Path, tmp_path: Path
):
    keys = {**bucket.keys, "MLFLOW_S3_ENDPOINT_URL": bucket.url}
    with servers.mlflow(f"sqlite:///{tmp_path}/m.db", "s3://nobody-made-it/x", folder, **keys) as (url, _):
        done = finished.run("python", "-m", "stages.problems", ok=False, MLFLOW_TRACKING_URI=url)
    assert done.code == 2
    assert "its artifacts cannot be read" in done.err
    assert (finished.root / "data/problems/train.jsonl").exists(), "nothing was begun"


def test_a_server_that_dies_in_the_middle_ends_no_stage(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_", "ASTRO_"))]:
        monkeypatch.delenv(name)
    with servers.mlflow(f"sqlite:///{tmp_path}/m.db", str(tmp_path / "artifacts"), folder) as (url, process):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        with tracking.stage_run("sft", {"k": 1}, tmp_path) as run:
            run.log_metrics({"loss": 1.0}, step=1)
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
            process.wait()
            run.log_metrics({"loss": 0.5}, step=2)
            run.set_tags({"late": 1})
    assert "1 metric points could not be written" in caplog.text or "2 metric points" in caplog.text
    assert "there is no server at this address" in caplog.text
