"""Print a chain of thought in the terminal, line by line while it is written: right and wrong steps, doubt, and returns."""

import os
import shutil
import textwrap
from collections.abc import Sequence
from typing import TextIO

from astro.process import plural
from astro.viz import chain_graph
from schemas.records import Chain, Completion, Node, Tree

COLOURS = {"right": "32", "wrong": "31", "invalid": "31", "doubt": "33", "back": "36", "soft": "2"}
"""State of a line -> ANSI code."""

SIGNS = {"right": "\u2713", "wrong": "\u2717", "invalid": "\u2717", "plain": "\u00b7", "doubt": "?", "back": "\u21a9"}
ASCII_SIGNS = {"right": "+", "wrong": "x", "invalid": "x", "plain": "-", "doubt": "?", "back": "<"}
"""The signs for a terminal whose encoding lacks the usual ones."""

MIN_WIDTH = 24
BRANCHES = 3
"""Children shown per node of a search tree."""
MAX_TREE_LINES = 40


class Terminal:
    """A stream with colours and signs, as far as it supports them."""

    def __init__(self, out: TextIO, *, colour: bool | None = None, width: int = 0) -> None:
        """Create the writer.

        Args:
            colour: None: if `out` is a terminal and NO_COLOR is not set.
            width: in characters; 0: the terminal's width.
        """
        self.out = out
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb" or not out.isatty()
        self.colour = not plain if colour is None else colour
        self.width = max(MIN_WIDTH, width or shutil.get_terminal_size().columns)
        self.signs = SIGNS if _can_write(out, "".join(SIGNS.values())) else ASCII_SIGNS

    def line(self, text: str = "", state: str = "", *, indent: str = "") -> None:
        """Print a line in the colour of `state` with its sign, wrapped to the width. Model text cannot control the terminal."""
        sign = f"{self.signs.get(state, ' ')} " if state else ""
        first, rest = indent + sign, indent + " " * len(sign)
        shown = "".join(c if c.isprintable() else " " for c in text)
        for row in textwrap.wrap(shown, self.width, initial_indent=first, subsequent_indent=rest) or [first.rstrip()]:
            print(self._painted(row, state), file=self.out, flush=True)

    def _painted(self, text: str, state: str) -> str:
        code = COLOURS.get(state)
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
        return f"\033[{code}m{text}\033[0m" if self.colour and code else text


def _can_write(out: TextIO, text: str) -> bool:
    """Whether the stream's encoding has these characters."""
    try:
        text.encode(getattr(out, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class ChainPrinter:
    """Prints a growing chain. Each line is printed once, when it is complete."""

    def __init__(self, terminal: Terminal, *, doubts: Sequence[str], returns: Sequence[str]) -> None:
        """Create the printer. doubts, returns: the phrases of `astro.cloning.verbalize.Phrases`."""
        self.terminal, self.doubts, self.returns, self.printed = terminal, doubts, returns, 0

    def show(self, text: str, chain: Chain, *, last: bool) -> None:
        """Print new lines.

        Args:
            text: the whole text so far.
            chain: its graph.
            last: nothing follows, so an open line counts as complete.
        """
        rows = chain_graph.lines(text, chain)
        whole = len(rows) if last or text.endswith("\n") else len(rows) - 1
        for row in rows[self.printed : whole]:
            self.terminal.line(row.text, self._state(row), indent="  ")
        self.printed = max(self.printed, whole)

    def _state(self, row: chain_graph.Line) -> str:
        if row.repeated:
            return "wrong"
        if row.state:
            return row.state
        if any(phrase in row.text for phrase in self.returns):
            return "back"
        return "doubt" if any(phrase in row.text for phrase in self.doubts) else "soft"


def verdict_line(completion: Completion) -> tuple[str, str]:
    """(text, state): the outcome of an answer and its cost."""
    chain = completion.chain
    attempts, returns = len(chain.attempts), len(chain.back_edges)
    facts = f"{plural(completion.tokens, 'token')}, {plural(attempts, 'attempt')}, {plural(returns, 'return')}"
    cut = "" if completion.finished else ", cut by the length limit"
    said = {
        "correct": f"right: {completion.answer}",
        "wrong": f"wrong: {completion.answer}",
        "unparseable_prediction": "no answer that can be read",
        "unparseable_gold": f"answer: {completion.answer} (not graded: there is no reference)",
    }[completion.verdict]
    return f"{said}   ({facts}{cut})", {"correct": "right", "wrong": "wrong"}.get(completion.verdict, "invalid")


def print_tree(terminal: Terminal, tree: Tree) -> None:
    """The most visited part of a search tree, indented by depth."""
    children: dict[int, list[Node]] = {}
    for node in tree.nodes[1:]:
        children.setdefault(node.parent, []).append(node)
    left = MAX_TREE_LINES

    def below(index: int, depth: int) -> None:
        nonlocal left
        shown = sorted(children.get(index, []), key=lambda n: (-n.visits, n.index))[:BRANCHES]
        for node in shown:
            if left == 0:
                return
            left -= 1
            state = {"correct": "right", "wrong": "wrong"}.get(node.verdict or "", "plain")
            row = " ".join(node.text.split())
            room = terminal.width - 2 * depth - 24
            row = row if len(row) <= max(12, room) else row[: max(12, room) - 3] + "..."
            terminal.line(f"{row}  N {node.visits} Q {node.q:.2f}", state, indent="  " * depth)
            below(node.index, depth + 1)

    below(tree.nodes[0].index, 1)
