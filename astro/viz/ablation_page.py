"""The offline page of the ablations: the effect of each parameter change on each model, with its question and its commands.

Like `astro.viz.report` it is one HTML file that loads nothing; the same input gives the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from astro.arms import baselines
from astro.viz.labels import MINUS, percent, points, points_interval, style
from astro.viz.matplotlib_svg import INK, inline, plotting
from schemas.ablations import BASELINE, AblationFigure, AblationReport, ArmsFigure

_TEMPLATES = Path(__file__).parent / "templates"
_WIDTH = 10.6  # inches; the page scales plots down to its width

Cell = tuple[str, AblationFigure]
"""(name of the ablation, figure) for one set and model."""


def render(table: AblationReport) -> str:
    """The page as one HTML string (UTF-8)."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        signed=lambda v: points(v).replace("-", MINUS),
        signed_interval=lambda e: points_interval(e).replace("-", MINUS),
        seeds=seed_range,
    )
    css = Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("ablations.html.j2").render(
        table=table,
        css=css,
        sections=sections(table),
        arms=arms(table),
        style=style,
        baseline=BASELINE,
        minus=MINUS,
    )


def sections(table: AblationReport) -> list[tuple[str, list[tuple[str, list[Cell], Markup | None]]]]:
    """(set, [(model, its rows, its plot)]), without models that no run measured on the set."""
    cells: dict[str, dict[str, list[Cell]]] = {}
    for row in table.rows:
        for found in row.figures:
            if found.pass_at_1 is not None:
                cells.setdefault(found.set, {}).setdefault(found.model, []).append((row.name, found))
    return [
        (name, [(model, rows, forest(rows, name=f"{name}-{model}")) for model, rows in models.items()])
        for name, models in cells.items()
    ]


def arms(table: AblationReport) -> list[tuple[str, str, str, list[tuple[str, ArmsFigure]]]]:
    """(set, searching arm, its baseline, [(ablation, gain of the search prior)])."""
    cells: dict[tuple[str, str], list[tuple[str, ArmsFigure]]] = {}
    for row in table.rows:
        for found in row.arms:
            cells.setdefault((found.set, found.model), []).append((row.name, found))
    return [(name, model, baselines()[model], rows) for (name, model), rows in cells.items()]


def forest(rows: Sequence[Cell], *, name: str) -> Markup | None:
    """Plot of paired differences from the default with 95 % intervals, and a hollow mark per seed; None: no differences yet.

    Args:
        name: unique on the page.
    """
    shown = [(ablation, f) for ablation, f in rows if f.difference is not None]
    if not shown:
        return None
    look = style(shown[0][1].model)
    with plotting():
        figure = Figure(figsize=(_WIDTH, 1.1 + 0.27 * len(shown)), layout="constrained")
        ax = figure.subplots()
        ax.axvline(0, color=INK, linewidth=1)
        for place, (_, found) in enumerate(shown):
            value = found.difference
            assert value is not None
            ax.hlines(place, 100 * value.low, 100 * value.high, colors=look.colour, linewidth=2.2)
            ax.plot([100 * value.value], [place], marker=look.marker, color=look.colour, markersize=6)
            each = [100 * s.difference for s in found.by_seed]
            ax.plot(
                each, [place] * len(each), linestyle="", marker="o", color=INK, markerfacecolor="none", markersize=4
            )
            text = f"{percent(found.pass_at_1)}  {points(value.value)} {points_interval(value)}".replace("-", MINUS)
            ax.text(1.01, place, text, transform=ax.get_yaxis_transform(), va="center")
        ax.set_yticks(range(len(shown)), [ablation for ablation, _ in shown])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        # At least one point to each side, so that zeros are not drawn on a scale of hundredths.
        left, right = ax.get_xlim()
        ax.set_xlim(min(left, -1), max(right, 1))
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"pass@1 of {look.label} against the default, percentage points")
        marks = [
            Line2D(
                [], [], color=look.colour, marker=look.marker, linestyle="-", label="mean over seeds, 95 % interval"
            ),
            Line2D([], [], color=INK, marker="o", markerfacecolor="none", linestyle="", markersize=4, label="one seed"),
        ]
        figure.legend(handles=marks, loc="outside upper left", ncols=2)
        letters = "".join(c if c.isalnum() or c == "-" else "-" for c in name)
        return inline(figure, name=f"forest-{letters}", alt=f"differences to the default, {name}")


def seed_range(found: AblationFigure | ArmsFigure) -> str:
    """ "lowest .. highest" difference of a seed, in percentage points; "-": there is none."""
    each = [s.difference for s in found.by_seed]
    return f"{points(min(each))} .. {points(max(each))}".replace("-", MINUS) if each else "-"
