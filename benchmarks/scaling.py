"""Problems per minute over Ray workers: a real local cluster, engines with real latencies and no model.

    python -m benchmarks.scaling [workers ...]

The cluster has more cores than the machine: the engines sleep. Start-up is not counted: the clock runs from the first result
to the last, and the ideal is the rate of one worker times their number.
"""

import os
import sys
import time

from astro.execution.job_runner import Meter
from astro.execution.ray_runner import RayRunner
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.process import run_stage
from benchmarks.world import Open, problems, settings
from schemas.execution import RayParams

WORKERS, EACH, IN_FLIGHT, NODES = (1, 2, 4, 8), 120, 16, 4
ENGINE = Open(slots=16, token_s=0.02, sigma=1.0)


def measure(address: str, workers: int) -> tuple[float, float]:
    """(problems per minute, share of the time that the engines worked)."""
    count, times, meter = EACH * workers, [], Meter()
    ray = RayParams(address=address, workers=workers, wait_timeout_s=300.0)
    found = RayRunner(ENGINE, settings=ray, gpus=0).run(
        SearchJobs(settings(), "countdown", 1), problems(count), total=count, in_flight=IN_FLIGHT, meter=meter
    )
    for _ in found:
        times.append(time.monotonic())
    return 60 * (len(times) - 1) / (times[-1] - times[0]), meter.busy


def main() -> None:
    """A line per number of workers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    chosen = [int(a) for a in sys.argv[1:]] or list(WORKERS)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=-(-max(chosen) // NODES))
        first = None
        for workers in chosen:
            rate, busy = measure(cluster.address, workers)
            first = first or rate / workers
            print(
                f"{workers:2} workers: {rate:7.0f} problems/min, {rate / first / workers:6.1%} of ideal, engines {busy:.0%} busy",
                flush=True,
            )
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    run_stage(main)
