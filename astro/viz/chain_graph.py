"""Draw a chain of thought as a directed graph in inline SVG (paper, analyses: node = step, back edge = backtrack).

Time runs downwards and depth to the right. The problem is at the top left, and a step is right of the step that it
continues. Every further continuation of a step opens a new row, so each row is one attempt, and the picture grows like
the text beside it. A back edge leaves its step downwards, runs left under the row and up to the target of the return.
"""

from dataclasses import dataclass

from markupsafe import Markup, escape

from astro.process import plural
from schemas.records import Chain, ChainNode

PROBLEM = -1
"""The problem itself, in `ChainNode.parent` and `Chain.back_edges`."""

MAX_DRAWN = 160
"""Largest number of steps drawn. A longer chain is cut, and the picture says so."""

_COLUMN = 70.0  # px between depths
_ROW = 46.0  # px between rows
_RADIUS = 11.0
_MARGIN = 22.0
_GUTTER = 22.0  # px between a row and the back edge below it
_CORNER = 8.0  # radius of a turn
_TRUNK = 5.0  # forward edges go down right of a node's middle, back edges arrive left of it


@dataclass(frozen=True)
class Layout:
    """Positions of all elements, in px."""

    problem: tuple[float, float]
    nodes: tuple[tuple[float, float], ...]  # one (x, y) per drawn step
    edges: tuple[tuple[int, int], ...]  # (parent or -1, step)
    back_edges: tuple[tuple[int, int], ...]  # (from step, to step or -1)
    width: float
    height: float

    def at(self, index: int) -> tuple[float, float]:
        """Position of a step, or of the problem for -1."""
        return self.problem if index == PROBLEM else self.nodes[index]


def layout(chain: Chain, *, limit: int = MAX_DRAWN) -> Layout:
    """Place the first `limit` steps of a chain.

    Raises:
        ValueError: a parent that is not an earlier step, or a back edge that names no step.
    """
    count = len(chain.nodes)
    for index, node in enumerate(chain.nodes):
        if node.parent >= index:
            raise ValueError(f"step {index} continues step {node.parent}, expected an earlier one or -1")
    for source, target in chain.back_edges:
        if not (0 <= source < count and PROBLEM <= target < count):
            raise ValueError(f"back edge {(source, target)} names no step of {count}")
    places: dict[int, tuple[int, int]] = {PROBLEM: (0, 0)}  # step -> (depth, row)
    continued: set[int] = set()
    last_row = 0
    for index, node in enumerate(chain.nodes[:limit]):
        depth, row = places[node.parent]
        if node.parent in continued:
            last_row += 1
            row = last_row
        continued.add(node.parent)
        places[index] = (depth + 1, row)

    def pixel(place: tuple[int, int]) -> tuple[float, float]:
        return _MARGIN + place[0] * _COLUMN, _MARGIN + place[1] * _ROW

    drawn = min(count, limit)
    deepest = max(depth for depth, _ in places.values())
    return Layout(
        problem=pixel(places[PROBLEM]),
        nodes=tuple(pixel(places[index]) for index in range(drawn)),
        edges=tuple((chain.nodes[index].parent, index) for index in range(drawn)),
        back_edges=tuple(edge for edge in chain.back_edges if max(edge) < drawn),
        width=2 * _MARGIN + deepest * _COLUMN + 10,
        height=2 * _MARGIN + last_row * _ROW + (6 if chain.back_edges else 0),
    )


def state(node: ChainNode) -> str:
    """Class of a step: "invalid", "right", "wrong", or "plain" for a legal step that ends no attempt."""
    if not node.valid:
        return "invalid"
    if node.right is None:
        return "plain"
    return "right" if node.right else "wrong"


def false_claim(node: ChainNode) -> bool:
    """Whether the chain's own verdict on this attempt is wrong."""
    return node.claim is not None and node.right is not None and node.claim != node.right


def draw(chain: Chain, *, problem: str, limit: int = MAX_DRAWN) -> Markup:
    """The graph as an SVG element. Colours come from the page's CSS classes.

    Args:
        chain: the chain; it gives one `<g class="back">` per back edge and one `<g class="node ...">` per step.
        problem: tooltip of the problem's node (escaped here, like every text).
        limit: see MAX_DRAWN.
    """
    plan = layout(chain, limit=limit)
    parts = [_edge(plan, *edge) for edge in plan.edges]
    parts += [_back_edge(plan, *edge) for edge in plan.back_edges]
    x, y = plan.problem
    parts.append(
        Markup(
            '<g class="node problem"><title>{}</title><rect x="{}" y="{}" width="26" height="24" rx="6"/>'
            '<text x="{}" y="{}">P</text></g>'
        ).format(problem, _n(x - 13), _n(y - 12), _n(x), _n(y + 4))
    )
    parts += [_node(place, index, chain.nodes[index]) for index, place in enumerate(plan.nodes)]
    label = ", ".join(
        [
            plural(len(chain.nodes), "step"),
            plural(len(chain.attempts), "attempt"),
            plural(len(chain.back_edges), "back edge"),
        ]
    )
    cut = f" (the first {len(plan.nodes)} drawn)" if len(plan.nodes) < len(chain.nodes) else ""
    return Markup(
        '<svg class="graph" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>'
    ).format(label + cut, _n(plan.width), _n(plan.height), _n(plan.width), _n(plan.height), Markup("").join(parts))


def _n(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def _edge(plan: Layout, parent: int, child: int) -> Markup:
    """An edge: straight to the first continuation (same row), or down and right to a later one."""
    (x0, y0), (x1, y1) = plan.at(parent), plan.at(child)
    if y0 == y1:
        path = f"M{_n(x0 + _RADIUS)} {_n(y0)}H{_n(x1 - _RADIUS)}"
    else:
        x = x0 + _TRUNK
        path = f"M{_n(x)} {_n(y0 + _RADIUS)}V{_n(y1 - _CORNER)}Q{_n(x)} {_n(y1)} {_n(x + _CORNER)} {_n(y1)}"
        path += f"H{_n(x1 - _RADIUS)}"
    return Markup('<path class="edge" d="{}"/>').format(path)


def _back_edge(plan: Layout, source: int, target: int) -> Markup:
    """A back edge: down from the step, left under its row, up into the target from below, with an arrow head."""
    (x1, y1), (x0, y0) = plan.at(source), plan.at(target)
    gutter, x, tip = y1 + _GUTTER, x0 - _TRUNK, y0 + _RADIUS + 1
    if y0 == y1 or x1 - x < 2 * _CORNER:  # within its row, or not to the left: a simple bow, because turns have no room
        path = f"M{_n(x1)} {_n(y1 + _RADIUS)}C{_n(x1)} {_n(gutter + 8)} {_n(x)} {_n(gutter + 8)} {_n(x)} {_n(tip + 5)}"
    else:
        path = (
            f"M{_n(x1)} {_n(y1 + _RADIUS)}V{_n(gutter - _CORNER)}"
            f"Q{_n(x1)} {_n(gutter)} {_n(x1 - _CORNER)} {_n(gutter)}"
            f"H{_n(x + _CORNER)}Q{_n(x)} {_n(gutter)} {_n(x)} {_n(gutter - _CORNER)}V{_n(tip + 5)}"
        )
    head = f"{_n(x)},{_n(tip)} {_n(x - 3.6)},{_n(tip + 7)} {_n(x + 3.6)},{_n(tip + 7)}"
    goal = "the problem" if target == PROBLEM else f"step {target + 1}"
    return Markup(
        '<g class="back"><title>back from step {} to {}</title><path d="{}"/><polygon points="{}"/></g>'
    ).format(source + 1, goal, path, head)


def _node(place: tuple[float, float], index: int, node: ChainNode) -> Markup:
    """A numbered circle, or a square if the step is invalid, so that colour is not the only sign."""
    x, y = place
    kind = state(node)
    if kind == "invalid":
        side = 2 * _RADIUS - 2
        shape = Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(
            _n(x - side / 2), _n(y - side / 2), _n(side), _n(side)
        )
    else:
        shape = Markup('<circle cx="{}" cy="{}" r="{}"/>').format(_n(x), _n(y), _n(_RADIUS))
    sign = {"right": "\u2713", "wrong": "\u2717"}.get(kind, "")
    mark = (
        Markup('<text class="sign" x="{}" y="{}">{}</text>').format(_n(x + _RADIUS + 6), _n(y + 4), sign)
        if sign
        else ""
    )
    claim = " false-claim" if false_claim(node) else ""
    return Markup('<g class="node {}"><title>{}. {}</title>{}<text x="{}" y="{}">{}</text>{}</g>').format(
        kind + claim, index + 1, escape(node.text), shape, _n(x), _n(y + 3.5), index + 1, mark
    )


@dataclass(frozen=True)
class Line:
    """One line of a chain's text."""

    text: str
    number: int | None = None  # number of the step that begins here (from 1, as in the picture); None: none begins
    state: str = ""  # see `state`; "" for a line outside steps
    false_claim: bool = False
    repeated: bool = False  # whether it ends an attempt that the chain has made before


def lines(text: str, chain: Chain) -> list[Line]:
    """Split the text into lines, and mark the first line of each step.

    Steps are searched in the order of writing, by their first line. A step that is not found (another task's parser may
    have reworded it) marks no line. A restated path marks none either, because a chain holds each step once, but the
    end of a repeated attempt is marked.
    """
    rows = text.splitlines()
    starts = _starts(rows, chain)
    ended: dict[str, int] = {}  # first line of a step that ended an attempt -> the step
    out = []
    for row, content in enumerate(rows):
        index, repeated = starts.get(row), False
        if index is None:
            index = ended.get(content.strip())
            repeated = index is not None
        if index is None:
            out.append(Line(content))
            continue
        node = chain.nodes[index]
        if node.ends and _first_line(node):
            ended[_first_line(node)] = index
        out.append(Line(content, index + 1, state(node), false_claim(node), repeated))
    return out


def _starts(rows: list[str], chain: Chain) -> dict[int, int]:
    """Row -> the step that begins there."""
    starts: dict[int, int] = {}
    cursor = 0
    for index, node in enumerate(chain.nodes):
        first = _first_line(node)
        found = next((r for r in range(cursor, len(rows)) if first and _begins(rows[r], first)), None)
        if found is not None:
            starts[found] = index
            cursor = found + 1
    return starts


def _begins(row: str, words: str) -> bool:
    """Whether `row` equals these words or begins with them (a final answer may follow on the line of the last step)."""
    row = row.strip()
    return row == words or row.startswith(words + " ")


def _first_line(node: ChainNode) -> str:
    return (node.text.strip().splitlines() or [""])[0].strip()
