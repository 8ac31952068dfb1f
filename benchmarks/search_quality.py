"""What the tokens buy: the search against best-of-N with as many tokens, and against the plain reference MCTS.

    python -m benchmarks.search_quality [problems] [seed]

Takes models/base and data/problems/train.jsonl of the workspace (make run first), engine and mcts of params.yaml. N is set so
that N solutions cost as many tokens as a tree, measured on the first fifty problems. The reference (tests/search/reference.py)
is written from the paper's formulas alone; it runs once with the search's seeds on the first hundred problems, where it must
make the same trees, and once with seeds of its own on all, where it must be as good.
"""

import queue
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from astro.evaluation.compute_matched import is_solved
from astro.evaluation.intervals import bootstrap_mean, paired_difference
from astro.execution.scheduler import Job, run_searches
from astro.execution.search_and_sample_jobs import SearchJobs, ToGrade
from astro.files import read_jsonl
from astro.inference.engine import Engine
from astro.inference.factory import open_engine
from astro.params import load_params
from astro.process import UserError, run_stage
from schemas.records import Problem, Tree
from stages.mcts import MODEL, PROBLEMS
from tests.search.reference import Reference

DEFAULT, CALIBRATION, SAME, RESAMPLES = 400, 50, 100, 2000


@dataclass(frozen=True)
class ReferenceJobs:
    """A tree by the reference: `jobs` renders its requests and grades. The job returns the Reference."""

    jobs: SearchJobs
    seed: int

    @property
    def task(self) -> str:
        """As `astro.execution.job_runner.Jobs`."""
        return self.jobs.task

    def __call__(self, problem: Problem) -> tuple[str, Job]:
        """As `astro.execution.job_runner.Jobs`."""
        return problem.id, self._job(problem)

    def grade(self, wanted: Any) -> Any:
        """As `astro.execution.job_runner.Jobs`."""
        return self.jobs.grade(wanted)

    def _job(self, problem: Problem) -> Job:
        """The reference asks and waits; it runs in a thread, and this generator hands on what it asks."""
        asked: queue.SimpleQueue = queue.SimpleQueue()
        answers: queue.SimpleQueue = queue.SimpleQueue()
        s = self.jobs.settings

        def ask(wanted: Any) -> Any:
            asked.put(wanted)
            return answers.get()

        task = self.jobs._task

        def judge(steps: Sequence[str], rest: str) -> Any:
            return self.jobs.grade([ToGrade(problem, task.response(steps, rest))])[0]

        plain = Reference(
            ask=ask,
            problem_id=problem.id,
            seed=self.seed,
            k=s.num_actions,
            rollouts=s.rollouts_per_child,
            max_depth=s.max_depth,
            c_puct=s.c_puct,
            prior=s.prior,
            is_terminal=task.is_terminal,
            judge=judge,
            key=task.state_key,
        )

        def work() -> None:
            for _ in range(s.num_simulations):
                if plain.root.ended:
                    break
                plain.iterate()
            asked.put(None)

        threading.Thread(target=work, daemon=True).start()
        while (wanted := asked.get()) is not None:
            samples = yield [self.jobs.request(problem, wanted)]
            answers.put(samples[0])
        return plain


def found_in(result: Tree | Reference) -> tuple[float, float, float, float]:
    """(holds a correct terminal node, a correct and a wrong one, tokens, nodes)."""
    if isinstance(result, Tree):
        verdicts = {n.verdict for n in result.nodes if n.terminal}
        return "correct" in verdicts, {"correct", "wrong"} <= verdicts, result.tokens, len(result.nodes)
    ended = {state.verdict for state in result.born if state.ended} | {result.root.verdict}
    return "correct" in ended, {"correct", "wrong"} <= ended, result.tokens, 1 + len(result.born)


def grow(
    engine: Engine, jobs: SearchJobs | ReferenceJobs, problems: Sequence[Problem], in_flight: int
) -> tuple[dict, float]:
    """Results by problem, and seconds."""
    began = time.perf_counter()
    found = run_searches(map(jobs, problems), engine=engine, in_flight=in_flight, grade=jobs.grade)
    return dict(found), time.perf_counter() - began


def interval(values: Sequence[float], seed: int) -> str:
    """Per cent with its interval."""
    e = bootstrap_mean(np.asarray(values, dtype=float), resamples=RESAMPLES, rng=np.random.default_rng(seed))
    return f"{e.value:6.1%} [{e.low:.1%}, {e.high:.1%}]"


def difference(one: dict, two: dict, which: int, seed: int) -> str:
    """Paired difference in points."""
    better, worse = ({name: float(found_in(r)[which]) for name, r in results.items()} for results in (one, two))
    e = paired_difference(better, worse, resamples=RESAMPLES, rng=np.random.default_rng(seed))
    return f"{100 * e.value:+.1f} [{100 * e.low:+.1f}, {100 * e.high:+.1f}]"


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    params = load_params()
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else params.run.seed
    problems = list(read_jsonl(PROBLEMS, Problem))[:count]
    if len(problems) < count:
        raise UserError(f"{PROBLEMS}: has {len(problems)} problems, but {count} were requested")
    make = partial(SearchJobs, task=params.run.spec, seed=seed)
    tree_settings = params.mcts.model_copy(update={"method": "mcts"})
    search = make(tree_settings)
    engine = open_engine(params.engine, params.execution, MODEL)
    run = partial(grow, engine, in_flight=params.execution.trees_in_flight)
    try:
        results = {"search": run(search, problems)[0]}
        some = params.mcts.model_copy(update={"method": "best_of_n", "samples": 16})
        drawn = run(make(some), problems[:CALIBRATION])[0]
        each = sum(t.tokens for t in drawn.values()) / (16 * len(drawn))
        n = round(sum(t.tokens for t in results["search"].values()) / count / each)
        settings = params.mcts.model_copy(update={"method": "best_of_n", "samples": n})
        results[f"best of {n}"] = run(make(settings), problems)[0]
        twins = run(ReferenceJobs(search, seed), problems[:SAME])[0]
        results["reference, other seeds"] = run(ReferenceJobs(search, seed + 1), problems)[0]
    finally:
        engine.close()
    print(
        f"{count} problems, seed {seed}, k {params.mcts.num_actions}, M {params.mcts.rollouts_per_child}, "
        f"{params.mcts.num_simulations} simulations"
    )
    print(
        f"{'':24} {'correct terminal node':24} {'valid for linearization':24} {'any correct solution':24} tokens/problem"
    )
    for name, found in results.items():
        rows = [found_in(r) for r in found.values()]
        anywhere = [is_solved(r) for r in found.values() if isinstance(r, Tree)]
        cells = [interval([r[0] for r in rows], seed), interval([r[1] for r in rows], seed)]
        cells.append(interval(anywhere, seed) if anywhere else "")
        print(f"{name:24} " + " ".join(f"{c:24}" for c in cells) + f" {sum(r[2] for r in rows) / count:8.0f}")
    for name, found in list(results.items())[1:]:
        solved, valid = (difference(results["search"], found, i, seed) for i in (0, 1))
        print(f"search - {name}, points, paired: correct terminal {solved}, valid {valid}")
    same = sum(found_in(results["search"][name]) == found_in(twin) for name, twin in twins.items())
    print(f"same verdicts, tokens and nodes as the reference with the same seeds: {same} of {len(twins)}")


if __name__ == "__main__":
    run_stage(main)
