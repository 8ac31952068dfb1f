"""Brackets: where a group ends, and where a text may be cut."""

import re
from collections.abc import Iterator

MAX_DEPTH = 40
"""Nesting of an answer; parsers below recurse."""

OPEN = {"(": ")", "[": "]", "{": "}"}
CLOSE = frozenset(")]}")


class Malformed(ValueError):
    """The text is not a well-formed answer; says why in a few words."""


def group_end(text: str, start: int, pair: str = "{}") -> int:
    """Position after the bracket that closes the one at `start`. Escaped braces do not count.

    Raises:
        Malformed: it is never closed.
    """
    depth, at = 0, start
    while at < len(text):
        sign = text[at]
        if sign == "\\" and pair == "{}":
            at += 2
            continue
        depth += (sign == pair[0]) - (sign == pair[1])
        if depth == 0:
            return at + 1
        at += 1
    raise Malformed("unbalanced")


def outside(text: str) -> Iterator[tuple[int, str]]:
    r"""Signs of no bracket and no environment, with their positions; an escaped sign or command comes as one: (5, "\cup").

    Round and square brackets may close each other: (0, 1] is an interval.

    Raises:
        Malformed: unbalanced, or nested too deep.
    """
    depth, at = 0, 0
    while at < len(text):
        sign, width = text[at], 1
        if sign == "\\":
            width = 2
            while at + width < len(text) and text[at + 1].isalpha() and text[at + width].isalpha():
                width += 1
            sign = text[at : at + width]
        if sign in OPEN or sign in (r"\{", r"\langle", r"\lfloor", r"\lceil", r"\begin"):
            depth += 1
        if depth == 0:
            yield at, sign
        if sign in CLOSE or sign in (r"\}", r"\rangle", r"\rfloor", r"\rceil", r"\end"):
            depth -= 1
            if depth < 0:
                raise Malformed("unbalanced")
        if depth > MAX_DEPTH:
            raise Malformed("nested too deep")
        at += width
    if depth:
        raise Malformed("unbalanced")


def cut(text: str, at: frozenset[str]) -> tuple[list[str], list[str]]:
    """The pieces between the outer signs in `at`, and those signs."""
    pieces, signs, start = [], [], 0
    for position, sign in outside(text):
        if sign in at:
            pieces.append(text[start:position])
            signs.append(sign)
            start = position + len(sign)
    return [p.strip() for p in [*pieces, text[start:]]], signs


def balanced(text: str) -> None:
    """Raises:
    Malformed: the curly braces do not match.
    """
    depth, escaped = 0, False
    for sign in text:
        if not escaped:
            depth += (sign == "{") - (sign == "}")
        if depth < 0:
            break
        escaped = sign == "\\" and not escaped
    if depth:
        raise Malformed("unbalanced")


_BRACKET = re.compile(r"\\(?:[a-zA-Z]+|.)|[()\[\]{}]", re.DOTALL)
_BEGIN, _END = frozenset(("(", "[", "{", r"\{", r"\langle")), frozenset((")", "]", "}", r"\}", r"\rangle"))


def first_end(text: str) -> int:
    """Position after the bracket that closes the first one, of whatever kinds they are.

    Raises:
        Malformed: it is never closed.
    """
    depth = 0
    for found in _BRACKET.finditer(text):
        depth += (found.group() in _BEGIN) - (found.group() in _END)
        if depth == 0 and found.group() in _END:
            return found.end()
    raise Malformed("unbalanced")
