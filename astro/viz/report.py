"""The offline page of one pipeline run: one HTML file that loads nothing. The same input gives the same bytes.

Model text is data. The templates escape every value, and the page's content security policy runs only the page's own
script (by hash) and opens no connection, whatever a model wrote.
"""

import base64
import hashlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from astro.arms import RAW, all_models, baselines, rl_models
from astro.process import plural
from astro.viz import chain_graph, plots, trace_view, tree_view
from astro.viz.chain_selection import Example, outcome
from astro.viz.labels import (
    MINUS,
    clear_of_zero,
    interval,
    main_first,
    main_model,
    ordered,
    percent,
    points,
    points_interval,
    problems,
    searchers,
    style,
    way,
)
from schemas.evaluate import (
    BudgetCurve,
    EqualTokens,
    Estimate,
    EvalMetrics,
    LimitCurve,
    ModelMetrics,
    PairedDifference,
)
from schemas.records import Completion, Trace, Tree

GALLERY_BYTES = 1_200_000
"""Size of text and pictures up to which chains are shown. With the trees and plots the page stays below 3 MB."""

TREES_BYTES = 900_000
"""The same for search trees with their training chains."""

MAX_TEXT = 12_000
"""Most characters shown of one chain."""

_NODE_BYTES = 420  # markup per tree node
_LINE_BYTES = 60  # markup per line of a chain
_TEMPLATES = Path(__file__).parent / "templates"
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class StageProvenance:
    """The origin of one stage's outs; None: unknown."""

    md5: str | None = None  # hash of the stage's outs
    seconds: float | None = None  # wall time of the run that made them
    run_id: str | None = None  # that run in the tracking store


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows. None or empty values appear as "not available"."""

    title: str
    metrics: EvalMetrics | None
    chances: Mapping[str, float | None] = field(default_factory=dict)  # set -> chance of a random legal path
    stage_metrics: Mapping[str, Mapping] = field(default_factory=dict)  # stage -> its metrics, nested dicts of numbers
    params: Mapping = field(default_factory=dict)  # params.yaml as nested dicts
    curves: Mapping[str, plots.Curve] = field(default_factory=dict)  # stage -> rows of its CSV, see plots.FIGURES
    gallery: Sequence[Example] = ()
    trees: Sequence[Tree] = ()
    traces: Mapping[str, Trace] = field(default_factory=dict)  # problem id -> the training chain shown with its tree
    provenance: Mapping[str, StageProvenance] = field(default_factory=dict)  # stage -> source, in pipeline order
    rollouts: Sequence[Completion] = ()  # RL: one held-out problem at the first and the last step, see `stages.report`
    rollouts_question: str = ""


@dataclass(frozen=True)
class ChainView:
    """One formatted chain."""

    completion: Completion
    label: str  # label of the model
    facts: str
    lines: list[chain_graph.Line]
    cut: int  # characters left out
    graph: Markup


@dataclass(frozen=True)
class GalleryItem:
    """One problem with its chain and an optional contrast, formatted."""

    question: str
    gold: str
    outcome: str
    chain: ChainView
    contrast: ChainView | None


@dataclass(frozen=True)
class TreeItem:
    """One search tree with its training chain, formatted."""

    tree: tree_view.TreeView
    trace: trace_view.TraceView | None  # None: there is none


def render(data: ReportData) -> str:
    """The page as one HTML string (UTF-8, below about 3 MB).

    Raises:
        ValueError: a chain whose parents or back edges name no earlier step.
    """
    script = Markup((_TEMPLATES / "fold.js").read_text(encoding="utf-8"))
    gallery = list(_within(map(_gallery_item, data.gallery), GALLERY_BYTES, _gallery_bytes))
    trees = list(_within((tree_item(t, data.traces) for t in data.trees), TREES_BYTES, _tree_bytes))
    metrics = data.metrics if data.metrics is not None and data.metrics.sets else None
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            metrics=metrics,
            css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            main=main_model(),
            models=_models(metrics) if metrics else [],
            unmeasured=[
                style(model).label for model in all_models() if metrics and model not in {RAW, *_models(metrics)}
            ],
            searchers=searchers(_models(metrics)) if metrics else [],
            headlines=[_headline(metrics, name) for name in metrics.sets] if metrics else [],
            summaries=_summaries(metrics) if metrics else [],
            budgets=[_budget(metrics, place, name) for place, name in enumerate(metrics.sets)] if metrics else [],
            limits=_limits(metrics) if metrics else [],
            correlations=_correlations(metrics) if metrics else [],
            plots=_plots(data, metrics),
            without_curve={
                figure: [style(stage).label for stage in plots.without_curve(data.curves, figure)]
                for figure in plots.FIGURES
            },
            over_steps=_step_correlations(data.curves),
            arms=[(stage, data.stage_metrics[stage]) for stage in rl_models() if stage in data.stage_metrics],
            rollouts=[chain_view(c, data.rollouts_question, None) for c in data.rollouts],
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
    """("a.b", value) for every leaf of nested mappings, in order. An empty mapping is a leaf."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


VISIBLE = (
    {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"}
    | {0x7F: "\u2421"}
    | {code: f"\u27e8U+{code:04X}\u27e9" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
)
"""Characters that pages show by a sign: control characters, which HTML does not allow, and those that change the direction of
text, by which a model's text would turn the page's own words and marks around."""


def shown(value: object) -> object:
    """What a template prints, with signs for the characters of `VISIBLE`."""
    return value.translate(VISIBLE) if isinstance(value, str) else value


def environment() -> Environment:
    """The template environment with its filters."""
    found = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=shown,
        undefined=StrictUndefined,  # a misspelt name in a template fails instead of printing nothing
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        percent=percent, interval=interval, number=number, signed=lambda v: points(v).replace("-", MINUS),
        signed_interval=lambda e: points_interval(e).replace("-", MINUS), problems=problems, way=way,
        correlation=lambda v: "-" if v is None else f"{v:+z.2f}".replace("-", MINUS),
    )  # fmt: skip
    found.globals.update(style=style, clear_of_zero=clear_of_zero, compared=_compared, MINUS=MINUS)
    return found


def number(value: object) -> str:
    """Format a figure: thousands separators, four significant digits of a fraction, "-" for None."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}".replace(",", "\u2009")
    return f"{value:.4g}"


def _majority(params: Mapping) -> str:
    """The k of maj@k from the params, or the letter k."""
    section = params.get("eval")
    return str(section["majority"]) if isinstance(section, Mapping) and "majority" in section else "k"


def _models(metrics: EvalMetrics) -> list[str]:
    return ordered({model for models in metrics.sets.values() for model in models})


def _compared(metrics: EvalMetrics) -> list[tuple[str, str]]:
    """(better, worse) of every comparison on any set, the main ones first."""
    pairs = main_first(pair for pairs in metrics.differences.values() for pair in pairs)
    return list(dict.fromkeys((pair.better, pair.worse) for pair in pairs))


@dataclass(frozen=True)
class Against:
    """A model that the main model is compared with on one set."""

    model: str
    result: ModelMetrics
    difference: PairedDifference | None  # the main model minus this one; None: not compared


@dataclass(frozen=True)
class Headline:
    """The main result on one set."""

    set: str
    model: str
    result: ModelMetrics
    against: list[Against]  # its baseline and the base model, if present


def _headline(metrics: EvalMetrics, name: str) -> Headline:
    """The headline for ASTRO-RL, or for the last model in pipeline order if it was not measured."""
    models = metrics.sets[name]
    main = main_model() if main_model() in models else ordered(models)[-1]
    pairs = {(pair.better, pair.worse): pair for pair in metrics.differences.get(name, [])}
    others = [other for other in (baselines().get(main), "base") if other in models and other != main]
    return Headline(
        set=name,
        model=main,
        result=models[main],
        against=[Against(other, models[other], pairs.get((main, other))) for other in others],
    )


@dataclass(frozen=True)
class Summary:
    """The sets on which a model is ahead of another, behind, or neither: whether the interval of the difference excludes zero."""

    model: str
    other: str
    ahead: list[str]
    behind: list[str]
    open: list[str]  # the interval includes zero


def _summaries(metrics: EvalMetrics) -> list[Summary]:
    """ASTRO-RL compared with its baseline and with the base, over all sets with both."""
    found = []
    main = main_model()
    for other in (baselines()[main], "base"):
        differences = {
            name: pair.difference
            for name, pairs in metrics.differences.items()
            for pair in pairs
            if (pair.better, pair.worse) == (main, other)
        }
        if other is None or not differences:
            continue
        clear = {name: d for name, d in differences.items() if clear_of_zero(d)}
        found.append(
            Summary(
                model=main,
                other=other,
                ahead=[name for name, d in clear.items() if d.value > 0],
                behind=[name for name, d in clear.items() if d.value < 0],
                open=[name for name in differences if name not in clear],
            )
        )
    return found


@dataclass(frozen=True)
class Budget:
    """The comparison at equal tokens on one set."""

    set: str
    plot: Markup | None
    rows: list[EqualTokens]
    searched: int | None  # problems of the tree search at test time; None: there was none


def _budget(metrics: EvalMetrics, place: int, name: str) -> Budget:
    curves: Sequence[BudgetCurve] = metrics.budgets.get(name, [])
    search = next((curve for curve in curves if curve.method == "search"), None)
    return Budget(
        set=name,
        plot=plots.equal_tokens(curves, str(place)),  # a set's name is data and may not be a valid id
        rows=metrics.equal_tokens.get(name, []),
        searched=search.points[-1].accuracy.n if search else None,
    )


@dataclass(frozen=True)
class Limits:
    """Accuracy against the token limit on one set."""

    set: str
    plot: Markup | None
    curves: list[LimitCurve]
    shown: list[int]  # indices of the points in the table


def _limits(metrics: EvalMetrics) -> list[Limits]:
    found = []
    for place, (name, curves) in enumerate(metrics.token_limits.items()):
        count = len(curves[0].points) if curves else 0
        shown = list(range(max(0, count - 5), count))
        rank = {model: i for i, model in enumerate(ordered(curve.model for curve in curves))}
        found.append(
            Limits(name, plots.token_limits(curves, str(place)), sorted(curves, key=lambda c: rank[c.model]), shown)
        )
    return found


@dataclass(frozen=True)
class Correlations:
    """Correlations with being right, for one model that searches on one set."""

    set: str
    model: str
    over_problems: float | None  # mean backtracks against mean score
    backtracks: Estimate | None  # over chains of one problem, tokens held constant
    tokens: Estimate | None  # the same, backtracks held constant


def _correlations(metrics: EvalMetrics) -> list[Correlations]:
    """The correlations; [] if chains of one problem were not compared, as in metrics of older versions."""
    found = [
        Correlations(name, model, m.backtracks_score_r, m.backtracks_at_equal_tokens, m.tokens_at_equal_backtracks)
        for name, models in metrics.sets.items()
        for model, m in ((model, models[model]) for model in searchers(models))
    ]
    return found if any(row.backtracks or row.tokens for row in found) else []


@dataclass(frozen=True)
class StepCorrelations:
    """Correlations of backtracks with accuracy over the steps of one RL run. None: one of the two does not vary."""

    model: str
    steps: int  # training steps with both figures
    training: float | None  # per step: backtracks and right answers of its samples
    measurements: int  # measurements on the validation problems
    validation: float | None


def _step_correlations(curves: Mapping[str, plots.Curve]) -> list[StepCorrelations]:
    """The correlations that the paper reports of its RL (0.816 to 0.854), for each arm that goes back at all."""
    found = []
    for model in rl_models():
        over_steps = _pairs(curves.get(model) or [], "backtracks", "accuracy")
        measured = _pairs(curves.get(model) or [], "validation_mean_backtracks", "validation_pass_at_1")
        row = StepCorrelations(model, len(over_steps), _pearson(over_steps), len(measured), _pearson(measured))
        if row.training is not None or row.validation is not None:
            found.append(row)
    return found


def _pairs(curve: plots.Curve, x: str, y: str) -> list[tuple[float, float]]:
    """The values of two columns in the rows that have both."""
    rows = ((row.get(x), row.get(y)) for row in curve)
    return [(a, b) for a, b in rows if plots.is_number(a) and plots.is_number(b)]


def _pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Pearson correlation in -1..1; None for fewer than three pairs, or if a value does not vary."""
    if len(pairs) < 3 or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return None
    return statistics.correlation(*zip(*pairs, strict=True))


def _plots(data: ReportData, metrics: EvalMetrics | None) -> dict[str, Markup | None]:
    """Every plot of the page by name, except those of one set; None: nothing to draw."""
    found: dict[str, Markup | None] = {
        f"curve_{figure}": plots.training(data.curves, figure) for figure in plots.FIGURES
    }
    found["scores"] = plots.scores(metrics, data.chances) if metrics else None
    for name in ("differences", "by_backtracks", "by_attempt"):
        found[name] = getattr(plots, name)(metrics) if metrics else None
    return found


def _gallery_item(example: Example) -> GalleryItem:
    problem = example.problem
    return GalleryItem(
        question=problem.question,
        gold=problem.gold,
        outcome=outcome(example.completion),
        chain=chain_view(example.completion, problem.question, example.right),
        contrast=chain_view(example.contrast, problem.question, example.contrast_right) if example.contrast else None,
    )


def chain_view(completion: Completion, question: str, right: tuple[int, int] | None = None) -> ChainView:
    """Format a chain. right: (right samples, samples) of the problem; None: not shown."""
    chain, text = completion.chain, completion.text[:MAX_TEXT]
    facts = [
        plural(len(chain.attempts), "attempt"),
        plural(len(chain.back_edges), "backtrack"),
        f"{number(completion.tokens)} tokens",
    ]
    if not completion.finished:
        facts.append("cut by the length limit")
    if right is not None:
        facts.append(f"{right[0]} of {plural(right[1], 'sample')} right")
    return ChainView(
        completion=completion,
        label=style(completion.model).label,
        facts=", ".join(facts),
        lines=chain_graph.lines(text, chain),
        cut=len(completion.text) - len(text),
        graph=chain_graph.draw(chain, problem=question),
    )


def tree_item(tree: Tree, traces: Mapping[str, Trace]) -> TreeItem:
    """Format a tree with the chain on its problem in `traces`."""
    trace = traces.get(tree.problem.id)
    return TreeItem(tree=tree_view.view(tree), trace=trace_view.view(trace, limit=MAX_TEXT) if trace else None)


def _within(items: Iterable[_Item], budget: int, size: Callable[[_Item], int]) -> Iterator[_Item]:
    """Items from the front until their sizes exceed the budget, but at least the first."""
    used = 0
    for item in items:
        used += size(item)
        if used > budget and used != size(item):
            return
        yield item


def _gallery_bytes(item: GalleryItem) -> int:
    views = [view for view in (item.chain, item.contrast) if view]
    return sum(len(view.graph) + _text_bytes(view.lines) for view in views)


def _text_bytes(lines: Iterable[chain_graph.Line | trace_view.TraceLine]) -> int:
    return sum(len(line.text) + _LINE_BYTES for line in lines)


def _tree_bytes(item: TreeItem) -> int:
    def size(node: tree_view.TreeNode) -> int:
        return _NODE_BYTES + len(node.text) + sum(size(child) for child in node.children)

    return size(item.tree.root) + (_text_bytes(item.trace.lines) if item.trace else 0)
