"""One way of writing for what graders see written in many: signs, spacing, delimiters, fractions, roots, exponents.

Pure text work in linear time: no sympy, no back-tracking regexes, so it may run in the caller. What it does not know it
leaves as it is. Every rule has a case in tests/grading/cases.
"""

import re
import unicodedata

from astro.grading.brackets import Malformed, group_end
from astro.grading.combinatorics import counted
from astro.grading.latex_environments import unlayered

MAX_LENGTH = 2000
"""Characters of an answer. The longest gold of MATH has 180; more is not an answer but an attempt at something else."""

_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "＋": "+",
    "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/",
    "≤": r"\le ", "⩽": r"\le ", "≦": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≧": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "±": r"\pm ",
    "π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "λ": r"\lambda ",
    "μ": r"\mu ", "σ": r"\sigma ", "φ": r"\phi ", "ω": r"\omega ", "Δ": r"\Delta ", "°": r"^\circ ", "º": r"^\circ ",
    "√": r"\sqrt ", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "∠": r"\angle ", "△": r"\triangle ", "∖": r"\setminus ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}",
    "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}", "⅐": r"\frac{1}{7}", "⅑": r"\frac{1}{9}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "ℝ": r"\mathbb{R}", "％": "%", "，": ",", "。": ".", "（": "(", "）": ")",
    "∶": ":", "≡": "=", "、": ",", "｛": "{", "｝": "}",
    "¢": r"\text{ cents}", "℃": r"^\circ C", "㎡": "m^{2}", "㎠": "cm^{2}", "㎥": "m^{3}", "㎤": "cm^{3}", "Ω": r"\Omega ",
    "【": "[", "】": "]", "；": ";", "：": ":", "＝": "=", "’": "'", "′": "'", "“": '"', "”": '"',
}  # fmt: skip
_TABLE = str.maketrans(_SIGNS)
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They make a text look like another one."""

_LOWERED = re.compile("[₀-₉ₙₖ]+")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_CIRCLED = re.compile("[①-⑳]+")
"""Numbers of statements, which stand side by side."""
_ON_LINE = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙₖ⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789nk0123456789-+n")

_STYLES = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|m?left|m?right|middle|[bB]igg?[lrm]?|rm|bf|it|mathstrut"
    r"|tiny|small|large|Large|LARGE|huge|Huge|normalsize)(?![a-zA-Z])"
    r"(?:\s*\.(?=\s*(?:\\|$)))?"
)
_TEXTS = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up|normal|sc)|mbox|hbox|mathrm|mathbf|mathit|mathsf|mathcal|emph)(?![a-zA-Z])\s*"
)
_UNIT_FRACTION = re.compile(
    r"(?<=[\d}) ])\\frac *\{ *\\text *\{ *([a-zA-Z]+) *\} *\} *\{ *\\text *\{ *([a-zA-Z]+) *\} *(\^ *\{? *\d *\}?)? *\}(?=\s*\Z)"
)
_COLOURS = re.compile(
    r"\\(?:color|textcolor|hspace\*?|phantom)(?![a-zA-Z])\s*\{[^{}]*\}|\\(?:underline|uline)(?=\s*\{)"
)
_FRACTIONS = re.compile(r"\\[dtc](frac|binom)(?![a-zA-Z])")
_SPACES = re.compile(r"(?<!\\)\\(?:quad|qquad|thinspace|enspace|hfill|,|;|:|>| )|~|\\\\\s*$|\s+")
_ALIASES = {
    r"\leq": r"\le", r"\leqslant": r"\le", r"\geq": r"\ge", r"\geqslant": r"\ge", r"\lt": "<", r"\gt": ">",
    r"\varphi": r"\phi", r"\varepsilon": r"\epsilon", r"\vartheta": r"\theta", r"\equiv": "=", r"\mod": r"\bmod",
    r"\neq": r"\ne", r"\degree": r"^\circ", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\lbrack": "[", r"\rbrack": "]",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\mid": "|", r"\varnothing": r"\emptyset", r"\simeq": r"\approx",
    r"\dots": r"\ldots", r"\backslash": r"\setminus",
    r"\cdots": r"\ldots", r"\dotsc": r"\ldots", r"\ast": "*", r"\lg": r"\log", r"\colon": ":", r"\div": "/",
    r"\lparen": "(", r"\rparen": ")", r"\land": r"\wedge", r"\euro": "", r"\pounds": "", r"\mathbb R": r"\mathbb{R}",
}  # fmt: skip
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ASCII_RELATIONS = (("<=", r"\le "), (">=", r"\ge "), ("=<", r"\le "), ("!=", r"\ne "), ("~=", r"\approx "))
_ARCS = re.compile(r"(?<![a-zA-Z\\])a(sin|cos|tan)(?=h? *\()")
_WORDS = re.compile(
    r"(?<![a-zA-Z\\])(sqrt|infinity|infty|pi|theta|exp|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln)(?![a-zA-Z])"
)
_LEADING = re.compile(
    r"^(?:=|\\(?:approx|Rightarrow|Longrightarrow|implies|therefore)(?![a-zA-Z])|#{2,}|"
    r"(?:\\text *\{ *)?(?:approximately|approx\.?|about|roughly)(?: *\}|(?= +[-\d]))|either(?= +[-\d\\(]))\s*"
)
_GROUPED = re.compile(r"(?<![\d.'_])\d{1,3}(?:(?:\.\d{3}){2,}|(?:'\d{3})+|(?:_\d{3}){2,})(?![\d.'_])")
_PERCENT_WORD = re.compile(r"(?<=[\d})\s]) *(?:\\text *\{ *)?(?:percent|per cent|percentage|pct)(?: *\})?[ .]*$")
_POWER_OF_FUNCTION = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc|log|ln)) *\^ *(\d)(?=\d)"
)  # \sin^2 20 without its space
_RATIO_WORD = re.compile(r"(\d+) *(?:\\text *\{ *to *\}|to) *(\d+)")
_MERIDIEM = re.compile(r"\b([ap])\.\s?m\.?(?![a-zA-Z])", re.IGNORECASE)
_FRENCH = re.compile(r"([\[\]])([^\[\]()\s,;][^\[\]();,]*[,;][^\[\]();,]+)([\[\]])")
_ANGLED = re.compile(r"<([^<>=]+,[^<>=]+)>")
_UNION_LETTER = re.compile(r"(?<=[)\]}]) *U *(?=[(\[]|\\\{)")
_WITHOUT = re.compile(r"(\\mathbb *\{ *[RZQNC] *\}) *- *(?=\\?\{)")
_BARE_SET = re.compile(r"(\\(?:setminus|cup|cap)) *\{([^{}\\]*)\}")
_BARE_SET_FIRST = re.compile(r"^\{([^{}\\]*)\} *(\\(?:setminus|cup|cap)(?![a-z]))")
_SLASHED = re.compile(r"(ℝ|\\mathbb *\{[RZQNC]\}|\b[RZQN]) *\\ *(?=\\?\{)")
_BRACED_CALL = re.compile(r"(\\(?:max|min|gcd|lcm)) *\\\{([^{}\\]*)\\\}")
_EXPONENT = re.compile(r"\^\s*(-?\d+)")
_BASE = re.compile(r"\(?(\d+)\)?\s*_\s*\{?\s*(?:\\text\s*\{\s*)?(\d+|[a-z]{3,6})\s*\}{0,2}", re.IGNORECASE)
_BASIS = re.compile(
    r"\\(?:vec|hat|overrightarrow|mathbf|bm|boldsymbol) *(?:\{ *)?(?:\\(?:mathbf|bm|boldsymbol|vec|hat) *\{ *)?"
    r"(?:\\(?=[ij]math))?([ijk])(?:math)?(?![a-zA-Z])(?: *\}){0,2}"
)
"""The vectors i, j, k along the axes, which would be the imaginary unit otherwise."""
_DIGITS_IN_TEXT = re.compile(r"\\text *\{ *([0-9A-F]{1,12}) *\} *(?=_ *\{? *\d)")
_CIS = re.compile(
    r"(?:\\operatorname *\{ *cis *\}|\\text *\{ *cis *\}|\\cis(?![a-zA-Z])|(?<![a-zA-Z\\])cis(?![a-zA-Z])) *"
)
_ANGLE = re.compile(
    r"(?:\d+(?:\.\d+)?|\\frac *\{[^{}]*\} *\{[^{}]*\}|\\pi|\\theta|/ *\d+| )+(?:\^ *(?:\\circ|\{ *\\circ *\}))?"
)
_DIGIT_WORDS = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_THOUSANDS = re.compile(r"(?<=\d) ?(?:\{,\}|,\s*\\!|\\!\s*,)\s*(?=\d{3}(?!\d))")
_INDIAN = re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d)")


def refuse_signs(text: str) -> None:
    """Raises:
    Malformed: control characters, or marks that make the text look like another one.
    """
    for sign in text:
        if sign in _BIDI_OVERRIDES or (unicodedata.category(sign) in ("Cc", "Cs", "Co", "Cn") and sign not in "\n\t\r"):
            raise Malformed("control character")


def clean(text: str) -> str:
    """An answer in one way of writing.

    Raises:
        Malformed: empty, too long, unbalanced braces, or holds control characters.
    """
    if len(text) > MAX_LENGTH:
        raise Malformed("too long")
    text = _SLASHED.sub(r"\1\\setminus ", text)
    text = re.sub(r"\\?\x0c(?=rac)", r"\\f", text)  # \f of \frac, where an escape was read that was none
    refuse_signs(text)
    text = _RAISED.sub(lambda m: f"^{{{m.group().translate(_ON_LINE)}}}", text.translate(_TABLE))
    text = _LOWERED.sub(lambda m: f"_{{{m.group().translate(_ON_LINE)}}}", text)
    text = "".join(s for s in text if unicodedata.category(s) != "Cf")
    if not text.isascii():
        text = _CIRCLED.sub(lambda m: ", ".join(str(ord(s) - 0x245F) for s in m.group()), text)
        text = unicodedata.normalize("NFKC", text)  # full-width digits and letters
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)  # escaped once too often
    text = re.sub(r"\{ *, *\}", "{,}", text)
    text = _GROUPED.sub(lambda m: re.sub(r"\D", "", m.group()), text)
    text = _INDIAN.sub("", _THOUSANDS.sub("", text)).replace(r"\!", "").replace("{,}", ",")
    text = _delimiters(unlayered(text))
    text = _COLOURS.sub("", _STYLES.sub("", text))
    text = _FRACTIONS.sub(r"\\\1", text)
    text = re.sub(r"\\log *_ *\{? *(?:e|\\mathrm *\{ *e *\}) *\}?(?![a-zA-Z])", r"\\ln ", text)
    text = _COMMAND.sub(lambda m: _ALIASES.get(m.group(), m.group()), text)
    text = _BASIS.sub(lambda m: f" u_{{{'ijk'.index(m[1]) + 1}}} ", text)
    text = _TEXTS.sub(r"\\text", text)
    text = re.sub(r"\\text *\{ *([eid]) *\}", r" \1", text)  # upright letters of mathematics
    text = _BRACED_CALL.sub(r"\1(\2)", text)
    for written, meant in _ASCII_RELATIONS:
        text = text.replace(written, meant)
    text = re.sub(r"(?<=\d) *\\?& *(?=-?\d)", " and ", text) if r"\begin" not in text else text
    text = re.sub(r"\\(?:%|\#|&)", lambda m: m.group()[1], text) if r"\begin" not in text else text.replace(r"\%", "%")
    text = _SPACES.sub(" ", text)
    text = _UNIT_FRACTION.sub(lambda m: rf"\text{{{m[1]}/{m[2]}}}{m[3] or ''}", text)
    text = _arguments(_WORDS.sub(r"\\\1", _ARCS.sub(r"arc\1", text)))
    text = text.replace("**", "^") if re.search(r"[\w)}]\s*\*\*\s*[-\w({]", text) else text.replace("**", "")
    text = _polar(_DIGITS_IN_TEXT.sub(r"\1", text))
    text = _BASE.sub(lambda m: f"{m.group(1)}_{_DIGIT_WORDS.get(m.group(2).lower(), m.group(2))}", text)
    text = _POWER_OF_FUNCTION.sub(r"\1^{\2} ", text)
    text = counted(_powers(_EXPONENT.sub(r"^{\1}", text)))
    return strip(_other_brackets(strip(text)))


def _other_brackets(text: str) -> str:
    """]2, 3[ for (2, 3), <1, 2> for a vector, U for a union, R - {0} for R without 0, oo for infinity, percent in words."""
    if text.startswith("]") or text.endswith("["):
        text = _FRENCH.sub(lambda m: f"{'[('[m.group(1) == ']']}{m.group(2)}{'])'[m.group(3) == '[']}", text)
    if _ANGLED.fullmatch(text):
        text = rf"\langle {text[1:-1]} \rangle"
    text = _BARE_SET.sub(r"\1 \\{\2\\}", _BARE_SET_FIRST.sub(r"\\{\1\\} \2", text))
    text = _WITHOUT.sub(r"\1 \\setminus ", _UNION_LETTER.sub(r" \\cup ", text))
    text = re.sub(r"(?<![a-zA-Z\\])oo(?![a-zA-Z])", r"\\infty", text)
    text = _RATIO_WORD.sub(r"\1:\2", text) if _RATIO_WORD.fullmatch(text) else text
    text = _MERIDIEM.sub(r"\1m", text)
    return _PERCENT_WORD.sub("%", text)


def _polar(text: str) -> str:
    r"""2 cis 60 as 2(\cos 60 + i \sin 60)."""
    if "cis" not in text:
        return text
    done, at = [], 0
    for found in _CIS.finditer(text):
        if found.start() < at:
            continue
        if text[found.end() : found.end() + 1] in ("(", "{"):
            end = group_end(text, found.end(), {"(": "()", "{": "{}"}[text[found.end()]])
            angle = text[found.end() + 1 : end - 1]
        else:
            bare = _ANGLE.match(text, found.end())
            if not bare:
                continue
            angle, end = bare.group().strip(), bare.end()
        done.append(rf"{text[at : found.start()]}(\cos({angle})+i\sin({angle}))")
        at = end
    return "".join([*done, text[at:]])


def _powers(text: str) -> str:
    """e^(-x) with its exponent in braces: the parser reads only some without."""
    done, at = [], 0
    for found in re.finditer(r"\^ *\(", text):
        if found.start() >= at:
            end = group_end(text, found.end() - 1, "()")
            done.append(f"{text[at : found.start()]}^{{{text[found.end() : end - 1]}}}")
            at = end
    return "".join([*done, text[at:]])


def strip(text: str) -> str:
    """Without what surrounds an answer and says nothing: spaces, closing punctuation, emphasis, one pair of whole braces."""
    while True:
        before = text
        text = _LEADING.sub("", text.strip().strip('`"').strip())
        while text.endswith(("\\", ".", ",", ";", ":")) and not text.endswith((r"\.", "...")):
            text = text[:-1].rstrip()
        if text.startswith("*") and text.endswith("*"):
            text = text.strip("*")
        if text.startswith("{") and group_end(text, 0) == len(text):
            text = text[1:-1]
        if text == before:
            return text


def _delimiters(text: str) -> str:
    """Without the marks of mathematics: they say where it is, not what it is. So are escaped dollars a currency."""
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)  # but \\[3pt] ends the row of a matrix
    for mark in (r"\$", "$", "€", "£", "¥", "₹"):
        text = text.replace(mark, " ")
    return text


def _arguments(text: str) -> str:
    r"""\frac12, \frac1{2}, \frac{1}2, \sqrt3, \sqrt(3), sqrt(3), \sqrt[3]8, {a \over b} with all their braces."""
    for between, command in ((r"\over", r"\\frac"), (r"\choose", r"\\binom")):
        if between in text:
            text = re.sub(rf"\{{([^{{}}\\]*)\{between}(?![a-zA-Z])([^{{}}\\]*)\}}", rf"{command}{{\1}}{{\2}}", text)
            whole = re.fullmatch(rf"([^{{}}\\]*)\{between}(?![a-zA-Z])([^{{}}\\]*)", text)
            text = f"{command[1:]}{{{whole[1]}}}{{{whole[2]}}}" if whole else text
    done, at = [], 0
    for found in re.finditer(r"\\(frac|sqrt|binom)(?![a-zA-Z])", text):
        if found.start() < at:
            continue
        done.append(text[at : found.end()])
        at = found.end()
        if found.group(1) == "sqrt":
            root = re.compile(r"\s*\[[^\[\]]*\]").match(text, at)
            if root:
                done.append(root.group().strip())
                at = root.end()
            piece, at = _argument(text, at, round_too=True)
            done.append(piece)
        else:
            for _ in range(2):
                piece, at = _argument(text, at, round_too=False)
                done.append(piece)
    done.append(text[at:])
    return "".join(done)


def _argument(text: str, at: int, *, round_too: bool) -> tuple[str, int]:
    """The argument of a command at `at`, in braces, and where it ends. Nested commands are treated too."""
    while at < len(text) and text[at] == " ":
        at += 1
    if at >= len(text):
        return "", at
    if text[at] == "{":
        end = group_end(text, at)
        return "{" + _arguments(text[at + 1 : end - 1]) + "}", end
    if round_too and text[at] == "(":
        end = group_end(text, at, "()")
        return "{" + _arguments(text[at + 1 : end - 1]) + "}", end
    if text[at] == "\\":
        command = _COMMAND.match(text, at)
        return ("{" + command.group() + "}", command.end()) if command else ("", at)
    if round_too and text[at].isdigit():
        digits = re.compile(r"\d+").match(text, at)  # \sqrt10 is meant as a whole
        assert digits is not None  # text[at] is a digit
        return "{" + digits.group() + "}", digits.end()
    return "{" + text[at] + "}", at + 1
