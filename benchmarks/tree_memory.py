"""Memory of a tree in flight: so many searches half-way, none of them ended.

    python -m benchmarks.tree_memory [trees]

Trees of params.mcts over a policy without a model; each is stopped before its last iterations. What is counted is what Python
holds for them (tracemalloc), divided by their number: nodes, rollouts, requests outstanding.
"""

import sys
import tracemalloc

from astro.execution.scheduler import Job
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.params import load_params
from astro.process import run_stage
from benchmarks.world import Policy, problems

DEFAULT = 500


def main() -> None:
    """Print one line for params.mcts, one for the paper's search."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    params, policy = load_params(), Policy()
    plain = params.mcts.model_copy(update={"prior": "uniform", "method": "mcts"})
    paper = plain.model_copy(
        update={"num_actions": 8, "rollouts_per_child": 16, "num_simulations": 32, "max_depth": 50}
    )
    for name, settings, trees in (
        ("params.mcts", plain, count),
        ("k 8, M 16, 32 iterations", paper, max(1, count // 10)),
    ):
        jobs = SearchJobs(settings, "countdown", 1)
        tracemalloc.start()
        held = [half_way(jobs(problem)[1], policy, settings.num_simulations) for problem in problems(trees)]
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{name}: {len(held)} trees in flight, {used / len(held) / 1024:.1f} KiB each", flush=True)


def half_way(job: Job, policy: Policy, batches: int) -> object:
    """A job after so many batches of answers (a tree has at most twice as many), or all but its last one."""
    wanted = next(job)
    try:
        for _ in range(batches):
            wanted = job.send([policy(request) for request in wanted])
    except StopIteration as stop:
        return stop.value
    return job, wanted


if __name__ == "__main__":
    run_stage(main)
