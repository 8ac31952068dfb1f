r"""What stands behind an answer and is no part of it: a gloss, "(about 2.88)", and what its letters may be, "k \in \mathbb{Z}".

A gloss says an exact answer once more in decimals; where it says another number, the text is no answer. What letters may be is
kept: two answers that give one letter different domains differ.
"""

import itertools
import re
from dataclasses import dataclass, field

from astro.grading.brackets import Malformed, cut
from astro.grading.numbers import Number, number

MAX_TAILS = 4

_TEXT = re.compile(r"\\text *\{([^{}]*)\}")
_GLOSS_WORD = re.compile(r"approx|about|roughly|nearly|around|close to|rounded|i\.e\.", re.IGNORECASE)
_GLOSS = re.compile(
    r"(?P<head>.*?[^\s,;(])[\s,;]*"
    r"(?:(?:(?P<open>\()[\s,;]*|[,;]\s*)(?:or|which is|that is|i\.e\.,?)?\s*\\approx"
    r"|(?:(?P<open_too>\()[\s,;]*|[,;]\s*|(?<=\s))(?:or|which is|that is|i\.e\.,?)?\s*"
    r"\b(?:approx(?:imately|\.)?|about|roughly|nearly|around|close to)(?![a-z])(?:\s*\\approx)?)"
    r"(?:\s*equal to)?\s*:?\s*(?P<value>-?[\d., ]*\d\s*%?)(?:\s*[a-zA-Z]{1,20})?\s*(?P<close>\)?)[\s.]*",
    re.DOTALL | re.IGNORECASE,
)

_LETTERS = r"(?P<letters>[a-zA-Z](?:_ *\{?\w\}?)?(?: *(?:,|and) *[a-zA-Z](?:_ *\{?\w\}?)?)*)"
_KIND = (
    r"(?:(?:arbitrary|real|positive|nonnegative|non-negative|nonzero|non-zero|constant|rational|natural|whole|complex|fixed"
    r"|integral)\s+)*(?:integers?|constants?|numbers?|reals?|parameters?)(?:\s+of integration)?"
)
_WHERE = r"(?:where|for|with|and|if|when|here|,|any|all|every|each|some|an?|\s)*"
_TAILS = (
    re.compile(
        rf"{_WHERE}{_LETTERS}\s*\\in\s*(?:\\mathbb\s*\{{?\s*)?(?P<set>[RZNQC])\s*\}}?"
        r"\s*(?P<part>(?:[_^]\s*)?\{?\s*(?:\\ast|\\geq?\s*0|[+*-]|\\text\{[+]\})\s*\}?)?\s*"
    ),
    re.compile(
        rf"{_WHERE}{_LETTERS}\s*(?:is|are|be|being|denotes?|=)?\s*(?:an?|any|some|the)?\s*(?P<kind>{_KIND})\s*", re.I
    ),
    re.compile(rf"{_WHERE}(?P<kind>{_KIND})\s*{_LETTERS}\s*", re.I),
    re.compile(r"for\s+(?:all|any|every|each)\s+(?:real\s+|complex\s+)?(?P<letters>[a-zA-Z])\s*"),
    re.compile(r"(?:where|for|with|\s)*(?P<letters>[nmk])\s*(?:\\ge|>)\s*(?P<least>\d)\s*"),
)
_SPLIT_WORD = re.compile(r"(?<=[\s})])(?=(?:where|for)\s)|(?=\\text *\{\s*,?\s*\(?\s*(?:where|for|with|and|any|all)\b)")
_BOUNDS = re.compile(r"<|>|\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|\\in(?![a-z])")


@dataclass(frozen=True)
class Tailed:
    """An answer without its tails.

    Attributes:
        head: the answer.
        said: the number that a gloss says it is, about.
        domains: letter -> what it may be: Z, N, R, ..., or "" for a constant.
    """

    head: str
    domains: dict[str, str] = field(default_factory=dict)
    said: Number | None = None


def untailed(text: str) -> Tailed:
    """A cleaned text without its tails.

    Raises:
        Malformed: a gloss says another number than the answer.
    """
    domains: dict[str, str] = {}
    text, said = _unglossed(_unconditioned(_unreasoned(text)))
    for _ in range(MAX_TAILS):
        cutting = _domain(text)
        if cutting is None:
            break
        text = cutting.head
        domains.update(cutting.domains)
    return Tailed(text, domains, said)


_REASON = re.compile(r"[\s,;]*\(\s*(?:since|because|as|given that)\b[^()]*(?:\([^()]*\)[^()]*)*\)[\s.]*\Z")
_LOOSE_REASON = re.compile(r"[\s,;]+(?:since|because)\b.*\Z", re.DOTALL)


def _unreasoned(text: str) -> str:
    """Without the reason behind it: "4 (since x > 0)"."""
    if not ("since" in text or "because" in text or "(as " in text or "given that" in text):
        return text
    flat = _TEXT.sub(r" \1 ", text)
    for pattern in (_REASON, _LOOSE_REASON):
        head = pattern.sub("", flat).strip()
        if head != flat.strip() and re.search(r"[\w}]", head):
            return head
    return text


_UNDER_CONDITION = re.compile(r"(([a-zA-Z]) *= *(?:\\[a-zA-Z]+|[^a-zA-Z=<>()])+?)[\s,;]*\(([^()]*)\)[\s.]*")


def _unconditioned(text: str) -> str:
    """x = 6 of "x = 6 (x > 0)": a condition of the name that a value is given."""
    found = _UNDER_CONDITION.fullmatch(text) if text.endswith(")") and "=" in text else None
    if (
        not found
        or not _BOUNDS.search(found[3])
        or set(re.findall("[a-zA-Z]+", re.sub(r"\\[a-z]+", "", found[3]))) != {found[2]}
    ):
        return text
    return found[1].strip()


def _unglossed(text: str) -> tuple[str, Number | None]:
    if not (_GLOSS_WORD.search(text)):
        return text, None
    flat = _TEXT.sub(r" \1 ", text)
    found = _GLOSS.fullmatch(flat)
    if not found or bool(found["open"] or found["open_too"]) != bool(found["close"]):
        return text, None
    head, said = found["head"].strip(), number(found["value"].strip())
    exact = number(head)
    if exact and said and abs(exact.value - said.value) * 50 > abs(exact.value):
        raise Malformed("its gloss says another number")
    return (head, said) if re.search(r"[\w}]", head) else (text, None)


def _domain(text: str) -> Tailed | None:
    """The text without its last tail; None: it has none."""
    if not any(
        sign in text for sign in (r"\in", "for ", "integer", "constant", "real", "number", r"\ge", ">", "parameter")
    ):
        return None
    for head, tail in _cuts(text):
        flat = _TEXT.sub(r" \1 ", tail).strip(" .,;")
        found = next((f for pattern in _TAILS if (f := pattern.fullmatch(flat))), None)
        if not found:
            continue
        letters = re.findall(r"[a-zA-Z](?:_ *\{?\w\}?)?", found["letters"].replace("and", " "))
        plain = re.sub(r"\\text *\{[^{}]*\}", " ", head)
        used = set(re.findall(r"[a-zA-Z](?:_ *\{?\w\}?)?", re.sub(r"\\[a-zA-Z]+", " ", plain)))
        if not set(letters) <= used | {letter[0] for letter in used}:
            continue
        if _BOUNDS.search(head) and any(
            re.search(rf"(?<![a-zA-Z\\]){re.escape(letter)}(?![a-zA-Z])", s)
            for letter in letters
            for s in _bounded(head)
        ):
            continue
        return Tailed(head.rstrip(" ,;"), dict.fromkeys(letters, _kind(found)))
    return None


def declares(text: str) -> bool:
    """Is it an answer with no more prose than what its letters may be, as "$n\\pi$, any integer $n$" is?"""
    if text.count("$") < 4 and "\\text" not in text:
        return False
    found = _domain(text.replace("$", ""))
    return found is not None and not re.search(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}(?![a-zA-Z{])", _TEXT.sub(" ", found.head))


def _bounded(head: str) -> list[str]:
    """The names that relations of the head bound: its sides of one letter."""
    return [side for side in re.split(r"<|>|\\(?:le|ge|ne|in)(?![a-z])|[,;=]", head) if len(side.strip()) <= 2]


def _kind(found: re.Match) -> str:
    groups = found.groupdict()
    if groups.get("least") is not None:
        return "N"
    if groups.get("set"):
        positive = bool(groups.get("part"))
        return {"Z": "N", "N": "N"}.get(groups["set"], groups["set"] + "+") if positive else groups["set"]
    words = (groups.get("kind") or "").lower()
    if "integ" in words and "of integration" not in words:
        return "N" if re.search("positive|negative|natural", words) else "Z"
    if "natural" in words:
        return "N"
    return ""


def _cuts(text: str) -> list[tuple[str, str]]:
    """Where a tail may begin: (what is before it, the tail), the shortest tail first."""
    cuts: list[tuple[str, str]] = []
    if text.endswith(")"):
        depth = 0
        for at in range(len(text) - 1, 0, -1):
            depth += (text[at] == ")") - (text[at] == "(")
            if depth == 0:
                cuts.append((text[:at].rstrip(), text[at + 1 : -1]))
                break
    try:
        pieces, _ = cut(text, frozenset(",;"))
    except Malformed:
        return []
    if len(pieces) > 1 and len(pieces) < 20:
        for count in (1, 2):
            if len(pieces) > count:
                tail = ", ".join(pieces[-count:])
                head = text[: text.rstrip().rfind(pieces[-count])].rstrip(" ,;")
                cuts.append((head, tail))
    cuts += [
        (text[: f.start()].rstrip(), text[f.start() :])
        for f in reversed(list(_SPLIT_WORD.finditer(text))[-3:])
        if f.start()
    ]
    return [(head, tail) for head, tail in cuts if head and len(tail) < 120]


def differ(one: dict[str, str], other: dict[str, str]) -> bool:
    """Do two answers give a letter of both different domains? A constant may be any."""
    return any(one[letter] and other[letter] and one[letter] != other[letter] for letter in one.keys() & other.keys())


def renaming(gold: dict[str, str], given: dict[str, str]) -> tuple[str, str] | None:
    """(letter of the answer, letter of the gold), where both have one letter of their own for the same; None: they have not."""
    if len(gold) == len(given) == 1:
        (wanted, kind), (letter, other) = next(iter(gold.items())), next(iter(given.items()))
        if wanted != letter and (kind == other or not (kind and other)) and kind in ("Z", "N"):
            return letter, wanted
    return None


_CONSTANT = r"(?<![a-zA-Z\\])({0})(?![a-zA-Z]{{2}}| *[_(])"
_GOLD_CONSTANT = re.compile(_CONSTANT.format(r"C(?: *_ *\{?\d\}?)?"))
_GIVEN_CONSTANT = re.compile(_CONSTANT.format(r"[cCkKAB](?: *_ *\{?\d\}?)?"))
_CONSTANT_WORD = re.compile(r"\\text *\{ *(?:a )?const(?:ant)?\.? *\}|(?<=[+ ])const(?:ant)?(?![a-zA-Z])")
MAX_CONSTANTS = 2


def constants_renamed(gold: str, given: str, declared: tuple[tuple[str, str], ...]) -> list[str]:
    """The answer with the constants of integration named as in the gold, C or C_1 and C_2, in each way that is possible."""
    if "C" not in gold or "binom" in gold:
        return []
    wanted = list(dict.fromkeys(_GOLD_CONSTANT.findall(gold)))
    if not 0 < len(wanted) <= MAX_CONSTANTS or not re.search(r"(?<![a-zA-Z])[a-z](?![a-zA-Z])", gold):
        return []
    names = {name for name, kind in declared if kind in ("", "R")}
    given = _CONSTANT_WORD.sub("C", given)
    found = list(dict.fromkeys(_GIVEN_CONSTANT.findall(given)))
    found = [f for f in found if f[0] in "cC" or f in names or (f in "AB" and len(wanted) > 1)]
    found = [f for f in found if f in wanted or not re.search(_CONSTANT.format(re.escape(f)), gold)]
    if len(found) != len(wanted):
        return []
    return [_with_constants(given, dict(zip(found, order, strict=True))) for order in itertools.permutations(wanted)]


def _with_constants(text: str, new: dict[str, str]) -> str:
    return _GIVEN_CONSTANT.sub(lambda found: new.get(found.group(1), found.group(1)), text)


def renamed(text: str, letter: str, wanted: str) -> str | None:
    """The text with one letter for another; None: it has that one already."""
    pieces = re.split(r"(\\[a-zA-Z]+ *\{[a-zA-Z ]*\}|\\[a-zA-Z]+)", text)
    if any(re.search(re.escape(wanted), piece) for piece in pieces[::2]):
        return None
    pieces[::2] = [piece.replace(letter, wanted) for piece in pieces[::2]]
    return "".join(pieces)
