"""What kind of answer a text is, and its parts: a number, words, a formula, a tuple or interval, a set, a list, a union,
a matrix, an equation or inequality. Formulas stay text here: reading them needs sympy (astro/grading/symbolic.py).
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from astro.grading.brackets import Malformed, balanced, cut, first_end, outside
from astro.grading.languages import CJK
from astro.grading.normalise import clean, strip
from astro.grading.numbers import Number, number
from astro.grading.trailing_text import untailed
from astro.grading.units import canonical, split_unit
from astro.grading.words import MATH_WORDS, SAME_WORDS, SET_WORDS, count, is_words, letters

Kind = Literal["number", "text", "ratio", "formula", "bracket", "set", "list", "union", "matrix", "relation", "builder"]

MAX_ITEMS = 200
"""Values of one answer."""

_CURRENCIES = ((r"\$", "dollar"), ("€", "euro"), ("¥", "yen"), ("₹", "rupee"), ("£", "sterling"))
RELATIONS = frozenset(("=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx"))
SET_SIGNS = frozenset((r"\cup", r"\cap", r"\setminus"))
_MATRIX = re.compile(r"\\begin *\{([pbB]?matrix|smallmatrix|array)\} *(?:\{[lcr| ]*\})?(.*)\\end *\{\1\}", re.DOTALL)
_CASES = re.compile(r"\\begin *\{cases\}(.*)\\end *\{cases\}", re.DOTALL)
_WHOLE_TEXT = re.compile(r"\(? *(?:\\text *\{[^{}]*\} *)+ *\)?")
_PLAIN_WORDS = re.compile(r"[A-Za-z][A-Za-z']*(?:[ -]+(?:[A-Za-z][A-Za-z']*|\d{1,4}))*")
_NAME = re.compile(
    r"(?:\\(?:angle|triangle|overline|vec|hat|widehat|mathbf|bar|tilde|operatorname|measuredangle|text|[a-zA-Z]+) *)?\{?"
    r"(?:[a-zA-Z']|\\text *\{[^{}]*\}|\\[a-zA-Z]+(?![a-zA-Z])| )*\}?(?:_ *(?:\{[^{}]*\}|\w))?'*(?: *\([^()=]*\))?"
)
_INVERSE = re.compile(r"[a-zA-Z] *\^ *\{ *-1 *\} *\( *[a-z] *\)")
_DERIVATIVE = re.compile(r"\\frac *\{ *d *[a-zA-Z] *\} *\{ *d *[a-z] *\}")
_BUILDER = re.compile(
    r"([a-z])(?: *\\in *(?:\\mathbb *\{ *)?\\?([RZNQ])(?: *\})?( *[_^] *\{?[*+]\}?)?)? *(?:\||:) *(.+)", re.DOTALL
)
_DATE = re.compile(
    r"\d{1,2}-(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?(?:-\d{2,4})?"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*-\d{1,4}|\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?",
    re.IGNORECASE,
)
"""What a spreadsheet makes of 3/4, or of a cell of dates."""
_SPREADSHEET = re.compile(r"#(?:REF!?|NAME\??|DIV/0!?|VALUE!?|N/?A|NUM!?|NULL!?)|nan|null", re.IGNORECASE)
_BESIDE = re.compile(
    r"-?[\d.,]+ *\( *-?[\d.,]+ *\)|-?[\d.,]+ *(?:\\text *\{ *)?\((?: *\\text *\{)? *(?:or|not|and|maybe|perhaps|if)\b.*",
    re.DOTALL,
)
_LETTERS_LISTED = re.compile(r"[A-J](?:(?: *, *(?:and |or )?| +(?:and|or) +)[A-J])+")
_CONJUNCTIONS = re.compile(
    r"\\text *\{ *,? *(?:and|or) *\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\lor\b|\\vee\b|\\wedge(?![a-zA-Z])"
)
_EITHER = re.compile(
    r"^(?:\\text *\{ *(?:either|both) *\}|(?:either|both)(?![a-zA-Z]))\s*(?=.*\d)", re.IGNORECASE | re.DOTALL
)


_RATIO_SIDE = re.compile(
    r"(?:[\d+\-*/^{}() ]|\\(?:sqrt|frac|pi|cdot|times)(?![a-zA-Z])|(?<![a-zA-Z])[a-z](?![a-zA-Z]))+"
)
"""Of a ratio: numbers with roots, or with single letters."""


@dataclass(frozen=True)
class Value:
    """One answer, or a part of one."""

    kind: Kind
    text: str
    """As cleaned; of words: lower case."""
    items: tuple["Value", ...] = ()
    """Parts of a bracket, set, list, union; entries of a matrix row by row; sides of a relation."""
    number: Number | None = None
    signs: tuple[str, ...] = ()
    """Of a bracket: its opening and closing one. Of a relation, a union: the signs between its parts. Of a list, a builder: how
    its parts are joined, "or", "and", or nothing where only commas stand between them."""
    columns: int = 0
    """Of a matrix."""
    unit: str | None = None
    domains: tuple[tuple[str, str], ...] = ()
    """Letters and what they may be, as an answer says it behind a formula; of a builder: its variable and the set it is from."""
    said: Number | None = None
    """What it is said to be about: of an exact value that an answer gives in decimals, too."""


def read(text: str) -> Value:
    """An answer.

    Raises:
        Malformed: it is none; says why.
    """
    tailed = untailed(clean(text))
    found = value(tailed.head)
    if tailed.domains:
        found = replace(found, domains=tuple(sorted(tailed.domains.items())))
    if tailed.said:
        found = replace(found, said=tailed.said)
    if found.unit is None:
        currency = next((name for sign, name in _CURRENCIES if sign in text), None)
        found = replace(found, unit=currency) if currency else found
    return found


def value(text: str, depth: int = 0) -> Value:
    """A cleaned text.

    Raises:
        Malformed: it is no answer.
    """
    text = strip(text)
    if not any(s.isalnum() for s in text) and text not in (r"\{\}", r"\{ \}", "+", "-"):
        raise Malformed("holds nothing")
    if depth > 12:
        raise Malformed("nested too deep")
    if _DATE.fullmatch(text):
        raise Malformed("a date, as a spreadsheet makes of other values")
    if _SPREADSHEET.fullmatch(text):
        raise Malformed("an empty or broken cell")
    if _BESIDE.fullmatch(text):
        raise Malformed("an annotation that is not understood")
    found = number(text)
    if found:
        return Value("number", text, number=found)
    balanced(text)
    for reading in (_words, _measure, _ratio, _with_unit, _matrix, _list, _relation, _union, _bracket):
        read_so = reading(text, depth)
        if read_so is not None:
            return read_so
    return _formula(text)


def _words(text: str, depth: int) -> Value | None:
    if _WHOLE_TEXT.fullmatch(text):
        inner = strip(re.sub(r"\\text *\{([^{}]*)\}", r"\1", text))
        if number(inner):
            return Value("number", inner, number=number(inner))
        if re.match(r"-?\d[\d.,]* [a-zA-Z]", inner) and split_unit(inner)[0] != inner:
            return _with_unit(inner, depth)
        if _LETTERS_LISTED.fullmatch(inner):
            return _list(inner, depth)
        pieces = re.split(r",\s*and\s|,|\sand\s", inner)
        if (
            len(pieces) > 1
            and count(letters(inner)) is None
            and all(_PLAIN_WORDS.fullmatch(part.strip()) for part in pieces)
        ):
            return _list(inner, depth)
        return _meant(letters(inner)) if letters(inner) else None
    if not text.isascii() and CJK.search(text) and re.fullmatch(r"[^\\\d=<>+{}()]+", text):
        return Value("text", re.sub("(?:周|礼拜)(?=[一二三四五六日天])", "星期", letters(text)))
    flat = re.sub(r"\\text *\{([^{}]*)\}", r" \1 ", text) if r"\text" in text else text
    if flat != text and re.match(r"\s*[A-Z][a-z]{2,} *\d", flat) and is_words(" ".join(flat.split())):
        text = " ".join(flat.split())  # \text{March } 14
    if re.fullmatch(r"May \d{1,2}", " ".join(flat.split())):
        return Value("text", letters(" ".join(flat.split())))
    text = text.rstrip("!? ") if is_words(text.rstrip("!? ")) else text
    if not _PLAIN_WORDS.fullmatch(text) or not is_words(text):
        return None
    parts = letters(text).split(" and ")
    if len(parts) == 1 or count(letters(text)) is not None:
        return _meant(letters(text))
    return Value("list", text, tuple(map(_meant, filter(None, parts))))


def _meant(words: str) -> Value:
    r"""Words that name a number or a set, or have another common form; any others as they are."""
    words = re.sub(r"^(?:it|this|that|he|she|they) (?:is|are) (?=\w)", "", words.lstrip("\\"))  # \text{infinity}
    counted = count(words)
    if counted is not None:
        return Value("number", str(counted), number=number(str(counted)))
    if words in SET_WORDS:
        return Value("formula", SET_WORDS[words])
    return Value("text", SAME_WORDS.get(words, words))


_MEASURE = re.compile(r"(\d+) *([a-z]+)[ ,]*(?:and +)?(\d+) *([a-z]+)(?:[ ,]*(?:and +)?(\d+) *([a-z]+))?")


_ARC = re.compile(r"(\d+) *\^ *\{? *\\circ *\}? *([0-5]?\d) *'(?: *([0-5]?\d) *(?:''|\"))?")


def _measure(text: str, depth: int) -> Value | None:
    """2 hours 30 minutes: one measure in several units, compared as written in them; degrees with minutes as degrees."""
    arc = _ARC.fullmatch(text) if r"\circ" in text else None
    if arc:
        degrees = str(Fraction(int(arc[1]) * 3600 + int(arc[2]) * 60 + int(arc[3] or 0), 3600))
        return Value("number", degrees, number=number(degrees), unit="degree")
    if not any(sign in text for sign in ("h", "m", "f", "y", "lb", "d")):
        return None
    found = _MEASURE.fullmatch(" ".join(re.sub(r"\\text *\{([^{}]*)\}", r" \1 ", text).lower().split()))
    parts = [part for part in found.groups() if part] if found else []
    units = [canonical(unit) for unit in parts[1::2]]
    if not parts or tuple(units) not in _FINER:
        return None
    return Value("text", " ".join(f"{int(size)} {unit}" for size, unit in zip(parts[::2], units, strict=True)))


_FINER = frozenset((
    ("h", "min"), ("min", "s"), ("h", "min", "s"), ("day", "h"), ("week", "day"), ("yr", "month"), ("ft", "in"), ("yd", "ft"),
    ("m", "cm"), ("km", "m"), ("kg", "g"), ("lb", "oz"), ("dollar", "cent"),
))  # fmt: skip


def _ratio(text: str, depth: int) -> Value | None:
    """3:4, or a time of the day: words, as far as comparing goes."""
    if ":" not in text or not re.fullmatch(r"[\d:. /]+|[^:]*:[^:]*", text):
        return None
    sides = [side.strip() for side in text.split(":")]
    parts = [number(side) for side in sides]
    if re.fullmatch(r"\d{1,2}(?: *: *\d\d)+", text):
        text = re.sub(r"^(\d+:\d\d):00$", r"\1", text.replace(" ", "").lstrip("0"))
        if len(sides) > 2 or not all(part and part.value > 0 for part in parts):
            return Value("text", text)
    if all(part and part.value > 0 for part in parts):
        return Value(
            "ratio", text, tuple(Value("number", t, number=n) for t, n in zip(sides, parts, strict=True)), signs=(":",)
        )
    if len(sides) == 2 and all(_RATIO_SIDE.fullmatch(side) for side in sides):  # \sqrt{2}:1
        return Value("ratio", text, tuple(value(side, depth + 1) for side in sides))
    return None


def _with_unit(text: str, depth: int) -> Value | None:
    core, unit, scale = split_unit(text)
    if core == text:
        return None
    inside = value(core, depth + 1)
    if scale != 1:
        if inside.number is None:
            return None
        scaled = replace(inside.number, value=inside.number.value * Fraction(scale))
        inside = replace(inside, number=scaled, text=str(scaled.value))
    return replace(inside, unit=unit)


def _matrix(text: str, depth: int) -> Value | None:
    inner = text
    if text[:1] in "([" and text[-1:] in ")]" and r"\begin" in text[:12]:
        inner = text[1:-1].strip()
    cases = _CASES.fullmatch(inner)
    if cases:
        return _piecewise(cases.group(1), depth) or value(
            re.sub(r"\\\\", ",", cases.group(1)).replace("&", " "), depth + 1
        )
    found = _MATRIX.fullmatch(inner)
    if not found or r"\begin" in found.group(2):
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr\b|\\hline", found.group(2)) if row.strip()]
    entries = [[value(entry, depth + 1) for entry in row.split("&")] for row in rows]
    if not entries or len({len(row) for row in entries}) != 1 or len(entries) * len(entries[0]) > MAX_ITEMS:
        raise Malformed("rows of a matrix differ in length")
    flat = tuple(entry for row in entries for entry in row)
    if len(flat) == 1:
        return flat[0]
    return Value("matrix", text, flat, columns=len(entries[0]))


def _piecewise(rows: str, depth: int) -> Value | None:
    """Rows of values and their conditions, as pairs in any order; None: these are no such rows."""
    pairs = [[part.strip(" ,;") for part in row.split("&")] for row in re.split(r"\\\\", rows) if row.strip()]
    if not all(len(pair) == 2 and all(pair) and _CONDITION.match(pair[1]) for pair in pairs):
        return None
    parts = [(value(one, depth + 1), value(_CONDITION_WORD.sub("", other), depth + 1)) for one, other in pairs]
    return Value("set", rows, tuple(Value("bracket", p[0].text, p, signs=("(", ")")) for p in parts))


_CONDITION_WORD = re.compile(r"^\s*(?:\\text *\{ *(?:if|for|when|where)? *\}|(?:if|for|when|where)\b)\s*")
_CONDITION = re.compile(rf"{_CONDITION_WORD.pattern}|.*(?:<|>|\\le|\\ge|\\ne|\\in|=|otherwise)", re.DOTALL)


def _joined(text: str) -> str:
    """How the values of a list are joined: "or", "and", "" by commas alone."""
    words = {re.sub(r"[^a-z]", "", word).removeprefix("text") for word in _CONJUNCTIONS.findall(text)}
    if words & {"or", "lor", "vee"}:
        return "or"
    return "and" if words else ""


def _list(text: str, depth: int) -> Value | None:
    joined = _joined(text)
    text = _CONJUNCTIONS.sub(",", _EITHER.sub("", text) if joined else text)
    groups, _ = cut(text, frozenset(";"))
    if len(groups) > 1 and all(
        len(cut(group, frozenset(","))[0]) > 1 for group in groups
    ):  # p = 5, q = 2; p = 7, q = 2
        return Value("list", text, tuple(_bracket(f"({group})", depth + 1) or _formula(group) for group in groups))
    pieces, _ = cut(text, frozenset(",;"))
    pieces = [piece for piece in pieces if piece]
    if not pieces:
        raise Malformed("holds nothing")
    if len(pieces) == 1:
        return _plus_minus(pieces[0], depth)
    if len(pieces) > MAX_ITEMS:
        raise Malformed("too many values")
    name, sign, rest = pieces[0].partition("=")
    if sign and is_name(name) and not any("=" in piece for piece in pieces[1:]):  # n = 1, 2, 3
        pieces[0] = rest
    if r"\ldots" in text or "..." in text:  # a pattern is not the list of the terms it shows
        return _formula(text)
    items = [item for piece in pieces for item in _flat(value(piece, depth + 1))]
    return Value("list", text, tuple(items), signs=(joined,))


def _flat(item: Value) -> tuple[Value, ...]:
    return item.items if item.kind == "list" else (item,)


def _plus_minus(text: str, depth: int) -> Value | None:
    r"""1 \pm \sqrt{2} is two values. Of several signs it does not say which belong together: a formula."""
    both = re.fullmatch(r"\\pm *(\(.*,.*\))", text)
    if both:
        point = value(both[1], depth + 1)
        turned = tuple(value(f"-({item.text})", depth + 1) for item in point.items)
        return Value("list", text, (point, replace(point, text=f"-{point.text}", items=turned))) if turned else None
    if len(re.findall(r"\\[pm]{2}(?![a-zA-Z])", text)) != 1 or (
        _starts_with_bracket(text) and not (text[0] == "(" and "," in text and first_end(text) == len(text))
    ):
        return None
    name, sign, rest = text.partition("=")
    if sign and is_name(name):
        text = rest
    sign = r"\pm" if re.search(r"\\pm(?![a-zA-Z])", text) else r"\mp"
    return Value("list", text, tuple(value(text.replace(sign, s), depth + 1) for s in "+-"))


def _relation(text: str, depth: int) -> Value | None:
    sides, signs = cut(text, RELATIONS)
    said: Number | None = None
    if not signs:
        return None
    if not all(sides):
        raise Malformed("a relation with one side")
    if r"\approx" in signs:  # what is exact comes first, unless that is only a name
        at = signs.index(r"\approx")
        keep = 1 if at == 0 and is_name(sides[0]) else 0
        exact, said = (number(side) for side in sides[at : at + 2])
        if at == 0 and exact and said and abs(exact.value - said.value) * 50 > abs(exact.value):
            raise Malformed("is not approximately what it says")
        sides = sides[: at + 1 + keep]
        signs = ["=" if s == r"\approx" else s for s in signs[: at + keep]]
        if not signs:
            return replace(value(sides[0], depth + 1), said=said)
        if keep:
            said = None
    return Value("relation", text, tuple(value(side, depth + 1) for side in sides), signs=tuple(signs), said=said)


def is_name(text: str) -> bool:
    r"""Does it name something, as x, f(x), \angle ABC, x_1 or \text{Area} do?"""
    text = text.strip()
    applied = re.match(r"\\([a-z]+)", text)
    if (
        applied
        and (applied[1] in MATH_WORDS or applied[1] == "pi")
        and not re.search("[a-zA-Z]", text[applied.end() :])
    ):
        return False  # \ln(2), and \pi, are values
    if _DERIVATIVE.fullmatch(text) or _INVERSE.fullmatch(text):
        return True
    return bool(text) and _NAME.fullmatch(text) is not None and text.strip("\\{} ").lower() not in MATH_WORDS


def is_quantity(text: str) -> bool:
    r"""Does it name a measure of what letters name, as \frac{NO}{BO}, |AB|, V_1:V_2 do? With a sum it is an equation."""
    text = re.sub(r"^\\complement *_ *\{? *\w *\}? *", "", text.strip())
    bare = re.sub(r"\\frac|\\text *\{[^{}]*\}|_ *(?:\{[^{}]*\}|\w)|[{}|:/ ]", "", text)
    return is_name(text) or re.fullmatch(r"[A-Z]{1,12}|[A-Za-z]{2}", bare) is not None


def _union(text: str, depth: int) -> Value | None:
    parts, signs = cut(text, SET_SIGNS)
    if not signs:
        return None
    if not all(parts):
        raise Malformed("an operator without operand")
    return Value("union", text, tuple(value(part, depth + 1) for part in parts), signs=tuple(signs))


def _starts_with_bracket(text: str) -> bool:
    return text.startswith(("(", "[", r"\{", r"\langle"))


def _bracket(text: str, depth: int) -> Value | None:
    for opening, closing in (("(", ")"), ("(", "]"), ("[", ")"), ("[", "]"), (r"\{", r"\}"), (r"\langle", r"\rangle")):
        if text.startswith(opening) and text.endswith(closing):
            break
    else:
        return None
    if first_end(text) != len(text):  # (a)(b)
        return None
    inner = text[len(opening) : len(text) - len(closing)].strip()
    if opening == r"\{":
        return _set(text, inner, depth)
    pieces, _ = cut(inner, frozenset(",;"))
    if len(pieces) == 1:
        return value(inner, depth + 1) if (opening, closing) == ("(", ")") else None
    if len(pieces) > MAX_ITEMS or not all(pieces):
        raise Malformed("an empty place in a tuple")
    if r"\ldots" in inner or "..." in inner:
        return None
    opening, closing = (r"(", ")") if opening == r"\langle" else (opening, closing)
    return Value("bracket", text, tuple(value(p, depth + 1) for p in pieces), signs=(opening, closing))


def _set(text: str, inner: str, depth: int) -> Value | None:
    if not inner:
        return Value("set", text)
    built = _set_builder(inner, depth)
    if built is not None:
        return built
    if any(sign in ("|", ":", r"\ldots") for _, sign in outside(inner)) or "..." in inner:
        return None  # set builder, or a pattern: a formula
    pieces, _ = cut(_CONJUNCTIONS.sub(",", inner), frozenset(",;"))  # {100,200} is two numbers, not one with a comma
    if len(pieces) > MAX_ITEMS or not all(pieces):
        raise Malformed("an empty place in a set")
    return Value("set", text, tuple(item for piece in pieces for item in _flat(value(piece, depth + 1))))


def _set_builder(inner: str, depth: int) -> Value | None:
    """{x | x >= 0} is the inequality, which is compared as its set; with several conditions, or of whole numbers, a `builder`."""
    found = _BUILDER.fullmatch(inner)
    if not found:
        return None
    name, domain, part, conditions = found.groups()
    condition = value(conditions, depth + 1)
    parts = condition.items if condition.kind == "list" else (condition,)
    if not all(p.kind == "relation" and any(_holds(i.text, name) for i in p.items) for p in parts):
        return None
    if any(p.signs == ("=",) and p.items[0].text == name and re.search(r"[a-zA-Z]", p.items[1].text) for p in parts):
        return None  # {x | x = 2k}: all numbers of a form
    joined = condition.signs[0] if condition.kind == "list" and condition.signs else "and"
    bare_ones = all(any(i.text == name for i in p.items) for p in parts)
    if bare_ones and (domain or "R") == "R" and not part and (len(parts) == 1 or joined == "or"):
        return condition
    kind = (domain or "R") + (part.strip(" _^{}") if part else "")
    return Value("builder", inner, parts, signs=(joined or "and",), domains=((name, kind),))


def _holds(text: str, name: str) -> bool:
    """Has a formula the variable in it?"""
    return re.search(rf"(?<![a-zA-Z\\]){name}(?![a-zA-Z])", text) is not None


def _formula(text: str) -> Value:
    """Raises:
    Malformed: no formula can be written so.
    """
    if re.search(r"\\(?:frac|sqrt)(?:\[[^\]]*\])?(?:\{[^{}]*\})?\{ *\}|\\frac *$|\\sqrt *$|\{ *\}", text):
        raise Malformed("an empty argument")
    if re.search(r"(?:[+\-*/^_=]|\\times|\\cdot) *$|^ *[*/^_=]", text):
        raise Malformed("an operator without operand")
    if re.search(r"(?<![_\d])\d+ +\.?\d", text):
        raise Malformed("numbers side by side")
    if len(re.findall(r"\d{401,}", text)) or r"\boxed" in text:
        raise Malformed("not a formula")
    if CJK.search(text) and not re.fullmatch(r"[^\\\d]+", text):
        raise Malformed("words that are not understood")
    return Value("formula", text)
