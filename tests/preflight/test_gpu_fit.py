"""The stages refuse at their start what the dry run would: before the long work, on the GPUs that are there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from astro.params import load_params
from astro.preflight.gpu_fit import check_start
from astro.preflight.memory import GIB
from astro.process import UserError
from astro.profiles import find, merged
from tests.preflight.world import PARAMS, params_of

H100, L4 = 79 * GIB, 22 * GIB


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch):
    monkeypatch.setenv("ASTRO_COMPUTE", "gpu-1")
    monkeypatch.delenv("ASTRO_FIT", raising=False)


STAGES = ["problems", "base", "mcts", "linearize", "sft", "sft_direct", "grpo", "grpo_direct", "eval", "report"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_gpu_that_holds_all_of_it_is_taken(stage):
    check_start(stage, params_of("llama-3.1-8b"), [H100])


REFUSED = {
    "base": ["sft: needs 27.", "grpo: needs"],  # all that is to come
    "sft": ["sft: needs 27.", "(2 of them) has 22.0", "QLoRA"],
    "sft_direct": ["sft: needs 27."],
    "grpo": ["grpo: needs"],
}


@pytest.mark.parametrize("stage", REFUSED)
def test_too_small_a_gpu_is_refused_before_the_work(stage):
    with pytest.raises(UserError) as caught:
        check_start(stage, params_of("llama-3.1-8b"), [H100, L4])
    assert [part for part in REFUSED[stage] if part not in str(caught.value)] == []
    assert "ASTRO_FIT=warn" in str(caught.value)


def test_another_stage_is_not_held_up_by_it():
    check_start("problems", params_of("llama-3.1-8b"), [L4])
    with pytest.raises(UserError) as caught:
        check_start("sft", params_of("llama-3.1-8b"), [L4])
    assert "grpo" not in str(caught.value)


def test_an_engine_that_cannot_start_is_refused():
    params = params_of("llama-3.1-8b", "engine: {vllm: {dtype: float32}}\n")
    with pytest.raises(
        UserError, match=r"execution\.vllm\.gpu_memory_utilization 0\.9: .* one sequence of 17408 tokens"
    ):
        check_start("mcts", params, [L4])
    ray = params_of("llama-3.1-8b", "engine: {vllm: {dtype: float32}}\nexecution: {ray: {address: auto}}\n")
    check_start("mcts", ray, [L4])  # the cluster's GPUs are not these


def test_who_knows_better_goes_on(monkeypatch, capsys):
    monkeypatch.setenv("ASTRO_FIT", "warn")
    check_start("sft", params_of("llama-3.1-8b"), [L4])
    assert "warning: sft: needs 27." in capsys.readouterr().out


def test_a_missing_accelerate_config_is_refused_at_the_base_stage(monkeypatch, tmp_path):
    text = "device: gpu\nprocesses: 2\nstrategy: fsdp2\naccelerate: compute/accelerate/gone.yaml\n"
    (tmp_path / "mine.yaml").write_text(text)
    monkeypatch.setenv("ASTRO_COMPUTE", str(tmp_path / "mine.yaml"))
    for stage in ("base", "sft", "grpo"):
        with pytest.raises(UserError, match=r"gone\.yaml: no such file"):
            check_start(stage, params_of("llama-3.1-8b"), [H100, H100])


def test_without_a_gpu_and_in_the_embedded_world_nothing_is_asked():
    check_start("base", params_of("llama-3.1-8b"), [])
    check_start("sft", load_params(), [GIB])


def test_a_stage_ends_with_2_and_leaves_nothing(tmp_path):
    """The real command: before data is read, a run is opened or torch is loaded."""
    text = "device: gpu\nprocesses: 2\nstrategy: fsdp2\naccelerate: compute/accelerate/gone.yaml\n"
    (tmp_path / "mine.yaml").write_text(text)
    (tmp_path / "params.yaml").write_text(merged(find("llama-3.1-8b"), PARAMS))
    for name in ("arms.yaml", "dvc.yaml"):
        shutil.copy(name, tmp_path)
    environment = os.environ | {"ASTRO_COMPUTE": "mine.yaml", "PYTHONPATH": str(Path.cwd())}
    for name in ("arms.yaml", "dvc.yaml"):
        (tmp_path / name).write_text(Path(name).read_text())
    before = sorted(p.name for p in tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-m", "stages.sft"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    assert "gone.yaml: no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before
