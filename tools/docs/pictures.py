"""Pictures for the documents, drawn by the product's own code from committed records.

Each picture is an SVG file with its own background, so it can be read on any page. Its colours follow the reader's
choice of light or dark.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from astro.cloning.verbalize import load_phrases
from astro.tasks import get_task
from astro.viz import chain_graph, plots, trace_view, tree_view
from astro.viz.labels import style
from astro.viz.report import chain_view
from schemas.records import Chain, Completion
from tools.docs.record_run import DIRECT, MAIN, Example, example, figures, problems

FOLDER = Path("docs/pictures")
CSS = Path("astro/viz/templates/page.css")
PHRASES = Path("phrases/countdown.yaml")

DARK = """--page: #14181f; --card: #1b212b; --ink: #e3e8ef; --soft: #9aa7b8; --line: #36404e; --faint: #222a36; --accent: #7fb0ee;
--right: #4ecb8d; --right-bg: #173828; --wrong: #f08a7c; --wrong-bg: #40211e; --invalid: #cf93e6; --invalid-bg: #362040;
--plain: #9aa7b8; --plain-bg: #2a323e; --back: #f0b04a; --back-ink: #f0c47c; --back-bg: #3d2f16;"""
"""The colours of page.css on a dark card."""

MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
CHARACTER = 7.25  # px of one character at 12 px; the widest of MONO
ROW = 19
PAD = 18


def stylesheet() -> str:
    """The rules and colours of the product's page that the pictures need."""
    css = CSS.read_text(encoding="utf-8")
    light = re.search(r":root \{(.*?)\}", css, re.DOTALL)
    assert light is not None
    rules = "\n".join(line for line in css.splitlines() if line.startswith("svg.graph "))
    return f""":root {{ {light[1].replace("color-scheme: light;", "").strip()} }}
@media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }}
{rules}
.card {{ fill: var(--card); stroke: var(--line); }}
svg.plot {{ color: var(--ink); }}
text {{ font: 13px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }}
text.mono {{ font: 12px {MONO}; white-space: pre; }}
text.small {{ font-size: 11px; }}
text.head {{ font-weight: 600; }}
text.middle {{ text-anchor: middle; }}
text.right {{ fill: var(--right); }} text.wrong {{ fill: var(--wrong); }} text.invalid {{ fill: var(--invalid); }}
text.back {{ fill: var(--back-ink); }} text.soft, text.doubt {{ fill: var(--soft); }} text.doubt {{ font-style: italic; }}
rect.right {{ fill: var(--right-bg); }} rect.wrong {{ fill: var(--wrong-bg); }} rect.invalid {{ fill: var(--invalid-bg); }}
rect.back {{ fill: var(--back-bg); }} rect.plain {{ fill: var(--plain-bg); }}
rect.box {{ fill: var(--faint); stroke: var(--line); }} rect.box.right {{ fill: var(--right-bg); stroke: var(--right); }}
rect.box.wrong {{ fill: var(--wrong-bg); stroke: var(--wrong); }} rect.box.back {{ fill: var(--back-bg); stroke: var(--back); }}
rect.track {{ fill: var(--line); }} rect.bar {{ fill: var(--accent); }}
.link {{ fill: none; stroke: var(--plain); stroke-width: 1.4; }} polygon.tip {{ fill: var(--plain); }}"""


@dataclass
class Drawing:
    """Elements placed one by one, and the space that they take."""

    parts: list[Markup] = field(default_factory=list)
    width: float = 0
    height: float = 0

    def text(self, x: float, y: float, words: str, looks: str = "") -> None:
        """One line of text; y is its base line."""
        self.parts.append(Markup('<text class="{}" x="{:g}" y="{:g}">{}</text>').format(looks, x, y, words))
        self._room(x, y + 6)

    def rect(self, x: float, y: float, width: float, height: float, looks: str, radius: float = 4) -> None:
        """A rectangle with round corners."""
        shape = '<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}" rx="{:g}"/>'
        self.parts.append(Markup(shape).format(looks, x, y, width, height, radius))
        self._room(x + width, y + height)

    def link(self, path: str) -> None:
        """A line between two boxes."""
        self.parts.append(Markup('<path class="link" d="{}"/>').format(path))

    def tip(self, x: float, y: float) -> None:
        """An arrow head that points right."""
        self.parts.append(
            Markup('<polygon class="tip" points="{0:g},{1:g} {2:g},{3:g} {2:g},{4:g}"/>').format(
                x, y, x - 7, y - 4, y + 4
            )
        )

    def place(self, svg: Markup, x: float, y: float, width: float, height: float) -> None:
        """A finished SVG element."""
        head, body = str(svg).split(">", 1)
        bare = re.sub(r' (?:width|height)="[^"]*"| style="[^"]*"', "", head)
        size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.parts.append(Markup(f"{bare} {size}>{body}"))  # made by astro/viz, which escapes its texts
        self._room(x + width, y + height)

    def _room(self, x: float, y: float) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)

    def file(self, title: str, *, least: float = 0) -> str:
        """The picture as the text of an SVG file. least: its minimum width, so that pictures of a page match."""
        width, height = round(max(self.width + PAD, least)), round(self.height + PAD)
        head = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{0}" viewBox="0 0 {1} {2}" width="{1}" height="{2}">'
            "<title>{0}</title>"
        ).format(title, width, height)
        card = f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>'
        return f"{head}\n<style>\n{stylesheet()}\n</style>\n{card}\n" + "\n".join(self.parts) + "\n</svg>\n"


def _graph(drawing: Drawing, chain: Chain, question: str, x: float, y: float) -> None:
    plan = chain_graph.layout(chain)
    drawing.place(chain_graph.draw(chain, problem=question), x, y, plan.width, plan.height)


Line = tuple[str, str, str]
"""(prefix, text, state) of a line of a chain."""


def _lines(drawing: Drawing, lines: Iterable[Line], x: float, y: float) -> tuple[float, float]:
    """Draw lines of a chain, each on the colour of its state. Returns (right edge, y below them)."""
    rows = list(lines)
    width = 34 + CHARACTER * max(len(text) for _, text, _ in rows)
    for front, text, state in rows:
        if state in ("right", "wrong", "invalid", "back"):
            drawing.rect(x, y, width, ROW - 1, state)
        drawing.text(x + 8, y + 13, front, f"mono {state}")
        drawing.text(x + 26, y + 13, text, f"mono {state}")
        y += ROW
    return x + width, y


def _answer_lines(completion: Completion, question: str) -> list[Line]:
    """Lines of a generated chain. Lines outside steps are doubt, return, or soft."""
    phrases = load_phrases(PHRASES)

    def state(line: chain_graph.Line) -> str:
        if line.state:
            return line.state
        if any(phrase in line.text for phrase in [*phrases.return_step, *phrases.return_root]):
            return "back"
        return "doubt" if any(phrase in line.text for phrase in phrases.reflection) else "soft"

    return [(str(line.number or ""), line.text, state(line)) for line in chain_view(completion, question).lines]


def _training_lines(found: Example) -> list[Line]:
    """Lines of a training chain. A line has the look of the segment that begins it."""
    rows: list[Line] = []
    whole = True
    for line in trace_view.view(found.trace, limit=len(found.trace.completion)).lines:
        front, text, state = rows.pop() if not whole else (line.sign, "", line.state)
        rows.append((front, text + line.text, state))
        whole = found.trace.completion.startswith("\n".join(text for _, text, _ in rows) + "\n")
    return rows


def training_chain(found: Example) -> str:
    """Draw a training chain beside its graph."""
    drawing, question = Drawing(), found.tree.problem.question
    drawing.text(PAD, PAD + 12, question, "head")
    right, _ = _lines(drawing, _training_lines(found), PAD, PAD + 26)
    chain = get_task("countdown", load_phrases(PHRASES)).parse_chain(found.tree.problem, found.trace.completion)
    _graph(drawing, chain, question, right + 12, PAD + 26)
    return drawing.file(f"a training chain for {question}, and its graph")


def answer(found: Example) -> str:
    """Draw the baseline's and the searching arm's answers to a problem of an eval set, beside their graphs."""
    drawing, question, y = Drawing(), found.unseen.question, PAD + 12.0
    for completion in found.answers:
        verdict = "right" if completion.verdict == "correct" else "wrong"
        drawing.text(PAD, y, f"{style(completion.model).label}: {question}", "head")
        drawing.text(PAD + 300, y, f"{verdict}, {completion.tokens} tokens", verdict)
        _, below = _lines(drawing, _answer_lines(completion, question), PAD, y + 12)
        _graph(drawing, completion.chain, question, PAD + 34 + CHARACTER * 72, y + 10)
        y = max(below, y + 80) + 22
    return drawing.file(f"{style(DIRECT).label} and {style(MAIN).label} on {question}, and the graphs of their chains")


_BOX, _BETWEEN, _LEVEL = 44, 10, 46
"""Height of a node's box, space between boxes of a column, space between columns."""


def tree(found: Example) -> str:
    """Draw a search tree from left to right, with N and Q of each node."""
    drawing, view = Drawing(), tree_view.view(found.tree)
    wrapped: dict[int, list[str]] = {}

    def lines(node: tree_view.TreeNode) -> list[str]:
        return wrapped.setdefault(id(node), textwrap.wrap(node.text, 34))

    levels: list[float] = []

    def measure(node: tree_view.TreeNode, depth: int) -> None:
        wide = 20 + CHARACTER * max(len(row) for row in lines(node))
        if depth == len(levels):
            levels.append(0)
        levels[depth] = max(levels[depth], wide, 160)
        for child in node.children:
            measure(child, depth + 1)

    measure(view.root, 0)

    def draw(node: tree_view.TreeNode, depth: int, top: float) -> tuple[float, float]:
        """Draw the node and its subtree. Returns (y of its middle, y below all of it)."""
        x, height = PAD + sum(levels[:depth]) + _LEVEL * depth, _BOX + 15 * (len(lines(node)) - 1)
        middle = top + height / 2
        drawing.rect(x, top, levels[depth], height, f"box {node.state}")
        for number, row in enumerate(lines(node)):
            drawing.text(x + 10, top + 17 + 15 * number, row, f"mono {node.state}")
        drawing.text(x + 10, top + height - 9, f"N {node.visits}", "small soft")
        drawing.text(x + 48, top + height - 9, f"Q {node.q}", "small soft")
        drawing.rect(x + 92, top + height - 16, 50, 6, "track", 3)
        drawing.rect(x + 92, top + height - 16, node.q_percent / 2, 6, "bar", 3)
        below, start = top, x + levels[depth]
        for child in node.children:
            where, below = draw(child, depth + 1, below)
            end = start + _LEVEL
            drawing.link(
                f"M{start:g} {middle:g}C{start + 24:g} {middle:g} {end - 28:g} {where:g} {end - 6:g} {where:g}"
            )
            drawing.tip(end, where)
        return middle, max(below, top + height + _BETWEEN)

    draw(view.root, 0, PAD)
    return drawing.file(f"the search tree of {view.question}")


PIPELINE: Sequence[tuple[int, float, str, Sequence[str]]] = (
    (0, 0.5, "problems", ("training, RL and", "eval sets")),
    (1, 0.5, "base", ("a model that solves", "in one go")),
    (2, 0.5, "mcts", ("a search tree", "for each problem")),
    (3, 0.5, "linearize", ("trees become", "chains of thought")),
    (4, 0, "sft@astro", ("chains that", "go back")),
    (4, 1, "sft@direct", ("direct", "solutions")),
    (5, 0, "grpo@astro", ("RL with a", "verifier")),
    (5, 1, "grpo@direct", ("RL with a", "verifier")),
    (6, 0.5, "eval", ("all models,", "with intervals")),
    (7, 0.5, "report", ("one offline", "page")),
)
"""(column, lane, stage, its task)."""


def pipeline() -> str:
    """Draw the stages in the order in which they run."""
    drawing, wide, high, step, lane = Drawing(), 104.0, 34.0, 134.0, 96.0

    def corner(column: int, row: float) -> tuple[float, float]:
        return PAD + column * step, PAD + row * lane

    for column, row, stage, words in PIPELINE:
        x, y = corner(column, row)
        looks = {"astro": "box back", "direct": "box"}.get(stage.partition("@")[2], "box")
        drawing.rect(x, y, wide, high, looks, 8)
        drawing.text(x + wide / 2, y + 22, stage, "head middle")
        for number, line in enumerate(words):
            drawing.text(x + wide / 2, y + high + 16 + 14 * number, line, "small soft middle")
        for before, other, _, _ in PIPELINE:
            if before == column - 1 and (other == row or 0.5 in (other, row)):
                (x0, y0), y1 = corner(before, other), y + high / 2
                start, y0 = x0 + wide, y0 + high / 2
                drawing.link(f"M{start:g} {y0:g}C{start + 16:g} {y0:g} {x - 20:g} {y1:g} {x - 5:g} {y1:g}")
                drawing.tip(x, y1)
    return drawing.file("the stages of the pipeline: " + ", ".join(stage for _, _, stage, _ in PIPELINE))


def _plot(svg: Markup | None, title: str) -> str:
    assert svg is not None
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    drawing = Drawing()
    drawing.place(svg, PAD, PAD, float(box[1]) * 4 / 3, float(box[2]) * 4 / 3)
    return drawing.file(title)


def all_pictures() -> dict[Path, str]:
    """File -> content."""
    found, measured = example(), figures()
    chances = {name.removeprefix("eval_"): s.chance for name, s in problems().sets.items() if name.startswith("eval_")}
    texts = {
        "pipeline": pipeline(),
        "tree": tree(found),
        "training-chain": training_chain(found),
        "answer": answer(found),
        "accuracy": _plot(
            plots.scores(measured, chances), "accuracy of each model on each eval set, with 95 % intervals"
        ),
        "differences": _plot(plots.differences(measured), "paired differences of pass@1, with 95 % intervals"),
        "tokens": _plot(plots.equal_tokens(measured.budgets["n3"], "n3"), "accuracy against generated tokens on n3"),
    }
    return {FOLDER / f"{name}.svg": text for name, text in texts.items()}
