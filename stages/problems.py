"""Make or import the problem sets; no train or rl problem also stands in an eval set.

    python -m stages.problems

Deviations from the paper: 1. the default world is Countdown, made here, instead of competition mathematics.
"""

from pathlib import Path

from astro.domains import get_domain
from astro.domains.countdown_sets import import_set, make_sets
from astro.gates import check_problems, require
from astro.runtime import atomic_path, run_stage, write_jsonl
from schemas.problems import ProblemsMetrics, SetMetrics
from stages.harness import METRICS, REPORTS, stage

OUT = Path("data/problems")


def main() -> None:
    """Write data/problems/{train,rl}.jsonl and data/problems/eval/<set>.jsonl."""
    with stage("problems", "run", "problems") as s:
        params = s.params.problems
        build = make_sets if params.source == "generated" else import_set
        sets, dropped = build(params.model_dump(), seed=s.params.run.seed)
        levels = {int(k): v for k, v in params.levels.items()} if params.source == "generated" else None
        gate = check_problems(sets, levels=levels, key=get_domain(s.params.run.domain).identity)
        require(gate, METRICS / "gate_problems.json", REPORTS / "data_docs")
        for name in ("train", "rl"):
            write_jsonl(OUT / f"{name}.jsonl", sets[name])
        with atomic_path(OUT / "eval") as folder:
            for name, problems in sets.items():
                if name.startswith("eval_"):
                    write_jsonl(folder / f"{name.removeprefix('eval_')}.jsonl", problems)
        s.finish(
            ProblemsMetrics(
                sets={
                    name: SetMetrics(size=len(ps), chance=round(sum(p.chance or 0 for p in ps) / len(ps), 6))
                    for name, ps in sets.items()
                },
                dropped=dropped,
            )
        )


if __name__ == "__main__":
    run_stage(main)
