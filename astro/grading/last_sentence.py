"""The value that the last sentence of a text concludes with, as in "So the total is 5" and "Thus she pays $5 a day".

It is one value, said of something, and the sentence neither denies, supposes, bounds nor compares it: what is not sure counts as
no answer, because a wrong answer that is rewarded costs more than a right one that is missed.
"""

import re

from astro.grading.sentences import FIGURE, MATH, NUMBER, bold_figure, formulas_in_row
from astro.grading.units import KNOWN, NOT_UNITS, SCALES, singular

_CONCLUSION = re.compile(
    r"(?:\A[\s>-]*|[,;]\s+)(?:(?:therefore|thus|hence|so|consequently|accordingly|finally|in conclusion|as a result|overall"
    r"|in total|altogether|this means|it follows|we conclude)\b|所以|因此|因而|故|于是|从而|综上所述|综上|答(?=[,:]))"
    r"\s*,?\s*(?:that\s+|we\s+conclude\s+that\s+)?",
    re.IGNORECASE,
)
_LAST_SENTENCE = re.compile(r"(?:(?<=[.!?])(?<!\b[ap]\.m\.)\s+|(?<=[.!?])(?=[\u3400-\u9fff])|\n+)")
_DISPLAYED = re.compile(r"(?<=[a-z:,为是])\s*\n\s*(?=\$|\\\[|\\\()")
"""Between a sentence and its formula on a line of its own."""
_COPULA = re.compile(
    r"(?:\b(?:is|are|was|were|be|becomes|equals?|totals)\b"
    r"(?:\s+(?:given by|equal to|exactly|therefore|thus|then|simply|just|at))?"
    r"|=|:(?!\d)|为|是|等于)[\s*]*",
    re.IGNORECASE,
)
_CONCLUDES_NOTHING = re.compile(
    r"\b(?:not|no|nor|never|neither|cannot|either|unless|whether|if|suppose|assum\w*|consider\w*|let|let's|try|trying|check\w*"
    r"|might|(?-i:may)|maybe|perhaps|possibly|possible (?:that|for)|probably|could|should|would|must|needs?|wants?|guess\w*"
    r"|wrong|incorrect|false|impossible|unclear|unknown|claim\w*|say|says|said|so far|step|cases?|parts?"
    r"|half|twice|double|triple)\b|n't\b|\?|[不非没无未或若约]|如果|假设|可能|至少|至多|[大小多少高低]于|超过|比(?![例值为是])",
    re.IGNORECASE,
)
"""Anywhere in a sentence: it denies, supposes, asks, or is a step."""
_QUALIFIED = re.compile(
    r"\b(?:at (?:least|most)|less|more|least|most|than|as|too|between|or|except|plus|minus|times|another|other|only|first|second"
    r"|bound|(?<!dropped )(?<!creased )by|we|i|us|you|this|that|which|whom?|now|next|so|but|while|whereas|with|left|continue"
    r"|gives?|fails?|divides|works|satisf(?:y|ies)"
    r"|(?:old|young|cheap|tall|long|short|great|larg|small|fast|slow|heavi|light|high|low|bigg|wid|deep|near|farth)er)\b",
    re.IGNORECASE,
)
"""Behind a value, and anywhere where no verb says that it is the value of something: it is bounded, compared, or on the way."""
_PRICED = re.compile(r"\A\d[^\\]*?(?<![a-zA-Z])[a-zA-Z]{2,}")
_HOLDER = re.compile(r"\b(?:coordinates|at|point|has|have|value of)\s+\Z")
_LISTED = re.compile(r"-?\d+(?:\.\d+|/\d+)?(?:(?:,| and|, and) -?\d+(?:\.\d+|/\d+)?)+")
_TWO_CONCLUSIONS = re.compile(
    r"(?:\b(?:is|are|was|were|equals?)\b|=)[\s*]*[-+−$]?[\d\x00][^=]*(?:\b(?:and|or|but|while|whereas)\b|[,;])|\b(?:and|but)\s+\S+\Z",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"\A(?P<value>(?:\x00+(?:\s*(?:,|and|, and)\s*\x00+)*"
    r"|[-+−]?(?:\\?\$|€|£)?\d[\d,]*(?:\.\d+)?(?:/\d+|:\d\d)?(?:√\d+)?(?:\s?π)?(?![\d^*/+=(\\]|[a-zA-Z](?![a-zA-Z²³/]))))"
    r"(?P<unit>\s*(?:\\?%|°\s*[CF]?|[ap]\.?m\b\.?"
    r"|(?:(?:square|cubic|sq\.?)\s+)?[a-zA-Z]+(?:\s*(?:/|per\b)\s*[a-zA-Z]+)?(?:[²³]|\^[23])?|[\u3400-\u9fff]{1,4})?)"
    r"(?P<more>[a-zA-Z\s,.;'’\"()\u3400-\u9fff-]*)\Z",
    re.IGNORECASE,
)
_FORMULA_ONLY = re.compile(
    r"(?:[-+−\d.,/^_()\[\]{}| *]|\\(?!text)[a-zA-Z]+|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z]))*[\d})\]a-z]"
)
_CHOSEN = re.compile(r"\(?[A-J]\)?|[A-Z][a-z]{2,}")
MAX_CONCLUSION = 600
"""Characters of a last sentence."""


def conclusion(text: str) -> str | None:
    """The value that the last sentence concludes with, as in "So the total is 5" and "Thus she pays $5 a day". None: it does not.

    It is one value, said of something and not denied, bounded or supposed; or the one figure in bold of that sentence.
    """
    cut = max(0, len(text) - 2 * MAX_CONCLUSION)
    text = _DISPLAYED.sub(" ", text[max(cut, text.find("\n", cut) + 1 if cut else 0) :])
    *_, end = (None, *_LAST_SENTENCE.finditer(_masked(text)))
    sentence = text[end.end() if end else 0 :].strip()
    words = _masked(sentence)
    if len(sentence) > MAX_CONCLUSION or _CONCLUDES_NOTHING.search(words):
        return None
    *_, begin = (None, *_CONCLUSION.finditer(words))
    if begin is not None:
        return concluded(sentence[begin.end() :])
    whole = not sentence.startswith("**") and re.search(r"[.。!]\**\Z", sentence)
    return bold_figure(sentence) if whole and not _QUALIFIED.search(words) else None


def concluded(clause: str) -> str | None:
    """The one value that a conclusion gives; None: there is none, or several, or it is denied."""
    if _CONCLUDES_NOTHING.search(_masked(clause)):
        return None
    ended = re.search(r"[.。!]\**\s*\Z", clause)
    clause = re.sub(r"(?:[.。\s]|(?<=[^\d)}])!)+\Z", "", clause.replace("**", ""))
    masked = _masked(clause)
    *_, copula = (None, *_COPULA.finditer(masked))
    said, before = (clause[copula.end() :], masked[: copula.start()]) if copula else ("", "")
    formula = clause[1:-1] if re.fullmatch("\0+", masked) and clause.count("$") == 2 else ""
    if "=" in formula and not NUMBER.fullmatch(formula.partition("=")[0].strip()):
        return formula
    if NUMBER.fullmatch(before.strip()):  # 96 = 32 * 3
        return None
    if copula and not _TWO_CONCLUSIONS.search(before):
        if _CHOSEN.fullmatch(said) or _LISTED.fullmatch(said):
            return said
        if said and _FORMULA_ONLY.fullmatch(said) and FIGURE.match(said):
            return said
        found = _VALUE.match(masked[copula.end() :])
        if found:
            called = copula.group().strip() == "=" and re.search(r"[a-zA-Z\x00)]\s*\Z", before)  # n = 42 fails
            return None if called and (found["unit"] + found["more"]).strip() else _measured(said, found)
    if copula and re.search(r"[\d\x00]", before):
        return None
    values = list(re.finditer(r"[-−]?(?:\\?\$|€|£)?\d[\d,.:/]*|\x00+", masked))
    if len(values) != 1 or not values[0].start() or "=" in masked or not ended or _QUALIFIED.search(masked):
        return None
    found = _VALUE.match(masked[values[0].start() :])
    noun = (found["unit"] + found["more"]).strip() if found else ""
    if not found or not (noun or re.search(r"[$€£:%]", found["value"]) or _HOLDER.search(masked[: values[0].start()])):
        return None
    return _measured(clause[values[0].start() :], found)


def _masked(text: str) -> str:
    """With a sign for each character of mathematics, so that words alone are left; what stands between two prices is none."""
    return MATH.sub(lambda f: f.group() if _PRICED.search(f.group(2) or "") else "\0" * len(f.group()), text)


def _measured(text: str, found: re.Match) -> str | None:
    """A value with its unit, where that is known. None: what follows bounds or denies it, or there are alternatives."""
    if _QUALIFIED.search(found["unit"] + found["more"]):
        return None
    value, unit = text[: found.end("value")], text[found.start("unit") : found.end("unit")]
    words = re.findall(r"[a-z]+", unit.lower().replace(".", ""))
    alone = len(words) == 1 and len(words[0]) == 1 and words[0] not in KNOWN and "°" not in unit
    if alone or (words and words[0] in NOT_UNITS - {"every"}) or re.search(r"\b[b-zB-Z]\b(?!')", found["more"]):
        return None  # 96 x
    known = words[:1] != ["per"] and all(
        w in SCALES or singular(w) in KNOWN or w in ("square", "cubic", "sq", "per") for w in words
    )
    row = formulas_in_row(value, at_start=True) if found["value"].startswith("\0") else value
    return None if row is None else row.rstrip(",") + (unit if known else "")
