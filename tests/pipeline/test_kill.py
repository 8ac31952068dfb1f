"""SIGKILL in the middle of a long stage, and of DVC itself: what is done is kept, and the result is the same.

The stages under test are first forgotten (dvc.lock, run cache and outs), so that a plain `dvc repro` runs them; the
results of the uninterrupted run are those of the smoke pipeline.
"""

import re
import signal
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from astro.execution.result_store import FILE
from astro.tracking import store
from benchmarks.world import stored
from tests.pipeline.checkout import Checkout, Running, kill
from tests.pipeline.conftest import Smoke, require_same_training

pytestmark = pytest.mark.slow


def lines(root: Path) -> int:
    """Finished trees in the work folder of mcts."""
    return sum(map(stored, (root / "work/mcts").glob(f"*/{FILE}")))


def wait_for_trees(running: Running, count: int) -> None:
    running.wait_for(lambda: lines(running.root) >= count, what=f"{count} trees in the store")


def wait_for_checkpoint(running: Running, stage: str, step: int) -> None:
    """Until the folder of the checkpoint appears: its files are still being written then."""
    folder = running.root / "work" / stage
    running.wait_for(lambda: any(folder.glob(f"*/checkpoint-{step}")), what=f"checkpoint {step} of {stage}")


def statuses(root: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of all MLflow runs of a stage, oldest first."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    client = store.load(root).MlflowClient()
    experiment = client.get_experiment_by_name("stages").experiment_id
    runs = client.search_runs([experiment], f"tags.dvc_stage = '{stage}'", order_by=["attributes.start_time ASC"])
    return [r.info.status for r in runs]


def test_mcts_killed_with_dvc_grows_the_same_trees(smoke: Smoke, copy: Checkout, monkeypatch: pytest.MonkeyPatch):
    """DVC is killed, and the stage with it; the next run goes on and ends with the trees of the first, and the same chains."""
    copy.forget("mcts", "linearize")
    # Few trees at a time, so that some are finished early. Trees do not depend on it: the reference holds.
    copy.set_param("execution.trees_in_flight", 8)

    with copy.started("dvc", "repro", "mcts") as running:
        wait_for_trees(running, 5)
        kill(running.process)
        assert running.end() == -signal.SIGKILL
        deadline = time.monotonic() + 10
        while running.family() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running.family() == [], "the stage outlived DVC"
    assert not (copy.root / "data/trees").exists()
    assert "mcts" not in copy.lock()
    kept = lines(copy.root)
    assert 5 <= kept < 60

    done = copy.run("dvc", "repro")
    assert f"resumes: {kept} of 60 trees" in done.out
    for path in ("data/trees", "metrics/mcts.json", "data/traces/train.jsonl", "data/traces/direct.jsonl"):
        assert copy.md5(path) == smoke.checkout.md5(path), path
    # Trees and chains are the same, so nothing that reads them runs again; the report shows the new stage runs.
    assert done.ran == ["mcts", "linearize", "report"]
    assert statuses(copy.root, "mcts", monkeypatch) == ["FINISHED", "KILLED", "FINISHED"]
    assert [p.name for p in (copy.root / "work/mcts").glob("*/*") if p.name != "lock"] == []


def test_killed_grpo_ends_with_the_same_model(smoke: Smoke, copy: Checkout):
    """The stage is killed while a checkpoint is being written."""
    copy.forget("grpo@astro")
    with copy.started("dvc", "repro", "-s", "grpo@astro") as running:
        wait_for_checkpoint(running, "grpo", 2)
        kill(running.stage_process("grpo"))
        assert running.end() != 0
    assert not (copy.root / "models/grpo").exists()
    assert not (copy.root / "metrics/curves/grpo.csv").exists()

    done = copy.run("dvc", "repro", "-s", "grpo@astro")
    found = re.search(r"\[grpo\] resumes from checkpoint-(\d+)", done.out)
    assert found, done
    assert int(found[1]) in {1, 2}
    assert not re.search(r"\[grpo\] \d+/40, .* problems/s", done.out), "the pass rates were measured again"
    require_same_training(copy, smoke.checkout, "grpo")


def test_sft_and_grpo_models_differ(smoke: Smoke):
    """GRPO has something to learn from in the smoke profile; else the test above would pass with any training."""
    assert smoke.checkout.md5("models/grpo") != smoke.checkout.md5("models/sft")
    weights = [load_file(smoke.checkout.root / f"models/{name}/model.safetensors") for name in ("sft", "grpo")]
    assert any(not weights[0][k].equal(weights[1][k]) for k in weights[0])
