"""What the documents show of a run: the default's figures, and the tutorial's problem from search tree to answer.

    python -m tools.docs.record_run RUN [PROFILE]

RUN is a checkout in which the default has run. Writes results/default and results/tutorial.json. With a profile, RUN is
a checkout in which this profile has run, and only its figures are written, into results/PROFILE.

The models answer by `astro.ask`, so the record holds what a reader sees in the terminal.
"""

import contextlib
import io
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from astro.arms import contracts
from astro.ask import ask, chosen
from astro.files import read_json, read_jsonl, read_shards, write_json
from astro.params import load_params
from astro.process import UserError, run_stage
from astro.viz.terminal import Terminal
from schemas.evaluate import EvalMetrics
from schemas.problems import ProblemsMetrics
from schemas.records import Completion, Problem, StageRecord, Trace, Tree
from schemas.strict import Strict

RESULTS = Path("results")
EXAMPLE = RESULTS / "tutorial.json"
DEFAULT, OVERNIGHT = "default", "overnight"
"""Profiles whose figures are in the documents."""

QUESTION = "make 14 from 11 9 12"
TREE, TRACE = "train-01035", "train-01035/0"
"""A small tree with right and wrong ends, and a chain of it that returns to a step and to the problem."""

UNSEEN, SAMPLE = "eval_n3-00054", 0
"""A problem of the eval set n3 that is in no training set, and the number of the answer to show."""

WIDTH = 90
"""Columns of the terminal whose output is recorded."""

DIRECT, MAIN = "grpo_direct", "grpo"
T = TypeVar("T", Problem, Trace, Tree)


class Example(Strict):
    """Content of results/tutorial.json."""

    tree: Tree = Field(description="the tree of a training problem")
    trace: Trace = Field(description="a training chain made of the tree")
    printed: str = Field(description="output of `astro ask` on the problem of the tree")
    unseen: Problem = Field(description="a problem of an eval set")
    answers: list[Completion] = Field(
        description=("answers of DIRECT and MAIN on the unseen problem, from the eval stage")
    )


class Run(Strict):
    """Content of results/PROFILE/run.json."""

    commit: str
    seed: int
    seconds: dict[str, float] = Field(description="stage -> wall time")
    peak_memory_gb: float = Field(description="largest peak among the stages' main processes")
    metrics: dict[str, dict] = Field(description="stage -> its metrics, except for eval")


def example() -> Example:
    """The committed record of the tutorial."""
    return read_json(EXAMPLE, Example)


def run(profile: str = DEFAULT) -> Run:
    """The committed record of a profile's run."""
    return read_json(RESULTS / profile / "run.json", Run)


def figures(profile: str = DEFAULT) -> EvalMetrics:
    """The eval metrics of a profile's run."""
    return read_json(RESULTS / profile / "eval.json", EvalMetrics)


def problems() -> ProblemsMetrics:
    """Sizes and chance levels of its problem sets."""
    return ProblemsMetrics.model_validate(run().metrics["problems"])


def recorded_example() -> Example:
    """Read the tutorial's problem from the finished run in the current folder.

    Raises:
        UserError: it is not the default with seed 1, or it is not finished.
    """
    params = load_params()
    tree = _with_id(read_shards(Path("data/trees"), Tree), TREE)
    if tree.problem.question != QUESTION:
        raise UserError(
            f"{TREE} is {tree.problem.question!r} in this run, but the tutorial is written for {QUESTION!r}"
        )
    unseen = _with_id(read_jsonl(Path("data/problems/eval/n3.jsonl"), Problem), UNSEEN)
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    terminal = Terminal(screen, colour=False, width=WIDTH)
    terminal.line(tree.problem.question)
    for name, folder in chosen(None, None).items():
        ask(name, folder, tree.problem, params, samples=1, seed=1, terminal=terminal)
    return Example(
        tree=tree,
        trace=_with_id(read_jsonl(Path("data/traces/train.jsonl"), Trace), TRACE),
        printed=_written(screen),
        unseen=unseen,
        answers=[_answer(model) for model in (DIRECT, MAIN)],
    )


def recorded_figures() -> tuple[Run, EvalMetrics]:
    """Read the figures of the finished run in the current folder.

    Raises:
        UserError: it is not finished.
    """
    seed = load_params().run.seed
    records = {name: read_json(Path(f"records/{name}.json"), StageRecord) for name in contracts()}
    metrics = {name: read_json(Path(f"metrics/{name}.json"), contract) for name, contract in contracts().items()}
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return (
        Run(
            commit=head.stdout.strip(),
            seed=seed,
            seconds={name: record.seconds for name, record in records.items()},
            peak_memory_gb=max(record.peak_memory_gb for record in records.values()),
            metrics={name: m.model_dump() for name, m in metrics.items() if name != "eval"},
        ),
        read_json(Path("metrics/eval.json"), EvalMetrics),
    )


def _written(screen: io.TextIOWrapper) -> str:
    screen.seek(0)
    return screen.read()


def _with_id(rows: Iterable[T], wanted: str) -> T:
    """The row with this id (for a tree: its problem's id)."""
    for row in rows:
        if (row.problem.id if isinstance(row, Tree) else row.id) == wanted:
            return row
    raise UserError(f"{wanted} is missing; the documents are recorded from the default run with seed 1")


def _answer(model: str) -> Completion:
    """The model's answer to UNSEEN."""
    path = Path("data/completions") / f"{model}.jsonl"
    for completion in read_jsonl(path, Completion):
        if (completion.problem_id, completion.sample) == (UNSEEN, SAMPLE):
            return completion
    raise UserError(
        f"{path}: no sample {SAMPLE} of {UNSEEN}; the documents are recorded from the default run with seed 1"
    )


def main() -> None:
    """Record the run in the folder given on the command line."""
    if len(sys.argv) not in (2, 3):
        raise UserError("expected the checkout of a finished run, and the profile if it is not the default")
    profile = sys.argv[2] if len(sys.argv) == 3 else DEFAULT
    with contextlib.chdir(sys.argv[1]):
        found = recorded_example() if profile == DEFAULT else None
        about, measured = recorded_figures()
    if found:
        write_json(EXAMPLE, found)
    write_json(RESULTS / profile / "run.json", about)
    write_json(RESULTS / profile / "eval.json", measured)


if __name__ == "__main__":
    run_stage(main)
