"""The plots of the report. Each takes plain values and returns inline SVG, or None if there is nothing to draw."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from astro.arms import models
from astro.viz.labels import METHODS, MINUS, main_first, ordered, points, style
from astro.viz.matplotlib_svg import INK, inline, plotting
from schemas.evaluate import AttemptMetrics, BudgetCurve, BudgetPoint, Estimate, EvalMetrics, LimitCurve, ModelMetrics

FEW_CHAINS = 10
"""Number of chains below which a point is drawn hollow, because one chain would move it by over ten points."""

MAX_POINTS = 300
"""Most points per training curve. Longer curves are averaged over equal buckets of rows."""

_WIDTH = 10.6  # inches; the page scales plots down to its width
_PANELS_PER_ROW = 3
_NAME = 24  # characters of a name in a picture
_LOWEST_TOP = 2.0  # percent; if nothing is right, an axis of thousandths would suggest a result

Curve = Sequence[Mapping[str, float]]


def _short(name: str) -> str:
    """A set's or model's name, shortened for a picture."""
    return name if len(name) <= _NAME else name[: _NAME - 1] + "\u2026"


def _models(metrics: EvalMetrics) -> list[str]:
    return ordered({model for models in metrics.sets.values() for model in models})


def _legend(
    figure: Figure, models: Sequence[str], *, chance: bool = False, few: bool = False, lines: bool = False
) -> None:
    """One legend for the whole figure, above the panels. With `lines` it shows strokes instead of marks."""
    handles = []
    for look in map(style, models):
        shape = {"linewidth": 2} if lines else {"marker": look.marker, "linestyle": "", "markersize": 6}
        handles.append(Line2D([], [], color=look.colour, label=_short(look.label), **shape))
    if chance:
        handles.append(Line2D([], [], color=INK, linestyle=":", label="random legal path"))
    if few:
        hollow = Line2D([], [], color=INK, marker="o", linestyle="", markersize=5, markerfacecolor="none")
        hollow.set_label(f"hollow: fewer than {FEW_CHAINS} chains")
        handles.append(hollow)
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handletextpad=0.5, columnspacing=1.6)


def _percent_axis(ax: Axes, *, full: bool = True) -> None:
    if full:
        ax.set_ylim(-3, 103)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))


def scores(metrics: EvalMetrics, chances: Mapping[str, float | None]) -> Markup | None:
    """First attempt, pass@1 and maj@k: dots with 95 % intervals, sets x models; the chance level as a dotted line."""
    if not metrics.sets:
        return None
    kinds: list[tuple[str, Callable[[ModelMetrics], Estimate]]] = [
        ("first attempt", lambda m: m.first_attempt),
        ("pass@1", lambda m: m.pass_at_1),
        ("maj@k", lambda m: m.maj_at_k),
    ]
    models, names = _models(metrics), list(metrics.sets)
    offset = {
        model: min(0.2, 0.75 / len(models)) * (place - (len(models) - 1) / 2) for place, model in enumerate(models)
    }
    with plotting():
        figure = Figure(figsize=(_WIDTH, 3.5), layout="constrained")
        panels = figure.subplots(1, len(kinds), sharey=True)
        for ax, (title, pick) in zip(panels, kinds, strict=True):
            ax.set_title(title)
            for place, name in enumerate(names):
                if (chance := chances.get(name)) is not None:
                    ax.hlines(100 * chance, place - 0.4, place + 0.4, colors=INK, linestyles=":", linewidth=1.3)
                for model, values in metrics.sets[name].items():
                    _dot(ax, place + offset[model], pick(values), model)
            slanted = {"rotation": 25, "ha": "right"} if len(names) > 3 else {}
            ax.set_xticks(range(len(names)), map(_short, names), **slanted)
            ax.set_xlim(-0.6, len(names) - 0.4)
            ax.grid(axis="x", visible=False)
        panels[0].set_ylabel("% of problems")
        panels[0].set_ylim(0, max(_LOWEST_TOP, panels[0].get_ylim()[1]))
        _percent_axis(panels[0], full=False)
        _legend(figure, models, chance=any(chances.get(name) is not None for name in names))
        return inline(figure, name="scores", alt="accuracy by model and eval set with 95 % intervals")


def _dot(ax: Axes, x: float, value: Estimate, model: str) -> None:
    look = style(model)
    ax.vlines(x, 100 * value.low, 100 * value.high, colors=look.colour, linewidth=2)
    ax.plot([x], [100 * value.value], marker=look.marker, color=look.colour, markersize=6.5, clip_on=False, zorder=3)


def differences(metrics: EvalMetrics) -> Markup | None:
    """Paired differences of pass@1 with 95 % intervals around a zero line."""
    rows = [(name, pair) for name, pairs in metrics.differences.items() for pair in main_first(pairs)]
    if not rows:
        return None
    with plotting():
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.32 * len(rows)), layout="constrained")
        ax = figure.subplots()
        ax.axvline(0, color=INK, linewidth=1)
        previous = None
        for place, (name, pair) in enumerate(rows):
            value, look = pair.difference, style(pair.better)
            ax.hlines(place, 100 * value.low, 100 * value.high, colors=look.colour, linewidth=2)
            ax.plot([100 * value.value], [place], marker=look.marker, color=look.colour, markersize=6.5)
            ax.text(
                1.01, place, f"{points(value.value)}  [{points(value.low)}, {points(value.high)}]".replace("-", MINUS),
                transform=ax.get_yaxis_transform(), va="center",
            )  # fmt: skip
            if previous not in (None, name):
                ax.axhline(place - 0.5, color=INK, linewidth=0.6, alpha=0.3)
            previous = name
        labels = [
            f"{_short(name)}:  {_short(style(p.better).label)} {MINUS} {_short(style(p.worse).label)}"
            for name, p in rows
        ]
        ax.set_yticks(range(len(rows)), labels)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("difference of pass@1, percentage points")
        return inline(figure, name="differences", alt="paired differences of pass@1 with 95 % intervals")


def by_backtracks(metrics: EvalMetrics) -> Markup | None:
    """Accuracy of chains by their number of backtracks, one panel per set, one line per model."""
    names = [n for n, models in metrics.sets.items() if any(b.chains for m in models.values() for b in m.by_backtracks)]
    if not names:
        return None
    columns = min(_PANELS_PER_ROW, len(names))
    rows = math.ceil(len(names) / columns)
    with plotting():
        figure = Figure(figsize=(_WIDTH, 0.6 + 2.7 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for place, ax in enumerate(panels):
            if place >= len(names):
                ax.set_axis_off()
                continue
            ax.set_title(_short(names[place]))
            for model in ordered(metrics.sets[names[place]]):
                counted = metrics.sets[names[place]][model].by_backtracks
                found = [(b.backtracks, b.accuracy, b.chains) for b in counted if b.accuracy is not None]
                _line(ax, [x for x, _, _ in found], [y for _, y, _ in found], [n for _, _, n in found], model)
            ax.set_xlabel("backtracks in the chain")
            ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
            _percent_axis(ax)
            if place % columns == 0:
                ax.set_ylabel("% of these chains right")
        _legend(figure, _models(metrics), few=True)
        return inline(figure, name="by-backtracks", alt="accuracy by number of backtracks")


def by_attempt(metrics: EvalMetrics) -> Markup | None:
    """Share of i-th attempts that are right, valid and novel: three panels per set, one line per model."""
    names = [n for n, models in metrics.sets.items() if any(a.chains for m in models.values() for a in m.by_attempt)]
    if not names:
        return None
    kinds: list[tuple[str, Callable[[AttemptMetrics], float | None]]] = [
        ("right", lambda a: a.right),
        ("valid", lambda a: a.valid),
        ("novel", lambda a: a.novel),
    ]
    with plotting():
        figure = Figure(figsize=(_WIDTH, 0.6 + 2.5 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), len(kinds), sharey=True, squeeze=False)
        for row, name in zip(panels, names, strict=True):
            for ax, (title, pick) in zip(row, kinds, strict=True):
                ax.set_title(f"{_short(name)}: {title}")
                for model in ordered(metrics.sets[name]):
                    attempts = metrics.sets[name][model].by_attempt
                    found = [(a.attempt, y, a.chains) for a in attempts if (y := pick(a)) is not None]
                    _line(ax, [x for x, _, _ in found], [y for _, y, _ in found], [n for _, _, n in found], model)
                ax.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
                ax.set_xlabel("attempt" if name == names[-1] else "")
                _percent_axis(ax)
            row[0].set_ylabel("% of attempts")
        _legend(figure, _models(metrics), few=True)
        return inline(figure, name="by-attempt", alt="share of right, valid and novel attempts by attempt number")


_DASHES = {"one_sample": "-", "best_of_n": (0, (5, 2)), "majority": (0, (1, 1.4)), "search": (0, (6, 2, 1, 2))}


def equal_tokens(curves: Sequence[BudgetCurve], name: str) -> Markup | None:
    """Accuracy on one eval set against generated tokens per problem (logarithmic), one line per model and method.

    A faint vertical line marks the end of uncut chains of a model that searches.

    Args:
        name: prefix of the ids inside; unique on the page.
    """
    drawn = [(curve, [p for p in curve.points if p.tokens > 0]) for curve in _in_order(curves)]
    drawn = [(curve, points) for curve, points in drawn if points]
    if not drawn:
        return None
    with plotting():
        figure = Figure(figsize=(_WIDTH, 3.7), layout="constrained")
        ax = figure.subplots()
        ax.set_xscale("log")
        for curve, points in drawn:
            look = style(curve.label)
            x = [point.tokens for point in points]
            label = f"{_short(look.label)}, {METHODS[curve.method]}"
            low, high = ([100 * getattr(point.accuracy, end) for point in points] for end in ("low", "high"))
            ax.fill_between(x, low, high, color=look.colour, alpha=0.1, linewidth=0)
            ax.plot(
                x, [100 * point.accuracy.value for point in points], color=look.colour, label=label,
                linestyle=_DASHES[curve.method], marker=look.marker, markersize=4, linewidth=1.5,
                markerfacecolor=look.colour if curve.method == "one_sample" else "none",
            )  # fmt: skip
            if curve.method == "one_sample":
                ax.axvline(x[-1], color=look.colour, linewidth=0.8, alpha=0.5)
        ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(left=_first_of_interest(drawn) / 1.25)
        ax.set_ylim(0, max(_LOWEST_TOP, ax.get_ylim()[1]))
        _percent_axis(ax, full=False)
        ax.set_xlabel("generated tokens per problem")
        ax.set_ylabel("% of problems right")
        figure.legend(loc="outside right upper", fontsize=8.5, handlelength=2.8)
        return inline(figure, name=f"tokens-{name}", alt="accuracy against generated tokens per problem")


def token_limits(curves: Sequence[LimitCurve], name: str) -> Markup | None:
    """Accuracy on one eval set against the token limit (logarithmic), and the share of chains that it cuts, one line per model.

    Args:
        name: prefix of the ids inside; unique on the page.
    """
    by_model = {curve.model: curve for curve in curves}
    if not by_model:
        return None
    with plotting():
        figure = Figure(figsize=(_WIDTH, 3.3), layout="constrained")
        panels = figure.subplots(1, 2)
        for model in ordered(by_model):
            look, found = style(model), by_model[model].points
            x = [point.limit for point in found]
            low, high = ([100 * getattr(point.accuracy, end) for point in found] for end in ("low", "high"))
            panels[0].fill_between(x, low, high, color=look.colour, alpha=0.12, linewidth=0)
            for ax, y in zip(panels, ([p.accuracy.value for p in found], [p.truncated for p in found]), strict=True):
                ax.plot(x, [100 * value for value in y], color=look.colour, marker=look.marker, markersize=4)
        for ax, title in zip(panels, ("chains right, %", "chains cut, %"), strict=True):
            ax.set_title(title)
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.set_xlabel("token limit")
            ax.set_ylim(0, max(_LOWEST_TOP, ax.get_ylim()[1]))
        _legend(figure, ordered(by_model), lines=True)
        return inline(figure, name=f"limits-{name}", alt="accuracy against the token limit, with 95 % intervals")


def _first_of_interest(drawn: Sequence[tuple[BudgetCurve, Sequence[BudgetPoint]]]) -> float:
    """Number of tokens below which the plot would be empty: chains cut so early are never right, and no other method is so
    cheap."""
    tokens = [p.tokens for c, points in drawn for p in points if c.method != "one_sample" or p.accuracy.value > 0]
    return min(tokens or [points[0].tokens for _, points in drawn])


def _in_order(curves: Sequence[BudgetCurve]) -> list[BudgetCurve]:
    """Single chains first, then the other methods, each in pipeline order, so that related colours are adjacent in the legend."""
    place = {model: rank for rank, model in enumerate(ordered({curve.label for curve in curves}))}
    return sorted(curves, key=lambda c: (c.method != "one_sample", -place[c.label], list(METHODS).index(c.method)))


def _line(ax: Axes, x: Sequence[int], shares: Sequence[float], chains: Sequence[int], model: str) -> None:
    """Draw shares (0..1) in percent. The area of a dot grows with its number of chains.

    A dot for few chains is hollow and has no line, because a line would look like a trend.
    """
    if not x:
        return
    look = style(model)
    y = [100 * share for share in shares]
    sizes = [10 + 60 * math.sqrt(count / max(1, *chains)) for count in chains]
    faces = [look.colour if count >= FEW_CHAINS else "none" for count in chains]
    enough = [value if count >= FEW_CHAINS else math.nan for value, count in zip(y, chains, strict=True)]
    ax.plot(x, enough, color=look.colour, linewidth=1.2, alpha=0.7)
    ax.scatter(x, y, s=sizes, marker=look.marker, facecolors=faces, edgecolors=look.colour, linewidths=1.1, zorder=3)


Panels = Sequence[tuple[str, str]]
"""(column of the curve, title) in order."""

FIGURES: dict[str, tuple[str, Panels]] = {
    "pretraining": ("base", (("loss", "pretraining: loss, nats per token"),)),
    "sft": ("sft", (("loss", "SFT: loss, nats per token"),)),
    "rl": (
        "grpo",
        (
            ("reward", "RL: reward, mean of the step"),
            ("length", "RL: tokens per chain"),
            ("backtracks", "RL: backtracks per chain"),
            ("first_attempt", "RL: first attempt right"),
            ("accuracy", "RL: chains right"),
            ("repeats", "RL: attempts that repeat"),
            ("zero_variance", "RL: groups without variance"),
            ("truncated", "RL: chains cut"),
            ("entropy", "RL: entropy, nats per token"),
        ),
    ),
    "validation": (
        "grpo",
        (
            ("validation_pass_at_1", "validation: pass@1"),
            ("validation_length", "validation: tokens per chain"),
            ("validation_mean_backtracks", "validation: backtracks per chain"),
        ),
    ),
}
"""Figure -> the stage whose curves it shows, for every arm, and its panels. A column that no curve has is left out."""


def _curves_of(stage: str) -> list[str]:
    """Names of a stage's curves: one, or one per arm."""
    return [model.name for model in models().values() if model.stage == stage] or [stage]


_SHARES = {"first_attempt", "accuracy", "repeats", "zero_variance", "truncated", "validation_pass_at_1"}
_RL_PANELS_PER_ROW = 3


def without_curve(curves: Mapping[str, Curve], figure: str) -> list[str]:
    """Stages of a figure in FIGURES without data for it."""
    stage, panels = FIGURES[figure]
    stages = _curves_of(stage)
    return [stage for stage in stages if not any(_series(curves.get(stage) or [], column) for column, _ in panels)]


def training(curves: Mapping[str, Curve], figure: str) -> Markup | None:
    """One figure of FIGURES with a line per stage in each panel; None: no row with a step and such a column."""
    stage, columns_of = FIGURES[figure]
    stages = _curves_of(stage)
    series = {(c, stage): _series(curves.get(stage) or [], c) for c, _ in columns_of for stage in stages}
    panels = [(column, title) for column, title in columns_of if any(series[column, stage] for stage in stages)]
    if not panels:
        return None
    left_out = without_curve(curves, figure)
    drawn = [stage for stage in stages if stage not in left_out]
    columns = min(_RL_PANELS_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    with plotting():
        height = 0.35 + (2.05 * rows if columns > 1 else 2.3)
        made = Figure(figsize=(_WIDTH if columns > 1 else 5.2, height), layout="constrained")
        axes = list(made.subplots(rows, columns, squeeze=False).flat)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for place, (ax, (column, title)) in enumerate(zip(axes, panels, strict=False)):
            for stage in drawn:
                found = series[column, stage]
                _smoothed(ax, [x for x, _ in found], [y for _, y in found], style(stage).colour)
            ax.set_title(title, fontsize=9.5)
            ax.set_xlabel("step" if place + columns >= len(panels) else "")
            ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
            if column in _SHARES:
                top = max(0.1, ax.get_ylim()[1])
                ax.set_ylim(-0.04 * top, min(1.04, top))
        _legend(made, drawn, lines=True)
        return inline(made, name=f"curve-{figure}", alt=f"training curves: {figure}")


def _smoothed(ax: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Draw faint values and, if there are enough, a centred moving mean over a tenth of the curve."""
    if not y:
        return
    reach = len(y) // 20
    if reach == 0:
        ax.plot(x, y, color=colour, marker="o" if len(y) < 3 else None)
        return
    ax.plot(x, y, color=colour, alpha=0.35, linewidth=0.9)
    windows = [y[max(0, i - reach) : i + reach + 1] for i in range(len(y))]
    ax.plot(x, [sum(window) / len(window) for window in windows], color=colour)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value of a curve is a finite number. A row has no value for what was not measured at its step."""
    return isinstance(value, int | float) and math.isfinite(value)


def _series(rows: Curve, column: str) -> list[tuple[float, float]]:
    """(step, value) of the rows in which both are finite numbers, averaged over buckets down to MAX_POINTS."""
    found = []
    for row in rows:
        step, value = row.get("step"), row.get(column)
        if is_number(step) and is_number(value):
            found.append((float(step), float(value)))
    size = math.ceil(len(found) / MAX_POINTS)
    buckets = (
        [found[start : start + size] for start in range(0, len(found), size)] if size > 1 else [[f] for f in found]
    )
    return [(sum(s for s, _ in b) / len(b), sum(v for _, v in b) / len(b)) for b in buckets]
