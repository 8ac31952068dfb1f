"""The training chain shown below a search tree: which chain of the tree it is, and the role of each of its lines."""

from collections.abc import Iterable
from dataclasses import dataclass

from astro.process import plural
from schemas.records import Segment, Trace

_LOOK = {
    # kind of segment -> class of its lines, and a sign, so that colour is not the only difference
    "step": ("right", "\u2713"),
    "wrong_step": ("wrong", "\u2717"),
    "reflection": ("doubt", "?"),
    "return": ("back", "\u21a9"),
}


@dataclass(frozen=True)
class TraceLine:
    """One line of a chain's text."""

    text: str
    state: str  # "right", "wrong", "doubt" or "back"
    sign: str  # on the first line of a segment; "" on the others


@dataclass(frozen=True)
class TraceView:
    """One training chain, formatted."""

    id: str
    facts: str
    lines: tuple[TraceLine, ...]
    cut: int  # characters left out


def most_backtracks(traces: Iterable[Trace]) -> dict[str, Trace]:
    """Problem -> the trace of its tree with the most returns (the first of equals); a direct one only if there is no other."""
    found: dict[str, Trace] = {}
    for trace in traces:
        best = found.get(trace.problem_id)
        if best is None or trace.backtracks > best.backtracks:  # a direct trace has 0, a search trace at least 1
            found[trace.problem_id] = trace
    return found


def view(trace: Trace, *, limit: int) -> TraceView:
    """Format the first `limit` characters of a trace. Every segment begins a new line."""
    lines: list[TraceLine] = []
    left = limit
    for segment in trace.segments:
        lines += _lines(segment, left)
        left = max(0, left - len(segment.text))
    kind = "search" if trace.kind == "search" else "direct solution"
    return TraceView(
        id=trace.id,
        facts=f"{kind}, {plural(trace.backtracks, 'backtrack')}",
        lines=tuple(lines),
        cut=max(0, len(trace.completion) - limit),
    )


def _lines(segment: Segment, limit: int) -> list[TraceLine]:
    state, sign = _LOOK[segment.kind]
    rows = segment.text[:limit].splitlines()
    return [TraceLine(row, state, "" if number else sign) for number, row in enumerate(rows)]
