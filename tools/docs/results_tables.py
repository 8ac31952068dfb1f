"""Tables of docs/results.md: the reviewers' questions, answered from the committed runs in results/."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from astro.ablations.committed_results import read_run, result_of
from astro.evaluation.intervals import paired_difference, rounded
from astro.files import read_json
from astro.viz.labels import MINUS, percent, points, points_interval, style
from astro.viz.markdown_table import table
from schemas.ablations import BASELINE
from schemas.evaluate import Estimate, EvalMetrics, ModelMetrics
from schemas.strict import Strict
from tools.docs.record_run import OVERNIGHT, RESULTS, figures

RUNS, SUDOKU, RL_RUNS = RESULTS / "runs", RESULTS / "sudoku", RESULTS / "rl"
SETS = ("n3", "n4")
"""Eval sets of the comparisons. On n5 no model trained by the default solves anything."""

OPEN_CELLS = ("c8", "c10", "c12")
"""Eval sets of the profile sudoku."""

SEEDS = (1, 2, 3)
RESAMPLES, SEED = 2000, 1


@dataclass(frozen=True)
class Runs:
    """One model under one ablation, over all seeds."""

    model: str
    ablation: str = BASELINE
    folder: Path = RUNS

    def scores(self, set_name: str) -> dict[int, dict[str, float]]:
        """Seed -> problem id -> pass@1, for the seeds with a committed run."""
        paths = {seed: self.folder / f"{self.ablation}-s{seed}.json" for seed in SEEDS}
        return {seed: _result(path)[set_name, self.model] for seed, path in paths.items() if path.is_file()}

    def metrics(self, set_name: str) -> list[ModelMetrics]:
        """All figures of the eval stage, one entry per seed."""
        return [sets[set_name][self.model] for sets in measured_sets(self.ablation)]


Row = tuple[str, Runs] | tuple[str, Runs, Runs]
"""(label, model), or (label, better, worse) for their paired difference."""


@cache
def _result(path: Path) -> Mapping[tuple[str, str], dict[str, float]]:
    return result_of(read_run(path), path.parent).scores


@cache
def measured(folder: Path = RESULTS) -> list[EvalMetrics]:
    """The committed eval metrics of the default, one entry per seed."""
    paths = [folder / f"eval-s{seed}.json" for seed in SEEDS]
    return [read_json(path, EvalMetrics) for path in paths if path.is_file()]


class _Sets(Strict):
    """The part `sets` of eval metrics, which is what is committed of an ablation."""

    sets: dict[str, dict[str, ModelMetrics]]


@cache
def measured_sets(ablation: str) -> list[dict[str, dict[str, ModelMetrics]]]:
    """Set -> model -> figures, one entry for each seed that is committed."""
    if ablation == BASELINE:
        return [found.sets for found in measured()]
    paths = [RESULTS / f"eval-{ablation}-s{seed}.json" for seed in SEEDS]
    return [read_json(path, _Sets).sets for path in paths if path.is_file()]


def with_interval(estimate: Estimate) -> str:
    """A difference in points with its interval."""
    return f"{points(estimate.value)} {points_interval(estimate)}".replace("-", MINUS)


def _difference(better: Runs, worse: Runs, set_name: str) -> tuple[str, str]:
    """(the paired difference with its interval, the differences of the seeds)."""
    one, other = better.scores(set_name), worse.scores(set_name)
    both = [seed for seed in one if seed in other]
    units = [{f"{s}/{i}": value for s in both for i, value in side[s].items()} for side in (one, other)]
    found = paired_difference(*units, resamples=RESAMPLES, rng=np.random.default_rng(SEED))
    each = [rounded(np.mean([one[s][i] - other[s][i] for i in one[s]])) for s in both]
    return with_interval(found), ", ".join(map(points, each)).replace("-", MINUS) if len(each) > 1 else ""


def _mean(runs: Runs, set_name: str) -> tuple[str, str]:
    """(pass@1 over all seeds, pass@1 of the seeds)."""
    if runs.model == BASE.model and runs.folder == RUNS:  # kept runs hold the scores of trained models alone
        each = [metrics.pass_at_1.value for metrics in runs.metrics(set_name)]
    else:
        each = [rounded(np.mean(list(by_problem.values()))) for by_problem in runs.scores(set_name).values()]
    return percent(rounded(np.mean(each))), ", ".join(map(percent, each)) if len(each) > 1 else ""


def scores_table(
    first: str,
    rows: Sequence[Row],
    extras: Mapping[str, Callable[[ModelMetrics], str]] = {},
    sets: Sequence[str] = SETS,
) -> str:
    """pass@1 of models, and differences between them; `extras` adds figures on n3, one per seed."""
    shown = []
    for label, *runs in rows:
        cells = [_mean(runs[0], name) if len(runs) == 1 else _difference(runs[0], runs[1], name) for name in sets]
        more = [", ".join(map(f, runs[0].metrics("n3"))) if len(runs) == 1 else "" for f in extras.values()]
        shown.append([label, *(text for cell in cells for text in cell), *more])
    head = [first, *(text for name in sets for text in (name, f"{name}, by seed")), *extras]
    filled = [n for n in range(len(head)) if any(row[n] for row in shown)]  # a single seed has no figures by seed
    return table([head[n] for n in filled], [[row[n] for n in filled] for row in shown])


def default_differences(first: str, rows: Sequence[tuple[str, Runs]]) -> str:
    """pass@1 of ASTRO-SFT under ablations, with the difference from the default."""
    shown = []
    for label, runs in rows:
        row = [label]
        for name in SETS:
            compared = ("", "") if runs == SFT else _difference(runs, SFT, name)
            row += [_mean(runs, name)[0], *compared]
        shown.append(row)
    return table([first, *(text for name in SETS for text in (name, "difference", "by seed"))], shown)


def by_seed(first: str, rows: Mapping[str, Sequence[str]], head: Sequence[str] = SETS) -> str:
    """Cells that hold one figure per seed."""
    return table([first, *head], [[label, *cells] for label, cells in rows.items()])


def _share(read: Callable[[ModelMetrics], float | None]) -> Callable[[ModelMetrics], str]:
    return lambda metrics: percent(read(metrics))


def _over_seeds(model: str, read: Callable[[ModelMetrics], str]) -> list[str]:
    return [", ".join(map(read, Runs(model).metrics(name))) for name in SETS]


SFT, DIRECT, RL, DIRECT_RL, BASE = (Runs(m) for m in ("sft", "sft_direct", "grpo", "grpo_direct", "base"))

BEHAVIOUR: dict[str, Callable[[ModelMetrics], str]] = {
    "tokens": lambda m: f"{m.tokens:.0f}",
    "returns": lambda m: f"{m.backtracks:.1f}",
    "repeats": _share(lambda m: m.repeat_share),
    "goes back when wrong": _share(lambda m: m.decisions.back_when_wrong if m.decisions else None),
    "right where it stops": _share(lambda m: m.decisions.stop_precision if m.decisions else None),
}
"""Figures on n3 beside the accuracy: tokens and returns are means per chain, the others are percentages."""


def _with_default(label: str, name: str, *extras: str) -> Callable[[], str]:
    """The default and one ablation of ASTRO-SFT, their difference, and figures of `BEHAVIOUR`."""
    other = Runs("sft", name)
    rows: list[Row] = [("default", SFT), (label, other), ("difference", other, SFT)]
    return lambda: scores_table("ASTRO-SFT", rows, {extra: BEHAVIOUR[extra] for extra in extras})


def _size(name: str, label: str) -> Callable[[], str]:
    """A base of another size with its own arms."""
    base, direct, searching = (Runs(model, name) for model in ("base", "sft_direct", "sft"))
    return lambda: scores_table(
        "pass@1 in %",
        [
            (label, base),
            ("its Direct-SFT", direct),
            ("its ASTRO-SFT", searching),
            ("ASTRO-SFT − Direct-SFT", searching, direct),
            ("its ASTRO-SFT − the default's", searching, SFT),
        ],
    )


def decisions_table() -> str:
    """Decisions of ASTRO-RL at the ends of attempts, by seed."""
    rows = {
        "stops when right": _share(lambda m: m.decisions.stop_when_right if m.decisions else None),
        "goes back when wrong": BEHAVIOUR["goes back when wrong"],
        "right where it stops": BEHAVIOUR["right where it stops"],
        "attempts that repeat one of the same chain": BEHAVIOUR["repeats"],
    }
    return by_seed("ASTRO-RL, % at seeds 1, 2, 3", {label: _over_seeds("grpo", read) for label, read in rows.items()})


def attempts_table() -> str:
    """How often the first attempt is right, and later attempts at seed 1, on n3."""

    def later(model: str) -> str:
        attempts = Runs(model).metrics("n3")[0].by_attempt[1:4]
        return ", ".join(percent(a.right) for a in attempts) if len(attempts) == 3 else ""

    models = ("base", "grpo_direct", "sft", "grpo")
    first = _share(lambda m: m.first_attempt.value)
    rows = {style(m).label: [", ".join(map(first, Runs(m).metrics("n3"))), later(m)] for m in models}
    head = ["first attempt right, seeds 1, 2, 3", "2nd, 3rd, 4th attempt right, seed 1"]
    return by_seed("% on n3", rows, head)


def correlations_table() -> str:
    """Partial correlations of backtracks and of tokens with the score, for ASTRO-RL."""

    def shown(estimate: Estimate | None) -> str:
        if estimate is None:
            return "–"
        return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]".replace("-", MINUS)

    rows = {
        "backtracks at equal tokens": _over_seeds("grpo", lambda m: shown(m.backtracks_at_equal_tokens)),
        "tokens at equal backtracks": _over_seeds("grpo", lambda m: shown(m.tokens_at_equal_backtracks)),
    }
    return by_seed("ASTRO-RL at seeds 1, 2, 3", rows)


OTHER_USES = {
    "Direct-RL, vote": "grpo_direct_majority",
    "Direct-SFT, vote": "sft_direct_majority",
    "base, vote": "base_majority",
    "base, tree search at test time (oracle)": "base_search",
    "base, best of N (oracle)": "base_best_of_n",
    "Direct-RL, best of N (oracle)": "grpo_direct_best_of_n",
    "Direct-SFT, best of N (oracle)": "sft_direct_best_of_n",
}
"""Label of a method -> its name in the eval metrics."""


def equal_tokens_table(chain: str, runs: Sequence[EvalMetrics], sets: Sequence[str] = SETS) -> str:
    """One chain of a model, and other uses of as many tokens, by seed."""
    found = {
        name: [{row.worse: row for row in one.equal_tokens[name] if row.better == chain} for one in runs]
        for name in sets
    }
    first = [", ".join(percent(next(iter(rows.values())).accuracy) for rows in found[name]) for name in sets]
    cells = {f"{style(chain).label}, one chain": first}
    for label, worse in OTHER_USES.items():
        if worse in found[sets[0]][0]:
            cells[label] = [", ".join(percent(rows[worse].other) for rows in found[name]) for name in sets]
    tokens = [", ".join(f"{next(iter(rows.values())).tokens:.0f}" for rows in found[name]) for name in sets]
    head = [f"{name}, {spent} tokens" for name, spent in zip(sets, tokens, strict=True)]
    return by_seed("% at seeds 1, 2, 3" if len(runs) > 1 else "% at seed 1", cells, head)


_best = Runs("sft_direct", "best-of-n-direct")
_merged = Runs("sft", "best-of-n-search")
_equal = "direct-equal-tokens"
_rl = Runs("grpo", "rl-without-sft")
_sudoku, _sudoku_direct = Runs("sft", folder=SUDOKU), Runs("sft_direct", folder=SUDOKU)


def rl_table() -> str:
    """Both arms after RL: their gain by RL, and with one change the differences from the default."""
    rows: list[Row] = []
    for model, before in (("grpo", "sft"), ("grpo_direct", "sft_direct")):
        default = Runs(model, folder=RL_RUNS)
        rows.append((style(model).label, default))
        rows.append((f"{style(model).label} − {style(before).label}", default, Runs(before, folder=RL_RUNS)))
        for name, label in RL_CHANGES.items():
            rows.append((f"{label} − {style(model).label}", Runs(model, name, RL_RUNS), default))
    return scores_table("pass@1 in %", rows)


RL_CHANGES = {"rl-refills": "dynamic sampling", "rl-curriculum": "curriculum", "rl-vllm": "sampled by vLLM"}
"""Ablation of results/rl/ablations.yaml -> its label."""

QUESTIONS: dict[str, Callable[[], str]] = {
    "decisions-table": decisions_table,
    "backtracks-table": lambda: default_differences(
        "wrong branches per chain in training, at most",
        [("0 (Direct-SFT)", DIRECT)]
        + [(str(n), Runs("sft", f"backtracks-{n}")) for n in (1, 2, 4)]
        + [("6 (default)", SFT), ("8", Runs("sft", "backtracks-8"))],
    ),
    "jumps-table": lambda: default_differences(
        "back to",
        [
            ("the deepest common ancestor (default)", SFT),
            ("always the problem (`jump-root`)", Runs("sft", "jump-root")),
            ("a random ancestor (`jump-random`)", Runs("sft", "jump-random")),
        ],
    ),
    "phrases-table": _with_default("without phrases", "phrases-off", "tokens", "returns", "repeats"),
    "filters-table": lambda: default_differences(
        "solutions kept for the chains",
        [
            ("all that an exact checker passes (default)", SFT),
            ("+ half of 8 votes of the base itself (`filter-self-eval`)", Runs("sft", "filter-self-eval")),
            ("+ a Q of at least 0.3 on the path (`filter-value`)", Runs("sft", "filter-value")),
            ("all that reach the target, unchecked (`unchecked`)", Runs("sft", "unchecked")),
        ],
    ),
    "best-of-n-table": lambda: scores_table(
        "direct solutions from",
        [
            ("the trees (Direct-SFT)", DIRECT),
            ("best of 26 samples (`best-of-n-direct`)", _best),
            ("best of 26 − Direct-SFT", _best, DIRECT),
            ("best of 26 − ASTRO-SFT", _best, SFT),
        ],
    ),
    "merged-samples-table": lambda: scores_table(
        "chains from",
        [
            ("the trees (ASTRO-SFT)", SFT),
            ("merged samples (`best-of-n-search`)", _merged),
            ("difference", _merged, SFT),
        ],
    ),
    "equal-tokens-table": lambda: equal_tokens_table("grpo", measured()),
    "equal-training-table": lambda: scores_table(
        "as many tokens in training",
        [
            ("Direct-SFT", Runs("sft_direct", _equal)),
            ("Direct-SFT − ASTRO-SFT", Runs("sft_direct", _equal), SFT),
            ("Direct-RL", Runs("grpo_direct", _equal)),
            ("Direct-RL − ASTRO-RL", Runs("grpo_direct", _equal), RL),
        ],
    ),
    "correlations-table": correlations_table,
    "attempts-table": attempts_table,
    "no-wrong-loss-table": _with_default(
        "loss on all but wrong steps", "no-wrong-loss", "tokens", "repeats", "right where it stops"
    ),
    "small-base-table": _size("small-base", "small base"),
    "large-base-table": _size("large-base", "large base"),
    "dead-ends-table": _with_default("back from the dead end", "dead-ends", "repeats", "goes back when wrong"),
    "rl-table": rl_table,
    "sudoku-table": lambda: scores_table(
        "pass@1 in %",
        [
            ("base", Runs("base", folder=SUDOKU)),
            ("Direct-SFT", _sudoku_direct),
            ("ASTRO-SFT", _sudoku),
            ("ASTRO-SFT − Direct-SFT", _sudoku, _sudoku_direct),
        ],
        sets=OPEN_CELLS,
    ),
    "sudoku-equal-tokens-table": lambda: equal_tokens_table("sft", measured(SUDOKU), OPEN_CELLS),
    "overnight-equal-tokens-table": lambda: equal_tokens_table("grpo", [figures(OVERNIGHT)], (*SETS, "n5")),
    "rl-without-sft-table": lambda: scores_table(
        "pass@1 in %",
        [
            ("base", BASE),
            ("RL from the base", _rl),
            ("RL from the base − ASTRO-RL", _rl, RL),
            ("RL from the base − Direct-RL", _rl, DIRECT_RL),
        ],
    ),
}
"""Name of a block -> function that writes its table."""
