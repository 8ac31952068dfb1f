"""Measures of the prose of a Markdown page: marks per sentence, words per sentence, sentences per line.

Paragraphs, list items and quotations count. Tables, code, headings, link targets and generated blocks do not.
"""

import re
from dataclasses import dataclass

MARKS = 1.0
"""Most semicolons, colons and pairs of brackets per sentence."""

WORDS = 40
"""Most words in a sentence."""

_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^<!-- begin .*?^<!-- end .*?$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)(?:\{[^}]*\})?")
_TAG = re.compile(r"<[^>]+>")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?])[\"')*_]*\s+(?=[\"'(*_]*[A-Z0-9`])")
_SHORT = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|Fig|No|al)\.$")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a page."""

    line: int  # counted from 1
    text: str

    @property
    def marks(self) -> int:
        """Number of semicolons, colons and opening brackets."""
        return len(re.findall(r"[;:(\[]", self.text))

    @property
    def words(self) -> int:
        """Number of words. A piece of code counts as one."""
        return len(self.text.split())


def prose_lines(page: str) -> list[tuple[int, str]]:
    """(line number, text) of the lines of prose. Code is one word, a link is its text."""

    def blank(match: re.Match) -> str:
        return "\n" * match[0].count("\n")

    for pattern in (_FRONT, _FENCE, _BLOCK, _COMMENT):
        page = pattern.sub(blank, page)
    found = []
    for number, line in enumerate(page.splitlines(), start=1):
        if line.lstrip().startswith(("#", "|", "<", "![", "    ", ":::", "!!!", "???")):
            continue
        text = _TAG.sub("", _LINK.sub(r"\1", _CODE.sub("code", line)))
        text = _BULLET.sub("", text).removeprefix("> ").strip()
        if re.search(r"[A-Za-z]{2}", text):
            found.append((number, text))
    return found


def sentences(page: str) -> list[Sentence]:
    """The sentences of a page, line by line."""
    return [Sentence(number, text) for number, line in prose_lines(page) for text in _split(line)]


def _split(line: str) -> list[str]:
    parts: list[str] = []
    for part in _END.split(line):
        if parts and _SHORT.search(parts[-1]):
            parts[-1] += " " + part
        else:
            parts.append(part)
    return parts


def density(found: list[Sentence]) -> float:
    """Marks per sentence."""
    return sum(sentence.marks for sentence in found) / max(1, len(found))


def faults(page: str) -> list[str]:
    """Faults in the prose of a page, with line numbers; []: none."""
    found = sentences(page)
    said = [
        f"line {s.line}: {s.words} words in one sentence, but at most {WORDS} are allowed"
        for s in found
        if s.words > WORDS
    ]
    lines = [s.line for s in found]
    said += [f"line {n}: {lines.count(n)} sentences on one line" for n in dict.fromkeys(lines) if lines.count(n) > 1]
    said += [
        f"line {number}: the sentence continues on the next line"
        for number, text in prose_lines(page)
        if not re.search(r"[.!?:][\"')*_]*$", text)
    ]
    if density(found) > MARKS:
        said.append(
            f"{density(found):.2f} semicolons, colons and brackets per sentence, but at most {MARKS} are allowed"
        )
    return said
