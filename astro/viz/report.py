"""The offline page of one pipeline run: one HTML file that loads nothing, same input, same bytes.

Model text is data: the templates escape every value, and the page's content security policy runs no script but the
page's own (by hash) and opens no connection, whatever a model wrote.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from astro.viz import chain_graph, plots, tree_view
from astro.viz.labels import (
    MINUS,
    MODELS,
    clear_of_zero,
    interval,
    ordered,
    percent,
    points,
    points_interval,
    style,
)
from schemas.evaluate import EvalMetrics, ModelMetrics, PairedDifference
from schemas.records import Completion, Problem, Tree

GALLERY_BYTES = 1_200_000
"""Chains are shown until their text and pictures reach this; with the trees and plots the page stays below 3 MB."""

TREES_BYTES = 900_000
"""The same for search trees."""

MAX_TEXT = 12_000
"""Characters shown of one chain."""

_NODE_BYTES = 420  # markup around the text of one tree node
_TEMPLATES = Path(__file__).parent / "templates"
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class StageProvenance:
    """Where one stage's outs come from; None: unknown."""

    md5: str | None = None  # of the stage's outs
    seconds: float | None = None  # wall time of the run that made them
    run_id: str | None = None  # that run in the tracking store


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows. What is None or empty is shown as "not available"."""

    title: str
    metrics: EvalMetrics | None
    chances: Mapping[str, float | None] = field(default_factory=dict)  # set -> share of random legal paths that succeed
    stage_metrics: Mapping[str, Mapping] = field(default_factory=dict)  # stage -> its metrics, nested dicts of numbers
    params: Mapping = field(default_factory=dict)  # params.yaml as nested dicts
    curves: Mapping[str, plots.Curve] = field(default_factory=dict)  # "base" | "sft" | "grpo" -> rows of its CSV
    gallery: Sequence[tuple[Problem, Completion]] = ()
    trees: Sequence[Tree] = ()
    provenance: Mapping[str, StageProvenance] = field(default_factory=dict)  # stage -> source, in pipeline order


@dataclass(frozen=True)
class GalleryItem:
    """One chain, formatted."""

    problem: Problem
    completion: Completion
    label: str  # of the model
    facts: str
    lines: list[chain_graph.Line]
    cut: int  # characters left out
    graph: Markup


def render(data: ReportData) -> str:
    """The page as one HTML string (UTF-8, below about 3 MB).

    Raises:
        ValueError: a chain whose parents or back edges name no earlier step.
    """
    script = Markup((_TEMPLATES / "fold.js").read_text(encoding="utf-8"))
    gallery = list(_within(map(_gallery_item, data.gallery), GALLERY_BYTES, _gallery_bytes))
    trees = list(_within(map(tree_view.view, data.trees), TREES_BYTES, _tree_bytes))
    metrics = data.metrics if data.metrics is not None and data.metrics.sets else None
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            metrics=metrics,
            css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            models=ordered({model for models in metrics.sets.values() for model in models}) if metrics else [],
            headlines=[_headline(metrics, name) for name in metrics.sets] if metrics else [],
            plots=_plots(data, metrics),
            gallery=gallery,
            gallery_omitted=len(data.gallery) - len(gallery),
            trees=trees,
            trees_omitted=len(data.trees) - len(trees),
            params=list(flatten(data.params)),
            stage_metrics={stage: list(flatten(values)) for stage, values in data.stage_metrics.items()},
            k=_majority(data.params),
        )
    )


def flatten(values: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """("a.b", value) for every leaf of nested mappings, in their order; an empty mapping is a leaf."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelt name in a template fails instead of showing nothing
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, interval=interval, number=number, signed=lambda v: points(v).replace("-", MINUS),
        signed_interval=lambda e: points_interval(e).replace("-", MINUS),
    )  # fmt: skip
    environment.globals.update(style=style, clear_of_zero=clear_of_zero, MODELS=MODELS)
    return environment


def number(value: object) -> str:
    """A figure for reading: thousands apart, four significant digits of a fraction, "-" for None."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", "\u2009")
    return f"{value:.4g}"


def _majority(params: Mapping) -> str:
    """k of maj@k if the params say it, else the letter."""
    section = params.get("eval")
    return str(section["majority"]) if isinstance(section, Mapping) and "majority" in section else "k"


@dataclass(frozen=True)
class Headline:
    """The main result on one set: its last model in pipeline order, against the first."""

    set: str
    model: str
    result: ModelMetrics
    against: PairedDifference | None  # the last model minus the first; None: not compared
    others: list[tuple[str, ModelMetrics]]


def _headline(metrics: EvalMetrics, name: str) -> Headline:
    models = metrics.sets[name]
    present = ordered(models)
    last = present[-1]
    pairs = {(pair.better, pair.worse): pair for pair in metrics.differences.get(name, [])}
    return Headline(
        set=name,
        model=last,
        result=models[last],
        against=pairs.get((last, present[0])),
        others=[(model, models[model]) for model in present[:-1]],
    )


def _plots(data: ReportData, metrics: EvalMetrics | None) -> dict[str, Markup | None]:
    """Every plot of the page by name; None: nothing to draw."""
    found: dict[str, Markup | None] = {f"curve_{stage}": plots.training(data.curves, stage) for stage in plots.CURVES}
    found["scores"] = plots.scores(metrics, data.chances) if metrics else None
    for name in ("differences", "by_backtracks", "by_attempt"):
        found[name] = getattr(plots, name)(metrics) if metrics else None
    return found


def _gallery_item(pair: tuple[Problem, Completion]) -> GalleryItem:
    problem, completion = pair
    chain, text = completion.chain, completion.text[:MAX_TEXT]
    facts = [
        _count(len(chain.back_edges), "backtrack"),
        _count(len(chain.attempts), "attempt"),
        f"{number(completion.tokens)} tokens",
    ]
    if not completion.finished:
        facts.append("cut by the length limit")
    return GalleryItem(
        problem=problem,
        completion=completion,
        label=style(completion.model).label,
        facts=", ".join(facts),
        lines=chain_graph.lines(text, chain),
        cut=len(completion.text) - len(text),
        graph=chain_graph.draw(chain, problem=problem.question),
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _within(items: Iterable[_Item], budget: int, size: Callable[[_Item], int]) -> Iterator[_Item]:
    """Items from the front until their sizes exceed the budget; at least the first."""
    used = 0
    for item in items:
        used += size(item)
        if used > budget and used != size(item):
            return
        yield item


def _gallery_bytes(item: GalleryItem) -> int:
    return len(item.graph) + sum(len(line.text) + 60 for line in item.lines)


def _tree_bytes(view: tree_view.TreeView) -> int:
    def size(node: tree_view.TreeNode) -> int:
        return _NODE_BYTES + len(node.text) + sum(size(child) for child in node.children)

    return size(view.root)
