"""GRPO in two processes (torchrun, gloo): the same curve as in one, also after a kill in between."""

import pytest
import torch

from astro.process import UserError
from astro.training.launch import launch
from schemas.compute_profile import Compute
from tests.training import grpo_world

pytestmark = pytest.mark.slow

TWO = Compute(device="cpu", processes=2, strategy="ddp")


@pytest.mark.parametrize("half_known", [False, True])
@pytest.mark.parametrize("changes", [{"loss_type": "dapo"}])
def test_two_processes_killed_and_gone_on_give_the_curve_of_one(tmp_path, monkeypatch, changes, half_known):
    """The step's 16 completions are shared out, groups and all; rank 0 is killed by SIGKILL between two checkpoints.

    half_known: lengths vary, and the processes have different numbers of completions without a gradient.
    """
    changes = changes | (grpo_world.UNEVEN if half_known else {})
    task = grpo_world.HalfKnown() if half_known else None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "one").mkdir()
    trainer, alone = grpo_world.run(tmp_path / "one", task=task, **changes)
    work, rows = tmp_path / "two", []
    work.mkdir()
    given = {"work": str(work), "changes": changes, "half_known": half_known, "kill": 3}
    with pytest.raises((SystemExit, UserError)):
        launch(grpo_world.job, given, compute=TWO, work=work, log=lambda row, step: rows.append(step))
    assert rows == [1, 2, 3]
    result = launch(grpo_world.job, given, compute=TWO, work=work, log=lambda row, step: rows.append(step))
    assert rows == [1, 2, 3, 3, 4]  # from the checkpoint of step 2
    assert result["world"] == 2
    assert [row["step"] for row in result["curve"]] == [1, 2, 3, 4]
    for ours, theirs in zip(result["curve"], alone, strict=True):
        assert ours["reward"] == theirs["reward"]
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert any(abs(row["loss"]) > 1e-3 for row in alone)
    whole = torch.load(work / "weights.pt")
    for name, p in trainer.model.state_dict().items():
        assert torch.allclose(whole[name], p, atol=1e-4), name
