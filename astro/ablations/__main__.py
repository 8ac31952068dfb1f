"""See the package's docstring."""

import argparse
import sys
from pathlib import Path

from astro.ablations import runner, table
from astro.ablations.committed_results import all_kept, changed, keep, kept, of_an_earlier_default, result_of
from astro.ablations.experiment_refs import done, experiments, head
from astro.ablations.experiment_results import read
from astro.ablations.spec import Planned, committed_params, plan
from astro.files import write_json, write_text
from astro.process import plural, program, run_stage
from astro.viz.ablation_page import render
from schemas.ablations import BASELINE

FILE = Path("ablations.yaml")
REPORT = Path("reports/ablations.json")


def show(planned: list[Planned]) -> None:
    """Print each run and whether it is done."""
    known, base = experiments(head()), committed_params(planned[0].profile)
    for one in planned:
        state = "done" if done(one, known) else "kept" if kept(one) else "-"
        same = one.ablation.set and one.params == {**base, "run": {**base["run"], "seed": one.seed}}
        print(f"{one.name:24} {state:5} {' '.join(one.ablation.set)}{'  (as the default)' if same else ''}")


def tabulate(planned: list[Planned], file: Path) -> None:
    """Read the existing results, write reports/ablations.json, .md and .html, and print the table."""
    commit = head()
    known, base = experiments(commit), committed_params(planned[0].profile)
    seeds = list(dict.fromkeys(p.seed for p in planned))
    compared = {p.name: p for p in [*plan(file, only=[BASELINE], seeds=seeds), *planned]}
    here = {name: rev for name, p in compared.items() if (rev := done(p, known))}
    elsewhere = all_kept({name: p for name, p in compared.items() if name not in here})
    earlier = {} if here or elsewhere else of_an_earlier_default(compared)
    elsewhere |= earlier
    found_by_name = {n: read(n, rev) for n, rev in here.items()}
    found_by_name |= {n: result_of(run, compared[n].folder) for n, run in elsewhere.items()}
    commits = here | {name: run.commit for name, run in elsewhere.items()}
    results = {(compared[n].ablation.name, compared[n].seed): result for n, result in found_by_name.items()}
    found = table.report(
        planned,
        commits,
        results,
        commit=commit,
        resamples=base["eval"]["bootstrap_resamples"],
        seed=base["run"]["seed"],
    )
    write_json(REPORT, found)
    write_text(REPORT.with_suffix(".md"), table.markdown(found))
    write_text(REPORT.with_suffix(".html"), render(found))
    print(table.text(found))
    if earlier:
        was = next(run for name, run in earlier.items() if compared[name].ablation.name == BASELINE)
        what = "; ".join(changed(was.params, base))
        print(f"\nno run used the current default parameters; these runs used earlier ones: {what}")
    print(f"\nwritten: {REPORT}, {REPORT.with_suffix('.md')}, {REPORT.with_suffix('.html')}")


def keep_all(planned: list[Planned]) -> None:
    """Write the runs of this commit into `results`."""
    commit = head()
    known = experiments(commit)
    written = [keep(p, read(p.name, rev), commit=commit) for p in planned if (rev := done(p, known))]
    print("\n".join(f"kept: {path}" for path in written) or f"no planned run is finished on commit {commit[:7]}")


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(
        prog=program("ablations"), description="Run and compare the ablations of ablations.yaml."
    )
    parser.add_argument(
        "what",
        choices=["run", "table", "list", "keep"],
        nargs="?",
        default="run",
        help="run what is missing and print the table (default), print the table, list the runs, or keep finished runs as files",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these ablations")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[], metavar="N", help="seeds, instead of those in the file"
    )
    parser.add_argument("--file", type=Path, default=FILE, help=f"the list of ablations (default: {FILE})")
    given = parser.parse_args()
    planned = plan(given.file, only=given.only, seeds=given.seeds)
    if given.what == "list":
        show(planned)
        return
    if given.what == "keep":
        keep_all(planned)
        return
    try:
        failed = runner.run(planned) if given.what == "run" else []
    except KeyboardInterrupt:
        print("[ablations] interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(130)
    tabulate(planned, given.file)
    if failed:
        print(
            f"error: {plural(len(failed), 'run')} failed: {', '.join(failed)}; see work/ablations/<run>.log",
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
