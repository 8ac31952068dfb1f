r"""Environments that only lay an answer out (aligned, gathered, split, an array of one column): what they hold, in one line.

A row that begins with "=" goes on from the one before; other rows stand side by side, as values of a list. Cases, and an array
behind a brace, become `cases`; matrices stay.
"""

import re

_PLAIN = r"(?:align(?:ed|edat|at)?|gather(?:ed)?|split|eqnarray|multline|equation|displaymath|math|flalign)\*?"
_PLAIN_WHOLE = re.compile(rf"(.*?)\\begin *\{{({_PLAIN})\}}(?: *\[[a-z]\])?(.*?)\\end *\{{\2\}}(.*)", re.DOTALL)
_BRACED = re.compile(
    r"\\\{ *\\begin *\{(array|aligned|matrix|gathered)\} *(?:\{[lcr| @]*\})?(.*?)\\end *\{\1\}(?! *\\\})", re.DOTALL
)
_COLUMN = re.compile(r"\\begin *\{array\} *\{[lcr]\}(.*?)\\end *\{array\}", re.DOTALL)
_ROW = re.compile(r"\\\\(?: *\[[^\]]*\])?")
_STYLED = re.compile(r"\\(?:m?left|m?right)(?![a-zA-Z])\s*(?:\.(?=\s*(?:\\|$|\s)))?")
_DISPLAY = re.compile(r"\\(?:begin|end)\s*\{(?:align|equation|gather|displaymath|math)\*?\}")
MOST = 20
"""Environments of one answer."""


def unlayered(text: str) -> str:
    """The text without environments that only lay it out."""
    if r"\begin" not in text:
        return text
    text = _STYLED.sub("", text)
    text = _BRACED.sub(r"\\begin{cases}\2\\end{cases}", text)
    for _ in range(MOST):
        found = _PLAIN_WHOLE.fullmatch(text)
        if not found:
            break
        text = f"{found[1]}{_line(found[3])}{found[4]}"
    whole = _COLUMN.fullmatch(text.strip())
    if whole and not _ROW.search(whole[1].strip().removesuffix("\\\\")):
        text = whole[1]
    return _DISPLAY.sub(" ", text)


def _line(inner: str) -> str:
    rows = [row.replace("&", " ").strip().rstrip(",;") for row in _ROW.split(inner)]
    line = ""
    for row in filter(None, rows):
        line += row if not line else (f" {row}" if row.startswith(("=", r"\approx")) else f", {row}")
    return f" {line} "
