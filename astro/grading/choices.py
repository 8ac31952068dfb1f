"""Multiple choice: which letter a text names."""

import re

_CHOICE = re.compile(
    r"\s*(?:\\boxed\{)?\$?\s*(?:(?:option|choice|answer)\s+)?(?:\\(?:text|textbf|mathrm|mathbf|mbox|mathcal)\s*\{)?\s*"
    r"(?:(?:option|choice|answer)\s+)?"
    r"(?:\(\s*([A-Ja-j])\s*\)|([A-J])(?=\s*(?:[).:}$]|$)))((?:\s|[}.:$)])*)(.*)",
    re.DOTALL | re.IGNORECASE,
)
_ANOTHER_CHOICE = re.compile(r"(?<![a-zA-Z\\])\(?[A-J]\)|(?<![a-zA-Z\\])[A-J][.:](?:\s|$)|\b(?:or|and|not)\b")


def choice(text: str) -> str | None:
    """The letter of a choice that a text names ("C", "(C)", "\\text{C}", "C. x = 42"); None: it names none, or several."""
    found = labelled(text)
    return (found.group(1) or found.group(2)).upper() if found else None


def labelled(text: str) -> re.Match | None:
    """The label of a choice (groups 1 or 2: its letter) and what follows it (group 4); None: there is no label, or several."""
    text = " ".join(text.split()) if len(text) < 300 else text
    found = _CHOICE.fullmatch(text) if len(text) < 300 else None
    if not found or _ANOTHER_CHOICE.search(found.group(4)):
        return None
    separated = found.group(1) or not found.group(4) or re.search(r"[).:]", found.group(3))
    return found if separated else None
