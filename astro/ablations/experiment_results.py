"""Read results of experiments from their commits through DVC, so that cached outs need not be in the workspace."""

import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from astro.ablations.experiment_refs import params_at
from astro.arms import models
from astro.evaluation.accuracy import pass_at_1
from astro.files import explain
from astro.process import UserError, plural
from schemas.records import Completion, Problem

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

_Record = TypeVar("_Record", bound=BaseModel)

COMPLETIONS = "data/completions"
PROBLEMS = "data/problems/eval"
METRICS = "metrics/eval.json"
TOLERANCE = 1e-6
"""Tolerance, because metrics/eval.json holds rounded figures."""


@dataclass(frozen=True)
class Result:
    """The result of one run."""

    questions: dict[str, dict[str, str]]
    """eval set -> problem id -> question"""

    scores: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    """(eval set, model) -> problem id -> pass@1, 0..1"""


def read(name: str, rev: str) -> Result:
    """Read the result of the experiment `name` at its commit `rev`.

    Raises:
        UserError: a file is missing or broken, samples occur twice, a model answered other problems, or metrics/eval.json
            contradicts the completions.
    """
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(rev=rev)
    questions: dict[str, dict[str, str]] = {}
    for path in sorted(_list(files, PROBLEMS, name)):
        problems = _records(files, path, Problem, name)
        questions[PurePosixPath(path).stem] = {p.id: p.question for p in problems}
    metrics = json.loads(_bytes(files, METRICS, name))
    result = Result(questions)
    for model in trained(rev):
        completions = _records(files, f"{COMPLETIONS}/{model}.jsonl", Completion, name)
        for set_name, asked in questions.items():
            try:
                scores = pass_at_1(c for c in completions if c.set == set_name)
            except ValueError as error:
                raise UserError(f"experiment {name}: {COMPLETIONS}/{model}.jsonl, set {set_name}: {error}") from None
            _check(name, set_name, model, scores, asked, metrics)
            result.scores[set_name, model] = scores
    return result


def trained(rev: str) -> list[str]:
    """The models that the run trained. After 0 epochs, or 0 steps, a model is a copy of another one."""
    params = params_at(rev) or {}
    kept = {"sft": params.get("sft", {}).get("epochs") == 0, "grpo": params.get("grpo", {}).get("steps") == 0}
    return [model.name for model in models().values() if not kept[model.stage]]


def _check(name: str, set_name: str, model: str, scores: dict, asked: dict, metrics: dict) -> None:
    """Check that each problem of the set was answered, and that the metrics agree."""
    if scores.keys() != asked.keys() or not scores:
        raise UserError(
            f"experiment {name}: {model} answered {plural(len(scores), 'problem')} of set {set_name}, which has {len(asked)}; "
            f"only on one side: {sorted(scores.keys() ^ asked.keys())[:3]}"
        )
    try:
        told = metrics["sets"][set_name][model]["pass_at_1"]["value"]
    except (KeyError, TypeError):
        raise UserError(f"experiment {name}: {METRICS}: no sets.{set_name}.{model}.pass_at_1.value") from None
    mean = sum(scores.values()) / len(scores)
    if abs(mean - told) > TOLERANCE:
        raise UserError(
            f"experiment {name}: {METRICS} gives {told} for {set_name}, {model}, but the completions give {mean}"
        )


def _list(files: "DVCFileSystem", folder: str, name: str) -> list[str]:
    try:
        return [p for p in files.ls(folder, detail=False) if p.endswith(".jsonl")]
    except Exception as error:  # errors of DVC and fsspec have no common base class
        raise UserError(f"experiment {name}: {folder}: {error or type(error).__name__}") from None


def _bytes(files: "DVCFileSystem", path: str, name: str) -> bytes:
    try:
        with files.open(path, "rb") as stream:
            return stream.read()
    except Exception as error:
        raise UserError(f"experiment {name}: {path}: {error or type(error).__name__}") from None


def _records(files: "DVCFileSystem", path: str, record: type[_Record], name: str) -> list[_Record]:
    """The records of a JSON lines file, in order."""
    found = []
    for number, line in enumerate(_bytes(files, path, name).splitlines(), 1):
        if line.strip():
            try:
                found.append(record.model_validate_json(line))
            except ValidationError as error:
                raise UserError(f"experiment {name}: {path}, line {number}: {explain(error)}") from None
    return found
