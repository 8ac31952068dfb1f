"""The result of an evaluation as plain text, for a terminal or a log."""

from collections.abc import Iterator, Mapping, Sequence

from astro.viz.labels import interval, ordered, percent, points, points_interval, style
from schemas.evaluate import EvalMetrics, ModelMetrics

WIDTH = 110
"""Characters per line, at most (a longer name of a set is the only thing that can break it)."""

_GAP = "   "


def console_table(metrics: EvalMetrics, chances: Mapping[str, float | None]) -> str:
    """Models x eval sets with 95 % intervals, then per set the paired differences and what explains them.

    Args:
        metrics: of the eval stage; any subset of the models may be present.
        chances: set -> share of random legal paths that succeed (0..1); None or absent: unknown.
    Returns:
        Lines of at most WIDTH characters, joined by newlines, no newline at the end. Sets that do not fit beside each
        other follow below each other.
    """
    if not metrics.sets:
        return "no eval set was measured"
    lines = [f"pass@1 in % [95 % interval], mean of {metrics.samples} samples per problem, n problems"]
    for names in _side_by_side(metrics):
        lines += ["", *_table(metrics, names, chances)]
    for name, models in metrics.sets.items():
        lines += ["", name, *_details(metrics, name, models)]
    return "\n".join(lines)


def _cell(model: ModelMetrics | None) -> str:
    if model is None:
        return "-"
    one = model.pass_at_1
    return f"{percent(one.value):>5} {interval(one)} n={one.n}"


def _all_models(metrics: EvalMetrics) -> list[str]:
    return ordered({model for models in metrics.sets.values() for model in models})


def _column_width(metrics: EvalMetrics, name: str) -> int:
    return max(len(name), *(len(_cell(model)) for model in metrics.sets[name].values()), 1)


def _first_column(metrics: EvalMetrics) -> int:
    return max(len("chance"), *(len(style(model).label) for model in _all_models(metrics)), 1)


def _side_by_side(metrics: EvalMetrics) -> Iterator[list[str]]:
    """Sets in groups whose columns fit into WIDTH."""
    group: list[str] = []
    used = first = _first_column(metrics)
    for name in metrics.sets:
        width = len(_GAP) + _column_width(metrics, name)
        if group and used + width > WIDTH:
            yield group
            group, used = [], first
        group.append(name)
        used += width
    yield group


def _table(metrics: EvalMetrics, names: Sequence[str], chances: Mapping[str, float | None]) -> list[str]:
    """Header, chance level (where one is known) and one row per model."""
    rows = [["", *names]]
    if any(chances.get(name) is not None for name in names):
        rows.append(["chance", *(f"{percent(chances.get(name)):>5}" for name in names)])
    rows += [
        [style(model).label, *(_cell(metrics.sets[n].get(model)) for n in names)] for model in _all_models(metrics)
    ]
    widths = [_first_column(metrics), *(_column_width(metrics, name) for name in names)]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _details(metrics: EvalMetrics, name: str, models: Mapping[str, ModelMetrics]) -> list[str]:
    """What stands below the table for one set."""
    differences = [
        f"{style(pair.better).label} - {style(pair.worse).label} "
        f"{points(pair.difference.value)} {points_interval(pair.difference)}"
        for pair in metrics.differences.get(name, [])
    ]
    present = ordered(models)

    def per_model(figure) -> list[str]:
        return [f"{style(model).label} {figure(models[model])}" for model in present]

    return [
        *_wrapped("differences", differences or ["not available"]),
        *_wrapped("maj@k", per_model(lambda m: f"{percent(m.maj_at_k.value)} {interval(m.maj_at_k)}")),
        *_wrapped(
            "first attempt", per_model(lambda m: f"{percent(m.first_attempt.value)} {interval(m.first_attempt)}")
        ),
        *_wrapped("backtracks", per_model(lambda m: f"{m.backtracks:.2f} a chain")),
    ]


def _wrapped(head: str, items: Sequence[str]) -> list[str]:
    """`head` and the items on one line, or more where they do not fit."""
    indent = " " * 16
    lines = [f"  {head}".ljust(len(indent))]
    for item in items:
        if len(lines[-1]) > len(indent) and len(lines[-1]) + len(_GAP) + len(item) > WIDTH:
            lines.append(indent)
        lines[-1] += (_GAP if len(lines[-1]) > len(indent) else "") + item
    return lines
