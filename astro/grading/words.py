"""Answers in words: which letters are words, and what some words say in signs."""

import re
from fractions import Fraction

NUMBER_WORDS = {
    word: value
    for value, word in enumerate(
        (
            *(
                "zero",
                "one",
                "two",
                "three",
                "four",
                "five",
                "six",
                "seven",
                "eight",
                "nine",
                "ten",
                "eleven",
                "twelve",
            ),
            *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
        )
    )
} | {
    word: 10 * tens
    for tens, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)
}
SET_WORDS = {
    "infinity": r"\infty",
    **dict.fromkeys(("all real numbers", "all reals", "real numbers", "all real x", "all real values"), r"\mathbb{R}"),
}
"""Words for what has a sign."""
SAME_WORDS = {
    "dne": "does not exist",
    **dict.fromkeys(("no solutions", "no real solution", "no real solutions", "empty set"), "no solution"),
}
"""Two common forms of the same."""
MATH_WORDS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln",
    "lg", "exp", "max", "min", "gcd", "lcm", "mod", "det", "oo", "inf", "lim", "arg", "deg",
})  # fmt: skip
_FIGURE = re.compile(
    r"(?:\\(angle|measuredangle|triangle|overline|overrightarrow|widehat|vec|square|odot|widearc) *"
    r"|(?:\\text *\{ *)?(?P<word>line segment|line|segment|ray|angle|triangle|arc|plane) *\}? *)?"
    r"\{? *(?:\\text *\{ *)?(?P<points>[A-Z]{1,8}) *\}?\}?"
)
_REVERSIBLE = frozenset(("angle", "measuredangle", "overline", "line segment", "line", "segment", "arc", "widehat"))
_ALIKE = {"overline": "segment", "line segment": "segment", "measuredangle": "angle", "vec": "overrightarrow"}


def letters(text: str) -> str:
    """Words without what may differ in writing them: case, punctuation, an article in front."""
    return re.sub(r"^(?:a|an|the) (?=\w\w)", "", re.sub(r"[\s.,;:!?\"'()-]+", " ", text.lower()).strip())


def is_words(text: str) -> bool:
    """Letters that are words and not a product: "east" is not t e a s."""
    words = [word for word in text.lower().replace("-", " ").split() if not word.isdigit()]
    if any(word in MATH_WORDS for word in words):
        return False
    return any(len(word) > 3 or (len(word) == 3 and set(word) & set("eiou")) for word in words) or (
        len(words) == 1 and words[0] in ("no", "do", "so", "am", "pm")
    )


_PARTS = {
    "half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
}  # fmt: skip
_PARTS |= {"halves": 2, **{f"{word}s": value for word, value in _PARTS.items() if value > 2}}
_DIGIT, _TEEN, _TEN = (
    "|".join(word for word, value in NUMBER_WORDS.items() if value in values)
    for values in (range(1, 10), (0, *range(10, 20)), range(20, 100))
)
_BELOW_100 = rf"(?:(?:{_TEN})(?: (?:{_DIGIT}))?|{_TEEN}|{_DIGIT})"
_BELOW_1000 = rf"(?:(?:(?:{_DIGIT}) )?hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})"
_COUNTED = re.compile(
    rf"(?P<sign>(?:minus|negative) )?(?P<whole>(?:(?:{_BELOW_1000} )?thousand(?:(?: and)? {_BELOW_1000})?|{_BELOW_1000}))?"
    rf"(?:(?(whole) and )(?:(?P<parts>{_DIGIT}|{_TEEN}|(?(whole)a)) )?(?P<of>(?(parts)(?:{'|'.join(_PARTS)})|half)))?"
)


def count(words: str) -> Fraction | None:
    """The number that words name, as 42 of "forty two", 3/4 of "three quarters" and 5/2 of "two and a half". None: none."""
    found = _COUNTED.fullmatch(words)
    if not found or not (found["whole"] or found["of"]):
        return None
    thousands = group = 0
    for word in (found["whole"] or "zero").split():
        if word == "thousand":
            thousands, group = 1000 * (group or 1), 0
        elif word == "hundred":
            group = 100 * (group or 1)
        else:
            group += NUMBER_WORDS.get(word, 0)  # "and" adds nothing
    value = Fraction(thousands + group)
    if found["of"]:
        value += Fraction(NUMBER_WORDS.get(found["parts"] or "a", 1), _PARTS[found["of"]])
    return -value if found["sign"] else value


def same_figure(gold: str, given: str) -> bool | None:
    r"""Do two texts name the same figure by its points, as \overline{AB}, AB and "segment AB" do? None: they are no such names.

    What kind of figure it is may be left to the question, on either side.
    """
    found = [_FIGURE.fullmatch(text) for text in (gold, given)]
    if not all(found):
        return None
    kinds = [f.group(1) or f.group("word") for f in found if f]
    one, other = (f.group("points") for f in found if f)
    if not any(kinds):
        return None
    named = [_ALIKE.get(kind, kind) for kind in kinds if kind]
    if len(set(named)) > 1:
        return False
    if one == other:
        return True
    return (named[0] == "triangle" and sorted(one) == sorted(other)) or (
        (kinds[0] or kinds[1]) in _REVERSIBLE and one == other[::-1]
    )
