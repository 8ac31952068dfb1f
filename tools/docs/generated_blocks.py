"""Generated blocks inside pages: a command writes the text between two marks.

A page contains `<!-- begin NAME -->` and `<!-- end NAME -->` on separate lines.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from astro.ablations.committed_results import KeptRun, read_run, result_of
from astro.ablations.experiment_results import Result
from astro.ablations.spec import load
from astro.ablations.table import arms, figure
from astro.arms import BASE, all_models, baselines, contracts
from astro.process import UserError
from astro.viz.labels import MINUS, interval, percent, points, style
from astro.viz.markdown_table import table
from schemas.ablations import BASELINE, Ablation
from schemas.evaluate import Estimate
from tools.docs.record_run import DEFAULT, OVERNIGHT, example, figures, run
from tools.docs.results_tables import QUESTIONS, RESAMPLES, RUNS, SEED, SETS, measured_sets, with_interval

PAGES = ("README.md", "docs/index.md", "docs/tutorial.md", "docs/results.md")
ABLATIONS = Path("ablations.yaml")
_MARK = re.compile(
    r"(?P<head>^<!-- begin (?P<name>[\w-]+) -->\n).*?(?P<tail>^<!-- end (?P=name) -->$)", re.DOTALL | re.MULTILINE
)
_ANY = re.compile(r"^<!-- (?:begin|end) .*-->$", re.MULTILINE)


def filled(text: str, page: str) -> str:
    """The page with the current content of all its blocks.

    Raises:
        UserError: a mark lacks its partner, or names an unknown block.
    """

    def block(match: re.Match) -> str:
        name = match["name"]
        if name not in BLOCKS:
            raise UserError(f"{page}: unknown block {name!r}; available: {', '.join(BLOCKS)}")
        return f"{match['head']}{BLOCKS[name]().strip()}\n{match['tail']}"

    found = _MARK.sub(block, text)
    if odd := _ANY.findall(_MARK.sub("", text)):
        raise UserError(f"{page}: {odd[0]} has no matching begin or end")
    return found


def pages() -> dict[Path, str]:
    """Page -> its text with all blocks filled."""
    return {Path(page): filled(Path(page).read_text(encoding="utf-8"), page) for page in PAGES}


# --- figures of one run of a profile -------------------------------------------------------------------------------------


def pass_at_1_table(profile: str = DEFAULT, compared: Sequence[tuple[str, str]] = ()) -> str:
    """pass@1 of every model on every set, the gain of search in the chain, and more pairs (better, worse) to compare."""
    sets = figures(profile).sets
    head = [f"{name}, {models[BASE].pass_at_1.n} problems" for name, models in sets.items()]
    return table(["pass@1 in %", *head], [[label, *cells] for label, cells in _figures(profile, compared).items()])


def side_by_side_table() -> str:
    """The same for the default and the profile overnight."""
    first, second = _figures(DEFAULT), _figures(OVERNIGHT)
    head = [f"{name}{run}" for run, of in (("", DEFAULT), (", overnight", OVERNIGHT)) for name in figures(of).sets]
    return table(["pass@1 in %", *head], [[label, *cells, *second[label]] for label, cells in first.items()])


def _figures(profile: str, compared: Sequence[tuple[str, str]] = ()) -> dict[str, list[str]]:
    """Label of a model or of a pair -> its figure on each set."""
    measured = figures(profile)
    rows = {
        _name(model): [_share(models[model].pass_at_1) for models in measured.sets.values()]
        for model in all_models()
        if all(model in models for models in measured.sets.values())
    }
    for better, worse in [*baselines().items(), *compared]:
        pairs = [_pair(measured.differences[name], better, worse) for name in measured.sets]
        rows[_versus(better, worse)] = [with_interval(pair) for pair in pairs]
    return rows


def _pair(pairs: list, better: str, worse: str) -> Estimate:
    return next(pair.difference for pair in pairs if (pair.better, pair.worse) == (better, worse))


def _name(model: str) -> str:
    label = style(model).label
    return f"**{label}**" if model in baselines() else label


def _versus(better: str, worse: str) -> str:
    return f"{style(better).label} {MINUS} {style(worse).label}"


def _share(value: Estimate) -> str:
    return f"{percent(value.value)} {interval(value)}"


def stages_table(profile: str = DEFAULT) -> str:
    """Time of each stage of the run."""
    seconds = run(profile).seconds
    shown = [[f"`{name}`", f"{seconds[name]:.0f}"] for name in contracts()]
    return table(["stage", "seconds"], [*shown, ["all", f"{sum(seconds.values()):.0f}"]])


# --- committed runs of several seeds -----------------------------------------------------------------------------------


def _runs(name: str, seeds: list[int]) -> dict[tuple[str, int], KeptRun]:
    paths = {(name, seed): RUNS / f"{name}-s{seed}.json" for seed in seeds}
    return {key: read_run(path) for key, path in paths.items() if path.is_file()}


def _results(runs: Mapping[tuple[str, int], KeptRun]) -> dict[tuple[str, int], Result]:
    return {key: result_of(one, RUNS) for key, one in runs.items()}


def _plan() -> tuple[list[int], list[Ablation]]:
    plan, _ = load(ABLATIONS)
    return plan.seeds, plan.ablations


def seeds_table() -> str:
    """pass@1 over all seeds, and the gain of search in the chain for each seed."""
    seeds, _ = _plan()
    results = _results(_runs(BASELINE, seeds))
    measured = measured_sets(BASELINE)
    rows = []
    for model in all_models():
        if not all(model in sets[name] for sets in measured for name in SETS):
            continue  # trained only in other runs, such as a base before its warm-up
        row = [_name(model)]
        for name in SETS:
            each = [sets[name][model].pass_at_1.value for sets in measured]
            mean = round(sum(each) / len(each), 6)  # as precise as the figures, so that 6.25 is rounded as elsewhere
            row += [percent(mean), ", ".join(map(percent, each))]
        rows.append(row)
    for better, worse in baselines().items():
        row = [_versus(better, worse)]
        for name in SETS:
            found = arms(BASELINE, name, better, results, seeds, resamples=RESAMPLES, seed=SEED)
            assert found is not None
            row += [
                with_interval(found.difference),
                ", ".join(points(one.difference) for one in found.by_seed).replace("-", MINUS),
            ]
        rows.append(row)
    return table(["pass@1 in %", *(cell for name in SETS for cell in (name, f"{name}, by seed"))], rows)


def ablations_table() -> str:
    """Each ablation compared with the default, for the searching arm after SFT."""
    seeds, ablations = _plan()
    results = _results(_runs(BASELINE, seeds))
    searching = next(iter(baselines()))
    rows = []
    for ablation in ablations:
        results |= _results(_runs(ablation.name, seeds))
        row, counted = [f"`{ablation.name}`"], 0
        for name in SETS:
            found = figure(ablation.name, name, searching, results, seeds, resamples=RESAMPLES, seed=SEED)
            counted = len(found.seeds)
            row += [percent(found.pass_at_1), with_interval(found.difference) if found.difference else ""]
        if counted:
            rows.append([*row, str(counted)])
    return table(["ablation", *(cell for name in SETS for cell in (name, "difference")), "seeds"], rows)


# --- the tutorial ------------------------------------------------------------------------------------------------------


def _fenced(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


BLOCKS: dict[str, Callable[[], str]] = {
    "default-table": pass_at_1_table,
    "stages-table": stages_table,
    "side-by-side-table": side_by_side_table,
    "overnight-table": lambda: pass_at_1_table(OVERNIGHT, [("grpo", "sft"), ("grpo_direct", "sft_direct")]),
    "overnight-stages-table": lambda: stages_table(OVERNIGHT),
    "seeds-table": seeds_table,
    "ablations-table": ablations_table,
    **QUESTIONS,
    "training-chain": lambda: _fenced(example().trace.completion),
    "direct-solution": lambda: _fenced("\n".join(s.text.strip() for s in example().trace.segments if s.kind == "step")),
    "answer-in-terminal": lambda: _fenced(example().printed),
}
"""Name of a block -> function that writes it."""
