"""Generate or import the problem sets. No train or rl problem is also in an eval set.

    python -m stages.problems

Deviations from the paper: 1. the default task is Countdown, generated here, instead of competition mathematics.
Mathematics can be imported (`problems.source: files`, `run.task: math`); train and rl then lose problems that overlap
with an eval set.
"""

from pathlib import Path

from astro.files import atomic_path, write_csv, write_jsonl, write_text
from astro.importing import import_sets
from astro.process import run_stage
from astro.tasks import get_task
from astro.validation import check_problems, require
from schemas.problems import Dropped, ProblemsMetrics, SetMetrics
from schemas.records import Problem
from stages.harness import METRICS, REPORTS, stage

OUT = Path("data/problems")


def mean_chance(problems: list[Problem]) -> float | None:
    """Mean probability that a random legal path succeeds; None: unknown for this task."""
    chances = [p.chance for p in problems if p.chance is not None]
    if len(chances) < len(problems):
        return None
    return round(sum(p.chance for p in problems if p.chance is not None) / len(problems), 6)


def main() -> None:
    """Write data/problems/{train,rl}.jsonl, data/problems/eval/<set>.jsonl and the list of dropped rows."""
    with stage("problems") as s:
        params, task = s.params.problems, get_task(s.params.run.spec)
        if params.source == "generated":
            found = None
            sets, dropped = task.make_sets(params, s.params.run.seed)
        else:
            found = import_sets(params, task)
            sets = found.sets
            dropped = found.lost("exact", "ngram", "repeated", evals=False)
        levels = {int(k): v for k, v in params.levels.items()} if params.source == "generated" else None
        gate = check_problems(sets, levels=levels, key=task.identity)
        require(gate, METRICS / "gate_problems.json", REPORTS / "data_docs")
        for name in ("train", "rl"):
            write_jsonl(OUT / f"{name}.jsonl", sets[name])
        write_csv(OUT / "dropped.csv", Dropped, found.dropped if found else [])
        with atomic_path(OUT / "corpus") as folder:
            write_text(folder / "source.txt", "the task\n" if task.makes_problems else "train.jsonl\n")
            if not task.makes_problems:
                write_jsonl(folder / "train.jsonl", sets["train"])
        with atomic_path(OUT / "eval") as folder:
            for name, problems in sets.items():
                if name.startswith("eval_"):
                    write_jsonl(folder / f"{name.removeprefix('eval_')}.jsonl", problems)
        s.finish(
            ProblemsMetrics(
                sets={name: SetMetrics(size=len(ps), chance=mean_chance(ps)) for name, ps in sets.items()},
                dropped=dropped,
                imported=found.metrics() if found else None,
            )
        )


if __name__ == "__main__":
    run_stage(main)
