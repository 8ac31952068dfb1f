"""A small real repository: git, DVC, the project's params.yaml, and one stage in place of the pipeline."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STAGE = """
import json, os, pathlib, time
import ruamel.yaml
from astro.process import die_with_parent, home_root

die_with_parent()
params = ruamel.yaml.YAML(typ="safe").load(open("params.yaml"))
home = home_root()
seed, ablated = params["run"]["seed"], not params["linearize"]["reflection"]
with open(home / "work/calls", "a") as calls:
    calls.write(f"{seed} {ablated}\\n")
if ablated and (home / "work/hang").exists():
    time.sleep(60)
if ablated and (home / "work/fail").exists():
    raise SystemExit("this stage fails")
chain = {"nodes": [], "back_edges": [], "attempts": [], "repeats": 0, "unparsed": 0}
problems, sets = [f"p{i}" for i in range(4)], {}
write = lambda path, rows: (
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True),
    pathlib.Path(path).write_text("".join(json.dumps(r) + "\\n" for r in rows)),
)
write("data/problems/eval/n3.jsonl", [
    {"id": p, "task": "countdown", "question": f"{p} of seed {seed}", "gold": "24", "level": 3, "chance": None}
    for p in problems
])
for model, right in (("sft_direct", 1), ("sft", 2), ("grpo_direct", 1), ("grpo", 3)):
    right -= ablated and not model.endswith("direct")
    write(f"data/completions/{model}.jsonl", [
        {"model": model, "set": "n3", "problem_id": p, "sample": 0, "text": "", "tokens": 1, "finished": True,
         "answer": None, "verdict": "correct" if i < right else "wrong", "chain": chain}
        for i, p in enumerate(problems)
    ])
    sets[model] = {"pass_at_1": {"value": right / 4}}
write("metrics/eval.json", [{"sets": {"n3": sets}}])
"""

PIPELINE = """
stages:
  eval:
    cmd: exec python stage.py
    params: [run, linearize]
    deps: [stage.py]
    outs: [data/problems/eval, data/completions]
    metrics: [metrics/eval.json]
"""

ABLATIONS = """
seeds: [1, 2]
ablations:
  - {name: default, question: what is it?, set: []}
  - {name: reflection-off, question: does it help?, set: [linearize.reflection=false]}
"""


def environment() -> dict[str, str]:
    """The running interpreter and this source tree; nothing of the caller's DVC or git."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "GIT_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: git and the files that ablations read, one commit."""
    monkeypatch.chdir(tmp_path)
    for name in [n for n in os.environ if n.startswith(("DVC_", "GIT_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "arms.yaml").write_text((ROOT / "arms.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "ablations.yaml").write_text(ABLATIONS)
    (tmp_path / ".gitignore").write_text("/work/\n/reports/\n")
    for command in (
        ["init", "-q", "-b", "main"],
        ["config", "user.name", "tester"],
        ["config", "user.email", "tester@example.invalid"],
    ):
        subprocess.run(["git", *command], check=True)
    commit(tmp_path)
    return tmp_path


def commit(root: Path) -> None:
    """Commit all there is."""
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "a state", "--allow-empty"], cwd=root, check=True)


@pytest.fixture
def pipeline(repository: Path) -> Path:
    """`repository` with DVC and a stage that takes a moment."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True, env=environment())
    subprocess.run([sys.executable, "-m", "dvc", "config", "core.analytics", "false"], check=True, env=environment())
    (repository / "stage.py").write_text(STAGE)
    (repository / "dvc.yaml").write_text(PIPELINE)
    (repository / "work").mkdir()
    with (repository / ".gitignore").open("a") as file:
        file.write("/data/\n/metrics/\n")
    commit(repository)
    return repository


@pytest.fixture
def ablations(pipeline: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run `python -m astro.ablations` there."""

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "astro.ablations", *arguments]
        return subprocess.run(
            command, cwd=pipeline, env=environment(), capture_output=True, text=True, timeout=300, check=False
        )

    return call
