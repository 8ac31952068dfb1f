"""Finds the equalities that a text states: in LaTeX, in lines of bare formulas, and in arithmetic within prose.

Only finds and cuts, in time linear in the text; what the sides say is read by `astro.grading.algebra`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

MAX_TEXT = 20_000
MAX_EQUALITIES = 100
"""What lies beyond is not looked at: a step of a solution is short."""


@dataclass(frozen=True, slots=True)
class Equality:
    """Two sides joined by "=".

    Attributes:
        left, right: their text.
        doubtful: what stands around it may give it another meaning; it must not be called false.
    """

    left: str
    right: str
    doubtful: bool


_MATH = re.compile(
    r"(?<!\\)\$\$(?P<a>.+?)(?<!\\)\$\$|(?<![\\$])\$(?P<b>[^$]+?)(?<!\\)\$|\\\[(?P<c>.+?)\\\]|\\\((?P<d>.+?)\\\)"
    r"|\\begin\{(?P<env>align|aligned|equation|gather|gathered|eqnarray|split)\*?\}(?P<e>.+?)\\end\{(?P=env)\*?\}",
    re.DOTALL,
)
_CALCULATOR = re.compile(r"<<([^<>]*)>>")  # GSM8K's annotations: 48/2 = <<48/2=24>>24
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}")
_BREAK = re.compile(
    r"\\\\|;|\\q?quad(?![a-zA-Z])|\\(?:implies|iff|therefore|because|to|(?:Long|long)?[rR]ightarrow"
    r"|(?:Long|long)?[lL]eftrightarrow)(?![a-zA-Z])|,(?!\d{3}(?!\d))"
    r"|\\(?:text|mathrm)\s*\{\s*,?\s*(?:and|or|so|if|then|when|for|where|thus|hence|since|with|but)\b[^{}]*\}"
)
_RELATION = re.compile(
    r"(?P<eq>(?<![<>:=])(?<![^\d)a-z]!)={1,2}(?!=))|\\(?:leqslant|geqslant|leq?|geq?|neq?|lt|gt|approx|equiv|simeq|sim|cong|in|propto|perp"
    r"|parallel|mid|coloneqq)(?![a-zA-Z])|\\not\s*=|[<>≤≥≠≈≡]=?|:=|(?<![\d)a-z])!="
)
_LABEL = re.compile(
    r"^\s*(?:[-*+•]\s+|#+\s*|\*\*|\(?(?:\d{1,3}|[a-zA-Z])[.)]\s+)*(?:Step\s+\d+\s*[:.)]\s*(?:\*\*)?\s*)?", re.IGNORECASE
)
_SENTENCE = re.compile(r"[.!?](?=\s|$)|[;:](?=\s|$)|,(?=\s|$)|\n|—")
_FORMULA = "\x00"
"""Stands in prose for a formula that has been cut out; a boundary, as a word is."""
_OPEN_LEFT = re.compile(r"[+*/^)×÷·_]|-\s|\\(?:cdot|times|div)(?![a-zA-Z])")
_OPEN_RIGHT = re.compile(r"(?:[-+*/^(=×÷·_]|\\(?:cdot|times|div))$")
_BRACKET = re.compile(r"\\.|[{}()]", re.DOTALL)
_WORD = re.compile(r"\x00|(?<!\\)(?<![A-Za-z])(?:[A-Za-z]{2,}(?:['’-][A-Za-z]+)*|[AaIi](?= [A-Za-z]{2,}))(?![A-Za-z])")
_TIMES = re.compile(r"(?<=\d) ?[xX] ?(?=\d)")

_JOINS_LEFT = {
    "of", "and", "plus", "minus", "times", "by", "over", "root", "squared", "cubed", "half", "twice", "double", "triple",
    "percent", "than", "negative", "log", "ln", "sin", "cos", "tan", "sqrt", "mod",
}  # fmt: skip
_JOINS_RIGHT = {
    "percent", "hundred", "thousand", "million", "billion", "trillion", "dozen", "remainder", "rem", "mod", "modulo", "times",
    "plus", "minus", "squared", "cubed", "with", "over", "divided", "base",
}  # fmt: skip
"""Words that make what stands before or after a formula in prose a part of it."""

_DENIED = re.compile(
    r"contradict|impossib|no (?:real |integer )?solution|not possible|not equal|not hold|not true|not work|n't|never|wrong"
    r"|incorrect|mistake|error|false|fails?\b|invalid|instead|would|mod\b|modul|\\[pb]?mod|remainder|congruen|digit"
    r"|base\W*\d|binary|octal|hexadec|clock|o'clock|defin|operation|round|approx|about|nearest|estimate|roughly|\?",
    re.IGNORECASE,
)
"""Words under which "2 + 3 = 6" may be meant: denied, asked, in another arithmetic, rounded, or an operation of the problem's."""

_OTHER_ARITHMETIC = re.compile(
    r"\\[pb]?mod|modul|remainder|congruen|digit|base\W{0,3}(?:\d|b\b|two|three|four|five|six|seven|eight|nine)|binary|octal"
    r"|hexadec|clock|operation|defin|\\(?:star|diamond|oplus|otimes|ominus|odot|bullet|triangle|clubsuit|heartsuit|spadesuit)"
    r"|[@#]|cryptarithm|represents? a",
    re.IGNORECASE,
)
"""The same in the problem itself."""


def find_equalities(text: str, context: str = "") -> list[Equality]:
    """The equalities of a step, in order; context: the problem, which may redefine what the signs mean."""
    text = text[:MAX_TEXT].replace("\x00", " ").replace("\\$", " ")
    doubtful = bool(_DENIED.search(text) or _OTHER_ARITHMETIC.search(context)) or "!=" in text
    doubtful = doubtful or ("*" in text and "*" in context)  # a * b may be an operation of the problem's
    pairs = ((left, right) for left, right in _pairs(text) if left and right)
    return [Equality(left, right, doubtful) for left, right in islice(pairs, MAX_EQUALITIES)]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Sides joined by "=", as text; one of them may be empty."""
    for note in _CALCULATOR.finditer(text):
        yield from _chains(note[1])
    text = _CALCULATOR.sub("", text)
    for formula in _MATH.finditer(text):
        yield from _chains(next(part for name in "abcde" if (part := formula[name])))
    for line in _MATH.sub(f" {_FORMULA} ", text).split("\n"):
        for clause in _SENTENCE.split(_LABEL.sub("", line, count=1)):
            yield from _in_prose(_TIMES.sub("*", clause))


def _chains(formula: str) -> Iterator[tuple[str, str]]:
    """The pairs of a piece of LaTeX: `a = b = c` is two; a new line that begins with "=" goes on from the one before."""
    last = ""
    for statement, end in _cut(_BREAK, _ENVIRONMENT.sub(" ", formula).replace("&", " ")):
        parts = _cut(_RELATION, statement)
        side = parts[0][0].strip() or last
        for (_, relation), (following, _) in pairwise(parts):
            if relation is not None and relation["eq"]:
                yield side, following.strip()
            side = following.strip()
        last = side if end is not None and end[0] == r"\\" else ""


def _in_prose(clause: str) -> Iterator[tuple[str, str]]:
    """The pairs of the formulas between the words of a clause.

    A formula that a word joins to its neighbour ("half of 3 + 7 = 10") or that an operator leads out of is left out.
    """
    at, before, last = 0, "", ""
    for word in [*_WORD.finditer(clause), None]:
        formula = clause[at : word.start() if word else len(clause)].strip()
        after = word[0].lower() if word else ""
        whole = not (_OPEN_LEFT.match(formula) or _OPEN_RIGHT.search(formula))
        # "The sum of 2 and 3 + 4 = 9", but "so 1 + 2 = 3 and 3 + 4 = 7"
        joined = before in _JOINS_LEFT and (before != "and" or (last != "" and "=" not in last))
        last = formula or last
        if "=" in formula and whole and not joined and after not in _JOINS_RIGHT:
            yield from _chains(formula)
        if word:
            at, before = word.end(), word[0].lower()


def _cut(pattern: re.Pattern, text: str) -> list[tuple[str, re.Match | None]]:
    """`text` cut at the matches of `pattern` that stand in no braces or brackets: (piece, the match after it)."""
    pieces, at, depth, seen = [], 0, 0, 0
    for match in pattern.finditer(text):
        for bracket in _BRACKET.finditer(text, seen, match.start()):
            depth += {"{": 1, "(": 1, "}": -1, ")": -1}.get(bracket[0], 0)
        seen = match.start()
        if depth == 0:
            pieces.append((text[at : match.start()], match))
            at = match.end()
    return [*pieces, (text[at:], None)]
