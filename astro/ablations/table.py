"""The table of ablations: pass@1 of each ablation compared with the default, in pairs.

The unit is a (seed, problem). The runs of an ablation and of the default with the same seed answer the same problems,
so the difference is taken within the unit, and the units are resampled (95 % percentile bootstrap). Seeds are not
resampled as well: three seeds allow only ten different bootstrap sets, so an interval for the effect of the seed would
be a guess, and too narrow by at least a third. The interval therefore says how the mean would vary over other problems
with these trainings; it does NOT cover further seeds. For that, the table also shows the lowest and highest difference
of a seed. If they differ in sign, the interval must not be read as a finding.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from astro.ablations.experiment_results import Result
from astro.ablations.spec import Planned
from astro.arms import baselines, models
from astro.evaluation.intervals import paired_difference, rounded
from astro.process import UserError, plural
from astro.viz.labels import style
from astro.viz.markdown_table import table as piped
from schemas.ablations import (
    BASELINE,
    AblationFigure,
    AblationReport,
    AblationRow,
    AblationRun,
    ArmsFigure,
    SeedDifference,
)
from schemas.evaluate import Estimate

Results = Mapping[tuple[str, int], Result]
"""(name of the ablation, seed) -> result, for the existing runs."""


def check_same_problems(results: Results) -> None:
    """Check that the runs of a seed have the same problems, because pairs need them.

    Raises:
        UserError: sets, ids or questions differ; names the run and the first problem.
    """
    first: dict[int, tuple[str, Result]] = {}
    for (name, seed), result in results.items():
        other, expected = first.setdefault(seed, (name, result))
        for set_name in sorted(expected.questions.keys() | result.questions.keys()):
            here, there = result.questions.get(set_name, {}), expected.questions.get(set_name, {})
            if odd := sorted(i for i in here.keys() | there.keys() if here.get(i) != there.get(i)):
                raise UserError(
                    f"{name}-s{seed} and {other}-s{seed} cannot be paired: in set {set_name} "
                    f"{plural(len(odd), 'problem differs', 'problems differ')}, the first is {odd[0]}: "
                    f"{here.get(odd[0])!r} and {there.get(odd[0])!r}"
                )


def figure(
    name: str, set_name: str, model: str, results: Results, seeds: Sequence[int], *, resamples: int, seed: int
) -> AblationFigure:
    """One cell: pass@1 of `model` on `set_name` under ablation `name`.

    Args:
        seeds: requested seeds; those without a run are left out.
        resamples, seed: settings of the bootstrap.
    """

    mine = _scores(name, set_name, model, results, seeds)
    base = {} if name == BASELINE else _scores(BASELINE, set_name, model, results, seeds)
    difference, by_seed = _paired(mine, base, resamples=resamples, seed=seed)
    values = [v for by_problem in mine.values() for v in by_problem.values()]
    return AblationFigure(
        set=set_name,
        model=model,
        pass_at_1=rounded(np.mean(values)) if values else None,
        seeds=list(mine),
        difference=difference,
        by_seed=by_seed,
    )


def arms(
    name: str, set_name: str, model: str, results: Results, seeds: Sequence[int], *, resamples: int, seed: int
) -> ArmsFigure | None:
    """The gain of the search prior under ablation `name`: `model` minus its baseline; None: not measured.

    Args:
        seeds, resamples, seed: see `figure`.
    """
    searching, direct = (_scores(name, set_name, m, results, seeds) for m in (model, baselines()[model]))
    difference, by_seed = _paired(searching, direct, resamples=resamples, seed=seed)
    if difference is None:
        return None
    return ArmsFigure(set=set_name, model=model, difference=difference, by_seed=by_seed)


Scores = Mapping[int, Mapping[str, float]]
"""Seed -> problem id -> pass@1."""


def _scores(ablation: str, set_name: str, model: str, results: Results, seeds: Sequence[int]) -> Scores:
    """Scores of the seeds with a run that trained the model."""
    found = {s: results[ablation, s].scores for s in seeds if (ablation, s) in results}
    return {s: by_cell[set_name, model] for s, by_cell in found.items() if (set_name, model) in by_cell}


def _paired(
    better: Scores, worse: Scores, *, resamples: int, seed: int
) -> tuple[Estimate | None, list[SeedDifference]]:
    """`better - worse` over the common seeds, and within each seed; (None, []): there is none."""
    both = [s for s in better if s in worse]
    if not both:
        return None, []
    rng = np.random.default_rng(seed)
    difference = paired_difference(_units(better, both), _units(worse, both), resamples=resamples, rng=rng)
    each = {s: np.mean([better[s][i] - worse[s][i] for i in better[s]]) for s in both}
    return difference, [SeedDifference(seed=s, difference=rounded(value)) for s, value in each.items()]


def _units(scores: Mapping[int, Mapping[str, float]], seeds: Sequence[int]) -> dict[str, float]:
    """`<seed>/<problem id>` -> pass@1."""
    return {f"{s}/{i}": value for s in seeds for i, value in scores[s].items()}


def report(
    planned: Sequence[Planned],
    commits: Mapping[str, str],
    results: Results,
    *,
    commit: str,
    resamples: int,
    seed: int,
) -> AblationReport:
    """Build the whole table.

    Args:
        planned: rows, in order, with all their seeds.
        commits: experiment -> its commit, for those that are done.
        results: results of these, and of the default, which need not be a row.

    Raises:
        UserError: see `check_same_problems`.
    """
    check_same_problems(results)
    sets = sorted({s for r in results.values() for s in r.questions})
    seeds = list(dict.fromkeys(p.seed for p in planned))
    rows = []
    for ablation in {p.ablation.name: p.ablation for p in planned}.values():
        runs = [p for p in planned if p.ablation.name == ablation.name]
        rows.append(
            AblationRow(
                name=ablation.name,
                question=ablation.question,
                set=ablation.set,
                runs=[
                    AblationRun(seed=p.seed, experiment=p.name, commit=commits.get(p.name), command=p.command)
                    for p in runs
                ],
                figures=[
                    figure(ablation.name, set_name, model, results, seeds, resamples=resamples, seed=seed)
                    for set_name in sets
                    for model in models()
                ],
                arms=[
                    found
                    for set_name in sets
                    for model in baselines()
                    if (found := arms(ablation.name, set_name, model, results, seeds, resamples=resamples, seed=seed))
                ],
            )
        )
    return AblationReport(commit=commit, seeds=seeds, rows=rows)


# --- output -----------------------------------------------------------------------------------------------------------

HEADER = ("set", "model", "ablation", "pass@1", "difference", "95 % interval", "per seed", "seeds", "pairs")


def cells(table: AblationReport) -> list[tuple[str, ...]]:
    """Rows of the table under `HEADER`: set by set, model by model. Figures in percent and percentage points."""
    lines = []
    of = {row.name: {(f.set, f.model): f for f in row.figures} for row in table.rows}
    keys = list(dict.fromkeys(key for figures in of.values() for key in figures))
    for key in keys or [("-", "-")]:
        lines += [(*key, row.name, *_figures(of[row.name].get(key), len(table.seeds))) for row in table.rows]
    return lines


def _figures(found: AblationFigure | None, asked: int) -> tuple[str, ...]:
    """Text of one cell. asked: number of requested seeds."""
    if found is None or found.pass_at_1 is None:
        return ("-", "-", "-", "-", f"0/{asked}", "-")
    mean, count = f"{100 * found.pass_at_1:.1f}", f"{len(found.seeds)}/{asked}"
    if found.difference is None:
        return (mean, "-", "-", "-", count, "-")
    paired = len(found.by_seed)
    return (
        mean,
        *_difference(found.difference, found.by_seed),
        count if paired == len(found.seeds) else f"{count}, {paired} paired",
        str(found.difference.n),
    )


def _difference(d: Estimate, by_seed: Sequence[SeedDifference]) -> tuple[str, str, str]:
    """The difference, its interval, and the lowest and highest difference of a seed."""
    seeds = [100 * s.difference for s in by_seed]
    return (
        f"{100 * d.value:+z.1f}",
        f"{100 * d.low:+z.1f} .. {100 * d.high:+z.1f}",
        f"{min(seeds):+z.1f} .. {max(seeds):+z.1f}",
    )


ARMS_HEADER = ("set", "arms", "ablation", "difference", "95 % interval", "per seed", "seeds", "pairs")


def arm_cells(table: AblationReport) -> list[tuple[str, ...]]:
    """Rows of the second table, under `ARMS_HEADER`: the gain of the search prior within each ablation, set by set."""
    lines: list[tuple[str, ...]] = []
    of = {row.name: {(a.set, a.model): a for a in row.arms} for row in table.rows}
    for set_name, model in dict.fromkeys(key for found in of.values() for key in found):
        pair = f"{style(model).label} - {style(baselines()[model]).label}"
        for name, found in of.items():
            if cell := found.get((set_name, model)):
                count = f"{len(cell.by_seed)}/{len(table.seeds)}"
                shown = _difference(cell.difference, cell.by_seed)
                lines.append((set_name, pair, name, *shown, count, str(cell.difference.n)))
    return lines


def text(table: AblationReport) -> str:
    """Both tables as plain text, columns aligned, a blank line between models."""
    return "\n\n\n".join(
        _aligned(header, lines) for header, lines in ((HEADER, cells(table)), (ARMS_HEADER, arm_cells(table))) if lines
    )


def _aligned(header: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> str:
    lines = [header, *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    shown, before = [], None
    for line in lines:
        if before is not None and line[:2] != before[:2]:
            shown.append("")
        shown.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        before = line
    return "\n".join(shown)


def markdown(table: AblationReport) -> str:
    """The page: how to read the table, the table, and the questions with the command of each run."""
    seeds = ", ".join(map(str, table.seeds))
    lines = [
        "# Ablations",
        "",
        f"Commit {table.commit}, seeds {seeds}. pass@1 in percent, differences to `{BASELINE}` in percentage "
        "points, paired on (seed, problem) with a 95 % bootstrap interval over these pairs. The interval does not "
        "cover other seeds; `per seed` shows the lowest and the highest difference within one seed. `-`: no result "
        "yet.",
        "",
        piped(HEADER, cells(table)),
        "",
        "## The search prior within each ablation",
        "",
        "The arm whose chains search, minus the direct arm of the same run.",
        "",
        piped(ARMS_HEADER, arm_cells(table)),
        "",
        "## Questions and commands",
    ]
    for row in table.rows:
        lines += ["", f"### {row.name}", "", row.question, "", "```", *(run.command for run in row.runs), "```"]
    return "\n".join(lines) + "\n"
