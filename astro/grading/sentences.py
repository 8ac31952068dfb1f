"""Pieces of sentences: formulas, figures in bold, and the words that say whether they are meant."""

import re

from astro.grading.brackets import Malformed

MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")
FIGURE = re.compile(r"[$€£¥₹\\({\[|]|[-+−]?\.?\d")
"""How a value begins, and not a sentence about it."""
_BOLD = re.compile(r"(?<![*\w])\*\*([^*\n]{1,200})\*\*(?![*\w])")
DENIED = re.compile(
    r"\b(?:not|no|nor|never|neither|cannot|except|wrong|incorrect|false|or|less|more|least|most|than|between|if|unless)\b|n't\b",
    re.IGNORECASE,
)
SAID_LAST = re.compile(r".*(?:\b(?:is|are|be|by|equals|it's)\b|=|:)\s*(.+)", re.DOTALL)
_SAID = re.compile(r"(?:\b(?:is|are|be|by|equals|to)|=|:)\s*$")
_JOINED = re.compile(r"\s*(?:,\s*and|,\s*or|,|and|or)\s*")
_ALTERNATIVE = re.compile(r"[\s,;]*(?:(?:or|unless|if|when|except)\b|(?:and|but)\b[^.\n]*[\d$\\])", re.IGNORECASE)
"""Behind a stated answer: it is not the only one."""


def bold_figure(text: str) -> str | None:
    """The one figure in bold of a text that says more, as in "Profit: **$5**". None: there is none, several, or it is denied."""
    found = _BOLD.findall(text) if "**" in text else []
    outside = _BOLD.sub(" ", text) if found else ""
    if len(found) != 1 or not FIGURE.match(found[0].strip()) or not re.search(r"[a-zA-Z]{2}", outside):
        return None
    return None if DENIED.search(outside) or re.search(r"[\d$\\]", outside) else found[0].strip()


def formulas_in_row(text: str, *, at_start: bool) -> str | None:
    """The formulas of a text that stand in one row, joined by commas; None: there is none (at the start).

    Raises:
        Malformed: there are several, and none is said to be the last word.
    """
    found = list(MATH.finditer(text))
    if not found or (at_start and text[: found[0].start()].strip(" \n*")):
        return None
    row = [found[0]]
    for formula in found[1:]:
        if not _JOINED.fullmatch(text, row[-1].end(), formula.start()):
            break
        row.append(formula)
    if not at_start and len(row) < len(found):
        if text[found[-1].end() :].strip(" .") or not _SAID.search(text[: found[-1].start()]):
            if SAID_LAST.fullmatch(text[found[-1].end() :]):
                return None
            raise Malformed("several formulas")
        row = found[-1:]
    after = text[row[-1].end() :].lstrip()
    if at_start and _ALTERNATIVE.match(after):
        raise Malformed("more than one answer")
    said = None if at_start else SAID_LAST.fullmatch(after)
    if said and re.search(r"\d", said.group(1)):
        return None
    percent = "%" if re.match(r"\\?%|percent\b|pct\b", after) else ""
    return ", ".join(next(g for g in f.groups() if g is not None) for f in row) + percent
