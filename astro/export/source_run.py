"""The run to export: what made the model, its figures, and whether the files still match dvc.lock."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astro.arms import contracts, models
from astro.code_identity import stale_code
from astro.dvc_files import LOCK, Entry, read_pipeline
from astro.files import digest, read_json, read_jsonl
from astro.params import PARAMS_FILE, load_params, plain, read_yaml
from astro.process import UserError
from schemas.params import Params
from schemas.records import Problem, Trace

TRAIN = Path("data/problems/train.jsonl")
TRACES = {"train": Path("data/traces/train.jsonl"), "direct": Path("data/traces/direct.jsonl")}
"""Split of the data set -> the file with its chains."""


def titles() -> dict[str, str]:
    """Model (models/<name>) -> its name in the tables."""
    return {model.name: model.label for model in models().values()}


@dataclass(frozen=True)
class Run:
    """One verified state of the workspace."""

    model: str
    """Name of the model: models/<model>."""
    params: Params
    metrics: Mapping[str, Any]
    """Stage -> its metrics, for eval and the stages that made the model."""
    lineage: Mapping[str, Mapping[str, Mapping[str, str]]]
    """Stage -> "deps" and "outs" -> path -> md5 from dvc.lock, in the order of the pipeline."""
    commit: str
    """Commit that contains this dvc.lock; "": there is no git, or it is not committed."""
    stale: tuple[str, ...]
    """Mismatches, one line each. Empty unless --allow-stale was given."""
    prompt: str
    """An example of a prompt as the model saw it; "": there are no chains."""
    question: str
    """The problem of that prompt."""

    @property
    def folder(self) -> Path:
        """The model's folder in the workspace."""
        return Path("models") / self.model

    def md5(self, path: Path | str) -> str:
        """DVC's hash of an out."""
        return next(outs[str(path)] for stage in self.lineage.values() if str(path) in (outs := stage["outs"]))

    @property
    def fingerprint(self) -> str:
        """Short hash of everything that made the model and its figures."""
        return digest(self.model, self.lineage, self.params.model_dump())


def read_run(model: str, *, allow_stale: bool = False) -> Run:
    """Read the run of this workspace whose stage `model` made the model.

    Raises:
        UserError: a required stage was not run, or its params, code or files have changed since. With `allow_stale`
            changes are recorded in `Run.stale`, but a missing stage is still an error.
    """
    params = load_params()
    graph = read_pipeline(plain(read_yaml(PARAMS_FILE)))
    needed = stages_of(graph, model)
    if not LOCK.is_file():
        raise UserError(f"{LOCK}: no such file, so nothing has been run; run `dvc repro` first")
    locked = plain(read_yaml(LOCK)).get("stages", {})
    missing = [
        name for name in needed if name not in locked or not all(Path(p).is_file() for p in metrics_of(graph[name]))
    ]
    if not Path("models", model).is_dir() and stage_of(model) not in missing:
        missing.append(stage_of(model))
    if missing:
        raise UserError(
            f"stage {', '.join(missing)}: not run, or its results are missing; `dvc repro` makes them, `dvc pull` "
            "fetches those of others"
        )
    stale = stale_lines(dvc_status(needed))
    for script in dict.fromkeys(name.partition("@")[0] for name in needed):
        stale += [f"stage {script}: {path} modified" for path in stale_code(script, params.run.task)]
    if stale and not allow_stale:
        raise UserError(
            "the files do not belong to one run:\n  " + "\n  ".join(stale) + "\n`dvc repro` runs the changed "
            "stages, and `dvc checkout` "
            "restores the files of dvc.lock; "
            "--allow-stale exports the files "
            "as they are and notes it in the "
            "card"
        )
    prompt, question = example()
    return Run(
        model=model,
        params=params,
        metrics={
            Path(p).stem: read_json(Path(p), contracts()[Path(p).stem]) for n in needed for p in metrics_of(graph[n])
        },
        lineage={name: {kind: hashes(locked[name].get(kind, [])) for kind in ("deps", "outs")} for name in needed},
        commit=commit_of_lock(),
        stale=tuple(stale),
        prompt=prompt,
        question=question,
    )


def stage_of(model: str) -> str:
    """DVC's name of the stage that makes a model, such as "grpo@astro"."""
    found = models()[model]
    return f"{found.stage}@{found.arm}"


def metrics_of(entry: Entry) -> list[str]:
    """Metrics of a stage that have a contract: metrics/<name>.json."""
    return [out for out in entry.outs if out in {f"metrics/{name}.json" for name in contracts()}]


def stages_of(graph: Mapping[str, Entry], model: str) -> list[str]:
    """The stages that `model` depends on, its own, those of the chains, and eval, in the order of the pipeline."""
    makers = {path: name for name, entry in graph.items() for path in entry.outs}
    found: set[str] = set()
    todo = [stage_of(model), "linearize"]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [makers[dep] for dep in graph[name].deps if dep in makers]
    return [name for name in graph if name in found or name == "eval"]


def hashes(entries: list[dict]) -> dict[str, str]:
    """Path -> md5, for entries of a stage in dvc.lock."""
    return {entry["path"]: entry["md5"] for entry in entries if "md5" in entry}


def dvc_status(stages: list[str]) -> dict[str, list]:
    """Changes in these stages according to DVC; {}: none.

    Raises:
        UserError: DVC itself fails.
    """
    command = [sys.executable, "-m", "dvc", "status", "--json", *stages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc status: {(done.stderr or done.stdout).strip()}")
    return json.loads(done.stdout)


def stale_lines(status: Mapping[str, list]) -> list[str]:
    """The output of `dvc status` in words: "stage sft: data/traces/train.jsonl modified"."""
    lines = []
    for stage, changes in status.items():
        for change in changes:
            if not isinstance(change, dict):
                lines.append(f"stage {stage}: {change}")
                continue
            for kind, paths in change.items():
                if isinstance(paths, dict):
                    lines += [f"stage {stage}: {what}" for path, how in paths.items() for what in said(path, how)]
                else:
                    lines.append(f"stage {stage}: {kind}: {paths}")
    return lines


def said(path: str, how: object) -> list[str]:
    """One line per changed file, or per changed param of a file."""
    if isinstance(how, dict):
        return [f"{key} in {path} {change}" for key, change in how.items()]
    return [f"{path} {how}"]


def commit_of_lock() -> str:
    """The commit that introduced this dvc.lock; "": there is no git, or the lock differs from the committed one.

    It is not the newest commit, because a commit that touches other files must not change the export.
    """

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("status", "--porcelain", "--", str(LOCK)) != "":
        return ""
    return git("log", "-1", "--format=%H", "--", str(LOCK)) or ""


def example() -> tuple[str, str]:
    """(prompt of the first training chain as the model saw it, its problem); ("", ""): there are no chains."""
    questions = {p.id: p.question for p in read_jsonl(TRAIN, Problem)}
    for path in TRACES.values():
        for trace in read_jsonl(path, Trace):
            return trace.prompt, questions.get(trace.problem_id, "")
    return "", ""
