"""What each saving is worth: tokens per valid tree with it and without it, on the same problems.

    python -m benchmarks.savings [problems]

Takes models/base and data/problems/train.jsonl of the workspace (make run first), engine and mcts of params.yaml. For prefix
caching, which changes no token, the seconds; one process, engines opened one after the other, start-up not counted.
"""

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from astro.execution.scheduler import run_searches
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_jsonl
from astro.inference.engine import Engine
from astro.inference.factory import open_engine
from astro.params import load_params
from astro.process import UserError, run_stage
from astro.search.stats import tree_metrics
from schemas.params import Params
from schemas.records import Problem, Tree
from stages.mcts import MODEL, PROBLEMS

DEFAULT = 300


def grow(engine: Engine, params: Params, problems: Sequence[Problem], **changes: Any) -> tuple[dict[str, Tree], float]:
    """Trees with changed params.mcts (savings by their own names), and seconds."""
    savings = {k: changes.pop(k) for k in list(changes) if k in type(params.mcts.savings).model_fields}
    changes["savings"] = params.mcts.savings.model_copy(update=savings)
    jobs = SearchJobs(params.mcts.model_copy(update={"method": "mcts", **changes}), params.run.spec, params.run.seed)
    getattr(engine, "reset_prefix_cache", lambda: None)()
    began = time.perf_counter()
    found = run_searches(
        map(jobs, problems), engine=engine, in_flight=params.execution.trees_in_flight, grade=jobs.grade
    )
    trees = dict(found)
    return trees, time.perf_counter() - began


def row(name: str, trees: dict[str, Tree], seconds: float) -> None:
    """One line of the table."""
    m: dict[str, Any] = tree_metrics(list(trees.values()))
    price = f"{m['tokens_per_valid_tree']:8.0f}" if m["tokens_per_valid_tree"] else "    none"
    print(
        f"{name:44} {m['tokens'] / m['trees']:7.0f} {m['requests'] / m['trees']:8.1f} {m['valid']:7.1%} {m['solved']:7.1%} "
        f"{price} {seconds:7.1f} s",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    params = load_params()
    problems = list(read_jsonl(PROBLEMS, Problem))[: count + 8]
    if len(problems) < count:
        raise UserError(f"{PROBLEMS}: has {len(problems)} problems, but {count} were requested")
    warm, problems = problems[:8], problems[:count]
    print(
        f"{count} problems, k {params.mcts.num_actions}, M {params.mcts.rollouts_per_child}, "
        f"{params.mcts.num_simulations} simulations"
    )
    print(f"{'':44} tokens requests   valid  solved tokens per valid tree")
    engine = open_engine(params.engine, params.execution, MODEL)
    run = partial(grow, engine, params)
    try:
        run(warm)
        default, seconds = run(problems)
        row("as in params.yaml", default, seconds)
        row("merge_steps: false", *run(problems, merge_steps=False))
        same, seconds = run(problems, grade_once=False)
        row(f"grade_once: false (same trees: {same == default})", same, seconds)
        for m in sorted({params.mcts.rollouts_per_child, 4}):
            row(f"prior frequency, M {m}", *run(problems, prior="frequency", rollouts_per_child=m))
            row(
                f"prior frequency, M {m}, reuse_rollouts: true",
                *run(problems, prior="frequency", rollouts_per_child=m, reuse_rollouts=True),
            )
    finally:
        engine.close()
    again = sum(n.visits - 1 for t in default.values() for n in t.nodes if n.terminal)
    drawn = [r.tokens for t in default.values() for n in t.nodes for r in n.rollouts]
    spared = again * params.mcts.rollouts_per_child * sum(drawn) / len(drawn)
    tokens = sum(t.tokens for t in default.values())
    print(
        f"finished nodes reached again: {again / count:.1f} a tree, for no token; M rollouts each would be {spared / tokens:+.0%}"
    )
    for caching in (True, False):
        vllm = params.engine.vllm.model_copy(update={"prefix_caching": caching})
        engine = open_engine(params.engine.model_copy(update={"vllm": vllm}), params.execution, MODEL)
        try:
            grow(engine, params, warm)
            trees, seconds = grow(engine, params, problems)
        finally:
            engine.close()
        row(f"engine.vllm.prefix_caching: {caching} (same: {trees == default})", trees, seconds)


if __name__ == "__main__":
    run_stage(main)
