"""Build one search tree per train problem (paper section 2.2).

    python -m stages.mcts

Deviations from the paper: 3. the default budget is smaller (k, M and iterations are parameters); 4. duplicate actions
are merged, which the paper does not mention; 5. the rollouts of a new child count as its first visit; 16. `mcts.method:
best_of_n` samples whole solutions instead, for the comparison that reviewers requested; 20. rollouts can be reused as
children.
"""

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from astro.execution.job_runner import Meter, open_runner, run_jobs
from astro.execution.result_store import FILE, ResultStore, write_shards
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_jsonl
from astro.process import UserError, plural, run_stage
from astro.search.stats import TreeFigures
from astro.tasks.chat import chat_for
from astro.validation import GateError, check_trees, require
from schemas.mcts import MctsMetrics
from schemas.records import Problem, Tree
from stages.harness import METRICS, REPORTS, Stage, stage, tell_unanswered

OUT = Path("data/trees")
MODEL = Path("models/base")
PROBLEMS = Path("data/problems/train.jsonl")
LOG_S = 10.0
"""Seconds between two progress reports (console and MLflow)."""


class Pace:
    """Reports the speed of the search: a note for the console, and curves for MLflow."""

    def __init__(self, s: Stage, meter: Meter) -> None:
        self._s, self._meter = s, meter
        self._last = time.monotonic()
        self._trees = self._solved = self._tokens = 0

    def count(self, tree: Tree, done: int, total: int) -> str:
        """Count one more tree (`done` of `total`). Returns the note."""
        self._trees += 1
        self._solved += any(n.verdict == "correct" for n in tree.nodes)
        self._tokens += tree.tokens
        now = time.monotonic()
        wall = self._meter.worker_s / self._meter.workers  # without the start of the engines
        rate, busy, solved = self._trees / wall, self._meter.busy, self._solved / self._trees
        if now - self._last >= LOG_S or done == total:
            self._last = now
            row = {"trees_per_min": 60 * rate, "tokens_per_s": self._tokens / wall, "solved": solved}
            row |= {"minutes_left": (total - done) / rate / 60, "busy": busy, "workers": self._meter.workers}
            self._s.log({f"pace/{name}": value for name, value in row.items()}, step=done)
        workers = "" if self._s.params.execution.runner == "local" else f", {plural(self._meter.workers, 'worker')}"
        return (
            f"{60 * rate:.0f} trees/min, {self._tokens / wall:.0f} tokens/s, {solved:.0%} solved, "
            f"engines {busy:.1%} busy{workers}"
        )


def problems(s: Stage) -> Iterator[Problem]:
    """The problems to search."""
    return islice(read_jsonl(PROBLEMS, Problem), s.params.mcts.problems)


def grow(s: Stage, store: ResultStore[Tree]) -> Meter:
    """Search every problem that is missing in the store. Returns the usage of the engines."""
    run, meter = s.params.run, Meter()
    chat = chat_for(run.prompt, MODEL)
    jobs = SearchJobs(s.params.mcts, run.spec, run.seed, chat, check_steps=True, answers=run.answers)
    with open_runner(s.params.engine, s.params.execution, MODEL) as runner:
        run_jobs(
            jobs,
            lambda: problems(s),
            store=store,
            runner=runner,
            in_flight=s.params.execution.trees_in_flight,
            label="mcts",
            unit="trees",
            meter=meter,
            note=Pace(s, meter).count,
        )
    return meter


def counted(trees: Iterator[Tree], figures: TreeFigures) -> Iterator[Tree]:
    """Yield all trees and collect their figures, in one pass over the store."""
    unanswered = []
    for tree in trees:
        figures.add(tree)
        if not tree.tokens:
            unanswered.append(tree.problem.id)
        yield tree
    tell_unanswered("mcts", unanswered)


REMEDY = (
    "if too few trees have right and wrong ends, raise mcts.num_simulations or mcts.num_actions, use easier problems "
    "(problems.levels), or train a better base (base.corpus.rows, base.warmup.steps)"
)


def main() -> None:
    """Write data/trees/*.jsonl in the order of the problems, regardless of scheduling and interruptions."""
    with stage("mcts") as s:
        count = sum(1 for _ in problems(s))
        if not count:
            raise UserError(f"{PROBLEMS}: contains no problems")
        with s.work(without=("mcts.gate",)) as work, contextlib.closing(ResultStore(work / FILE, Tree)) as store:
            grow(s, store)
            figures = TreeFigures()
            trees = counted((store[p.id] for p in problems(s)), figures)
            gate = check_trees(trees, searched=s.params.mcts.method == "mcts", **s.params.mcts.gate.model_dump())
            try:
                require(gate, METRICS / "gate_mcts.json", REPORTS / "data_docs")
            except GateError as error:
                raise GateError(f"{error}\n  {REMEDY}") from None
            s.require_unchanged()
            write_shards(OUT, store.lines(p.id for p in problems(s)), count=count, shards=s.params.mcts.shards)
        s.finish(MctsMetrics(**figures.metrics()))


if __name__ == "__main__":
    run_stage(main)
