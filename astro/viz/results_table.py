"""The result of an evaluation as plain text, for a terminal or a log."""

from collections.abc import Iterator, Mapping, Sequence

from astro.arms import baselines
from astro.process import plural
from astro.viz.labels import (
    interval,
    main_first,
    ordered,
    percent,
    points,
    points_interval,
    problems,
    searchers,
    style,
)
from schemas.evaluate import EvalMetrics, ModelMetrics, PairedDifference

WIDTH = 110
"""Most characters per line."""

_GAP = "   "
_COLUMNS = ("", "pass@1", "maj@k", "first attempt", "tokens", "backtracks")
_NUMBERS = 4
"""First column of plain numbers, which are right-aligned."""


def console_table(metrics: EvalMetrics, chances: Mapping[str, float | None]) -> str:
    """Per eval set: all models with 95 % intervals, paired differences, and the behaviour of the arms that search.

    Args:
        metrics: metrics of the eval stage; any subset of the models may be present.
        chances: set -> probability that a random legal path succeeds (0..1); None or missing: unknown.
    Returns:
        Lines of at most WIDTH characters, joined by newlines, without a final newline.
    """
    if not metrics.sets:
        return "no eval set was measured"
    lines = [
        f"shares in % [95 % interval over problems]; {plural(metrics.samples, 'sample')} per problem, seed {metrics.seed}; "
        "tokens, backtracks: per chain"
    ]
    anywhere = ordered({model for models in metrics.sets.values() for model in models})
    for name, models in metrics.sets.items():
        lines += ["", *_heading(name, models, chances.get(name)), *_table(models, anywhere)]
        lines += _differences(metrics.differences.get(name, []))
        lines += _behaviour(models)
    return "\n".join(line[:WIDTH].rstrip() for line in lines)


def _heading(name: str, models: Mapping[str, ModelMetrics], chance: float | None) -> list[str]:
    """Heading with the set, its number of problems, and the chance level if known."""
    known = "" if chance is None else f", random legal path {percent(chance)} %"
    return [f"{name}: {problems(m.pass_at_1 for m in models.values())} problems{known}"]


def _table(models: Mapping[str, ModelMetrics], names: Sequence[str]) -> list[str]:
    """One row per name, with dashes for a model that was not measured on this set."""
    rows = [list(_COLUMNS), *(_row(model, models.get(model)) for model in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + _GAP.join(_aligned(row, widths)) for row in rows]


def _row(model: str, figures: ModelMetrics | None) -> list[str]:
    label = style(model).label[:16]
    if figures is None:
        return [label, *("-".rjust(5 if place < _NUMBERS else 1) for place in range(1, len(_COLUMNS)))]
    shares = (figures.pass_at_1, figures.maj_at_k, figures.first_attempt)
    return [
        label,
        *(f"{percent(share.value):>5} {interval(share)}" for share in shares),
        f"{figures.tokens:.0f}",
        f"{figures.backtracks:.2f}",
    ]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if place >= _NUMBERS else cell.ljust(width)


def _differences(pairs: Sequence[PairedDifference]) -> list[str]:
    """The differences, two per line, the main ones first."""
    head = "  differences of pass@1 in points, paired on problems"
    if not pairs:
        return [f"{head}: not available"]
    cells = []
    for pair in main_first(pairs):
        names = f"{style(pair.better).label} - {style(pair.worse).label}"
        cells.append(f"{names:<22} {points(pair.difference.value):>5} {points_interval(pair.difference)}")
    width = max(map(len, cells)) + len(_GAP)
    each = 2 if 4 + 2 * width <= WIDTH else 1
    rows = [cells[start : start + each] for start in range(0, len(cells), each)]
    return [f"{head}:", *("    " + "".join(cell.ljust(width) for cell in row) for row in rows)]


def _behaviour(models: Mapping[str, ModelMetrics]) -> list[str]:
    """Decisions at the ends of attempts, one line for each arm that searches."""
    found = searchers(models)
    if not found:
        return [f"  behaviour: not available ({' and '.join(style(m).label for m in baselines())} were not measured)"]
    width = max(len(style(model).label) for model in found)
    lines = []
    for model in found:
        figures = models[model]
        said = [
            f"stops when right {percent(figures.decisions.stop_when_right):>5}",
            f"goes back when wrong {percent(figures.decisions.back_when_wrong):>5}",
            f"repeats {percent(figures.repeat_share):>4}",
            f"truncated {percent(figures.truncated):>4}",
        ]
        lines.append(f"    {style(model).label:<{width}}  {_GAP.join(said)}")
    return ["  behaviour in %:", *lines]
