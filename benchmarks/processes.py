"""What engine processes are worth: the same searches with one process on all cores, and with several that share them.

    python -m benchmarks.processes [trees] [processes]

Takes models/base and data/problems/train.jsonl of the workspace (make run first), the engine and mcts sections of params.yaml.
One after the other in one run, each engine opened afresh, start-up not counted; the trees must be the same.
"""

import sys
import time

from astro.engines.opening import open_engine
from astro.execution.scheduler import run_searches
from astro.execution.tasks import SearchTask
from astro.params import load_params
from astro.runtime import UserError, read_jsonl, run_stage
from schemas.params import Params
from schemas.records import Problem
from stages.mcts import MODEL, PROBLEMS

DEFAULT_TREES, DEFAULT_PROCESSES = 400, 2


def grow(params: Params, problems: list[Problem], processes: int) -> tuple[dict, float]:
    """The trees by problem, and the seconds they took."""
    engine = open_engine(params.engine, params.execution.model_copy(update={"processes": processes}), MODEL)

    def run(chosen: list[Problem]) -> dict:
        task = SearchTask(params.mcts, params.run.domain, params.run.seed)
        found = run_searches(map(task, chosen), engine=engine, in_flight=params.execution.trees_in_flight)
        return dict(found)

    try:
        run(problems[:16])  # first batches pay for allocations
        began = time.perf_counter()
        trees = run(problems[16:])
        return trees, time.perf_counter() - began
    finally:
        engine.close()


def main() -> None:
    """Print both rates and their ratio."""
    given = [int(a) for a in sys.argv[1:]]
    count, processes = (given + [DEFAULT_TREES, DEFAULT_PROCESSES][len(given) :])[:2]
    params = load_params()
    problems = list(read_jsonl(PROBLEMS, Problem))[: count + 16]
    if len(problems) < count + 16:
        raise UserError(f"{PROBLEMS}: holds {len(problems)} problems, {count} trees need {count + 16}")
    one, alone = grow(params, problems, 1)
    several, together = grow(params, problems, processes)
    tokens = sum(tree.tokens for tree in one.values())
    print(f"trees {len(one)}, tokens {tokens}, same trees: {one == several}")
    print(f"1 process    {alone:8.1f} s  {tokens / alone:8.0f} tokens/s")
    print(f"{processes} processes  {together:8.1f} s  {tokens / together:8.0f} tokens/s")
    print(f"ratio {alone / together:.2f}")


if __name__ == "__main__":
    run_stage(main)
