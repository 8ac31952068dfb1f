"""Exact arithmetic on expressions that a model wrote: a parser for + - * / and brackets over whole numbers, without `eval`.

Supported: precedence, left association, brackets, printed signs for division and multiplication; all values are Fractions.
Deliberately not supported, because Countdown does not use them: powers, decimals, unary minus, names.
"""

import re
from fractions import Fraction

MAX_CHARACTERS = 500
"""Longest expression that is parsed. No Countdown answer needs a tenth of it."""

MAX_DEPTH = 30
"""Deepest bracket nesting that is parsed, so that hostile text cannot exhaust the stack."""

_TOKEN = re.compile(r"\s*(?:([0-9]{1,9})|([-+*/()]))")
_PRINT = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-"})


class ExpressionError(ValueError):
    """The text is not an expression."""


def tokenize(text: str) -> list[str]:
    """Split `text` into numbers, operators and brackets.

    Raises:
        ExpressionError: the text is too long, or holds a character that belongs to no token.
    """
    text = text.translate(_PRINT).strip()
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"longer than {MAX_CHARACTERS} characters")
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise ExpressionError(f"unexpected {text[position]!r}")
        tokens.append(match.group(1) or match.group(2))
        position = match.end()
    return tokens


def evaluate(text: str) -> tuple[Fraction | None, list[int]]:
    """Value of an expression and the numbers that it uses, in order. The value is None where it divides by zero.

    Raises:
        ExpressionError: the text is not an expression.
    """
    tokens = tokenize(text)
    numbers = [int(t) for t in tokens if t.isdigit()]
    value, end = _sum(tokens, 0, 0)
    if end != len(tokens):
        raise ExpressionError(f"unexpected {tokens[end]!r}")
    return value, numbers


def _sum(tokens: list[str], at: int, depth: int) -> tuple[Fraction | None, int]:
    value, at = _product(tokens, at, depth)
    while at < len(tokens) and tokens[at] in "+-":
        sign = 1 if tokens[at] == "+" else -1
        right, at = _product(tokens, at + 1, depth)
        value = None if value is None or right is None else value + sign * right
    return value, at


def _product(tokens: list[str], at: int, depth: int) -> tuple[Fraction | None, int]:
    value, at = _atom(tokens, at, depth)
    while at < len(tokens) and tokens[at] in "*/":
        operator = tokens[at]
        right, at = _atom(tokens, at + 1, depth)
        if value is None or right is None or (operator == "/" and right == 0):
            value = None
        else:
            value = value * right if operator == "*" else value / right
    return value, at


def _atom(tokens: list[str], at: int, depth: int) -> tuple[Fraction | None, int]:
    if at >= len(tokens):
        raise ExpressionError("ends too early")
    if tokens[at].isdigit():
        return Fraction(int(tokens[at])), at + 1
    if tokens[at] != "(":
        raise ExpressionError(f"unexpected {tokens[at]!r}")
    if depth >= MAX_DEPTH:
        raise ExpressionError(f"brackets nested deeper than {MAX_DEPTH}")
    value, at = _sum(tokens, at + 1, depth + 1)
    if at >= len(tokens) or tokens[at] != ")":
        raise ExpressionError("a bracket is not closed")
    return value, at + 1
