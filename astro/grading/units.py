"""Units behind a number. The question fixes the unit, so an answer may leave it out; but 5 m is not 5 cm."""

import re
from fractions import Fraction

from astro.grading import languages
from astro.grading.brackets import Malformed
from astro.grading.numbers import number
from astro.grading.words import count

_NAMES = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "dm": "decimeter", "m": "meter metre",
    "km": "kilometer kilometre", "in": "inch inches", "ft": "foot feet", "yd": "yard", "mi": "mile", "nm": "nanometer",
    "mg": "milligram", "g": "gram gm", "kg": "kilogram", "lb": "pound lbs", "oz": "ounce", "t": "ton tonne",
    "s": "second sec", "ms": "millisecond", "min": "minute", "h": "hour hr", "day": "", "week": "", "month": "", "yr": "year",
    "l": "liter litre", "ml": "milliliter millilitre", "gal": "gallon", "qt": "quart", "pt": "pint", "cup": "",
    "degree": "deg degrees °", "radian": "rad", "unit": "", "percent": "", "%": "", "am": "", "pm": "", "th": "st nd rd",
    "dollar": "usd buck", "cent": "", "euro": "", "rupee": "rs", "yen": "", "yuan": "", "penny": "pennies",
    "hz": "hertz", "j": "joule", "w": "watt", "n": "newton", "v": "volt", "a": "ampere amp", "k": "kelvin",
    "ohm": "", "acre": "", "hectare": "ha", "cc": "", "au": "",
}  # fmt: skip
KNOWN = {word: unit for unit, words in _NAMES.items() for word in (unit, *words.split())}
"""Ways of writing a unit -> one of them."""

SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

NOT_UNITS = frozenset({
    "or", "and", "not", "no", "nor", "less", "more", "least", "most", "greater", "fewer", "than", "about",
    "approximately", "approx", "mod", "modulo", "base", "if", "where", "for", "when", "except", "undefined",
    "infinity", "infinite", "every", "either", "all", "both", "none", "other", "otherwise", "wrong", "is", "are",
    "to", "from", "between",
    "squared", "cubed", "factorial", "plus", "minus", "times", "over", "point", "halves", "third", "thirds", "quarter",
    "quarters", "tens", "fourths", "fifths", "tenths", "hundredths", "negative", "remainder",
})  # fmt: skip
"""Words that change what a number says."""

_TEXT_AT_END = re.compile(
    r"\\text *\{((?:[^{}]|\^ *\{-?\d\})*)\}( *(?:\^ *\{?\d\}?)?(?: */ *\\text *\{[^{}]*\})?(?: *\^ *\{?-?\d\}?)?)$"
)
_MODULUS_AT_END = re.compile(r"\\pmod *\{? *(\w{1,9}) *\}?$")
_NAMED_AT_END = re.compile(r"(?<=[\s\d}])([a-zA-Z]+(?: */ *[a-zA-Z]+| per [a-zA-Z]+)?)( *\^ *\{? *[23] *\}?)?$")
_WORDS_AT_END = re.compile(r"(?<=[\d})\s%.])([a-zA-Z]{2,}(?:[ /][a-zA-Z]+)*\.?)( *\^ *\{?[23]\}?)?$")
_DEGREES_AT_END = re.compile(r"\^ *(?:\{ *\\circ *\}|\\circ) *(?:(?:\\text *\{ *)?([CF])(?: *\})?)?$")
_DEGREES = re.compile(r"\^ *(?:\{ *\\circ *\}|\\circ)")
_LETTER_UNITS = frozenset("LNJWVK")
"""Capitals that stand for a unit after a number and a space."""
_ANGLE_OF = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_ORDINAL_AT_END = re.compile(r"(?<=\d) *\^ *\{? *\\text *\{ *(?:st|nd|rd|th) *\} *\}?$")
_CHINESE_TEXT_AT_END = re.compile(r"\\text *\{ *([\u3400-\u9fff]+) *\}$")
_CURRENCY_AT_START = re.compile(r"^(?:\\text *\{ *)?(?:Rs\.?|USD|EUR|GBP|INR|US)(?: *\})?(?=[ \d.])")


_ANNOTATION = re.compile(
    r"(-?\d[\d.,/ ]*?%?|.*\d\}?) *(?:\\text *\{ *)?\( *(?:\\text *\{ *)?"
    r"([a-zA-Z][a-zA-Z]+(?:[ '-][a-zA-Z]+)*)\.? *\}? *\)(?: *\})?"
)
_STUCK = re.compile(
    r"(?<=[\d}i) ])(?P<unit>(?:mm|cm|dm|km|kg|mg|ml|mL|km/h|m/s|cm/s|km/s|g/cm)(?: *\^ *\{? *[23] *\}?)?|m *\^ *\{? *[23] *\}?)$"
)
"""A unit that nothing separates from the formula before it."""


def split_unit(text: str) -> tuple[str, str | None, int]:
    """(text without its unit, the unit, factor of a scale word). The unit is None where there is none to see."""
    text = _CHINESE_TEXT_AT_END.sub(r"\1", _annotated(_CURRENCY_AT_START.sub("", text).strip()))
    chinese = languages.split_unit(text)
    if chinese:
        core, unit, scale = chinese
        return core.strip(), canonical(unit) if unit else None, scale
    found = _MODULUS_AT_END.search(text)
    if found and found.start():
        return text[: found.start()].strip(), f"mod {found.group(1)}", 1
    found = _DEGREES_AT_END.search(text)
    if r"\circ" in text and not _ANGLE_OF.search(
        text
    ):  # in 180^\circ - x, too; in a sine it makes the number another one
        core = _DEGREES.sub("", text[: found.start()] if found else text).strip()
        if core and core != text:
            return core, "degree" + ((found and found.group(1)) or ""), 1
    text = _ORDINAL_AT_END.sub("", text)
    if text.endswith(r"\Omega") and re.search(r"[\d}] *\\Omega$", text):
        return text.removesuffix(r"\Omega").strip(), "ohm", 1
    found = _TEXT_AT_END.search(text)
    if found and found.start() and not _operator_before(text, found.start()):
        core, unit = text[: found.start()].strip(), found.group(1) + found.group(2)
        return _with_scale(text, core, unit)
    found = _WORDS_AT_END.search(text)
    if found and found.start() and any(s.isdigit() for s in text[: found.start()]):
        core = text[: found.start()].rstrip()
        words = re.findall(r"[a-z]+", found.group(1).lower())
        plain = re.fullmatch(r"[\d.,/ ()+-]+|.*\\frac\{\d+\}\{\d+\}|.*\d", core)
        if plain and all(singular(w) in KNOWN or w in SCALES or len(w) > 2 for w in words) and len(words) < 6:
            return _with_scale(text, core, found.group(1) + (found.group(2) or ""))
    return _named(text)


def _annotated(text: str) -> str:
    """7 (apples) as 7 apples; 7 (seven) as 7.

    Raises:
        Malformed: what stands in the parentheses may change the number.
    """
    found = _ANNOTATION.fullmatch(text) if text.endswith((")", "}")) else None
    if not found:
        return text
    head, words = found.group(1), found.group(2).lower()
    if len(words) < 3 and words not in KNOWN:
        return text
    inside = re.findall(r"[a-z]+", words)
    if any(word in NOT_UNITS or word in SCALES for word in inside) and count(words.strip()) is None:
        raise Malformed("an annotation that is not understood")
    named = [count(" ".join(inside[: n + 1])) for n in range(len(inside))]
    if any(value is not None for value in named):
        value = next(v for v in reversed(named) if v is not None)
        said = number(head.rpartition("=")[2])
        if said is None or abs(said.value) != abs(value):
            raise Malformed("an annotation that is not understood")
        return head
    return f"{head} \\text{{{found.group(2)}}}"


def _named(text: str) -> tuple[str, str | None, int]:
    """Only known units: m/s^2, L and K after a number, cm after any formula and a space. A bare m stays a variable."""
    found = _NAMED_AT_END.search(text)
    if not found or not found.start() or _operator_before(text, found.start()):
        return text, None, 1
    core, words = text[: found.start()].rstrip(), [w for w in re.findall(r"[a-zA-Z]+", found.group(1)) if w != "per"]
    if not all(singular(w.lower()) in KNOWN for w in words) or not re.search(r"\d|\\pi", core):
        return text, None, 1
    of_number = re.fullmatch(r"[\d.,/ ()+-]+|.*\\frac\{\d+\}\{\d+\}", core) is not None
    stuck = _STUCK.search(text)
    if (
        stuck
        and re.search(r"\\pi|\\sqrt|\\frac", text[: stuck.start()])
        and not re.search(r"(?<![a-zA-Z\\])[a-zA-Z]", text[: stuck.start()])
    ):
        return text[: stuck.start()].rstrip(), canonical(stuck["unit"]) or None, 1
    apart = text[found.start() - 1].isspace() and min(map(len, words)) > 1
    if apart or (of_number and (len(words) > 1 or (words[0] in _LETTER_UNITS and text[found.start() - 1].isspace()))):
        return core, canonical(found.group(1) + (found.group(2) or "")) or None, 1
    return text, None, 1


def _with_scale(text: str, core: str, unit: str) -> tuple[str, str | None, int]:
    words = re.findall(r"[a-z]+", unit.lower())
    if not core or any(word in NOT_UNITS for word in words) or re.search(r"\d", re.sub(r"\^ *\{?-?\d\}?", "", unit)):
        return text, None, 1
    scale = SCALES.get(words[0], 1) if words else 1
    if scale != 1:
        unit = re.sub(words[0], "", unit, count=1, flags=re.IGNORECASE)
    return core, canonical(unit) or None, scale


def _operator_before(text: str, at: int) -> bool:
    return text[:at].rstrip()[-1:] in ("=", "+", "-", "*", "/", ",", "(", "^", "_", "<", ">", "&")


def singular(word: str) -> str:
    """The word without its plural ending, where that makes a known unit."""
    if word in KNOWN:
        return word
    for ending in ("es", "s"):
        if word.endswith(ending) and word.removesuffix(ending) in KNOWN:
            return word.removesuffix(ending)
    return word


def canonical(unit: str) -> str:
    """One way of writing a unit: "square centimeters", "sq. cm" and "cm^2" are the same."""
    unit = re.sub(r"\\text|[{}.~]", " ", unit.lower()).replace("per ", "/ ").replace("^ ", "^")
    unit = re.sub(r"\b(?:square|sq)\s+([a-z]+)|([a-z]+)\s+squared", r"\1\2^2", unit)
    unit = re.sub(r"\b(?:cubic|cu)\s+([a-z]+)|([a-z]+)\s+cubed", r"\1\2^3", unit)
    unit = re.sub(r"\^\s*(\d)", r"^\1", unit)
    unit = re.sub(r"\bmph\b", "mi/h", re.sub(r"\b(?:kmh|kmph|kph)\b", "km/h", unit))
    return re.sub(r"\s+", "", re.sub(r"[a-z]+", lambda m: KNOWN.get(singular(m.group()), singular(m.group())), unit))


def factor(one: str | None, other: str | None) -> int | Fraction | None:
    """How many of the other unit make one of the first, of money: 100 for dollars and cents. None: of any others."""
    known: dict[tuple[str | None, str | None], int | Fraction] = {
        ("dollar", "cent"): 100,
        ("cent", "dollar"): Fraction(1, 100),
    }
    return known.get((one, other))


_MONEY = frozenset(("dollar", "cent", "euro", "rupee", "yen", "yuan", "sterling"))


def conflict(one: str | None, other: str | None) -> bool:
    """Are these two units that cannot both be meant? Only where both are known: other words may name the same thing."""
    if one is None or other is None or one == other:
        return False
    if any(
        priced.partition("/")[0] in ("", money) for money, priced in ((one, other), (other, one)) if money in _MONEY
    ):
        return False  # $5 per pound
    if one.startswith("mod ") and other.startswith("mod "):
        return True
    return all(
        all(part in KNOWN for part in re.findall(r"[a-z%°]+", unit)) for unit in (one, other)
    ) and "unit" not in (
        one.split("^")[0],
        other.split("^")[0],
    )
