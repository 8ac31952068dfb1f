"""Many trees through linearize: time, and the stage's largest resident size.

    python -m benchmarks.linearize [trees ...]

Trees of random play (no model), a few hundred different ones under as many ids as are asked for; the stage runs by its own
command, with the params of the smoke profile.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from astro.execution.job_runner import LocalRunner, Meter
from astro.execution.search_and_sample_jobs import SearchJobs
from astro.files import read_json, write_jsonl
from astro.process import run_stage
from astro.profiles import merged
from benchmarks.world import Open, problems, settings
from schemas.linearize import LinearizeMetrics
from schemas.records import Problem, StageRecord, Tree

DEFAULT = (10_000, 100_000)
DIFFERENT = 400
ROOT = Path(__file__).parents[1]
CODE = ("astro", "schemas", "stages", "phrases", "profiles", "dvc.yaml", "arms.yaml")


def trees(count: int) -> Iterator[Tree]:
    """So many trees with ids of their own."""
    jobs, runner = SearchJobs(settings(num_simulations=8), "countdown", 1), LocalRunner(Open(sleeps=False))
    asked = map(summed, problems(DIFFERENT))
    grown = [t for _, t in runner.run(jobs, asked, total=DIFFERENT, in_flight=64, meter=Meter())]
    for number in range(count):
        tree = grown[number % DIFFERENT]
        yield tree.model_copy(update={"problem": tree.problem.model_copy(update={"id": f"t{number}"})})


def summed(problem: Problem) -> Problem:
    """The problem with the sum of its numbers as target: random play solves it often."""
    make, _, *rest = problem.question.split()
    total = str(sum(map(int, rest[1:])))
    return problem.model_copy(update={"question": " ".join([make, total, *rest]), "gold": total})


def linearized(count: int) -> tuple[LinearizeMetrics, StageRecord]:
    """What the stage says of itself after so many trees."""
    with tempfile.TemporaryDirectory(prefix="linearize-") as home:
        folder = Path(home)
        for name in CODE:
            (folder / name).symlink_to(ROOT / name)
        params = merged(ROOT / "profiles/smoke.yaml", (ROOT / "params.yaml").read_text())
        (folder / "params.yaml").write_text(params)
        write_jsonl(folder / "data/trees/00000.jsonl", trees(count))
        other = Problem(id="e", task="countdown", question="make 3 from 1 2", gold="3", level=2, chance=None)
        write_jsonl(folder / "data/problems/eval/n2.jsonl", [other])
        (folder / "models/base").mkdir(parents=True)
        (folder / "models/base/config.json").write_text("{}")
        subprocess.run(
            [sys.executable, "-m", "stages.linearize"],
            cwd=folder,
            env=os.environ | {"ASTRO_TRACKING": "off"},
            check=True,
        )
        metrics = read_json(folder / "metrics/linearize.json", LinearizeMetrics)
        return metrics, read_json(folder / "records/linearize.json", StageRecord)


def main() -> None:
    """A line per number of trees."""
    for count in [int(a) for a in sys.argv[1:]] or DEFAULT:
        metrics, record = linearized(count)
        print(
            f"{count} trees, {metrics.traces} examples: {record.seconds:.0f} s, {1024 * record.peak_memory_gb:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    run_stage(main)
