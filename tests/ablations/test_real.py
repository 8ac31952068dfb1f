"""Run, stop, go on and tabulate against a real DVC, with one small stage for a pipeline."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from astro.ablations.checkout import CLONE
from astro.ablations.experiment_refs import dirty, experiments, git, head
from astro.ablations.experiment_results import trained
from astro.files import read_json
from schemas.ablations import AblationReport
from tests.ablations.conftest import commit, environment

FILE = Path("ablations.yaml")


def calls() -> list[str]:
    """`seed ablated` of each run of the stage."""
    return Path("work/calls").read_text().splitlines()


def edit_all() -> None:
    """Edits that are not committed: of params.yaml, staged and not, of the stage, and a new file."""
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("seed: 1", "seed: 9", 1))
    git("add", "params.yaml")
    params.write_text(params.read_text().replace("seed: 9", "seed: 8", 1))
    with Path("stage.py").open("a") as file:
        file.write("# an edit\n")
    Path("new.txt").write_text("new\n")


def states() -> list[str]:
    """All that a run must leave as it was: HEAD, branches, index, edits."""
    texts = [Path(name).read_text() for name in ("params.yaml", "stage.py", "dvc.yaml", "new.txt")]
    refs = git("for-each-ref", "refs/heads", "refs/stash", "refs/exps/exec", "refs/exps/stash")
    return [Path(".git/HEAD").read_text(), refs, git("diff", "--cached"), git("diff"), git("status", "-s"), *texts]


@pytest.mark.slow
def test_run_resume_and_table(ablations, pipeline):
    Path("work/fail").touch()
    one = ablations("run", "--seeds", "1")
    assert one.returncode == 1, one.stdout + one.stderr
    assert "reflection-off-s1: FAILED" in one.stdout
    assert "this stage fails" in Path("work/ablations/reflection-off-s1.log").read_text()
    assert list(experiments(head())) == ["default-s1"]  # the params are the commit's: an experiment all the same
    assert (dirty(), git("branch", "--show-current").strip()) == ([], "main")

    Path("work/fail").unlink()
    Path("work/calls").unlink()
    two = ablations("run", "--seeds", "1")
    assert two.returncode == 0, two.stdout + two.stderr
    assert "1/2 done, 1 to run" in two.stdout
    assert calls() == ["1 True"]

    found = read_json(Path("reports/ablations.json"), AblationReport)
    direct, sft, direct_rl, grpo = found.rows[1].figures
    assert direct.difference.value == direct_rl.difference.value == 0
    assert (sft.pass_at_1, sft.difference.value, sft.difference.n) == (0.25, -0.25, 4)
    assert (grpo.pass_at_1, grpo.by_seed[0].difference) == (0.5, -0.25)
    assert "-25.0" in two.stdout
    assert not Path("data").exists()  # the checkout was left alone

    commit(pipeline)  # another baseline: run again, from the run cache
    three = ablations("run", "--seeds", "1")
    assert "0/2 done, 2 to run" in three.stdout
    assert three.returncode == 0, three.stdout + three.stderr
    assert calls() == ["1 True"]


@pytest.mark.slow
def test_kept_runs_count_on_another_commit(ablations, pipeline):
    """As on another machine, which has the files that were committed and none of the experiments."""
    assert ablations("run", "--seeds", "1").returncode == 0
    before = read_json(Path("reports/ablations.json"), AblationReport)
    commit_before = head()
    kept = ablations("keep")
    assert kept.returncode == 0, kept.stderr
    assert kept.stdout.count("kept: ") == 2
    commit(pipeline)
    again = ablations("run", "--seeds", "1")
    assert again.returncode == 0, again.stderr
    assert "2/2 done, 0 to run" in again.stdout
    after = read_json(Path("reports/ablations.json"), AblationReport)
    assert [row.figures for row in after.rows] == [row.figures for row in before.rows]
    assert {run.commit for row in after.rows for run in row.runs} == {commit_before}
    assert "kept" in ablations("list").stdout
    assert "no planned run is finished" in ablations("keep").stdout


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on_and_own_edits_are_not_touched(how, ablations, pipeline):
    Path("work/hang").touch()
    edit_all()
    before = states()
    arguments = [sys.executable, "-m", "astro.ablations", "run", "--only", "reflection-off", "--seeds", "1"]
    heeds = partial(
        signal.signal, signal.SIGINT, signal.default_int_handler
    )  # also where these tests run in the background
    process = subprocess.Popen(arguments, env=environment(), start_new_session=True, preexec_fn=heeds)
    deadline = time.monotonic() + 60
    while not Path("work/calls").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if how == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, how)  # as a terminal does
    assert process.wait(30) in (130, -signal.SIGKILL)
    assert states() == before
    Path("work/hang").unlink()
    done = ablations("run", "--only", "reflection-off", "--seeds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert states() == before
    assert not CLONE.exists()
    assert list(experiments(head())) == ["reflection-off-s1"]


@pytest.mark.parametrize(
    ("sets", "models"),
    [
        ({}, ["sft_direct", "sft", "grpo_direct", "grpo"]),
        ({"steps: 26": "steps: 0"}, ["sft_direct", "sft"]),
        ({"epochs: 2.0": "epochs: 0"}, ["grpo_direct", "grpo"]),
    ],
)
def test_a_model_that_was_not_trained_is_not_compared(sets, models, repository):
    text = Path("params.yaml").read_text()
    for old, new in sets.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    Path("params.yaml").write_text(text)
    commit(repository)
    assert trained("HEAD") == models


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.5, 2.0, 4.0])
def test_a_kill_at_any_moment_leaves_the_checkout_alone(after_s, pipeline):
    """DVC once wrote to it for a moment before each run."""
    edit_all()
    before = states()
    arguments = [sys.executable, "-m", "astro.ablations", "run", "--only", "reflection-off", "--seeds", "1"]
    process = subprocess.Popen(arguments, env=environment(), start_new_session=True)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert states() == before
