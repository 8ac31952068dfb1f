"""The text of a mathematics solution: splitting it into steps, finding the boxed answer, and comparing texts."""

import re
import unicodedata
from functools import lru_cache

STEP_END = "\n\n"
"""Separator between two steps: a blank line."""

STOPS = (STEP_END, "\nStep ", "\n## Step ", "\n**Step ")
"""Stop strings of a generated step: a blank line, or the beginning of the next numbered step."""

BOXED = re.compile(r"\\f?boxed\b")

_LABEL = re.compile(r"(?:#+ *)?(?:\*\*)?Step +(\d+)\b[ .:)]*(?:\*\*)?[ .:]*", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)[.)] +(?=\S)")
_SPACES = re.compile(r"\\[,;:!> ]|\\q?quad\b|\\(?:thin|med|thick)space\b|~")
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])")
_WRAPPERS = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname|emph)\s*(?=\{)")
_SAME = ((r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"), (r"\\(?:cdot|times)(?![a-zA-Z])|[×·]", "*"), (r"[−–—]", "-"),
         (r"\\(?:leq|leqslant)(?![a-zA-Z])", r"\\le"), (r"\\(?:geq|geqslant)(?![a-zA-Z])", r"\\ge"))  # fmt: skip
_SAME_AS = [(re.compile(pattern), to) for pattern, to in _SAME]
_DELIMITERS = re.compile(r"\\[()\[\]]|\\?\$|[{}]")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_PUNCTUATION = re.compile(r"""[?"`;:]|(?<=[a-z]{2})!+|(?<![\da-z)!])!+|(?<!\d)[.,]|[.,](?!\d)""")  # 5! stays
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_MATH = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_APOSTROPHE = re.compile(r"(?<=[a-z]{2})['’]")  # f' stays
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese, kana
)
"""Characters of scripts that put no space between words."""

_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+|\d+(?:\.\d+)?")
_MARKS = str.maketrans(
    {"。": ".", "、": ",", **dict.fromkeys("“”„‟«»「」『』《》〈〉", '"'), **dict.fromkeys("‘‚‛", "'")}
)
"""Punctuation that NFKC does not map to ASCII, such as the Chinese full stop."""


def split_steps(text: str) -> list[str]:
    """Split a solution into steps: its paragraphs, cut where a line begins the next numbered step. Blank steps are dropped.

    "Step 2:" and "## Step 2" begin a step on any line. "2." does so only after a line that began with "1.", because a
    line may begin with a plain number.
    """
    steps: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        listed = 0  # number of the last "n." that began a line of this paragraph
        for place, line in enumerate(paragraph.strip().split("\n")):
            number = _NUMBERED.match(line)
            follows = number is not None and number[1] == str(listed + 1)
            if place == 0 or _LABEL.match(line) or (follows and listed):
                steps.append(line)
            else:
                steps[-1] += "\n" + line
            listed += follows
    return [step.strip() for step in steps if step.strip()]


def without_label(step: str) -> str:
    """The step without its leading "Step 3:"."""
    return _LABEL.sub("", step, count=1) if _LABEL.match(step) else step


def label_of(step: str) -> int | None:
    """The number of a label: 3 for "Step 3: ..."; None: the step has no such label."""
    label = _LABEL.match(step)
    return int(label[1]) if label else None


@lru_cache(maxsize=1 << 16)
def same_text(text: str) -> str:
    r"""Normalise case, white space, punctuation, and the spacing and spelling of LaTeX, so that equal results mean equal text.

    The result is a key, not a text to read: `\left( \dfrac{1}{2} \right)` and `(\frac 12)` become `(\frac12)`.
    """
    return re.sub(r"\s+", "", plain_text(text))


def words_of(text: str) -> list[str]:
    """Letters and numbers of a text as words, in order and without LaTeX's layout commands. Used for n-grams.

    In scripts without spaces between words, such as Chinese, each character is a word.
    """
    return _TOKEN.findall(plain_text(text))


def plain_text(text: str) -> str:
    """The text in lower case without layout. Words and numbers stay separate."""
    text = unicodedata.normalize("NFKC", text).translate(_MARKS)
    text = _INVISIBLE.sub("", text).lower()
    for pattern, to in _SAME_AS:
        text = pattern.sub(to, text)
    text = _SPACES.sub(" ", _SIZES.sub("", text))
    text = _DELIMITERS.sub(" ", _WRAPPERS.sub("", text))
    text = _THOUSANDS.sub("", re.sub(r"\s*,\s*", ",", text))
    return _PUNCTUATION.sub(" ", _APOSTROPHE.sub("", text))


def boxes(text: str) -> list[tuple[int, int, int]]:
    r"""Every `\boxed{...}` with balanced braces: (start, start of its content, end), outermost first."""
    found: list[tuple[int, int, int]] = []
    for match in BOXED.finditer(text):
        opening = re.compile(r"\s*\{").match(text, match.end())
        if not opening or (found and match.start() < found[-1][2]):
            continue
        end = closing(text, opening.end() - 1)
        if end is not None:
            found.append((match.start(), opening.end(), end))
    return found


def closing(text: str, opening: int) -> int | None:
    """Position after the brace that closes the one at `opening`; None: the braces are not balanced."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, opening):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0:
            return match.end()
    return None


def unboxed(text: str) -> str:
    """Replace each box by its content. An unbalanced box loses only its command."""
    pieces, at = [], 0
    for start, content, end in boxes(text):
        pieces += [text[at:start], text[content : end - 1]]
        at = end
    return BOXED.sub("", "".join([*pieces, text[at:]]))


def answer_of(step: str) -> str | None:
    """The answer that ends an attempt: the last box or, if it was removed (attempt given up), the last formula or number."""
    found = boxes(step)
    if found:
        _, start, end = found[-1]
        return step[start : end - 1].strip() or None
    formulas = list(_MATH.finditer(step))
    if formulas:
        return next(part for part in formulas[-1].groups() if part).strip() or None
    numbers = _NUMBER.findall(step)
    return numbers[-1] if numbers else None
